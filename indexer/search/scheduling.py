"""An embedder around another one, for whoever changes when and with what it is asked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from threading import Condition, Lock
from time import monotonic
from types import TracebackType
from typing import Self

import numpy as np

from embedder.content import Content, Role
from embedder.interface import Embedder, EmbedderInfo, EmbedError, Vectors


class EmbedderProxy:
    """Passes everything on.

    Attributes:
        inner: What does the work.
    """

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner

    @property
    def info(self) -> EmbedderInfo:
        """See `Embedder.info`."""
        return self.inner.info

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        return self.inner.embed(contents, role)

    def close(self) -> None:
        """See `Embedder.close`."""
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_SHARE = 20.0
_LONGEST_SECONDS = 2.0
_AT_ONCE = ((1.0, 4), (600.0, 16))
"""Most contents in a part, by the seconds since the last search: small parts take longer."""


class QueryPriority:
    """Who is searching, and how long other work has to wait for it. Thread-safe.

    Guarantees: work that can wait does not begin while a search is under way, unless it has
    waited twenty times as long as its last part took: it goes on, slower, however many search.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._searches = 0
        self._searched_at = -inf
        self._part_seconds = 0.0

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Within it a search is under way."""
        with self._changed:
            self._searches += 1
        try:
            yield
        finally:
            with self._changed:
                self._searches -= 1
                self._searched_at = monotonic()
                self._changed.notify_all()

    @property
    def at_once(self) -> int | None:
        """How many contents to embed in a part: few if the next search may come; None for all."""
        idle = 0.0 if self._searches else monotonic() - self._searched_at
        return next((most for seconds, most in _AT_ONCE if idle < seconds), None)

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Within it a part of other work is done; for one thread."""
        patience = min(_LONGEST_SECONDS, _SHARE * self._part_seconds)
        with self._changed:
            self._changed.wait_for(lambda: not self._searches, patience)
        started = monotonic()
        yield
        self._part_seconds = monotonic() - started


class DocumentsAfterQueries(EmbedderProxy):
    """Embeds in small parts while somebody searches or may do so, and gives way between them."""

    def __init__(self, inner: Embedder, precedence: QueryPriority) -> None:
        super().__init__(inner)
        self._precedence = precedence

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        parts: list[Vectors] = []
        done = 0
        while done < len(contents) or not parts:
            with self._precedence.giving_way():
                part = contents[done:][: self._precedence.at_once]
                try:
                    parts.append(self.inner.embed(part, role))
                except EmbedError as error:
                    raise EmbedError(done + error.position, error.reason) from error
            done += len(part)
        return np.concatenate(parts)


_MOST = 16


class QueryBatcher(EmbedderProxy):
    """Embeds the queries of several threads in one call. Thread-safe.

    Guarantees: a query waits for the call in progress and is in the next one, or in the one after
    that where there are very many; a query that cannot be embedded fails alone.
    """

    def __init__(self, inner: Embedder) -> None:
        super().__init__(inner)
        self._turn = Lock()
        self._lock = Lock()
        self._waiting: list[_Asked] = []

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        if role != "query":
            return self.inner.embed(contents, role)
        asked = _Asked(contents)
        with self._lock:
            self._waiting.append(asked)
        with self._turn:  # Meanwhile others gather; whoever is next asks for all of them.
            while not asked.answered:
                with self._lock:
                    batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                self._answer(batch)
        if asked.error is not None:
            raise asked.error
        assert asked.rows is not None
        return asked.rows

    def _answer(self, batch: Sequence["_Asked"]) -> None:
        try:
            rows = self.inner.embed([one for asked in batch for one in asked.contents], "query")
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for asked in batch:
                self._answer([asked])
            return
        for asked in batch:
            asked.rows, rows = rows[: len(asked.contents)], rows[len(asked.contents) :]


class _Asked:
    """What one thread wants embedded, and what came of it."""

    def __init__(self, contents: Sequence[Content]) -> None:
        self.contents = contents
        self.rows: Vectors | None = None
        self.error: Exception | None = None

    @property
    def answered(self) -> bool:
        return self.rows is not None or self.error is not None
