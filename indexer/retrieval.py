"""Ranking: from a query to hits.

Every kind of media is searched apart and then merged, because cosines between two texts are higher
than between a text and a picture, and because words can be looked up only where there are words: in
one ranked list a hundred pages that mention cats would bury the photo of a cat.

1. Candidates of a kind: the nearest vectors of each part of the query and of their weighted sum,
   full-text matches, and file names.
2. Their evidence becomes a probability of relevance (`indexer.relevance`).
3. The segments of a file fold into their best one; pages of a PDF stay apart.
4. The kinds are merged by p / log2(1 + rank within the kind), the discount of DCG: the best photo
   competes with the best page and not with the hundredth. Hits of p < ½ are weak: they come after
   all others, by p alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedder.content import Modality
from embedder.interface import EmbedderInfo, normalised
from embedder.media.kind import Kind
from indexer import relevance
from indexer.asking import MODALITY, Asked
from indexer.entities import Filters, Hit, Query, Reason
from indexer.errors import LibraryBusy, QueryError
from indexer.relevance import Probabilities, Side

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.library import Library
    from indexer.vectors import VectorStore

MAX_HITS = 1000
"""Deepest hit that can be asked for, offset included."""

_WORDED = frozenset({Kind.PDF, Kind.TEXT})
_STRONG = 0.5
_TOLD = 0.25
_MORE = 8
_DEPTH = 3
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a query looks."""

    catalog: "Catalog"
    vectors: "VectorStore"
    info: EmbedderInfo
    filters: Filters


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Segments of one kind that some evidence speaks for; words and names give probabilities."""

    kind: Kind
    ids: NDArray[np.int64]
    words: Mapping[int, float]
    unwanted: Mapping[int, float]
    names: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class _Judged:
    """A candidate with its probability of relevance, and its row in what speaks for it."""

    segment_id: int
    relevance: float
    evidence: Mapping[Reason, Probabilities]
    row: int


@dataclass(slots=True)
class _Found:
    """The best segment of a file or page, and its lesser siblings."""

    judged: _Judged
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
        asked = Asked.of(
            embedder, query.parts, vectors.partitions & (query.filters.kinds or frozenset(Kind))
        )
        with library.catalog.moment():
            if library.catalog.holds_vectors_of(embedder.info):
                place = _Place(library.catalog, vectors, embedder.info, query.filters)
                return _found(place, asked.sides(library.catalog), query)
    raise LibraryBusy(f"the library in {library.directory} is changing its model: try again")


def _found(place: _Place, sides: Mapping[Kind, tuple[Side, Side]], query: Query) -> list[Hit]:
    need = query.offset + query.limit
    found = [one for judged in _judged(place, sides, need) for one in _folded(place, judged, need)]
    found.sort(key=lambda one: (-one.score, one.judged.segment_id))
    return _hits(place, found[query.offset : need], query.offset + 1)


def _check(query: Query) -> None:
    if not any(part.weight > 0 for part in query.parts):
        raise QueryError("the query is empty: say what hits should be like, not only unlike")
    if query.limit < 1 or query.offset < 0:
        raise QueryError("the limit must be at least 1 and the offset at least 0")
    if query.offset + query.limit > MAX_HITS:
        raise QueryError(f"only the first {MAX_HITS} hits can be listed: narrow the query down")


def _judged(
    place: _Place, sides: Mapping[Kind, tuple[Side, Side]], need: int
) -> Iterator[list[_Judged]]:
    """The candidates of each kind, best first."""
    found = [_gathered(place, *sides[kind], kind, _DEPTH * need) for kind in sorted(sides)]
    every = np.concatenate([*(one.ids for one in found), np.empty(0, dtype=np.int64)])
    if not every.size:
        return
    rows = place.catalog.vectors_of(every.tolist())
    for candidates in found:
        ids = candidates.ids
        own, rows = rows[: len(ids)], rows[len(ids) :]
        kind, modality = candidates.kind, MODALITY[candidates.kind]
        like, unlike = sides[kind]
        evidence = {
            _seen(like, kind): relevance.likeness(place.info, like, modality, own),
            Reason.WORDS: relevance.aligned(candidates.words, ids),
            Reason.FILE_NAME: relevance.aligned(candidates.names, ids),
        }
        said = relevance.together(evidence[Reason.WORDS], evidence[Reason.FILE_NAME])
        total = relevance.likeness(place.info, like, modality, own, said)
        total = relevance.without(total, place.info, unlike, modality, own)
        total *= 1 - relevance.aligned(candidates.unwanted, ids)
        yield [
            _Judged(int(ids[i]), float(total[i]), evidence, i)
            for i in np.lexsort((ids, -total)).tolist()
        ]


def _gathered(place: _Place, like: Side, unlike: Side, kind: Kind, depth: int) -> _Candidates:
    """The candidates of one kind, `depth` for each sort of evidence at most."""
    words, unwanted = (_words(place, side.terms, kind, depth) for side in (like, unlike))
    names = _names(place, like.terms, kind, depth)
    named = np.fromiter({*words, *names}, dtype=np.int64)
    ids = np.union1d(_nearest(place, like, kind, depth), named)
    return _Candidates(kind, ids, words, unwanted, names)


def _words(place: _Place, terms: Sequence[str], kind: Kind, depth: int) -> dict[int, float]:
    if not terms or kind not in _WORDED:
        return {}
    matches = place.catalog.find_words(terms, kind, place.filters, depth)
    return relevance.of_words((m.segment_id, m.score, m.every_term) for m in matches)


def _names(place: _Place, terms: Sequence[str], kind: Kind, depth: int) -> dict[int, float]:
    matches = place.catalog.find_names(terms, kind, place.filters, depth) if terms else []
    return {m.segment_id: 0.9 if m.in_name else 0.4 * m.share for m in matches}


def _nearest(place: _Place, like: Side, kind: Kind, depth: int) -> NDArray[np.int64]:
    only = place.catalog.matching_segments(kind, place.filters)
    vectors = list(like.vectors)
    if len(vectors) > 1:
        vectors.append(normalised(like.weights @ like.vectors))
    found = [place.vectors.search(vector, depth, kind, only)[1] for vector in vectors]
    return np.unique(np.concatenate(found))


def _seen(like: Side, kind: Kind) -> Reason:
    """What the vectors compared: a page shows its text to a text and its picture to a picture."""
    worded = {Modality.TEXT, Modality.PAGE}
    if kind is Kind.TEXT or (kind is Kind.PDF and worded & set(like.modalities)):
        return Reason.TEXT
    return Reason.PICTURE


def _folded(place: _Place, judged: Sequence[_Judged], need: int) -> list[_Found]:
    """The best `need` files or pages in order, scored; files of the same bytes are one."""
    best: dict[tuple[int, int | None], _Found] = {}
    for start in range(0, len(judged), need + _MORE):
        chunk = judged[start : start + need + _MORE]
        origins = place.catalog.origins([one.segment_id for one in chunk])
        for one in chunk:
            if one.segment_id not in origins:
                continue  # The vectors of another thread may be newer than this moment.
            first = best.setdefault(origins[one.segment_id], _Found(one, more=[]))
            if one is not first.judged and one.relevance >= _STRONG and len(first.more) < _MORE:
                first.more.append(one.segment_id)
        if len(best) >= need:
            break
    for rank, found in enumerate(best.values(), 1):
        found.score = _score(found.judged.relevance, rank)
    return list(best.values())


def _score(relevance: float, rank: int) -> float:
    """What hits are ordered by: strong ones fill the upper half, weak ones the lower."""
    strong = relevance >= _STRONG
    return 0.5 + 0.5 * relevance / log2(1 + rank) if strong else 0.5 * relevance


def _hits(place: _Place, found: Sequence[_Found], first_rank: int) -> list[Hit]:
    ids = [i for one in found for i in (one.judged.segment_id, *one.more)]
    resolved = place.catalog.resolve(ids, place.filters)
    return [
        Hit(
            segment=resolved[one.judged.segment_id][0],
            item=resolved[one.judged.segment_id][1][0],
            score=one.score,
            rank=rank,
            relevance=one.judged.relevance,
            weak=one.judged.relevance < _STRONG,
            why=_why(one.judged),
            more=tuple(resolved[segment_id][0] for segment_id in one.more),
            copies=tuple(item.path for item in resolved[one.judged.segment_id][1][1:]),
        )
        for rank, one in enumerate(found, first_rank)
    ]


def _why(judged: _Judged) -> tuple[Reason, ...]:
    """The reasons worth telling: the strongest, and others that say something by themselves."""
    said = {reason: float(column[judged.row]) for reason, column in judged.evidence.items()}
    ordered = sorted(said, key=lambda reason: -said[reason])
    return tuple(r for i, r in enumerate(ordered) if i == 0 or said[r] >= _TOLD)
