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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedder.content import Modality
from embedder.interface import EmbedError, Vectors, normalised
from embedder.media.kind import Kind
from indexer import relevance
from indexer.entities import Filters, Hit, MediaItem, Query, QueryPart, Reason, Segment
from indexer.errors import QueryError
from indexer.queries import terms
from indexer.relevance import Side

if TYPE_CHECKING:
    from indexer.library import Library

MAX_HITS = 1000
"""Deepest hit that can be asked for, offset included."""

_MODALITY = {
    Kind.IMAGE: Modality.IMAGE,
    Kind.VIDEO: Modality.VIDEO,
    Kind.PDF: Modality.PAGE,
    Kind.TEXT: Modality.TEXT,
}
_STRONG = 0.5
_TOLD = 0.25
_MORE = 8


@dataclass(frozen=True, slots=True)
class _Judged:
    """A candidate with its probability of relevance and what speaks for it, strongest first."""

    segment_id: int
    relevance: float
    why: tuple[Reason, ...]


@dataclass(slots=True)
class _Found:
    """The best segment of a file or page, with the files that hold it and its lesser siblings."""

    judged: _Judged
    segment: Segment
    items: tuple[MediaItem, ...]
    more: list[Segment]
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
    """
    _check(query)
    like, unlike = _embedded(library, query.parts)
    depth = max(100, 3 * (query.offset + query.limit))
    found: list[_Found] = []
    for kind in query.filters.kinds or frozenset(Kind):
        judged = _judged(library, like, unlike, kind, query.filters, depth)
        folded = _folded(library, judged, query.filters)
        for rank, one in enumerate(folded, 1):
            one.score = _score(one.judged.relevance, rank)
            found.append(one)
    found.sort(key=lambda one: (-one.score, one.segment.id))
    page = found[query.offset : query.offset + query.limit]
    return [_hit(one, rank) for rank, one in enumerate(page, query.offset + 1)]


def _check(query: Query) -> None:
    if not any(part.weight > 0 for part in query.parts):
        raise QueryError("the query is empty: say what hits should be like, not only unlike")
    if query.limit < 1 or query.offset < 0:
        raise QueryError("the limit must be at least 1 and the offset at least 0")
    if query.offset + query.limit > MAX_HITS:
        raise QueryError(f"only the first {MAX_HITS} hits can be listed: narrow the query down")


def _embedded(library: "Library", parts: Sequence[QueryPart]) -> tuple[Side, Side]:
    """The parts to be like and the parts to be unlike, embedded in one call."""
    contents = [part.content for part in parts if part.content is not None]
    try:
        rows = iter(library.embedder.embed(contents, role="query"))
    except EmbedError as error:
        raise QueryError(f"the query cannot be embedded: {error.reason}") from error
    vectors: list[Vectors] = []
    modalities: list[Modality] = []
    for part in parts:
        if part.content is not None:
            vectors.append(next(rows))
            modalities.append(part.content.modality)
        elif part.segment_id is not None:
            modalities.append(library.segment(part.segment_id).modality)
            vectors.append(library.catalog.vectors_of([part.segment_id])[0])
    return _side(parts, vectors, modalities, 1), _side(parts, vectors, modalities, -1)


def _side(
    parts: Sequence[QueryPart],
    vectors: Sequence[Vectors],
    modalities: Sequence[Modality],
    sign: int,
) -> Side:
    chosen = [i for i, part in enumerate(parts) if part.weight * sign > 0]
    words: dict[str, None] = {}
    worded = 0.0
    for i in chosen:
        content = parts[i].content
        if content is not None and not content.frames and (found := terms(content.text or "")):
            words.update(dict.fromkeys(found))
            worded += abs(parts[i].weight)
    weights = np.array([abs(parts[i].weight) for i in chosen], dtype=np.float32)
    return Side(
        vectors=np.array([vectors[i] for i in chosen], dtype=np.float32),
        modalities=tuple(modalities[i] for i in chosen),
        weights=weights,
        terms=tuple(words),
        word_share=worded / float(weights.sum()) if chosen else 0.0,
    )


def _judged(
    library: "Library", like: Side, unlike: Side, kind: Kind, filters: Filters, depth: int
) -> list[_Judged]:
    """The candidates of one kind, `depth` for each sort of evidence at most, best first."""
    catalog, info = library.catalog, library.embedder.info

    def worded(side: Side) -> dict[int, float]:
        matches = catalog.find_words(side.terms, kind, filters, depth) if side.terms else []
        return relevance.of_words((m.segment_id, m.score, m.every_term) for m in matches)

    named = catalog.find_names(like.terms, kind, filters, depth) if like.terms else []
    names = {m.segment_id: 0.9 if m.in_name else 0.4 * m.share for m in named}
    words = worded(like)
    ids = _nearest(library, like, kind, filters, depth)
    ids = np.union1d(ids, np.fromiter({*words, *names}, dtype=np.int64))
    if not ids.size:
        return []
    rows = catalog.vectors_of(ids.tolist())
    evidence = {
        _seen(like, kind): relevance.likeness(info, like, _MODALITY[kind], rows),
        Reason.WORDS: like.word_share * relevance.aligned(words, ids),
        Reason.FILE_NAME: like.word_share * relevance.aligned(names, ids),
    }
    total = relevance.together(*evidence.values())
    total = relevance.without(total, info, unlike, _MODALITY[kind], rows)
    total *= 1 - relevance.aligned(worded(unlike), ids)
    return [
        _Judged(int(ids[i]), float(total[i]), _why({r: float(p[i]) for r, p in evidence.items()}))
        for i in np.lexsort((ids, -total))
    ]


def _nearest(
    library: "Library", like: Side, kind: Kind, filters: Filters, depth: int
) -> NDArray[np.int64]:
    only = library.catalog.matching_segments(kind, filters)
    vectors = list(like.vectors)
    if len(vectors) > 1:
        vectors.append(normalised(like.weights @ like.vectors))
    found = [library.vectors.search(vector, depth, kind, only)[1] for vector in vectors]
    return np.unique(np.concatenate(found))


def _seen(like: Side, kind: Kind) -> Reason:
    """What the vectors compared: a page shows its text to a text and its picture to a picture."""
    worded = {Modality.TEXT, Modality.PAGE}
    if kind is Kind.TEXT or (kind is Kind.PDF and worded & set(like.modalities)):
        return Reason.TEXT
    return Reason.PICTURE


def _why(evidence: dict[Reason, float]) -> tuple[Reason, ...]:
    """The reasons worth telling: the strongest, and others that say something by themselves."""
    ordered = sorted(evidence, key=lambda reason: -evidence[reason])
    return tuple(r for i, r in enumerate(ordered) if i == 0 or evidence[r] >= _TOLD)


def _folded(library: "Library", judged: Sequence[_Judged], filters: Filters) -> Iterator[_Found]:
    """One find for each file, or page of a PDF, in order; files with the same bytes are one."""
    resolved = library.catalog.resolve([one.segment_id for one in judged], filters)
    best: dict[tuple[str, int | None], _Found] = {}
    for one in judged:
        if one.segment_id not in resolved:
            continue  # Deleted since, or every file that holds it is filtered out.
        segment, items = resolved[one.segment_id]
        first = best.setdefault(
            (segment.content_hash, segment.page), _Found(one, segment, items, more=[])
        )
        if segment is not first.segment and one.relevance >= _STRONG and len(first.more) < _MORE:
            first.more.append(segment)
    return iter(best.values())


def _score(relevance: float, rank: int) -> float:
    """What hits are ordered by: strong ones fill the upper half, weak ones the lower."""
    strong = relevance >= _STRONG
    return 0.5 + 0.5 * relevance / log2(1 + rank) if strong else 0.5 * relevance


def _hit(found: _Found, rank: int) -> Hit:
    return Hit(
        segment=found.segment,
        item=found.items[0],
        score=found.score,
        rank=rank,
        relevance=found.judged.relevance,
        weak=found.judged.relevance < _STRONG,
        why=found.judged.why,
        more=tuple(found.more),
        copies=tuple(item.path for item in found.items[1:]),
    )
