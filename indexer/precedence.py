"""Searches go before what can wait, where both want the same processors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from time import monotonic

import numpy as np

from embedder.content import Content, Role
from embedder.interface import Embedder, EmbedError, Vectors
from indexer.wrapped import WrappedEmbedder

_SHARE = 20.0
_LONGEST_SECONDS = 2.0
_LATELY_SECONDS = 1.0
_AT_ONCE = 4


class Precedence:
    """Who is searching, and how long other work has to wait for it. Thread-safe.

    Guarantees: work that can wait does not begin while a search is under way, unless it has
    waited twenty times as long as its last part took: it goes on, slower, however many search.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._searches = 0
        self._searched_at = -_LATELY_SECONDS
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
    def lately(self) -> bool:
        """Whether there is a search, or was one a moment ago."""
        return self._searches > 0 or monotonic() - self._searched_at < _LATELY_SECONDS

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """Within it a part of other work is done; for one thread."""
        patience = min(_LONGEST_SECONDS, _SHARE * self._part_seconds)
        with self._changed:
            self._changed.wait_for(lambda: not self._searches, patience)
        started = monotonic()
        yield
        self._part_seconds = monotonic() - started


class DocumentsAfterQueries(WrappedEmbedder):
    """Embeds in small parts while somebody searches, and gives way between them."""

    def __init__(self, inner: Embedder, precedence: Precedence) -> None:
        super().__init__(inner)
        self._precedence = precedence

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        parts: list[Vectors] = []
        done = 0
        while done < len(contents) or not parts:
            with self._precedence.giving_way():
                part = (
                    contents[done : done + _AT_ONCE] if self._precedence.lately else contents[done:]
                )
                try:
                    parts.append(self.inner.embed(part, role))
                except EmbedError as error:
                    raise EmbedError(done + error.position, error.reason) from error
            done += len(part)
        return np.concatenate(parts)
