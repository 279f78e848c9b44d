"""Ranking: from a query to hits.

Every kind of media is searched apart and then merged, because cosines between two texts are higher
than between a text and a picture, and because words can be looked up only where there are words: in
one ranked list a hundred pages that mention cats would bury the photo of a cat.

1. Candidates of each kind, with a probability of relevance (`indexer.search.candidates`).
2. The segments of a file fold into their best one; pages of a PDF stay apart.
3. The kinds are merged by p / log2(1 + rank within the kind), the discount of DCG: the best photo
   competes with the best page and not with the hundredth. Hits of p < ½ are weak: they come after
   all others, by p alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

from embedder.media.kinds import Kind
from indexer.errors import LibraryBusy, QueryError
from indexer.search.candidates import Candidates, SearchContext
from indexer.search.query import EmbeddedQuery
from indexer.types import Hit, Query

if TYPE_CHECKING:
    from indexer.library import Library


MAX_HITS = 1000
"""Deepest hit that can be asked for, offset included."""

_STRONG = 0.5
_MORE = 8
_DEPTH = 3
_ATTEMPTS = 3

Origin = tuple[int, int | None]
"""The media that a segment is of, by a number, and its page in a PDF."""


@dataclass(slots=True)
class _Found:
    """The best segment of a file or page, and its lesser siblings.

    Attributes:
        row: Of the candidate.
        kind: Its kind.
        segment_id: Its segment.
        relevance: How likely it is what the query asks for.
        more: The siblings' segments, best first.
        score: What hits are ordered by.
    """

    row: int
    kind: Kind
    segment_id: int
    relevance: float
    more: list[int]
    score: float = 0.0


def search(library: "Library", query: Query) -> list[Hit]:
    """The hits of a query, best first.

    Args:
        library: Where to look.
        query: What to look for.

    Returns:
        At most `query.limit` hits from `query.offset` on; weak ones after all others.

    Raises:
        QueryError: if no part has a positive weight, a part cannot be embedded, or the limits
            make no sense.
        NotFound: if a part names a segment that is not in the library.
        LibraryBusy: if the library changes its model again and again.
    """
    _check(query)
    for _ in range(_ATTEMPTS):
        embedder, vectors = library.snapshot()
        kinds = vectors.kinds & (query.filters.kinds or frozenset(Kind))
        asked = EmbeddedQuery.of(embedder, query.parts, kinds)
        with library.search_lock, library.catalog.moment():
            if library.catalog.holds_vectors_of(embedder.info):
                where = library.catalog.filter_of(query.filters)
                place = SearchContext(
                    library.catalog, vectors, embedder.info, kinds, query.filters, where
                )
                return _found(place, asked, query)
    raise LibraryBusy(f"the library in {library.directory} is changing its model: try again")


def _found(place: SearchContext, asked: EmbeddedQuery, query: Query) -> list[Hit]:
    like, unlike = asked.sides(place.catalog)
    if not place.kinds:
        return []
    need = query.offset + query.limit
    candidates = Candidates.of(place, like, unlike, _DEPTH * need)
    origins = place.catalog.origins(candidates.first(need + _MORE))
    found = [
        one for kind in candidates.rows for one in _folded(place, candidates, kind, need, origins)
    ]
    found.sort(key=lambda one: (-one.score, one.segment_id))
    return _hits(place, candidates, found[query.offset : need], query.offset + 1)


def _check(query: Query) -> None:
    if not any(part.weight > 0 for part in query.parts):
        raise QueryError("the query is empty: say what hits should be like, not only unlike")
    if query.limit < 1 or query.offset < 0:
        raise QueryError("the limit must be at least 1 and the offset at least 0")
    if query.offset + query.limit > MAX_HITS:
        raise QueryError(f"only the first {MAX_HITS} hits can be listed: narrow the query down")


def _folded(
    place: SearchContext, candidates: Candidates, kind: Kind, need: int, origins: dict[int, Origin]
) -> list[_Found]:
    """The best `need` files or pages of a kind in order, scored; files of the same bytes are one.

    Args:
        place: Where they are.
        candidates: Of all kinds.
        kind: The one.
        need: Most of them.
        origins: Of some; those that are needed as well are added.
    """
    best: dict[Origin, _Found] = {}
    rows = candidates.rows[kind]
    for chunk in (rows[i : i + need + _MORE] for i in range(0, len(rows), need + _MORE)):
        ids = candidates.segments(chunk)
        if chunk.start > rows.start:
            origins |= place.catalog.origins(ids)
        for row, segment_id in zip(chunk, ids, strict=True):
            origin = origins.get(segment_id)
            if origin is None:
                continue  # The vectors of another thread may be newer than this moment.
            relevance, first = float(candidates.relevance[row]), best.get(origin)
            if first is None:
                best[origin] = _Found(row, kind, segment_id, relevance, more=[])
            elif relevance >= _STRONG and len(first.more) < _MORE:
                first.more.append(segment_id)
        if len(best) >= need:
            break
    for rank, found in enumerate(best.values(), 1):
        found.score = _score(found.relevance, rank)
    return list(best.values())


def _score(relevance: float, rank: int) -> float:
    """What hits are ordered by: strong ones fill the upper half, weak ones the lower."""
    strong = relevance >= _STRONG
    return 0.5 + 0.5 * relevance / log2(1 + rank) if strong else 0.5 * relevance


def _hits(
    place: SearchContext, candidates: Candidates, found: Sequence[_Found], first_rank: int
) -> list[Hit]:
    ids = [i for one in found for i in (one.segment_id, *one.more)]
    resolved = place.catalog.resolve(ids, place.filters)
    hits = []
    # The index may be a moment ahead of the catalog's, with files that have moved since.
    there = [one for one in found if one.segment_id in resolved]
    for rank, one in enumerate(there, first_rank):
        segment, (item, *copies) = resolved[one.segment_id]
        hits.append(
            Hit(
                segment=segment,
                item=item,
                score=one.score,
                rank=rank,
                relevance=one.relevance,
                weak=one.relevance < _STRONG,
                why=candidates.why(one.row, one.kind),
                more=tuple(resolved[more][0] for more in one.more if more in resolved),
                copies=tuple(copy.path for copy in copies),
            )
        )
    return hits
