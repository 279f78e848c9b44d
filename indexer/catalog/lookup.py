"""`WordLookup`: how searches look up words in a library's tables."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from embedder.media.kinds import Kind
from indexer.catalog import fulltext
from indexer.catalog.completions import Completions, completions
from indexer.catalog.details import AboutMatches, find_about
from indexer.catalog.fulltext import WordMatches
from indexer.catalog.names import NameMatch, find_names
from indexer.catalog.spelling import corrections
from indexer.catalog.sqlite import Database
from indexer.types import Filters


class WordLookup:
    """Looks words up in texts, names and details. Thread-safe; never waits for a writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_words(self, terms: Sequence[str]) -> WordMatches:
        """Return the segments whose texts contain the terms.

        A term of very many texts says little; it only counts where all terms are found.

        Args:
            terms: Words or phrases; only letters and digits in them have a meaning.
        """
        with self._database.reading() as connection:
            return fulltext.find_words(connection, terms)

    def with_every_word(
        self, terms: Sequence[str], segment_ids: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return those of some segments whose texts contain all terms, however common they are."""
        with self._database.reading() as connection:
            return fulltext.with_every_word(connection, terms, segment_ids)

    def with_any_word(
        self, terms: Sequence[str], segment_ids: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return those of some segments with any of the terms in text, name or details."""
        with self._database.reading() as connection:
            return fulltext.with_any_word(connection, terms, segment_ids)

    def find_names(
        self, terms: Sequence[str], filters: Filters, limit: int
    ) -> dict[Kind, list[NameMatch]]:
        """Return the files whose names or folders contain the terms, by kind, the best first.

        Args:
            terms: As above.
            filters: What the files must be.
            limit: Most matches of a kind.
        """
        with self._database.reading() as connection:
            return find_names(connection, terms, filters, limit)

    def find_about(self, terms: Sequence[str], filters: Filters, limit: int) -> AboutMatches:
        """Return likewise the files that captions, keywords or other details describe by terms."""
        with self._database.reading() as connection:
            return find_about(connection, terms, filters, limit)

    def corrections(
        self, terms: Sequence[str], knows_word: Callable[[str], bool]
    ) -> dict[str, str]:
        """Return what to look up in place of words that occur nowhere, by those words.

        A correction differs by one letter, or by two that are swapped, and occurs in a text or a
        name; of several, it is the one that occurs most often. The time that this takes hardly
        depends on the size of the library.

        Args:
            terms: As above.
            knows_word: Says of a word whether it is right, so that nothing else was meant.
        """
        with self._database.reading() as connection:
            return corrections(connection, terms, knows_word)

    def completions(self, text: str) -> Completions:
        """Return what begins like the last word of a text that is being typed.

        Names of files have the whole text in them, wherever. The time that this takes hardly
        depends on the size of the library.
        """
        with self._database.reading() as connection:
            return completions(connection, text)
