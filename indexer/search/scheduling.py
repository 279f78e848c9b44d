"""Share the model between searches and an ingest: queries in batches, and documents after them."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from math import inf
from threading import Condition, Lock
from time import monotonic
from typing import Self

import numpy as np

from embedder.content import Content, Role
from embedder.interface import Embedder, EmbedderInfo, EmbedError, Vectors

_MAX_QUERIES = 16
# Documents in a batch, for which a search may have to wait. Of photos, the default model embeds 16
# in the time of 32 halves, but takes 1.6 times as long for them in batches of 4.
_DOCUMENTS_BESIDE_SEARCHES = 4
_DOCUMENTS_BETWEEN_SEARCHES = 16


class SearchPriority:
    """Lets searches go before other work. Thread-safe.

    Guarantees: a batch of other work does not begin while a search is running, unless it has
    waited long enough: an ingest becomes slower but never stops, however many search.

    Args:
        max_wait: Seconds that a batch waits at most.
        recent: Seconds after a search in which the next one is expected.
    """

    def __init__(self, max_wait: float = 2.0, recent: float = 1.0) -> None:
        self._max_wait, self._recent = max_wait, recent
        self._changed = Condition()
        self._searches = 0
        self._searched_at = -inf

    @contextmanager
    def search(self) -> Iterator[None]:
        """Within this context a search is running."""
        with self._changed:
            self._searches += 1
        try:
            yield
        finally:
            with self._changed:
                self._searches -= 1
                self._searched_at = monotonic()
                self._changed.notify_all()

    def wait(self) -> int | None:
        """Wait until a batch of other work may begin.

        Returns:
            How many documents it may have; None for any number, as long as nothing is searched.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._searches, self._max_wait)
            beside = self._searches or monotonic() - self._searched_at < self._recent
            between = None if self._searched_at == -inf else _DOCUMENTS_BETWEEN_SEARCHES
        return _DOCUMENTS_BESIDE_SEARCHES if beside else between


class SharedEmbedder:
    """An embedder for the searches of several threads and one ingest. Thread-safe.

    Guarantees: a query waits for the call in progress and is in the next one, or in the one after
    that if there are very many; a query that cannot be embedded fails alone; documents are
    embedded in small batches, between searches.
    """

    def __init__(self, inner: Embedder, priority: SearchPriority) -> None:
        self.inner = inner
        self._priority = priority
        self._lock = Lock()
        self._waiting: deque[tuple[Sequence[Content], Future[Vectors]]] = deque()

    @property
    def info(self) -> EmbedderInfo:
        """See `Embedder.info`."""
        return self.inner.info

    def embed(self, contents: Sequence[Content], role: Role) -> Vectors:
        """See `Embedder.embed`."""
        return self._documents(contents) if role == "document" else self._queries(contents)

    def close(self) -> None:
        """See `Embedder.close`."""
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _documents(self, contents: Sequence[Content]) -> Vectors:
        batches: list[Vectors] = []
        done = 0
        while done < len(contents) or not batches:
            batch = contents[done:][: self._priority.wait()]
            try:
                batches.append(self.inner.embed(batch, "document"))
            except EmbedError as error:
                raise EmbedError(done + error.position, error.reason) from error
            done += len(batch)
        return np.concatenate(batches)

    def _queries(self, contents: Sequence[Content]) -> Vectors:
        future: Future[Vectors] = Future()
        self._waiting.append((contents, future))
        with self._lock:  # While one thread embeds, others gather: the next embeds them together.
            while not future.done():
                count = min(len(self._waiting), _MAX_QUERIES)
                self._answer([self._waiting.popleft() for _ in range(count)])
        return future.result()

    def _answer(self, batch: Sequence[tuple[Sequence[Content], Future[Vectors]]]) -> None:
        try:
            rows = self.inner.embed([one for contents, _ in batch for one in contents], "query")
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
            else:
                for one in batch:
                    self._answer([one])
            return
        for contents, future in batch:
            future.set_result(rows[: len(contents)])
            rows = rows[len(contents) :]
