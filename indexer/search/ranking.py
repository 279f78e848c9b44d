"""Rank segments: from a query to hits.

Every kind of media is searched separately and then merged, because cosines between two texts are
higher than between a text and a picture, and because words can be looked up only where there are
words: in one ranked list a hundred pages that mention cats would bury the photo of a cat.

1. Candidates of each kind, with a probability of relevance (`indexer.search.candidates`); that of
   the best PDF pages may come from a reranker (`indexer.search.reranking`).
2. The segments of a file fold into their best one; pages of a PDF stay apart.
3. The kinds are merged by p / log2(1 + rank within the kind), the discount of DCG: the best photo
   competes with the best page and not with the hundredth. Hits of p < ½ are weak: they come after
   all others, by p alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedder.media.kinds import Kind
from indexer.errors import LibraryBusy, QueryError
from indexer.search.candidates import Candidates, SearchContext
from indexer.search.query import EmbeddedQuery
from indexer.types import Filters, Hit, Query, Sort

if TYPE_CHECKING:
    from indexer.library import Library


MAX_HITS = 1000
"""The last hit that can be listed, offset included."""

MAX_RERANKED = 50
"""The best PDF pages of a search, which a reranker may read."""

_STRONG = 0.5
_MAX_SIBLINGS = 8
_CANDIDATES_PER_HIT = 3
_SPARE = 4  # times as many, where some are left out for their words
_MAX_ATTEMPTS = 3

Origin = tuple[int, int | None]
"""The id of the media that a segment is of, and its page in a PDF."""


@dataclass(slots=True)
class _Found:
    """The best segment of a file or page, and its lesser siblings.

    Attributes:
        row: Row of the candidate.
        kind: Its kind.
        segment_id: Its segment.
        relevance: Probability that it is what the query asks for.
        more: Segments of the siblings, best first.
        score: Orders hits.
    """

    row: int
    kind: Kind
    segment_id: int
    relevance: float
    more: list[int]
    score: float = 0.0


def search(
    library: "Library", query: Query, page_relevance: Mapping[int, float] | None = None
) -> list[Hit]:
    """Return the hits of a query, best first.

    Args:
        library: Where to look.
        query: What to look for.
        page_relevance: Probabilities of the best PDF pages, by segment, from a reranker.

    Returns:
        At most `query.limit` hits from `query.offset` on; weak ones after all others.

    Raises:
        QueryError: if no part has a positive weight, a part cannot be embedded, or limit or offset
            are out of range.
        NotFound: if a part names a segment that is not in the library.
        LibraryBusy: if the library changes its model again and again.
    """
    _check(query)
    if query.sort is not Sort.RELEVANCE:
        return _by_date(search(library, _unsorted(query), page_relevance), query)
    return _of_present_files(library, *_ranked(library, query, page_relevance or {}))


def _unsorted(query: Query) -> Query:
    """Return the query for all hits, of which any may be the newest or oldest strong one."""
    return replace(query, sort=Sort.RELEVANCE, limit=MAX_HITS, offset=0)


def _by_date(hits: Sequence[Hit], query: Query) -> list[Hit]:
    """Return the page of a query of all its hits, the strong ones by date."""
    strong = sorted(
        (hit for hit in hits if not hit.weak),
        key=lambda hit: hit.item.date_ns,
        reverse=query.sort is Sort.NEWEST,
    )
    ordered = [*strong, *(hit for hit in hits if hit.weak)]
    ranked = [replace(hit, rank=rank) for rank, hit in enumerate(ordered, start=1)]
    return ranked[query.offset : query.offset + query.limit]


def _ranked(
    library: "Library", query: Query, page_relevance: Mapping[int, float]
) -> tuple[list[Hit], list[Path]]:
    """Return the hits, and the folders that the library remembers."""
    for _ in range(_MAX_ATTEMPTS):
        embedder, vectors = library.snapshot()
        kinds = vectors.kinds & (query.filters.kinds or frozenset(Kind))
        embedded = EmbeddedQuery.of(embedder, query.parts, kinds)
        with library.search_lock, library.catalog.moment():
            if library.catalog.holds_vectors_of(embedder.info):
                where = library.catalog.filter_of(query.filters)
                context = SearchContext(
                    library.catalog,
                    vectors,
                    embedder.info,
                    embedder.knows_word,
                    kinds,
                    query.filters,
                    where,
                    query.without,
                )
                hits = _found(context, embedded, query, page_relevance)
                return hits, library.catalog.root_paths()
    raise LibraryBusy(
        f"the library in {library.directory} is changing its model: try again in a moment"
    )


def _found(
    context: SearchContext,
    embedded: EmbeddedQuery,
    query: Query,
    page_relevance: Mapping[int, float],
) -> list[Hit]:
    like, unlike = embedded.sides(context.catalog)
    if not context.kinds:
        return []
    need = query.offset + query.limit
    # With a reranker, the candidates include the pages that it has read.
    depth = _CANDIDATES_PER_HIT * max(need, MAX_RERANKED if page_relevance else 0)
    depth *= _SPARE if query.without else 1
    candidates = Candidates.of(context, like, unlike, depth).reranked(Kind.PDF, page_relevance)
    found = _folded(context, candidates, need)
    found.sort(key=lambda one: (-one.score, one.segment_id))
    return _hits(context, candidates, found[query.offset : need], query.offset + 1)


def _check(query: Query) -> None:
    if not any(part.weight > 0 for part in query.parts):
        raise QueryError(
            "the query is empty: give words or a file that hits should be like, not only unlike"
        )
    if query.limit < 1 or query.offset < 0:
        raise QueryError("the limit must be at least 1 and the offset at least 0")
    if query.offset + query.limit > MAX_HITS:
        raise QueryError(f"only the first {MAX_HITS} hits can be listed: narrow the query down")


def _folded(context: SearchContext, candidates: Candidates, need: int) -> list[_Found]:
    """Return files and pages, at least the best `need`; files of the same bytes are one."""
    count = need + _MAX_SIBLINGS
    while True:
        rows = _likeliest(candidates, count)
        segments = [one for some in rows.values() for one in candidates.segments(some)]
        origins = context.catalog.origins(segments)
        found = {kind: _fold(candidates, kind, some, origins) for kind, some in rows.items()}
        files = [one for of_kind in found.values() for one in of_kind]
        left = {kind: candidates.rows[kind][len(some) :] for kind, some in rows.items()}
        if not any(
            len(files) < need
            or (len(found[kind]) < need and candidates.relevance[some.start] >= _STRONG)
            for kind, some in left.items()
            if some
        ):
            return files
        count *= 2


def _likeliest(candidates: Candidates, count: int) -> dict[Kind, range]:
    """Return the first rows of each kind, `count` at most, that the best hits are among.

    Strong hits compete by their rank within the kind. Weak ones come after all of them, by
    relevance alone: they are among the `count` likeliest weak ones of all kinds.
    """
    heads = {
        kind: candidates.relevance[rows.start : rows.stop][:count]
        for kind, rows in candidates.rows.items()
    }
    relevance = np.concatenate(list(heads.values()))
    weak = np.sort(relevance[relevance < _STRONG])
    least = weak[-count] if len(weak) > count else 0.0
    return {
        kind: candidates.rows[kind][: np.count_nonzero(head >= least)]
        for kind, head in heads.items()
    }


def _fold(
    candidates: Candidates, kind: Kind, rows: range, origins: Mapping[int, Origin]
) -> list[_Found]:
    """Return the files or pages that some rows of a kind are of, best first."""
    best: dict[Origin, _Found] = {}
    for row, segment_id in zip(rows, candidates.segments(rows), strict=True):
        origin = origins.get(segment_id)
        if origin is None:
            continue  # The index may be newer than what this transaction sees.
        relevance, first = float(candidates.relevance[row]), best.get(origin)
        if first is None:
            best[origin] = _Found(row, kind, segment_id, relevance, more=[])
        elif relevance >= _STRONG and len(first.more) < _MAX_SIBLINGS:
            first.more.append(segment_id)
    for rank, found in enumerate(best.values(), 1):
        found.score = score(found.relevance, rank)
    return list(best.values())


def score(relevance: float, rank: int) -> float:
    """Return what orders hits: strong ones fill the upper half, weak ones the lower.

    Args:
        relevance: Probability that it is what the query asks for.
        rank: From 1 within its kind.
    """
    strong = relevance >= _STRONG
    return 0.5 + 0.5 * relevance / log2(1 + rank) if strong else 0.5 * relevance


def _hits(
    context: SearchContext, candidates: Candidates, found: Sequence[_Found], first_rank: int
) -> list[Hit]:
    ids = [i for one in found for i in (one.segment_id, *one.more)]
    resolved = context.catalog.resolve(ids, context.filters)
    hits = []
    # The index may be newer than what this transaction sees: files may have moved.
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


def _of_present_files(library: "Library", hits: list[Hit], roots: Sequence[Path]) -> list[Hit]:
    """Mark hits whose files are not there, unless another file with the same bytes is."""
    paths = (path for hit in hits for path in (hit.item.path, *hit.copies))
    missing = library.missing(paths, roots)
    return [_of_present_file(library, hit, missing) for hit in hits] if missing else hits


def _of_present_file(library: "Library", hit: Hit, missing: Mapping[Path, Path]) -> Hit:
    if hit.item.path not in missing:
        return hit
    there = next((path for path in hit.copies if path not in missing), None)
    if there is None:
        return replace(hit, missing=missing[hit.item.path])
    _, holders = library.catalog.resolve([hit.segment.id], Filters()).get(
        hit.segment.id, (None, ())
    )
    for item in holders:
        if item.path == there:
            others = (hit.item.path, *(path for path in hit.copies if path != there))
            return replace(hit, item=item, copies=others)
    return replace(hit, missing=missing[hit.item.path])
