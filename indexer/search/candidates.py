"""Candidates of each kind: the nearest by vectors, and those that the words of a query find."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from embedder.content import Modality
from embedder.interface import EmbedderInfo, Vectors, normalised
from embedder.media import MEDIA_KINDS, Kind
from indexer.catalog.details import AboutMatches
from indexer.catalog.fulltext import NO_WORDS, WordMatches
from indexer.catalog.names import NameMatch
from indexer.search import scoring
from indexer.search.query import MODALITY
from indexer.search.scoring import EVERY_WORD, Probabilities, Side
from indexer.types import Filters, Reason

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.vectors import SearchFilter, VectorIndex


_PICTURED = frozenset(
    kind
    for kind, record in MEDIA_KINDS.items()
    if record.has_picture and record.modality is not Modality.TEXT  # whose vectors are of words
)

WORDED = frozenset(
    kind for kind, record in MEDIA_KINDS.items() if record.has_text or record.has_picture
)
"""The kinds whose segments have words, of the file or read in its pictures."""

Ids = NDArray[np.int64]

_IN_NAME = 0.9
"""Probability where all words are in the name of the file itself, or in its details."""
_IN_FOLDERS = 0.7
"""Probability where all words are in the names of its folders, and most files are not in there."""
_IN_PATH = 0.4
"""Probability where all words are in the names of folders that most files are in; less where only
some are, there or in its details."""

_CORRECTED = 0.5
"""What words count if some were corrected: they make weak hits."""
_SINGLE_LETTER = 0.3
"""What texts count that have the single letters that were typed: they are weak hits."""
_WITHOUT_PHRASE = 0.49
"""What counts that is like a query of quoted phrases alone, but lacks one: it is a weak hit."""


@dataclass(frozen=True, slots=True, eq=False)
class KeywordMatches:
    """The segments that the words of one side of a query find.

    Attributes:
        terms: The words.
        matches: The segments whose texts have them.
        relevance: Probability for each match.
        ids: The matching segments by kind, ascending.
        names: The files whose names have the words, by kind.
        about: The files whose details have them, by kind.
        trust: What these probabilities are multiplied by: 1 for words as they were typed.
        text_trust: The same for words in texts.
    """

    terms: Sequence[str]
    matches: WordMatches
    relevance: Probabilities
    ids: Mapping[Kind, Ids]
    names: Mapping[Kind, Sequence[NameMatch]]
    about: AboutMatches
    trust: float
    text_trust: float

    @classmethod
    def of(
        cls,
        catalog: "Catalog",
        vectors: "VectorIndex",
        terms: Sequence[str],
        filters: Filters,
        depth: int,
        *,
        knows_word: Callable[[str], bool] | None = None,
    ) -> Self:
        """Look words up in texts, and in names and details of files.

        Args:
            catalog: Where to look.
            vectors: The index of the same segments.
            terms: The words; without any, nothing is found.
            filters: Restrict the files that are found by their names or details.
            depth: Most files of each kind that either find.
            knows_word: Look up corrections of words that occur nowhere, unless it knows them.
        """
        if not terms:
            return cls((), NO_WORDS, np.empty(0), {}, {}, {}, trust=1.0, text_trust=1.0)
        matches, corrected = catalog.find_words(terms), {}
        if knows_word and (corrected := catalog.corrections(matches.absent, knows_word)):
            terms = [corrected.get(term, term) for term in terms]
            matches = catalog.find_words(terms)
        trust = _CORRECTED if corrected else 1.0
        is_typed = knows_word is not None  # Neither quoted nor unwanted.
        text_trust = trust * (_SINGLE_LETTER if is_typed and all(map(_is_letter, terms)) else 1.0)
        return cls(
            terms,
            matches,
            text_trust * scoring.of_words(matches.scores, matches.every),
            _by_kind(catalog, vectors, matches.ids),
            catalog.find_names(terms, filters, depth),
            catalog.find_about(terms, filters, depth),
            trust,
            text_trust,
        )

    def words_of(self, catalog: "Catalog", ids: Ids, worded: NDArray[np.bool_]) -> Probabilities:
        """Return probabilities of some segments by their texts and the details of their files.

        Args:
            catalog: Where to look.
            ids: The segments (n,), ascending within each kind.
            worded: Which of them have texts (n,).
        """
        known, found = self.matches.ids, np.zeros(len(ids))
        if not self.terms:
            return found
        if known.size:
            at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
            found = np.where(known[at] == ids, self.relevance[at], 0.0)
        if not self.matches.complete:
            every = self.text_trust * EVERY_WORD
            unsure = ids[worded & (found < every)]
            found[np.isin(ids, catalog.with_every_word(self.terms, unsure))] = every
        about = {
            segment_id: _IN_NAME if share == 1 else _IN_PATH * share
            for shares in self.about.values()
            for segment_id, share in shares.items()
        }
        return scoring.together(found, self.trust * scoring.aligned(about, ids))

    def named(self, kind: Kind) -> Ids:
        """Return the segments of a kind whose files' names or details have the words."""
        found = [one.segment_id for one in self.names.get(kind, ())]
        return np.array([*found, *self.about.get(kind, {})], dtype=np.int64)

    def names_of(self, ids: Ids) -> Probabilities:
        """Return the probabilities of some segments (n,) by the names of their files."""
        found = {
            match.segment_id: match.share
            * (_IN_NAME if match.in_name else _IN_FOLDERS if match.in_folders else _IN_PATH)
            for matches in self.names.values()
            for match in matches
        }
        return self.trust * scoring.aligned(found, ids)


