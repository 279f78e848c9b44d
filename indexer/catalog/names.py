"""Looking up words in the names of files and folders."""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from embedder.media.kinds import Kind
from embedder.normalisation import folded
from indexer.catalog import schema
from indexer.catalog.fulltext import IDS, MAX_LISTED, NO_IDS, Ids, answers, numbers, phrases
from indexer.catalog.plurals import other_numbers
from indexer.catalog.sqlite import given_ids, one_of
from indexer.types import Filters

MAX_NAMED = 500
"""Files with a term in their names or folders; a term of more files is a common one."""
_MAX_INSIDE = 2_000  # Files in a folder that are listed.
_MAX_BEGUN_FILES = 200  # Files with words that a term begins; these say less.

_MIN_BEGINNING = 4  # letters; many words begin with the same three
_MAX_BEGUN = 64  # What begins more words says little.
_LONG_BEGINNING, _SHORT_BEGINNING = 2 / 3, 0.45  # of a word: from six letters on hardly by chance
_TRIGRAM = 3
_MAX_TRIGRAMS = 200  # What begins as many trigrams is in very many names.

_CASED = list(map(chr, range(0x2000)))  # With Latin of all languages, Greek and Cyrillic.
_SMALL, _CAPITAL = ("".join(filter(kind, _CASED)) for kind in (str.islower, str.isupper))
# Where a name goes over from one word to the next without a separator: "IMG2041", "beachParty".
_SEAM = re.compile(
    rf"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[{_SMALL}])(?=[{_CAPITAL}])"
    rf"|(?<=[{_CAPITAL}])(?=[{_CAPITAL}][{_SMALL}])"
)
# As it is `folded`: marks of Indic scripts are parts of words.
IN_WORD = "[0-9A-Za-z\x80-\U0010ffff]"
_IS_WORD = re.compile(f"{IN_WORD}+")
# A day in a name, perhaps with a time of day: 2024-05-01, 20240501, 20240501103000.
_DAY = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-. ]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])"
    r"(?=(?:\d{6}(?:\d{3})?)?(?!\d))"
)


def name_words(name: str) -> str:
    """Return what is indexed of a name: itself, and its words apart where they are joined.

    Days are indexed in two forms, so that 20240501 and 2024-05-01 find each other.
    """
    written = _composed(name)
    apart = _SEAM.sub(" ", written)
    forms = [written] if apart == written else [written, apart]
    for match in _DAY.finditer(written):
        day = match.group(1, 3, 4)
        forms += [*day, "".join(day)]
    return folded(" ".join(forms))


def plain_name(name: str) -> str:
    """Return a name, or a part of one, as `name_words` has it."""
    return folded(_composed(name))


def _composed(name: str) -> str:
    """Return a name in Unicode's composed form, with spaces for underscores."""
    valid = name.encode(errors="replace").decode()
    return unicodedata.normalize("NFC", valid).replace("_", " ")


