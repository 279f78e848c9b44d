"""Reranking: a second model reads the words of a query together with each of the best PDF pages.

It knows better than vectors which page answers a question, but takes as long for one page as a
search does for all vectors.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import inf
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from cachetools import LRUCache

from embedder.content import Content, Modality
from embedder.interface import Reranker
from embedder.media import Kind, Limits, MediaError
from indexer.errors import LibraryBusy
from indexer.search import ranking
from indexer.search.query import is_quoted
from indexer.types import Hit, Query

if TYPE_CHECKING:
    from indexer.library import Library


_log = logging.getLogger(__name__)

_MAX_SECONDS = 30.0
_BATCH = 4  # pages that are drawn in parallel
_MAX_KNOWN = 10_000  # probabilities that are kept, for more hits of the same search


class PageReranker:
    """Reranks the best PDF pages of searches by words. Thread-safe.

    Guarantees: a search has its hits whatever happens to the reranker; once the model is loaded, no
    page is begun after `max_seconds`, and those that were not read follow the others; a page whose
    file cannot be read keeps its relevance.

    Args:
        reranker: Judges pages.
        max_seconds: For one search.
    """

    def __init__(self, reranker: Reranker, max_seconds: float = _MAX_SECONDS) -> None:
        self._reranker = reranker
        self._max_seconds = max_seconds
        self._known: LRUCache[tuple[str, int], float] = LRUCache(_MAX_KNOWN)
        self._lock = Lock()  # held for a search: two at a time would share decoders and model

    def relevance(self, library: "Library", query: Query) -> dict[int, float]:
        """Return how likely the best PDF pages are what a query asks for.

        Returns:
            Probability by segment, for `ranking.search`; empty if nothing is to be reranked.

        Raises:
            IndexerError: as `ranking.search` does.
        """
        words = _words(query)
        if words is None:
            return {}
        filters = replace(query.filters, kinds=frozenset({Kind.PDF}))
        first = replace(query, filters=filters, limit=ranking.MAX_RERANKED, offset=0)
        hits = ranking.search(library, first)
        if not hits or not self._lock.acquire(timeout=self._max_seconds):
            return {}
        try:
            return self._read(library, words, hits)
        except Exception as error:  # the first stage's hits are better than none
            _log.warning("the pages of PDFs were not reranked: %s", error)
            return {}
        finally:
            self._lock.release()

    def _read(self, library: "Library", words: str, hits: Sequence[Hit]) -> dict[int, float]:
        """Let the reranker read pages, the best first, until the time is up."""
        known = {hit.segment.id: self._known.get((words, hit.segment.id)) for hit in hits}
        found = {segment_id: p for segment_id, p in known.items() if p is not None}
        stop_at = inf
        for hit, page in _drawn(library, [hit for hit in hits if hit.segment.id not in found]):
            if monotonic() > stop_at:
                _log.warning("only %d of %d pages were reranked in time", len(found), len(hits))
                break
            if page is None:
                found[hit.segment.id] = hit.relevance
                continue
            score = self._reranker.score(words, page)
            found[hit.segment.id] = self._known[words, hit.segment.id] = score
            if stop_at == inf:  # the model is loaded by now
                stop_at = monotonic() + self._max_seconds
        return found


def _words(query: Query) -> str | None:
    """Return the words of a query that consists of nothing else and looks for PDFs."""
    kinds, (part, *others) = query.filters.kinds, query.parts or (None,)
    if part is None or others or part.content is None or part.content.frames or part.weight < 0:
        return None
    if is_quoted(part.content.text or ""):
        return None  # Which pages have the phrase is known.
    return part.content.text if not kinds or Kind.PDF in kinds else None


def _drawn(library: "Library", hits: Sequence[Hit]) -> Iterator[tuple[Hit, Content | None]]:
    """Yield pages with their pictures, some of which are drawn while others are read."""
    with ThreadPoolExecutor(_BATCH, "rerank-draw") as pool:
        for start in range(0, len(hits), _BATCH):
            batch = hits[start : start + _BATCH]
            yield from zip(batch, pool.map(partial(_page, library), batch), strict=True)


def _page(library: "Library", hit: Hit) -> Content | None:
    """Draw a page as an ingest does; return None if that is not possible now."""
    try:
        side = Limits().sheet_side
        picture = library.viewer.page(hit.item.path, hit.segment.page or 1, side)
    except (MediaError, LibraryBusy):
        return None
    return Content(frames=[picture], modality=Modality.PAGE)
