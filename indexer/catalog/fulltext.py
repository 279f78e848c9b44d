"""Full-text indexes of texts and names, by SQLite's FTS5, and looking words up in texts."""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, func, select

from embedder.normalisation import folded
from indexer.catalog import schema
from indexer.catalog.plurals import other_numbers
from indexer.catalog.sqlite import given_ids, one_of

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FullTextIndex:
    """An FTS5 table over columns of another table.

    Attributes:
        name: Of the FTS5 table.
        table: Whose columns they are.
        columns: Their names.
        tokenizer: How FTS5 splits them into terms.
        value: What is indexed of each column, in SQL.
        others: Further columns that the values depend on.
        condition: Which rows are indexed, in SQL.
    """

    name: str
    table: str
    columns: tuple[str, ...]
    tokenizer: str
    value: str = "{row}.{column}"
    others: tuple[str, ...] = ()
    condition: str = "{row}.{column} IS NOT NULL"

    def values(self, row: str) -> str:
        """Return what follows SELECT to get the id and the values of a row to index, if any."""
        values = ", ".join(self.value.format(row=row, column=column) for column in self.columns)
        condition = self.condition.format(row=row, column=self.columns[0])
        return f"{row}.id, {values} WHERE {condition}"

    @property
    def source(self) -> str:
        """The query for all rows that the index has to hold, ids first."""
        values, where = self.values(self.table).split(" WHERE ")
        return f"SELECT {values} FROM {self.table} WHERE {where}"


# Texts are indexed as `folded` leaves them, of which `ascii` takes every character beyond ASCII for
# part of a word: what is a letter does not depend on SQLite's tables.
_STEMMED = "porter ascii"

INDEXES = {
    index.name: index
    for index in (
        FullTextIndex(
            "segment_texts",
            "segments",
            ("text",),
            _STEMMED,
            "CASE WHEN {row}.read_terms IS NULL THEN coalesce({row}.terms, {row}.{column}) "
            "ELSE coalesce({row}.terms, {row}.{column}, '') || ' ' || {row}.read_terms END",
            ("terms", "read_terms"),
            "({row}.{column} IS NOT NULL OR {row}.read_terms IS NOT NULL)",
        ),
        # Any three characters of what was read in pictures, where words are often joined to others,
        # as on number plates.
        FullTextIndex("read_parts", "segments", ("read_terms",), "trigram"),
        FullTextIndex("item_names", "items", ("name_words", "folder_words"), "ascii"),
        # With the name, since half of what is asked for may be in there.
        FullTextIndex("item_about", "items", ("about_words", "name_words"), _STEMMED),
        # Any three characters of a name, which `item_names` has only by its words. Two more that
        # no name has make any one or two of them the beginning of three.
        FullTextIndex(
            "name_parts", "items", ("name_words",), "trigram", "{row}.{column} || char(1, 1)"
        ),
    )
}

NO_IDS = np.empty(0, dtype=np.int64)
MAX_TERMS = 64
"""Terms of a query that are looked up."""

MAX_LISTED = 1_000
"""Texts with every term that are listed; a filtered search compares as many one by one."""

MAX_WEIGHED = 500
"""Texts whose BM25 is computed."""

_MIN_PART = 3  # characters, of which the index is made
_MIN_PART_OF_LETTERS = 4  # Three letters are a part of many words that mean something else.

_HAS_WORD = re.compile("[0-9A-Za-z\x80-\U0010ffff]")


def terms_of(text: str | None) -> str | None:
    """Return what is indexed in place of a text; None where that is the text itself."""
    if text is None or (text.isascii() and "-\n" not in text):
        return None
    return folded(text)


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
        absent: The terms that no text has.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    every: NDArray[np.bool_]
    complete: bool
    absent: Sequence[str] = ()


NO_WORDS = WordMatches(
    np.empty(0, dtype=np.int64), np.empty(0), np.empty(0, dtype=np.bool_), complete=True
)


def find_words(connection: Connection, terms: Sequence[str]) -> WordMatches:
    """See `Catalog.find_words`."""
    asked = {phrase: term for term in terms[:MAX_TERMS] for phrase in expressions([term])}
    if not asked:
        return NO_WORDS
    parts = _parts(terms)
    listed, partial, *counts = answers(
        connection,
        (IDS.format("segment_texts"), " AND ".join(asked), MAX_LISTED),
        (IDS.format("read_parts") if parts else _NO_PARTS, " AND ".join(parts), MAX_LISTED),
        *((_COUNT, phrase, MAX_WEIGHED + 1) for phrase in asked),
    )
    every = np.union1d(numbers(listed), numbers(partial))
    rare = _rarest(dict(zip(asked, counts, strict=True)))
    scored, scores = _weighed(connection, rare)
    ids = np.union1d(every, scored)
    known = np.zeros(len(ids))
    known[np.searchsorted(ids, scored)] = scores
    complete = len(every) < MAX_LISTED or len(rare) == len(asked)
    absent = [term for term, count in zip(asked.values(), counts, strict=True) if not count]
    if parts and len(numbers(partial)):
        absent = []  # They are parts of words.
    return WordMatches(ids, known, np.isin(ids, every, assume_unique=True), complete, absent)


def with_every_word(connection: Connection, terms: Sequence[str], ids: Ids) -> Ids:
    """See `Catalog.with_every_word`.

    FTS5 seeks each row from the beginning of a term's list, which takes long for a common term; it
    takes less time to index these texts alone and search that.
    """
    asked = expressions(terms)
    if not asked or not ids.size:
        return NO_IDS
    texts = connection.execute(_TEXTS, given_ids(ids.tolist())).all()
    return _matching(texts, " AND ".join(asked))