def folder_words(folder: Path) -> str:
    """Return what is indexed of a folder's path."""
    return " ".join(name_words(part) for part in folder.parts[1:])


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A file whose name or folders have words of the query.

    Attributes:
        segment_id: The file's first segment.
        in_name: All terms are in the file's own name.
        in_folders: All terms are in the name and the folders, which few files have in common.
        share: Part of the terms found in the name or the folders, above 0 and up to 1; a term that
            only begins a word counts less than one.
    """

    segment_id: int
    in_name: bool
    in_folders: bool
    share: float


def find_names(
    connection: Connection, terms: Sequence[str], filters: Filters, limit: int
) -> dict[Kind, list[NameMatch]]:
    """See `Catalog.find_names`."""
    asked = _name_terms(connection, phrases(terms))
    if not asked or limit < 1:
        return {}
    own, lists = _named(connection, asked, every=filters != Filters())
    ids = np.unique(np.concatenate([some for pair in lists for some in pair]))
    if filters.folder is not None and ids.size:
        ids = _within(connection, ids, filters.folder)
    if not ids.size:
        return {}
    share = _shares(ids, asked, lists)
    in_name = np.isin(ids, own, assume_unique=True)
    is_whole = share == 1
    in_folders = is_whole & (is_whole.any() and _are_few(connection, int(is_whole.sum())))
    order = np.lexsort((ids, -share, ~in_name))
    if filters == Filters():
        # Files with whole words may all be of one kind. Those with beginnings alone say little.
        whole = len(np.unique(np.concatenate([some for some, _ in lists])))
        order = order[: max(limit, min(whole, len(Kind) * limit))]
    best = ids[order].tolist()
    columns = (in_name[order].tolist(), in_folders[order].tolist(), share[order].tolist())
    matches = dict(zip(best, zip(*columns, strict=True), strict=True))
    chosen: dict[Kind, dict[int, NameMatch]] = {}
    for item_id, kind, segment_id in first_segments(connection, best, filters):
        of_kind = chosen.setdefault(kind, {})
        if len(of_kind) < limit:
            of_kind.setdefault(segment_id, NameMatch(segment_id, *matches[item_id]))
    return {kind: list(found.values()) for kind, found in chosen.items()}


def _are_few(connection: Connection, files: int) -> bool:
    """Return whether that many files are few: what most have in their folders says nothing."""
    return files < MAX_NAMED and 2 * files <= connection.exec_driver_sql(_FILES).scalar_one()


def names_with(connection: Connection, plain: str, limit: int) -> list[int] | None:
    """Return the files with something in their names, whatever the case; None if too many.

    Args:
        connection: To the library.
        plain: From `plain_name`.
        limit: Most files.
    """
    if not plain or "\0" in plain:
        return []  # Nothing is left of a dash, and FTS5 takes a null byte for an end.
    parts = [plain]
    if len(plain) < _TRIGRAM:  # Then it is the beginning of trigrams.
        folded = plain.lower()
        beginning = (folded, f"{folded}\U0010ffff", _MAX_TRIGRAMS)
        parts = list(connection.exec_driver_sql(_TRIGRAMS, beginning).scalars())
        if len(parts) == _MAX_TRIGRAMS:
            return None
        if not parts:
            return []
    expression = " OR ".join('"' + part.replace('"', '""') + '"' for part in parts)
    found = connection.exec_driver_sql(_WITH_PART, (expression, limit + 1)).scalars().all()
    return list(found) if len(found) <= limit else None


@dataclass(frozen=True, slots=True)
class _NameTerm:
    """A term as it may be written in names, in FTS5's syntax.

    Attributes:
        whole: Joined or apart.
        begun: Words that it is the beginning of; empty where there are none, or too many.
        weight: What such a word counts.
    """

    whole: str
    begun: str
    weight: float

    @property
    def any(self) -> str:
        """The word or what it begins."""
        return f"({self.whole} OR {self.begun})" if self.begun else self.whole


def _name_terms(connection: Connection, asked: Sequence[str]) -> list[_NameTerm]:
    """Look up of which words in names some phrases are the beginnings."""
    lasts = {phrase: phrase[1:-1].rpartition("_")[2] for phrase in asked}
    begins = [
        phrase
        for phrase, last in lasts.items()
        if len(last) >= _MIN_BEGINNING and _IS_WORD.fullmatch(last)
    ]
    # Without the word itself, of which FTS5 would count all places: "0" is the first of characters.
    queries = [(_BEGUN, f"{lasts[phrase]}0", f"{lasts[phrase]}\U0010ffff") for phrase in begins]
    found = map(json.loads, answers(connection, *queries)) if queries else ()
    words = dict(zip(begins, found, strict=True))
    return [_name_term(phrase, words.get(phrase, ())) for phrase in asked]


def _name_term(phrase: str, words: Sequence[str]) -> _NameTerm:
    """Return a term for a phrase, whose last word is the beginning of some words."""
    apart, start = _SEAM.sub(" ", phrase), phrase[1:-1]
    forms = [*dict.fromkeys((phrase, apart)), *(f'"{one}"' for one in other_numbers(start))]
    whole = phrase if len(forms) == 1 else f"({' OR '.join(forms)})"
    head, joint, _ = start.rpartition("_")
    begun = " OR ".join(f'"{head}{joint}{word}"' for word in words)
    return _NameTerm(
        whole,
        f"({begun})" if 0 < len(words) <= _MAX_BEGUN else "",
        _LONG_BEGINNING if len(start) >= 6 else _SHORT_BEGINNING,
    )


def _named(
    connection: Connection, asked: Sequence[_NameTerm], *, every: bool
) -> tuple[Ids, list[tuple[Ids, Ids]]]:
    """Return the files with all terms in their own names, and for each term those that have it.

    The latter are two lists: files with the term itself, and with words that it begins unless the
    term itself is in that many. Common terms are only looked up among the files of the rare ones.
    If there are no rare ones, all terms are required, and the first such files are returned, or
    every one.
    """
    sql, together = IDS.format("item_names"), " AND ".join(term.any for term in asked)
    begun = [term for term in asked if term.begun]
    own, *found = map(
        numbers,
        answers(
            connection,
            (sql, f"{{name_words}} : ({together})", MAX_LISTED),
            *((sql, term.whole, MAX_NAMED + 1) for term in asked),
            *((sql, term.begun, _MAX_BEGUN_FILES) for term in begun),
        ),
    )
    lists, begins = found[: len(asked)], dict(zip(begun, found[len(asked) :], strict=True))
    common = [number for number, ids in enumerate(lists) if len(ids) > MAX_NAMED]
    if len(common) == len(lists):
        together = " AND ".join(term.whole for term in asked)
        most = -1 if every else MAX_NAMED
        return own, [(numbers(*answers(connection, (sql, together, most))), NO_IDS)]
    if common:
        rare = " OR ".join(term.any for i, term in enumerate(asked) if i not in common)
        queries = [(sql, f"({rare}) AND {asked[i].whole}", -1) for i in common]
        for number, answer in zip(common, answers(connection, *queries), strict=True):
            lists[number] = numbers(answer)
    return own, [
        (ids, begins.get(term, NO_IDS) if len(ids) < _MAX_BEGUN_FILES else NO_IDS)
        for term, ids in zip(asked, lists, strict=True)
    ]


def _shares(
    ids: Ids, asked: Sequence[_NameTerm], lists: Sequence[tuple[Ids, Ids]]
) -> NDArray[np.float64]:
    """Return which part of the terms each file has (n,), from the files of each term."""
    total = np.zeros(len(ids))
    for term, (whole, begun) in zip(asked, lists, strict=False):
        share = np.where(np.isin(ids, begun, assume_unique=True), term.weight, 0.0)
        share[np.isin(ids, whole, assume_unique=True)] = 1.0
        total += share
    return total / len(lists)


def _within(connection: Connection, ids: Ids, folder: Path) -> Ids:
    """Return those of some files that are in a folder or below; all if very many files are.

    Listing the files of a small folder takes less time than looking at each of these.
    """
    inside = numbers(connection.execute(_files_below(folder)).scalar_one())
    return ids if len(inside) > _MAX_INSIDE else np.intersect1d(ids, inside, assume_unique=True)


_FILES = "SELECT coalesce(sum(files), 0) FROM item_counts WHERE status = 'indexed'"
_BEGUN = (
    "SELECT json_group_array(term) FROM (SELECT term FROM item_names_terms "
    f"WHERE term >= ? AND term < ? LIMIT {_MAX_BEGUN + 1})"
)
_TRIGRAMS = "SELECT term FROM name_parts_terms WHERE term >= ? AND term < ? LIMIT ?"
_WITH_PART = "SELECT rowid FROM name_parts WHERE name_parts MATCH ? LIMIT ?"


def first_segments(
    connection: Connection, item_ids: Sequence[int], filters: Filters
) -> Iterator[tuple[int, Kind, int]]:
    """Yield id, kind and first segment of those files that satisfy the filters, in order."""
    answer = connection.execute(_files(filters), given_ids(item_ids)).scalar_one()
    files = {row[0]: row for row in json.loads(answer)}
    for item_id, kind, segment_id in (files[one] for one in item_ids if one in files):
        yield item_id, Kind(kind), segment_id


@lru_cache(maxsize=64)
def _files_below(folder: Path) -> Select[str]:
    """Return the query for the files in a folder or below, no more than suffice to be many."""
    folders = select(schema.folders.c.id).where(schema.below(folder))
    inside = select(schema.items.c.id).where(schema.items.c.folder_id.in_(folders))
    some = inside.limit(_MAX_INSIDE + 1).subquery()
    return select(func.json_group_array(some.c.id))


@lru_cache(maxsize=64)  # Putting a statement together takes longer than SQLite takes to answer it.
def _files(filters: Filters) -> Select[str]:
    """Return the query for some files that satisfy the filters: id, kind and first segment."""
    items, segments = schema.items.c, schema.segments.c
    return (
        select(func.json_group_array(func.json_array(items.id, items.kind, segments.id)))
        .join_from(schema.items, schema.segments, segments.media_id == items.media_id)
        .where(one_of(items.id), schema.of_items(filters), segments.position == 0)
    )
