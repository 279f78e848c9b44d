"""Queries that are asked at the same time are embedded together, which costs half as much."""

from collections.abc import Sequence
from threading import Lock

from embedder.content import Content, Role
from embedder.interface import Embedder, Vectors
from indexer.wrapped import WrappedEmbedder

_MOST = 16


class QueriesTogether(WrappedEmbedder):
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
