"""Searches go before what can wait, where both want the same processors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from threading import Condition
from time import monotonic

import numpy as np

from embedder.content import Content, Role
from embedder.interface import Embedder, EmbedError, Vectors
from indexer.wrapped import WrappedEmbedder

_SHARE = 20.0
_LONGEST_SECONDS = 2.0
_AT_ONCE = ((1.0, 4), (600.0, 16))
"""Most contents in a part, by the seconds since the last search: small parts take longer."""


class Precedence:
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


class DocumentsAfterQueries(WrappedEmbedder):
    """Embeds in small parts while somebody searches or may do so, and gives way between them."""

    def __init__(self, inner: Embedder, precedence: Precedence) -> None:
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