def _is_letter(term: str) -> bool:
    """Return whether a term is a letter or digit that is hardly ever a word by itself."""
    return len(term) == 1 and (term.isdigit() or term.lower() != term.upper())


def _by_kind(catalog: "Catalog", vectors: "VectorIndex", ids: Ids) -> dict[Kind, Ids]:
    """Group segments with texts by their kinds, which the index knows.

    The catalog knows the kind of a segment that has lost its vector, so its words still find it.
    """
    found = {kind: vectors.among(ids, kind) for kind in sorted(WORDED)}
    if sum(map(len, found.values())) < len(ids):
        lost = np.setdiff1d(ids, np.concatenate(list(found.values())))
        kinds = catalog.kinds_of(lost.tolist())
        for kind, known in found.items():
            some = [one for one in lost.tolist() if kinds.get(one) is kind]
            found[kind] = np.union1d(known, np.array(some, dtype=np.int64))
    return found


_MAX_UNIT_ERROR = 0.01
_MAX_SAMPLE = 100  # some milliseconds of a search with a picture
MIN_SAMPLE = 20
"""Documents of a kind from which on constants can be fitted to them."""
_MIN_REASON = 0.25
"""Evidence from which on a reason beside the strongest one is shown."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchContext:
    """What a search looks through.

    Attributes:
        catalog: The library's tables.
        vectors: The index of the same segments.
        info: About the model that made the vectors.
        knows_word: Says of a word whether it is right as it is written.
        kinds: The kinds of media to look for.
        filters: Restrict the files.
        where: The same restriction for the vector index; None for all files.
        without: Words that no hit has.
    """

    catalog: "Catalog"
    vectors: "VectorIndex"
    info: EmbedderInfo
    knows_word: Callable[[str], bool]
    kinds: frozenset[Kind]
    filters: Filters
    where: "SearchFilter | None"
    without: Sequence[str] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Segments in rows, those of a kind together and the likeliest of them first.

    Attributes:
        rows: The rows of each kind.
        ids: Segments (n,).
        relevance: Probability (n,) that a segment is what the query asks for.
        evidence: The same (3, n) by vectors, by words in texts and details, and by names alone.
        reasons: What the vectors of each kind compare.
    """

    rows: Mapping[Kind, range]
    ids: Ids
    relevance: Probabilities
    evidence: Probabilities
    reasons: Mapping[Kind, Reason]

    @classmethod
    def of(cls, context: SearchContext, like: Side, unlike: Side, depth: int) -> Self:
        """Find candidates and weigh the evidence for them.

        Args:
            context: Where to look; for one kind at least.
            like: What hits should be like.
            unlike: What they should not be like.
            depth: Candidates of each kind that vectors, words and names each bring, or a few more.
        """
        kinds = sorted(context.kinds)
        catalog, index, filters = context.catalog, context.vectors, context.filters
        wanted, unwanted = (
            KeywordMatches.of(catalog, index, side.terms, filters, depth, knows_word=knows)
            for side, knows in ((like, None if like.quoted else context.knows_word), (unlike, None))
        )
        found = [_gather(context, like, wanted, kind, depth) for kind in kinds]
        counts = [len(ids) for ids, _ in found]
        ids = np.concatenate([ids for ids, _ in found])
        worded = np.repeat([kind in WORDED for kind in kinds], counts)
        words, names = wanted.words_of(catalog, ids, worded), wanted.names_of(ids)
        vectors = [(MODALITY[kind], rows) for kind, (_, rows) in zip(kinds, found, strict=True)]
        info = _fitted(context, (like, unlike))
        logits = scoring.log_odds(info, like, vectors)
        total = scoring.likeness(like, logits, scoring.together(words, names))
        if unlike.modalities:
            against = scoring.log_odds(info, unlike, vectors)
            total = scoring.without(total, unlike, against)
        total *= 1 - unwanted.words_of(catalog, ids, worded)
        if like.quoted:
            total[np.maximum(words, names) < EVERY_WORD] *= _WITHOUT_PHRASE
        order = np.lexsort((ids, -total, np.repeat(np.arange(len(kinds)), counts)))
        evidence = np.stack([scoring.likeness(like, logits), words, names])
        ends = np.cumsum(counts).tolist()
        return cls(
            rows={k: range(e - n, e) for k, e, n in zip(kinds, ends, counts, strict=True)},
            ids=ids[order],
            relevance=total[order],
            evidence=evidence[:, order],
            reasons={kind: _compared(like, kind) for kind in kinds},
        )

    def reranked(self, kind: Kind, relevance: Mapping[int, float]) -> Self:
        """Return the candidates with the probabilities of a reranker for some of a kind.

        The rest of the kind follows in its order, less likely than the least of them.

        Args:
            kind: The kind.
            relevance: Probability by segment; without any, nothing changes.
        """
        rows = self.rows.get(kind)
        if rows is None or not relevance:
            return self
        total, least = self.relevance.copy(), min(relevance.values())
        for row, segment_id in zip(rows, self.segments(rows), strict=True):
            total[row] = relevance.get(segment_id, least * total[row])
        order = np.arange(len(total))
        order[rows] = rows.start + np.argsort(-total[rows], kind="stable")
        return replace(
            self, ids=self.ids[order], relevance=total[order], evidence=self.evidence[:, order]
        )

    def segments(self, rows: range) -> list[int]:
        """Return the segments in some rows."""
        return [int(one) for one in self.ids[rows.start : rows.stop]]

    def why(self, row: int, kind: Kind) -> tuple[Reason, ...]:
        """Return the strongest reason, and the others that suffice by themselves."""
        reasons = self.reasons[kind], Reason.WORDS, Reason.FILE_NAME
        evidence = zip(self.evidence[:, row].tolist(), reasons, strict=True)
        ranked = sorted(evidence, key=lambda pair: -pair[0])
        return tuple(reason for i, (p, reason) in enumerate(ranked) if i == 0 or p >= _MIN_REASON)


