"""What the words of a query say of segments: those in texts, and those in the names of files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from embedder.media.kinds import Kind
from indexer import relevance
from indexer.entities import NO_WORDS, Filters, NameMatch, WordMatches
from indexer.relevance import EVERY_WORD, Probabilities

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.vectors import VectorStore

WORDED = frozenset({Kind.PDF, Kind.TEXT})
"""The kinds whose segments have texts."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Said:
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
        vectors: "VectorStore",
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
            relevance.of_words(matches.scores, matches.every),
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
        return relevance.aligned(found, ids)


def _by_kind(catalog: "Catalog", vectors: "VectorStore", ids: Ids) -> dict[Kind, Ids]:
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
