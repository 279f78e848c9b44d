"""Ranking: from a query to hits.

Every kind of media is searched apart and then merged, because cosines between two texts are higher
than between a text and a picture, and because words can be looked up only where there are words: in
one ranked list a hundred pages that mention cats would bury the photo of a cat.

1. Candidates of a kind: the nearest vectors of each part of the query and of their weighted sum,
   full-text matches, and file names. Where very many texts have all words, the nearest of them.
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
from embedder.interface import EmbedderInfo, Vectors, normalised
from embedder.media.kind import Kind
from indexer import relevance
from indexer.asking import MODALITY, Asked
from indexer.entities import Filters, Hit, Query, Reason
from indexer.errors import LibraryBusy, QueryError
from indexer.relevance import Probabilities, Side
from indexer.saying import WORDED, Said

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.library import Library
    from indexer.vectors import VectorStore

MAX_HITS = 1000
"""Deepest hit that can be asked for, offset included."""

_STRONG = 0.5
_UNIT_ERROR = 0.01
_TOLD = 0.25
_MORE = 8
_DEPTH = 3
_ATTEMPTS = 3

Origin = tuple[int, int | None]
"""The media that a segment is of, by a number, and its page in a PDF."""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a query looks; `only` are the segments that the filters leave, None for all."""

    catalog: "Catalog"
    vectors: "VectorStore"
    info: EmbedderInfo
    filters: Filters
    only: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """Segments of one kind that some evidence speaks for.

    Attributes:
        kind: Of all of them.
        ids: Int64 (n,), ascending.
        rows: Their vectors, float32 (n, dim).
        words: What their words say for them (n,), `names` their files' names, `unwanted` the
            words that they should not have.
    """

    kind: Kind
    ids: NDArray[np.int64]
    rows: Vectors
    words: Probabilities
    names: Probabilities
    unwanted: Probabilities


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
        with library.turn, library.catalog.moment():
            if library.catalog.holds_vectors_of(embedder.info):
                only = library.catalog.matching_segments(query.filters)
                place = _Place(library.catalog, vectors, embedder.info, query.filters, only)
                return _found(place, asked.sides(library.catalog), query)
    raise LibraryBusy(f"the library in {library.directory} is changing its model: try again")


def _found(place: _Place, sides: Mapping[Kind, tuple[Side, Side]], query: Query) -> list[Hit]:
    need = query.offset + query.limit
    kinds = list(_judged(place, sides, need))
    first = [one.segment_id for judged in kinds for one in judged[: need + _MORE]]
    origins = place.catalog.origins(first)
    found = [one for judged in kinds for one in _folded(place, judged, need, origins)]
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
    if not sides:
        return
    depth = _DEPTH * need
    like, unlike = next(iter(sides.values()))  # All kinds are asked for the same words.
    said, unwanted = (
        Said.of(place.catalog, place.vectors, side.terms, place.filters, depth)
        for side in (like, unlike)
    )
    found = {kind: _gathered(place, sides[kind][0], said, kind, depth) for kind in sorted(sides)}
    every = np.concatenate([ids for ids, _ in found.values()])
    worded = np.concatenate([np.full(len(ids), kind in WORDED) for kind, (ids, _) in found.items()])
    words = said.words_of(place.catalog, every, worded)
    without = unwanted.words_of(place.catalog, every, worded)
    start = 0
    for kind, (ids, rows) in found.items():
        own = slice(start, start + len(ids))
        start = own.stop
        names = said.names_of(kind, ids)
        candidates = _Candidates(kind, ids, rows, words[own], names, without[own])
        yield _ranked(place.info, candidates, *sides[kind])


def _ranked(info: EmbedderInfo, found: _Candidates, like: Side, unlike: Side) -> list[_Judged]:
    """Candidates, best first."""
    modality = MODALITY[found.kind]
    evidence = {
        _seen(like, found.kind): relevance.likeness(info, like, modality, found.rows),
        Reason.WORDS: found.words,
        Reason.FILE_NAME: found.names,
    }
    said = relevance.together(found.words, found.names)
    total = relevance.likeness(info, like, modality, found.rows, said)
    total = relevance.without(total, info, unlike, modality, found.rows)
    total *= 1 - found.unwanted
    return [
        _Judged(int(found.ids[i]), float(total[i]), evidence, i)
        for i in np.lexsort((found.ids, -total)).tolist()
    ]


def _gathered(
    place: _Place, like: Side, said: Said, kind: Kind, depth: int
) -> tuple[NDArray[np.int64], Vectors]:
    """The candidates of one kind with their vectors; some `depth` for each sort of evidence."""
    found = [
        _nearest(place, like, kind, depth, place.only),
        np.array([match.segment_id for match in said.names.get(kind, ())], dtype=np.int64),
    ]
    ids = said.ids.get(kind, np.empty(0, dtype=np.int64))
    if place.only is not None:
        ids = ids[np.isin(ids, place.only)]
    at = np.searchsorted(said.matches.ids, ids)
    every = ids[said.matches.every[at]]
    if len(every) > depth:  # So many have all words that the vectors have to tell which are best.
        ids = _nearest(place, like, kind, depth, every)
    elif len(ids) > depth:
        ids = ids[np.argsort(-said.relevance[at], kind="stable")[:depth]]
    chosen = np.unique(np.concatenate([*found, ids]))
    known, rows = place.vectors.rows(chosen, kind)
    # What lost its vector is like nothing; so is a row that was damaged since its file was opened.
    sound = np.abs(np.linalg.norm(rows, axis=1) - 1) < _UNIT_ERROR
    vectors = np.zeros((len(chosen), place.vectors.dim), dtype=np.float32)
    vectors[np.searchsorted(chosen, known[sound])] = rows[sound]
    return chosen, vectors


def _nearest(
    place: _Place, like: Side, kind: Kind, depth: int, only: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    vectors = list(like.vectors)
    if len(vectors) > 1:
        vectors.append(normalised(like.weights @ like.vectors))
    found = [place.vectors.search(vector, depth, kind, only)[1] for vector in vectors]
    return np.concatenate(found)


def _seen(like: Side, kind: Kind) -> Reason:
    """What the vectors compared: a page shows its text to a text and its picture to a picture."""
    worded = {Modality.TEXT, Modality.PAGE}
    if kind is Kind.TEXT or (kind is Kind.PDF and worded & set(like.modalities)):
        return Reason.TEXT
    return Reason.PICTURE


def _folded(
    place: _Place, judged: Sequence[_Judged], need: int, origins: dict[int, Origin]
) -> list[_Found]:
    """The best `need` files or pages in order, scored; files of the same bytes are one.

    Args:
        place: Where they are.
        judged: Best first.
        need: Most of them.
        origins: Of some; those that are needed as well are added.
    """
    best: dict[Origin, _Found] = {}
    for start in range(0, len(judged), need + _MORE):
        chunk = judged[start : start + need + _MORE]
        if start:
            origins |= place.catalog.origins([one.segment_id for one in chunk])
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