def _gather(
    context: SearchContext, like: Side, keywords: KeywordMatches, kind: Kind, depth: int
) -> tuple[Ids, Vectors]:
    """Return the candidates of one kind, ascending, with their vectors."""
    found = [*_nearest(context, like, kind, depth), keywords.named(kind)]
    ids = keywords.ids.get(kind, np.empty(0, dtype=np.int64))
    if context.where is not None:
        # What lost its vector, and so is not in the index, the catalog filters at the end.
        lost = np.isin(ids, context.vectors.among(ids, kind), invert=True)
        ids = ids[context.vectors.matching(ids, kind, context.where) | lost]
    at = np.searchsorted(keywords.matches.ids, ids)
    every = ids[keywords.matches.every[at]]
    best = _nearest(context, like, kind, depth, every) if len(every) > depth else []
    if best:  # Too many have all words: vectors decide which are best, where there are any.
        found += best
    elif len(ids) > depth:
        found.append(ids[np.argsort(-keywords.relevance[at], kind="stable")[:depth]])
    else:
        found.append(ids)
    chosen = np.unique(np.concatenate(found))
    if context.without:
        chosen = np.setdiff1d(chosen, context.catalog.with_any_word(context.without, chosen))
    known, rows = context.vectors.rows(chosen, kind)
    # What lost its vector resembles nothing; likewise what the model did not understand, and a row
    # that was damaged on disk.
    sound = np.abs(np.vecdot(rows, rows) - 1) < _MAX_UNIT_ERROR
    if len(known) == len(chosen) and sound.all():
        return chosen, rows
    vectors = np.zeros((len(chosen), context.vectors.dim), dtype=np.float32)
    vectors[np.searchsorted(chosen, known[sound])] = rows[sound]
    return chosen, vectors


