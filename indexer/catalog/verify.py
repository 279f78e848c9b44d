"""Looking for what is wrong in the tables; reads only."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, Select, Table, func, select

from embedder.media import MEDIA_KINDS, Kind
from indexer.catalog import schema
from indexer.catalog.database import Database
from indexer.catalog.fulltext import INDEXES, FullTextIndex
from indexer.catalog.sqlite import as_path
from indexer.catalog.transaction import files_in, folder_exists
from indexer.errors import LibraryBusy, LibraryError

_CHUNK = 4_096
_MOST_SAID = 100
_UNIT_TOLERANCE = 0.01  # Rounding to float16 changes the length of a vector by less than 0.001.

_PICTURED = ", ".join(f"'{kind}'" for kind, one in MEDIA_KINDS.items() if one.has_picture)
_OLDEST_FILE = "(SELECT path FROM items WHERE media_id = {media} ORDER BY id LIMIT 1)"

VectorTable = Literal["vectors", "pending_vectors"]


@dataclass(frozen=True, slots=True)
class Held:
    """An indexed file, and its bytes as they were taken in."""

    id: int
    path: Path
    size: int
    mtime_ns: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class Pictured:
    """A segment that has a thumbnail."""

    content_hash: str
    position: int


class Audit:
    """Questions whose right answer is "nothing". Thread-safe.

    All but `damage` take for granted that SQLite can read the tables, and raise `LibraryError`
    where it cannot.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def damage(self) -> list[str]:
        """What SQLite itself finds wrong with the file."""
        try:
            found = self._list(f"PRAGMA integrity_check({_MOST_SAID})")
        except LibraryBusy:
            raise
        except LibraryError as error:
            return [str(error)]
        return [line for line in found if line != "ok"]

    def dangling(self) -> list[tuple[str, int]]:
        """Rows that refer to what is not there: table and row."""
        with self._database.reading() as connection:
            rows = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return [(row[0], row[1]) for row in rows]

    def segments_without_vector(self) -> list[tuple[int, int, Path | None]]:
        """Segment, media and a file that holds it."""
        return self._located(
            "FROM segments s LEFT JOIN vectors v ON v.segment_id = s.id "
            "WHERE v.segment_id IS NULL ORDER BY s.id"
        )

    def bad_vectors(self, table: VectorTable = "vectors") -> list[tuple[int, str]]:
        """Segments whose vector is too short or long, not finite, or not of length 1; and why."""
        owner = "library" if table == "vectors" else "pending"
        with self._database.reading() as connection:
            dim = connection.exec_driver_sql(f"SELECT dim FROM {owner}").scalar_one_or_none()
            if table == "pending_vectors" and dim is None:
                return []  # They have been retired.
            rows = connection.exec_driver_sql(f"SELECT segment_id, data FROM {table}")
            return [bad for some in rows.partitions(_CHUNK) for bad in _bad(some, dim or 0)]

    def locate(self, segment_ids: Iterable[int]) -> dict[int, tuple[int, Path | None]]:
        """The media of segments, and a file that holds each."""
        found: dict[int, tuple[int, Path | None]] = {}
        for one in segment_ids:
            located = self._located(f"FROM segments s WHERE s.id = {int(one)}")
            found |= {segment: (media, path) for segment, media, path in located}
        return found

    def files_without_content(self) -> list[tuple[int, Path]]:
        """Indexed files without media, and others with: id and path."""
        rows = self._rows(
            "SELECT i.id, i.path FROM items i LEFT JOIN media m ON m.id = i.media_id "
            "WHERE (i.status = 'indexed') <> (m.id IS NOT NULL) ORDER BY i.id"
        )
        return [(row[0], as_path(row[1])) for row in rows]

    def incomplete(self) -> list[tuple[int, Path | None]]:
        """Media that lack segments, or have none at all: id and a file that holds it."""
        oldest = _OLDEST_FILE.format(media="m.id")
        rows = self._rows(
            f"SELECT m.id, {oldest} FROM media m LEFT JOIN segments s ON s.media_id = m.id "
            "GROUP BY m.id HAVING count(s.id) <> coalesce(max(s.position) + 1, -1) ORDER BY m.id"
        )
        return [(row[0], as_path(row[1]) if row[1] is not None else None) for row in rows]

    def unheld(self) -> int:
        """How many media no file holds any more."""
        return self._count(
            "SELECT count(*) FROM media m WHERE NOT EXISTS "
            "(SELECT 1 FROM items WHERE media_id = m.id)"
        )

    def retired_vectors(self) -> int:
        """How many vectors of a former model are still there."""
        return self._count(
            "SELECT count(*) FROM pending_vectors WHERE NOT EXISTS (SELECT 1 FROM pending)"
        )

    def pending_vectors(self) -> int:
        """How many vectors an unfinished re-embedding has computed."""
        return self._count("SELECT count(*) FROM pending_vectors") - self.retired_vectors()

    def removals(self, until: int | None = None) -> int:
        """How many removals are noted, of generations up to a number."""
        limit = "" if until is None else f" WHERE generation <= {int(until)}"
        return self._count(f"SELECT count(*) FROM removals{limit}")

    def late_generation(self) -> int:
        """The generation of the latest change, if the library's own lies behind it; else 0."""
        return self._count(
            "SELECT coalesce(max(generation), 0) FROM (SELECT max(generation) AS generation "
            "FROM segments UNION ALL SELECT max(generation) FROM removals) "
            "WHERE generation > (SELECT generation FROM library)"
        )

    def reusable_ids(self) -> int:
        """The highest number that was given to a segment, if it could be given again; else 0."""
        return self._count(
            "SELECT coalesce(max(id), 0) FROM (SELECT max(id) AS id FROM segments "
            "UNION ALL SELECT max(segment_id) FROM removals) WHERE id > "
            "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'segments'), 0)"
        )

    def wrong_texts(self) -> list[str]:
        """Segments whose text the full-text index does not have; or words that differ."""
        return self._wrong_words("segment_texts")

    def wrong_names(self) -> list[str]:
        """Files whose names their index does not have; or words that differ."""
        return self._wrong_words("item_names") + self._wrong_words("name_parts")

    def wrong_counts(self) -> list[str]:
        """Return tables with wrong numbers, media not noted as unheld, and missing folders."""
        items, media, folders = schema.items, schema.media, schema.folders
        kind, segment_kind = func.coalesce(items.c.kind, ""), schema.segments.c.kind
        by_state = select(items.c.status, kind, func.count(), func.sum(items.c.size))
        counted: dict[Table[Any], Select[*tuple[Any, ...]]] = {
            schema.item_counts: by_state.group_by(items.c.status, kind),
            schema.segment_counts: select(segment_kind, func.count()).group_by(segment_kind),
            folders: select(folders.c.id, folders.c.path, files_in(folders)),
        }
        held = select(items.c.id).where(items.c.media_id == media.c.id).exists()
        noted = select(schema.unheld).where(schema.unheld.c.media_id == media.c.id).exists()
        with self._database.reading() as connection:
            wrong = [
                table.name
                for table, query in counted.items()
                if _counts(connection, select(table)) != _counts(connection, query)
            ]
            missed = connection.execute(select(media.c.id).where(~held, ~noted)).scalars()
            wrong += [f"content {one}" for one in missed]
            lost = connection.execute(select(items.c.path).where(~folder_exists())).scalars()
            return wrong + [f"the folder of {path}" for path in lost]

    def pictured(self, prefix: str) -> list[Pictured]:
        """Segments with thumbnails whose content hash begins so."""
        rows = self._rows(
            "SELECT m.content_hash, s.position FROM media m JOIN segments s ON s.media_id = m.id "
            f"WHERE m.content_hash >= ? AND m.content_hash < ? AND s.kind IN ({_PICTURED})",
            (prefix, prefix + "g"),
        )
        return [Pictured(content_hash, position) for content_hash, position in rows]

    def holders(self, content_hash: str) -> list[Path]:
        """The files that hold some bytes, oldest first."""
        rows = self._rows(
            "SELECT i.path FROM items i JOIN media m ON m.id = i.media_id "
            "WHERE m.content_hash = ? ORDER BY i.id",
            (content_hash,),
        )
        return [as_path(row[0]) for row in rows]

    def kind_of(self, content_hash: str) -> Kind:
        """What some bytes are."""
        rows = self._rows("SELECT kind FROM media WHERE content_hash = ?", (content_hash,))
        return Kind(rows[0][0])

    def held(self) -> Iterator[Held]:
        """All indexed files in order of their ids, while more may be added."""
        last = 0
        while True:
            rows = self._rows(
                "SELECT i.id, i.path, i.size, i.mtime_ns, m.content_hash FROM items i "
                "JOIN media m ON m.id = i.media_id WHERE i.id > ? ORDER BY i.id LIMIT ?",
                (last, _CHUNK),
            )
            if not rows:
                return
            for number, path, size, mtime_ns, content_hash in rows:
                yield Held(number, as_path(path), size, mtime_ns, content_hash)
            last = rows[-1][0]

    def known_below(self, folder: Path) -> set[Path]:
        """The paths of all files that the library knows below a folder, in whatever state."""
        start = os.path.join(folder, "")
        rows = self._rows(
            "SELECT path FROM items WHERE substr(CAST(path AS BLOB), 1, ?) = CAST(? AS BLOB)",
            (len(os.fsencode(start)), os.fsencode(start)),
        )
        return {as_path(row[0]) for row in rows}

    def sample(self, count: int) -> list[tuple[int, Kind]]:
        """Some segments with vectors, the same ones each time, spread over all: id and kind."""
        total = self._count("SELECT count(*) FROM vectors")
        step = max(1, total // count)
        rows = self._rows(
            "SELECT id, kind FROM (SELECT s.id, s.kind, row_number() OVER (ORDER BY s.id) AS n "
            "FROM segments s JOIN vectors v ON v.segment_id = s.id) WHERE n % ? = 0",
            (step,),
        )
        return [(one, Kind(kind)) for one, kind in rows]

    def vectors(self) -> int:
        """How many vectors there are."""
        return self._count("SELECT count(*) FROM vectors")

    def _located(self, rest: str) -> list[tuple[int, int, Path | None]]:
        oldest = _OLDEST_FILE.format(media="s.media_id")
        rows = self._rows(f"SELECT s.id, s.media_id, {oldest} {rest}")
        return [(row[0], row[1], as_path(row[2]) if row[2] is not None else None) for row in rows]

    def _wrong_words(self, name: str) -> list[str]:
        """Rows that an index lacks or has too many; if none, words it has otherwise.

        What is right is found out by indexing everything once more, beside the library.
        """
        try:
            with self._database.reading() as connection:
                index = INDEXES[name]
                source = f"SELECT id FROM ({index.source})"
                wrong = connection.exec_driver_sql(
                    f"SELECT id FROM ({source} EXCEPT SELECT id FROM {name}_docsize) UNION ALL "
                    f"SELECT id FROM (SELECT id FROM {name}_docsize EXCEPT {source})"
                ).scalars()
                found = [f"row {one}" for one in wrong]
                return found or _other_words(connection, index)
        except LibraryBusy:
            raise
        except LibraryError as error:
            return [str(error)]

    def _rows(self, statement: str, given: tuple[Any, ...] = ()) -> list[Any]:
        with self._database.reading() as connection:
            return list(connection.exec_driver_sql(statement, given).all())

    def _list(self, statement: str) -> list[str]:
        return [str(row[0]) for row in self._rows(statement)]

    def _count(self, statement: str) -> int:
        return int(self._rows(statement)[0][0] or 0)


def _bad(rows: Iterable[Any], dim: int) -> Iterator[tuple[int, str]]:
    right = []
    for segment_id, data in rows:
        if len(data) == 2 * dim:
            right.append((segment_id, data))
        else:
            yield segment_id, f"{len(data)} bytes, not {2 * dim}"
    if not right:
        return
    vectors = np.frombuffer(b"".join(data for _, data in right), dtype="<f2").reshape(-1, dim)
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    for (segment_id, _), length in zip(right, lengths, strict=True):
        if not np.isfinite(length):
            yield segment_id, "not finite"
        elif abs(length - 1) > _UNIT_TOLERANCE:
            yield segment_id, f"of length {length:.3f}, not 1"


def _counts(connection: Connection, query: Select[*tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """Return the rows of a query that count anything."""
    found = map(tuple, connection.execute(query))
    return {row for row in found if any(isinstance(value, int) and value for value in row)}


def _other_words(connection: Connection, index: FullTextIndex) -> list[str]:
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
            "SELECT DISTINCT term FROM (SELECT * FROM (SELECT term, col, doc, cnt FROM "
            "temp.stored_words EXCEPT SELECT term, col, doc, cnt FROM temp.right_words) UNION ALL "
            "SELECT * FROM (SELECT term, col, doc, cnt FROM temp.right_words EXCEPT "
            "SELECT term, col, doc, cnt FROM temp.stored_words))"
        ).scalars()
        return [f"the word {word!r}" for word in wrong]
    finally:
        for name in dropped:
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS temp.{name}")
