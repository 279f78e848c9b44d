"""Looking up words in texts and in file names, by SQLite's FTS5."""

import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from embedder.media.kinds import Kind
from indexer.catalog import schema
from indexer.catalog.sqlite import given_ids, one_of
from indexer.types import Filters

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FullTextIndex:
    """An FTS5 table over columns of another table.

    Attributes:
        name: Of the FTS5 table.
        table: Whose columns they are.
        columns: Their names.
        tokenizer: How FTS5 splits them into terms.
        value: What is indexed of each column, with a place for its name.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    tokenizer: str
    value: str = "{}"

    def values(self, row: str) -> str:
        """Return what follows SELECT to get the id and the values of a row to index, if any."""
        values = ", ".join(self.value.format(f"{row}.{column}") for column in self.columns)
        return f"{row}.id, {values} WHERE {row}.{self.columns[0]} IS NOT NULL"

    @property
    def source(self) -> str:
        """The query for all rows that the index has to hold, ids first."""
        values, where = self.values(self.table).split(" WHERE ")
        return f"SELECT {values} FROM {self.table} WHERE {where}"


_STEMMED = "porter unicode61 remove_diacritics 2"

INDEXES = {
    index.name: index
    for index in (
        FullTextIndex("segment_texts", "segments", ("text",), _STEMMED),
        FullTextIndex(
            "item_names",
            "items",
            ("name_words", "folder_words"),
            "unicode61 remove_diacritics 2",
        ),
        # Any three characters of a name, which `item_names` has only by its words. Two more that
        # no name has make any one or two of them the beginning of three.
        FullTextIndex("name_parts", "items", ("name_words",), "trigram", "{} || char(1, 1)"),
    )
}

_NO_IDS = np.empty(0, dtype=np.int64)
MAX_TERMS = 64
"""Terms of a query that are looked up."""

MAX_LISTED = 1_000
"""Texts with every term that are listed; a filtered search compares as many one by one."""

MAX_WEIGHED = 500
"""Texts whose BM25 is computed."""

MAX_NAMED = 500
"""Files with a term in their names or folders; a term of more files is a common one."""

_TRIGRAM = 3
_MAX_TRIGRAMS = 200  # What begins as many trigrams is in very many names.

# Where a name goes over from one word to the next without a separator: "IMG2041", "beachParty".
_SEAM = re.compile(
    r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-zà-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])"
    r"|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ])"
)


def name_words(name: str) -> str:
    """Return what is indexed of a name: itself, and its words apart where they are joined."""
    name = plain_name(name)
    apart = _SEAM.sub(" ", name)
    return name if apart == name else f"{name} {apart}"


def plain_name(name: str) -> str:
    """Return a name in Unicode's composed form, with spaces for underscores."""
    readable = name.encode(errors="replace").decode()
    return unicodedata.normalize("NFC", readable).replace("_", " ")


def folder_words(folder: Path) -> str:
    """Return what is indexed of a folder's path."""
    return " ".join(name_words(part) for part in folder.parts[1:])


