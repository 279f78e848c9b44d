"""Completions: what a library has that begins like what is being typed."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from embedder.media.kinds import SEPARATOR
from embedder.normalisation import words
from indexer.catalog import schema
from indexer.catalog.details import all_details, unpacked_details
from indexer.catalog.names import IN_WORD, plain_name

MIN_LETTERS = 2
"""Letters of a word from which on it is completed; in texts, one more."""

_MAX_LABELS, _MAX_WORDS, _MAX_FILES = 4, 4, 3
_MAX_DESCRIBED = 60  # Files whose details are read.
_MAX_NAMES = 50  # That have the letters anywhere.
_MAX_TEXTS = 3  # In which a word is looked for as it is written.
_LABELS = {"People", "Keywords", "Place", "Artist", "Album"}


@dataclass(frozen=True, slots=True)
class Completions:
    """What begins like what is being typed, the most frequent first.

    Attributes:
        labels: People, keywords and places that files are labelled with, each with its label.
        words: Words of names and texts, as they are written there; first what was typed, if it
            is one of them.
        files: Names of files in which a word begins like the whole text, each with the first
            segment. Hyphens, dots and where digits begin separate words, too.
    """

    labels: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    files: tuple[tuple[str, int], ...] = ()


def completions(connection: Connection, text: str) -> Completions:
    """See `Catalog.completions`."""
    typed = words(text)
    beginning = typed[-1] if typed and not text[-1].isspace() else ""
    if " " in beginning or len(beginning) < MIN_LETTERS:  # Some scripts do not separate words.
        return Completions(files=_files(connection, text))
    return Completions(
        tuple(_labels(connection, beginning)),
        tuple(_words(connection, beginning)),
        _files(connection, text),
    )


def _labels(connection: Connection, beginning: str) -> Iterator[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    asked = f'{{about_words}} : "{beginning}" *'
    for own, beside in connection.exec_driver_sql(_DETAILS, (asked, _MAX_DESCRIBED)):
        details = all_details(unpacked_details(own), unpacked_details(beside))
        for label, values in details.words:
            if label in _LABELS:
                found.update((label, value) for value in values.split(SEPARATOR))
    matching = (
        pair
        for pair, _ in found.most_common()
        if any(word.startswith(beginning) for word in words(pair[1]))
    )
    for pair, _ in zip(matching, range(_MAX_LABELS), strict=False):
        yield pair


def _words(connection: Connection, beginning: str) -> Iterator[str]:
    """Yield what was typed, if it is a word, then those of most texts and names; no numbers."""
    bounds = (beginning, f"{beginning}\U0010ffff", beginning, _MAX_WORDS)
    found = Counter[str]()
    for word, names in connection.exec_driver_sql(_FREQUENT.format("item_names"), bounds):
        found[word] += names
    if len(beginning) > MIN_LETTERS:
        for stem, texts in connection.exec_driver_sql(_FREQUENT.format("segment_texts"), bounds):
            if word := _written(connection, stem, beginning):
                found[word] += texts
        if _written(connection, beginning, beginning) == beginning:  # Its stem may be shorter.
            found[beginning] += 1
    for word in sorted(found, key=lambda word: (word != beginning, -found[word]))[:_MAX_WORDS]:
        if not word.isdecimal():
            yield word


def _written(connection: Connection, stem: str, beginning: str) -> str | None:
    """Return a word with a stem as texts have it: what is indexed of "company" is "compani"."""
    texts = connection.exec_driver_sql(_TEXTS, (f'"{stem}"', _MAX_TEXTS)).scalars()
    found = {word for text in texts for word in words(text) if word.startswith(beginning)}
    nearest = sorted(found, key=lambda word: (not word.startswith(stem[:-1]), len(word), word))
    return nearest[0] if nearest else None


def _files(connection: Connection, text: str) -> tuple[tuple[str, int], ...]:
    plain = plain_name(text)
    if len(plain) <= MIN_LETTERS or "\0" in plain:
        return ()
    asked = '"' + plain.replace('"', '""') + '"'
    found = connection.exec_driver_sql(_NAMES, (asked, _MAX_NAMES)).all()
    begins = re.compile(f"(?<!{IN_WORD}){re.escape(plain.lower())}")
    return tuple(
        (schema.as_path(path).name, segment_id)
        for path, name, segment_id in found
        if begins.search(name)
    )[:_MAX_FILES]


_DETAILS = (
    "SELECT media.details, items.sidecar_details FROM items JOIN media ON media.id = media_id "
    "WHERE items.id IN (SELECT rowid FROM item_about WHERE item_about MATCH ? LIMIT ?)"
)
_FREQUENT = (
    "SELECT term, doc FROM {}_terms WHERE term >= ? AND term < ? "
    "ORDER BY term = ? DESC, doc DESC, term LIMIT ?"
)
_TEXTS = (
    "SELECT coalesce(terms, text) FROM segments WHERE id IN ("
    "SELECT rowid FROM segment_texts WHERE segment_texts MATCH ? LIMIT ?)"
)
_NAMES = (
    "SELECT items.path, items.name_words, segments.id FROM name_parts "
    "CROSS JOIN items ON items.id = name_parts.rowid "
    "CROSS JOIN segments ON segments.media_id = items.media_id AND position = 0 "
    "WHERE name_parts MATCH ? LIMIT ?"
)