def _fitted(context: SearchContext, sides: Sequence[Side]) -> EmbedderInfo:
    """Return the model with constants for the pairs of modalities that it has none for.

    They are fitted to the library itself, most of which has nothing to do with any one query.
    """
    info, found = context.info, {}
    modalities = {one for side in sides for one in side.modalities}
    for query, kind in itertools.product(sorted(modalities), sorted(context.kinds)):
        pair = query, MODALITY[kind]
        if pair in info.calibration:
            continue
        documents = context.vectors.sample(kind, _MAX_SAMPLE)
        if len(documents) < MIN_SAMPLE:
            continue
        cosines = _among_pictures(context, query, kind, documents)
        if cosines is None:
            cosines = _with_query(sides, pair, documents)
        found[pair] = scoring.fitted(cosines)
    return replace(info, calibration={**info.calibration, **found}) if found else info


def _among_pictures(
    context: SearchContext, query: Modality, kind: Kind, documents: Vectors
) -> NDArray[np.float32] | None:
    """Return cosines (n,) of the library's own pictures; None where they are too few or other."""
    asked = next((one for one in sorted(_PICTURED) if MODALITY[one] == query), None)
    # With an instruction of its own, a query does not lie where documents do.
    comparable = asked == kind or not context.info.takes_instructions
    if asked is None or kind not in _PICTURED or not comparable:
        return None
    if asked == kind:
        return (documents @ documents.T)[np.triu_indices(len(documents), 1)]
    queries = context.vectors.sample(asked, _MAX_SAMPLE)
    return (queries @ documents.T).ravel() if len(queries) >= MIN_SAMPLE else None


def _with_query(
    sides: Sequence[Side], pair: tuple[Modality, Modality], documents: Vectors
) -> NDArray[np.float32]:
    """Return the cosines (n,) of the query's parts of a modality with documents."""
    query, document = pair
    vectors = [
        row
        for side in sides
        for row, modality in zip(side.vectors[document], side.modalities, strict=True)
        if modality == query
    ]
    return (np.array(vectors) @ documents.T).ravel()


def _nearest(
    context: SearchContext, like: Side, kind: Kind, depth: int, ids: Ids | None = None
) -> list[Ids]:
    parts = like.vectors[MODALITY[kind]]
    vectors = list(parts)
    if len(vectors) > 1:
        vectors.append(normalised(like.weights @ parts))
    return [
        context.vectors.search(vector, depth, kind, context.where, ids)[1]
        for vector in vectors
        if vector.any()  # To what was not understood nothing is near.
    ]


def _compared(like: Side, kind: Kind) -> Reason:
    """Return what vectors compared: of a page, its text with a text, its picture with a picture."""
    worded = {Modality.TEXT, Modality.PAGE}
    record = MEDIA_KINDS[kind]
    if record.modality in worded and (kind not in _PICTURED or worded & set(like.modalities)):
        return Reason.TEXT
    return Reason.PICTURE
