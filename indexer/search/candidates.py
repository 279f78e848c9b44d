"""What the words of a query say of segments: those in texts, and those in the names of files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from embedder.content import Modality
from embedder.interface import EmbedderInfo, Vectors, normalised
from embedder.media import MEDIA_KINDS, Kind
from indexer.search import scoring
from indexer.search.query import MODALITY
from indexer.search.scoring import EVERY_WORD, Probabilities, Side
from indexer.types import NO_WORDS, Filters, NameMatch, Reason, WordMatches

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.vectors import SearchFilter, VectorIndex


WORDED = frozenset(kind for kind, record in MEDIA_KINDS.items() if record.has_text)
"""The kinds whose segments have texts."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class KeywordMatches:
    """What the words of one side of a query find.

    Attributes:
        terms: The words.
        matches: The segments whose texts have them.
        relevance: Of each match.
        ids: The segments whose texts have them, by kind, ascending.
        names: Files whose names have them, by kind.
    """

    terms: Sequence[str]
    matches: WordMatches
    relevance: Probabilities
    ids: Mapping[Kind, Ids]
    names: Mapping[Kind, Sequence[NameMatch]]

    @classmethod
    def of(
        cls,
        catalog: "Catalog",
        vectors: "VectorIndex",
        terms: Sequence[str],
        filters: Filters,
        depth: int,
    ) -> Self:
        """Looks words up.

        Args:
            catalog: Where to look.
            vectors: Of the same segments.
            terms: The words; nothing is found without any.
            filters: What files must be to be found by their names.
            depth: Most of those, of each kind.
        """
        matches = catalog.find_words(terms) if terms else NO_WORDS
        return cls(
            terms,
            matches,
            scoring.of_words(matches.scores, matches.every),
            _by_kind(catalog, vectors, matches.ids),
            catalog.find_names(terms, filters, depth) if terms else {},
        )

    def words_of(self, catalog: "Catalog", ids: Ids, worded: NDArray[np.bool_]) -> Probabilities:
        """What texts say for some segments (n,), of which the `worded` ones have texts."""
        known = self.matches.ids
        found = np.zeros(len(ids))
        if known.size:
            at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            found = np.where(known[at] == ids, self.relevance[at], 0.0)
        if not self.matches.complete:
            unsure = ids[worded & (found < EVERY_WORD)]
            found[np.isin(ids, catalog.with_every_word(self.terms, unsure))] = EVERY_WORD
        return found

    def named(self, kind: Kind) -> Ids:
        """The segments of a kind whose files' names have the words, the best first."""
        return np.array([one.segment_id for one in self.names.get(kind, ())], dtype=np.int64)

    def names_of(self, ids: Ids) -> Probabilities:
        """What their files' names say for some segments (n,)."""
        found = {
            one.segment_id: 0.9 if one.in_name else 0.4 * one.share
            for matches in self.names.values()
            for one in matches
        }
        return scoring.aligned(found, ids)


def _by_kind(catalog: "Catalog", vectors: "VectorIndex", ids: Ids) -> dict[Kind, Ids]:
    """Segments with texts by their kinds, which the vectors know.

    A segment that has lost its vector is found by its words all the same: the catalog knows it.
    """
    found = {kind: vectors.among(ids, kind) for kind in sorted(WORDED)}
    if sum(map(len, found.values())) < len(ids):
        lost = np.setdiff1d(ids, np.concatenate(list(found.values())))
        kinds = catalog.kinds_of(lost.tolist())
        for kind, known in found.items():
            some = [one for one in lost.tolist() if kinds.get(one) is kind]
            found[kind] = np.union1d(known, np.array(some, dtype=np.int64))
    return found


_UNIT_ERROR = 0.01
_TOLD = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class SearchContext:
    """Where a query looks.

    Attributes:
        catalog: Of the library.
        vectors: Of the same segments.
        info: Of the embedder whose vectors they are.
        kinds: Of media to look among.
        filters: What the files must be.
        where: The part of them that the vector index knows; None if it leaves all files.
    """

    catalog: "Catalog"
    vectors: "VectorIndex"
    info: EmbedderInfo
    kinds: frozenset[Kind]
    filters: Filters
    where: "SearchFilter | None"


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
    def of(cls, place: SearchContext, like: Side, unlike: Side, depth: int) -> Self:
        """Finds them.

        Args:
            place: Where to look; at least for one kind.
            like: What they should be like.
            unlike: What they should not be like.
            depth: Most of a kind that each sort of evidence brings, or a few more.
        """
        kinds = sorted(place.kinds)
        said, unwanted = (
            KeywordMatches.of(place.catalog, place.vectors, side.terms, place.filters, depth)
            for side in (like, unlike)
        )
        found = [_gathered(place, like, said, kind, depth) for kind in kinds]
        counts = [len(ids) for ids, _ in found]
        ids = np.concatenate([ids for ids, _ in found])
        worded = np.repeat([kind in WORDED for kind in kinds], counts)
        words, names = said.words_of(place.catalog, ids, worded), said.names_of(ids)
        vectors = [(MODALITY[kind], rows) for kind, (_, rows) in zip(kinds, found, strict=True)]
        logits = scoring.log_odds(place.info, like, vectors)
        total = scoring.likeness(like, logits, scoring.together(words, names))
        if unlike.modalities:
            against = scoring.log_odds(place.info, unlike, vectors)
            total = scoring.without(total, unlike, against)
        total *= 1 - unwanted.words_of(place.catalog, ids, worded)
        order = np.lexsort((ids, -total, np.repeat(np.arange(len(kinds)), counts)))
        evidence = np.stack([scoring.likeness(like, logits), words, names])
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


def _gathered(
    place: SearchContext, like: Side, said: KeywordMatches, kind: Kind, depth: int
) -> tuple[Ids, Vectors]:
    """The candidates of one kind, ascending, with their vectors."""
    found = [*_nearest(place, like, kind, depth), said.named(kind)]
    ids = said.ids.get(kind, np.empty(0, dtype=np.int64))
    if place.where is not None:
        # What lost its vector, and so is not in the index, the catalog filters at the end.
        lost = np.isin(ids, place.vectors.among(ids, kind), invert=True)
        ids = ids[place.vectors.matching(ids, kind, place.where) | lost]
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


def _nearest(
    place: SearchContext, like: Side, kind: Kind, depth: int, ids: Ids | None = None
) -> list[Ids]:
    vectors = list(like.vectors[MODALITY[kind]])
    if len(vectors) > 1:
        vectors.append(normalised(like.weights @ np.stack(vectors)))
    return [place.vectors.search(vector, depth, kind, place.where, ids)[1] for vector in vectors]


def _seen(like: Side, kind: Kind) -> Reason:
    """What the vectors compared: a page shows its text to a text and its picture to a picture."""
    worded = {Modality.TEXT, Modality.PAGE}
    record = MEDIA_KINDS[kind]
    if record.has_text and (not record.has_picture or worded & set(like.modalities)):
        return Reason.TEXT
    return Reason.PICTURE