@dataclass(frozen=True, slots=True, eq=False)
class WordMatches:
    """Segments of any kind whose texts have words of the query.

    Attributes:
        ids: Of the segments, int64 of shape (n,), ascending.
        scores: BM25 by the rarest of the terms, float64 (n,), higher is better; comparable within
            one query only; 0 where none of those is in the text.
        every: Whether all terms are in the text, booleans (n,).
        complete: False where only some of the texts with all terms are listed. Where it is
            true, those that have only some terms may not be listed if the terms are common ones.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    every: NDArray[np.bool_]
    complete: bool


NO_WORDS = WordMatches(
    np.empty(0, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.bool_), complete=True
)


@dataclass(frozen=True, slots=True)
class NameMatch:
    """A file whose name or folders have words of the query.

    Attributes:
        segment_id: The file's first segment.
        in_name: All terms are in the file's own name.
        share: Part of the terms found in the name or the folders, above 0 and up to 1.
    """

    segment_id: int
    in_name: bool
    share: float


def find_words(connection: Connection, terms: Sequence[str]) -> WordMatches:
    """See `Catalog.find_words`."""
    phrases = _phrases(terms)
    if not phrases:
        return NO_WORDS
    listed, *counts = _answers(
        connection,
        (_IDS.format("segment_texts"), " AND ".join(phrases), MAX_LISTED),
        *((_COUNT, phrase, MAX_WEIGHED + 1) for phrase in phrases),
    )
    every = _numbers(listed)
    rare = _rarest(dict(zip(phrases, counts, strict=True)))
    scored, scores = _weighed(connection, rare)
    ids = np.union1d(every, scored)
    known = np.zeros(len(ids))
    known[np.searchsorted(ids, scored)] = scores
    complete = len(every) < MAX_LISTED or len(rare) == len(phrases)
    return WordMatches(ids, known, np.isin(ids, every, assume_unique=True), complete)


def with_every_word(connection: Connection, terms: Sequence[str], ids: Ids) -> Ids:
    """See `Catalog.with_every_word`.

    FTS5 seeks each row from the beginning of a term's list, which takes long for a common term; it
    takes less time to index these texts alone and search that.
    """
    phrases = _phrases(terms)
    if not phrases or not ids.size:
        return _NO_IDS
    texts = connection.execute(_TEXTS, given_ids(ids.tolist())).all()
    with closing(sqlite3.connect(":memory:")) as apart:
        apart.execute(
            "CREATE VIRTUAL TABLE texts USING fts5 "
            f"(text, content = '', columnsize = 0, tokenize = '{_STEMMED}')"
        )
        apart.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", map(tuple, texts))
        found = apart.execute(
            "SELECT rowid FROM texts WHERE texts MATCH ?", [" AND ".join(phrases)]
        )
        return np.fromiter((row[0] for row in found), dtype=np.int64)


def find_names(
    connection: Connection, terms: Sequence[str], filters: Filters, limit: int
) -> dict[Kind, list[NameMatch]]:
    """See `Catalog.find_names`."""
    phrases = list(map(_name_phrase, _phrases(terms)))
    if not phrases or limit < 1:
        return {}
    whole, lists = _named(connection, phrases, every=filters != Filters())
    ids = np.unique(np.concatenate(lists))
    if not ids.size:
        return {}
    share = np.mean([np.isin(ids, some) for some in lists], axis=0)
    in_name = np.isin(ids, whole)
    best = ids[np.lexsort((ids, -share, ~in_name))].tolist()
    if filters == Filters():
        best = best[: len(Kind) * limit]
    matches = dict(
        zip(ids.tolist(), zip(in_name.tolist(), share.tolist(), strict=True), strict=True)
    )
    answer = connection.execute(_files(filters), given_ids(best)).scalar_one()
    files = {row[0]: row for row in json.loads(answer)}
    chosen: dict[Kind, dict[int, NameMatch]] = {}
    for item_id, kind, segment_id in (files[one] for one in best if one in files):
        of_kind = chosen.setdefault(Kind(kind), {})
        if len(of_kind) < limit:
            of_kind.setdefault(segment_id, NameMatch(segment_id, *matches[item_id]))
    return {kind: list(found.values()) for kind, found in chosen.items()}


def names_with(connection: Connection, plain: str, limit: int) -> list[int] | None:
    """Return the files with something in their names, whatever the case; None if too many.

    Args:
        connection: To the library.
        plain: From `plain_name`.
        limit: Most files.
    """
    if "\0" in plain:
        return []  # No name has it, and FTS5 takes it for an end.
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


def _rarest(counts: Mapping[str, int]) -> list[str]:
    """Return the rarest phrases, as many as occur in `MAX_WEIGHED` texts together."""
    rare: list[str] = []
    for phrase in sorted(counts, key=counts.__getitem__):
        rare.append(phrase)
        if sum(counts[one] for one in rare) > MAX_WEIGHED:
            return rare[:-1]
    return rare


def _weighed(connection: Connection, phrases: Sequence[str]) -> tuple[Ids, NDArray[np.float64]]:
    """Return the texts that contain any of some phrases, ascending, with their BM25.

    Each takes a microsecond, so only rare phrases are weighed, which say the most.
    """
    if not phrases:
        return _NO_IDS, np.empty(0)
    ids, scores = connection.exec_driver_sql(_SCORE, (" OR ".join(phrases), -1)).one()
    return _numbers(ids), np.array(json.loads(scores))


def _named(connection: Connection, phrases: Sequence[str], *, every: bool) -> tuple[Ids, list[Ids]]:
    """Return the files with all phrases in their names, and for each phrase those that have it.

    Common phrases are only looked up among the files of the rare ones. If there are no rare ones,
    all phrases are required, and the first such files are returned, or every one.
    """
    sql, together = _IDS.format("item_names"), " AND ".join(phrases)
    answers = _answers(
        connection,
        (sql, f"{{name_words}} : ({together})", MAX_LISTED),
        *((sql, phrase, MAX_NAMED + 1) for phrase in phrases),
    )
    whole, *lists = map(_numbers, answers)
    common = [number for number, ids in enumerate(lists) if len(ids) > MAX_NAMED]
    if len(common) == len(lists):
        most = -1 if every else MAX_NAMED
        return whole, [_numbers(*_answers(connection, (sql, together, most)))]
    if common:
        rare = " OR ".join(phrase for i, phrase in enumerate(phrases) if i not in common)
        asked = [(sql, f"({rare}) AND {phrases[i]}", -1) for i in common]
        for number, answer in zip(common, _answers(connection, *asked), strict=True):
            lists[number] = _numbers(answer)
    return whole, lists


def _answers(connection: Connection, *queries: tuple[str, str, int]) -> Sequence[Any]:
    """Return a value for each query, all in one statement, which takes less time.

    Args:
        connection: To the library.
        queries: Each an SQL query for a value, and its two parameters.
    """
    together = ", ".join(f"({sql})" for sql, *_ in queries)
    given = tuple(chain.from_iterable(parameters for _, *parameters in queries))
    return connection.exec_driver_sql(f"SELECT {together}", given).one()


def _numbers(answer: str) -> Ids:
    """Return the array in a JSON text."""
    return np.array(json.loads(answer), dtype=np.int64)


def _phrases(terms: Sequence[str]) -> list[str]:
    """Return terms as FTS5 strings, in which nothing is syntax; drop those without a word."""
    quoted: dict[str, None] = {}
    for term in terms:
        plain = term.encode(errors="replace").decode().replace("\0", " ")
        if any(character.isalnum() for character in plain):
            quoted['"' + plain.replace('"', '""') + '"'] = None
    return list(quoted)[:MAX_TERMS]


def _name_phrase(phrase: str) -> str:
    """Return a phrase as it may be written in a name: joined or apart."""
    apart = _SEAM.sub(" ", phrase)
    return phrase if apart == phrase else f"({phrase} OR {apart})"


# Many numbers are returned as one JSON text: row by row they take several times as long.
_IDS = (
    "SELECT json_group_array(rowid) FROM (SELECT rowid FROM {0} WHERE {0} MATCH ? "
    "ORDER BY rowid LIMIT ?)"
)
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM segment_texts WHERE segment_texts MATCH ? LIMIT ?)"
_SCORE = (
    "SELECT json_group_array(rowid), json_group_array(score) FROM (SELECT rowid, "
    "-bm25(segment_texts) AS score FROM segment_texts WHERE segment_texts MATCH ? "
    "ORDER BY rowid LIMIT ?)"  # Only within a limit does FTS5 know the row that it is to weigh.
)
_TRIGRAMS = "SELECT term FROM name_parts_terms WHERE term >= ? AND term < ? LIMIT ?"
_WITH_PART = "SELECT rowid FROM name_parts WHERE name_parts MATCH ? LIMIT ?"
_TEXTS = select(schema.segments.c.id, schema.segments.c.text).where(
    one_of(schema.segments.c.id), schema.segments.c.text.is_not(None)
)


@lru_cache(maxsize=64)  # Putting a statement together takes longer than SQLite takes to answer it.
def _files(filters: Filters) -> Select[str]:
    """Return the query for some files that satisfy the filters: id, kind and first segment."""
    items, segments = schema.items.c, schema.segments.c
    return (
        select(func.json_group_array(func.json_array(items.id, segments.kind, segments.id)))
        .join_from(schema.items, schema.segments, segments.media_id == items.media_id)
        .where(one_of(items.id), schema.of_items(filters), segments.position == 0)
    )


def create_statements() -> Iterator[str]:
    """Yield the statements that make the full-text indexes and the triggers that keep them.

    The indexes hold no text of their own: each is of columns of a table, and would be wrong
    without its triggers.
    """
    for one in INDEXES.values():
        columns = ", ".join(one.columns)
        yield (
            f"CREATE VIRTUAL TABLE {one.name} USING fts5 ({columns}, "
            f"content = '{one.table}', content_rowid = 'id', tokenize = '{one.tokenizer}')"
        )
        insert = f"INSERT INTO {one.name} (rowid, {columns}) SELECT {one.values('new')};"
        delete = (
            f"INSERT INTO {one.name} ({one.name}, rowid, {columns}) "
            f"SELECT 'delete', {one.values('old')};"
        )
        events = {"INSERT": insert, "DELETE": delete, f"UPDATE OF {columns}": delete + insert}
        for event, body in events.items():
            name = f"{one.name}_{event.split()[0].lower()}"
            yield f"CREATE TRIGGER {name} AFTER {event} ON {one.table} BEGIN {body} END"
    yield "CREATE VIRTUAL TABLE name_parts_terms USING fts5vocab (name_parts, row)"


def rebuild(connection: Connection, name: str) -> None:
    """Make an index again from the table it is of."""
    columns = ", ".join(("rowid", *INDEXES[name].columns))
    connection.exec_driver_sql(f"INSERT INTO {name} ({name}) VALUES ('delete-all')")
    connection.exec_driver_sql(f"INSERT INTO {name} ({columns}) {INDEXES[name].source}")


def optimize(connection: Connection, name: str) -> None:
    """Merge the parts of an index."""
    connection.exec_driver_sql(f"INSERT INTO {name} ({name}) VALUES ('optimize')")


def differences(connection: Connection, name: str) -> list[str]:
    """Return rows that an index lacks or has too many; if none, terms that it has otherwise.

    What is right is found by indexing everything once more, beside the library.
    """
    index = INDEXES[name]
    source = f"SELECT id FROM ({index.source})"
    wrong = connection.exec_driver_sql(
        f"SELECT id FROM ({source} UNION ALL SELECT id FROM {name}_docsize) "
        "GROUP BY id HAVING count(*) = 1"
    ).scalars()
    return [f"row {one}" for one in wrong] or _other_terms(connection, index)


def _other_terms(connection: Connection, index: FullTextIndex) -> list[str]:
    columns = ", ".join(index.columns)
    statements = (
        f"CREATE VIRTUAL TABLE temp.audited USING fts5 ({columns}, tokenize = '{index.tokenizer}')",
        f"INSERT INTO temp.audited (rowid, {columns}) {index.source}",
        f"CREATE VIRTUAL TABLE temp.stored_words USING fts5vocab(main, {index.name}, col)",
        "CREATE VIRTUAL TABLE temp.right_words USING fts5vocab(temp, audited, col)",
    )
    dropped = ("stored_words", "right_words", "audited")
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
        wrong = connection.exec_driver_sql(
            "SELECT DISTINCT term FROM (SELECT term, col, doc, cnt FROM temp.stored_words "
            "UNION ALL SELECT term, col, doc, cnt FROM temp.right_words) "
            "GROUP BY term, col, doc, cnt HAVING count(*) = 1"
        ).scalars()
        return [f"the word {word!r}" for word in wrong]
    finally:
        for name in dropped:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS temp.{name}")