def with_any_word(connection: Connection, terms: Sequence[str], ids: Ids) -> Ids:
    """See `Catalog.with_any_word`."""
    asked = expressions(terms)
    if not asked or not ids.size:
        return NO_IDS
    given = given_ids(ids.tolist())
    texts = [*connection.execute(_TEXTS, given), *connection.execute(_NAMES, given)]
    return _matching(texts, " OR ".join(asked))


def _matching(texts: Sequence[Row[int, str | None]], expression: str) -> Ids:
    """Return the ids of those of some texts that match, ascending; several may have one id."""
    with closing(sqlite3.connect(":memory:")) as apart:
        apart.execute(
            "CREATE VIRTUAL TABLE texts USING fts5 "
            f"(text, content = '', columnsize = 0, tokenize = '{_STEMMED}')"
        )
        rows = ((number, one.text) for number, one in enumerate(texts))
        apart.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", rows)
        found = apart.execute("SELECT rowid FROM texts WHERE texts MATCH ?", [expression])
        return np.unique(np.fromiter((texts[row[0]].id for row in found), dtype=np.int64))


def _parts(terms: Sequence[str]) -> list[str]:
    """Return what finds words that the terms are parts of; none where one is too short for that."""
    quoted = phrases(terms)
    return quoted if all(may_be_part(one[1:-1]) for one in quoted) else []


def may_be_part(term: str) -> bool:
    """Return whether a term is long enough to be found inside words that were read."""
    return len(term) >= (_MIN_PART if any(map(str.isdigit, term)) else _MIN_PART_OF_LETTERS)


def _rarest(counts: Mapping[str, int]) -> list[str]:
    """Return the rarest phrases, as many as occur in `MAX_WEIGHED` texts together."""
    rare: list[str] = []
    for phrase in sorted(counts, key=counts.__getitem__):
        rare.append(phrase)
        if sum(counts[one] for one in rare) > MAX_WEIGHED:
            return rare[:-1]
    return rare


def _weighed(connection: Connection, rare: Sequence[str]) -> tuple[Ids, NDArray[np.float64]]:
    """Return the texts that contain any of some phrases, ascending, with their BM25.

    Each takes a microsecond, so only rare phrases are weighed, which say the most.
    """
    if not rare:
        return NO_IDS, np.empty(0)
    ids, scores = connection.exec_driver_sql(_SCORE, (" OR ".join(rare), -1)).one()
    return numbers(ids), np.array(json.loads(scores))


def answers(connection: Connection, *queries: tuple[str, str, int | str]) -> Sequence[Any]:
    """Return a value for each query, all in one statement, which takes less time.

    Args:
        connection: To the library.
        queries: Each an SQL query for a value, and its two parameters.
    """
    together = ", ".join(f"({sql})" for sql, *_ in queries)
    given = tuple(chain.from_iterable(parameters for _, *parameters in queries))
    return connection.exec_driver_sql(f"SELECT {together}", given).one()


def numbers(answer: str) -> Ids:
    """Return the array in a JSON text."""
    return np.array(json.loads(answer), dtype=np.int64)


def phrases(terms: Sequence[str]) -> list[str]:
    """Return terms as FTS5 strings, in which nothing is syntax; drop those without a word."""
    quoted: dict[str, None] = {}
    for term in terms:
        plain = folded(term.encode(errors="replace").decode().replace("\0", " "))
        if _HAS_WORD.search(plain):
            quoted['"' + plain.replace('"', '""') + '"'] = None
    return list(quoted)[:MAX_TERMS]


def expressions(terms: Sequence[str]) -> list[str]:
    """Return likewise what finds each term, or a word in its other number."""
    found = []
    for phrase in phrases(terms):
        others = [f' OR "{other}"' for other in other_numbers(phrase[1:-1])]
        found.append(f"({phrase}{''.join(others)})" if others else phrase)
    return found


# Many numbers are returned as one JSON text: row by row they take several times as long.
IDS = (
    "SELECT json_group_array(rowid) FROM (SELECT rowid FROM {0} WHERE {0} MATCH ? "
    "ORDER BY rowid LIMIT ?)"
)
_NO_PARTS = "SELECT '[]' WHERE ? = '' AND ?"
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM segment_texts WHERE segment_texts MATCH ? LIMIT ?)"
_SCORE = (
    "SELECT json_group_array(rowid), json_group_array(score) FROM (SELECT rowid, "
    "-bm25(segment_texts) AS score FROM segment_texts WHERE segment_texts MATCH ? "
    "ORDER BY rowid LIMIT ?)"  # Only within a limit does FTS5 know the row that it is to weigh.
)
_TEXTS = select(
    schema.segments.c.id,
    (
        func.coalesce(schema.segments.c.terms, schema.segments.c.text, "")
        + " "
        + func.coalesce(schema.segments.c.read_terms, "")
    ).label("text"),
).where(one_of(schema.segments.c.id), schema.has_words())
_ABOUT = func.coalesce(schema.items.c.about_words, "")
_NAMES = (
    select(schema.segments.c.id, (schema.items.c.name_words + " " + _ABOUT).label("text"))
    .join_from(schema.segments, schema.items, schema.items.c.media_id == schema.segments.c.media_id)
    .where(one_of(schema.segments.c.id))
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
        changed = ", ".join((*one.columns, *one.others))
        events = {"INSERT": insert, "DELETE": delete, f"UPDATE OF {changed}": delete + insert}
        for event, body in events.items():
            name = f"{one.name}_{event.split()[0].lower()}"
            yield f"CREATE TRIGGER {name} AFTER {event} ON {one.table} BEGIN {body} END"
    for name in ("item_names", "name_parts", "segment_texts"):
        yield f"CREATE VIRTUAL TABLE {name}_terms USING fts5vocab ({name}, row)"


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
