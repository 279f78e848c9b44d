"""Corrections of words that occur nowhere in a library, by words that do."""

import json
import re
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from indexer.catalog.fulltext import expressions

MIN_LETTERS = 5
"""A shorter word has too many neighbours by chance."""

_MAX_LETTERS = 24
_MAX_UNKNOWN = 2
"""Words of a query whose neighbours are looked up: that takes some 10 milliseconds for each."""

_MAX_TEXTS = 20
"""Texts with the stem of a neighbour in which the neighbour itself is looked for."""

# As `folded` leaves letters.
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзийклмнопрстуфхцчшщъыьэюяіїєґ",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "אבגדהוזחטיךכלםמןנסעףפץצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهويءپچژگ",
)

_STEMMED_INDEXES = ("segment_texts", "item_about")
_INDEXES = (*_STEMMED_INDEXES, "item_names")
_OCCURS = (
    "SELECT {} OR EXISTS (SELECT 1 FROM item_names_terms WHERE term >= ? AND term < ?)".format(
        " OR ".join(f"EXISTS (SELECT 1 FROM {name} WHERE {name} MATCH ?)" for name in _INDEXES)
    )
)
_COUNT = "(SELECT count(*) FROM (SELECT 1 FROM {0} WHERE {0} MATCH '\"' || value || '\"' LIMIT 99))"
_KNOWN = "SELECT value, {}, {} FROM json_each(?)".format(
    " + ".join(_COUNT.format(name) for name in _STEMMED_INDEXES), _COUNT.format("item_names")
)
_TEXTS = (
    "SELECT coalesce(terms, text, '') || ' ' || coalesce(read_terms, '') FROM segments "
    "WHERE id IN ("
    "SELECT rowid FROM segment_texts WHERE segment_texts MATCH :phrase LIMIT :limit) UNION ALL "
    "SELECT about_words || ' ' || name_words FROM items WHERE id IN ("
    "SELECT rowid FROM item_about WHERE item_about MATCH :phrase LIMIT :limit)"
)


def corrections(
    connection: Connection, terms: Sequence[str], knows_word: Callable[[str], bool]
) -> dict[str, str]:
    """See `Catalog.corrections`."""
    found: dict[str, str] = {}
    unknown = 0
    for term in terms:
        alphabet = next((one for one in _ALPHABETS if set(term) <= set(one)), None)
        if alphabet is None or not MIN_LETTERS <= len(term) <= _MAX_LETTERS:
            continue
        (expression,) = expressions([term])
        known = (*[expression] * len(_INDEXES), term, f"{term}\U0010ffff")
        if connection.exec_driver_sql(_OCCURS, known).scalar_one():
            continue
        if knows_word(term):
            continue
        unknown += 1
        if unknown > _MAX_UNKNOWN:
            break
        neighbours = json.dumps(sorted(_one_edit_away(term, alphabet)))
        counted = {
            value: texts * _is_written(connection, value) + names if texts else names
            for value, texts, names in connection.exec_driver_sql(_KNOWN, (neighbours,))
        }
        best = max(counted, key=counted.__getitem__)
        if counted[best]:
            found[term] = best
    return found


def _is_written(connection: Connection, word: str) -> bool:
    """Return whether texts with the stem of a word have itself, its plural or its singular.

    "bringe" has the stem of "bring", and is no word for that.
    """
    given = {"phrase": f'"{word}"', "limit": _MAX_TEXTS}
    found = connection.exec_driver_sql(_TEXTS, given).scalars()
    written = rf"\b{re.escape(word)}|\b{re.escape(word.removesuffix('s'))}\b"
    return any(re.search(written, text, re.IGNORECASE) for text in found)


def _one_edit_away(word: str, alphabet: str) -> set[str]:
    """Return the words that differ by a letter, or by two that are swapped."""
    parts = [(word[:i], word[i:]) for i in range(len(word) + 1)]
    without = {left + right[1:] for left, right in parts if right}
    swapped = {left + right[1] + right[0] + right[2:] for left, right in parts if len(right) > 1}
    replaced = {left + letter + right[1:] for left, right in parts if right for letter in alphabet}
    added = {left + letter + right for left, right in parts for letter in alphabet}
    return (without | swapped | replaced | added) - {word}
