"""What might be hits: segments that some evidence speaks for, with how likely each of them is one.

Of each kind these are the nearest vectors of every part of the query and of their weighted sum,
full-text matches, and file names; where very many texts have all words, the nearest of them. Their
evidence becomes a probability (`indexer.relevance`), for all kinds at once: a search computes with
hundreds of them, and NumPy takes as long to be asked for ten as for a thousand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from embedder.content import Modality
from embedder.interface import EmbedderInfo, Vectors, normalised
from embedder.media.kinds import Kind
from indexer import relevance
from indexer.asking import MODALITY
from indexer.entities import Filters, Reason
from indexer.relevance import Probabilities, Side
from indexer.saying import WORDED, Said

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.vectors import VectorStore

Ids = NDArray[np.int64]

_UNIT_ERROR = 0.01
_TOLD = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a query looks.

    Attributes:
        catalog: Of the library.
        vectors: Of the same segments.
        info: Of the embedder whose vectors they are.
        kinds: Of media to look among.
        filters: What the files must be.
        only: The segments that the filters leave, ascending; None for all.
    """

    catalog: "Catalog"
    vectors: "VectorStore"
    info: EmbedderInfo
    kinds: frozenset[Kind]
    filters: Filters
    only: Ids | None


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Segments in rows, those of a kind together and the likeliest of them first.

    Attributes:
        rows: Which rows each kind has.
        ids: Of the segments (n,).
        relevance: How likely each is what the query asks for (n,).
        evidence: What speaks for each (3, n): vectors, words, and the names of files.
        reasons: What the vectors of each kind compare.
    """

    rows: Mapping[Kind, range]
    ids: Ids
    relevance: Probabilities
    evidence: Probabilities
    reasons: Mapping[Kind, Reason]

    @classmethod
    def of(cls, place: Place, like: Side, unlike: Side, depth: int) -> Self:
        """Finds them.

        Args:
            place: Where to look; at least for one kind.
            like: What they should be like.
            unlike: What they should not be like.
            depth: Most of a kind that each sort of evidence brings, or a few more.
        """
        kinds = sorted(place.kinds)
        said, unwanted = (
            Said.of(place.catalog, place.vectors, side.terms, place.filters, depth)
            for side in (like, unlike)
        )
        found = [_gathered(place, like, said, kind, depth) for kind in kinds]
        counts = [len(ids) for ids, _ in found]
        ids = np.concatenate([ids for ids, _ in found])
        worded = np.repeat([kind in WORDED for kind in kinds], counts)
        words, names = said.words_of(place.catalog, ids, worded), said.names_of(ids)
        vectors = [(MODALITY[kind], rows) for kind, (_, rows) in zip(kinds, found, strict=True)]
        logits = relevance.log_odds(place.info, like, vectors)
        total = relevance.likeness(like, logits, relevance.together(words, names))
        if unlike.modalities:
            against = relevance.log_odds(place.info, unlike, vectors)
            total = relevance.without(total, unlike, against)
        total *= 1 - unwanted.words_of(place.catalog, ids, worded)
        order = np.lexsort((ids, -total, np.repeat(np.arange(len(kinds)), counts)))
        evidence = np.stack([relevance.likeness(like, logits), words, names])
        ends = np.cumsum(counts).tolist()
        return cls(
            rows={k: range(e - n, e) for k, e, n in zip(kinds, ends, counts, strict=True)},
            ids=ids[order],
            relevance=total[order],
            evidence=evidence[:, order],
            reasons={kind: _seen(like, kind) for kind in kinds},
        )

    def segments(self, rows: range) -> list[int]:
        """Those in some rows."""
        return [int(one) for one in self.ids[rows.start : rows.stop]]

    def first(self, count: int) -> list[int]:
        """The likeliest segments of each kind."""
        return [one for rows in self.rows.values() for one in self.segments(rows[:count])]

    def why(self, row: int, kind: Kind) -> tuple[Reason, ...]:
        """The reasons worth telling: the strongest, and others that say something by themselves."""
        reasons = self.reasons[kind], Reason.WORDS, Reason.FILE_NAME
        said = zip(self.evidence[:, row].tolist(), reasons, strict=True)
        told = sorted(said, key=lambda one: -one[0])
        return tuple(reason for i, (much, reason) in enumerate(told) if i == 0 or much >= _TOLD)


def _gathered(place: Place, like: Side, said: Said, kind: Kind, depth: int) -> tuple[Ids, Vectors]:
    """The candidates of one kind, ascending, with their vectors."""
    found = [*_nearest(place, like, kind, depth, place.only), said.named(kind)]
    ids = said.ids.get(kind, np.empty(0, dtype=np.int64))
    if place.only is not None:
        ids = ids[np.isin(ids, place.only)]
    at = np.searchsorted(said.matches.ids, ids)
    every = ids[said.matches.every[at]]
    if len(every) > depth:  # So many have all words that the vectors have to tell which are best.
        found += _nearest(place, like, kind, depth, every)
    elif len(ids) > depth:
        found.append(ids[np.argsort(-said.relevance[at], kind="stable")[:depth]])
    else:
        found.append(ids)
    chosen = np.unique(np.concatenate(found))
    known, rows = place.vectors.rows(chosen, kind)
    # What lost its vector is like nothing; so is a row that was damaged since its file was opened.
    sound = np.abs(np.vecdot(rows, rows) - 1) < _UNIT_ERROR
    if len(known) == len(chosen) and sound.all():
        return chosen, rows
    vectors = np.zeros((len(chosen), place.vectors.dim), dtype=np.float32)
    vectors[np.searchsorted(chosen, known[sound])] = rows[sound]
    return chosen, vectors


def _nearest(place: Place, like: Side, kind: Kind, depth: int, only: Ids | None) -> list[Ids]:
    vectors = list(like.vectors[MODALITY[kind]])
    if len(vectors) > 1:
        vectors.append(normalised(like.weights @ np.stack(vectors)))
    return [place.vectors.search(vector, depth, kind, only)[1] for vector in vectors]


def _seen(like: Side, kind: Kind) -> Reason:
    """What the vectors compared: a page shows its text to a text and its picture to a picture."""
    worded = {Modality.TEXT, Modality.PAGE}
    if kind is Kind.TEXT or (kind is Kind.PDF and worded & set(like.modalities)):
        return Reason.TEXT
    return Reason.PICTURE
