"""Mending the tables: what is derived is made anew, what cannot be is marked to be taken in."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update

from indexer.catalog import schema
from indexer.catalog.database import Database, translated
from indexer.catalog.fulltext import INDEXES
from indexer.catalog.sqlite import given_ids, one_of, tables_version
from indexer.catalog.transaction import WriteTransaction, recount
from indexer.catalog.verify import Audit
from indexer.errors import LibraryBusy, LibraryError
from indexer.types import Status

_NEVER_NS = -1


class Mending:
    """Writes what a check asks for. Each call is one transaction, unless it says otherwise.

    Only the holder of the writer lock may call it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def rebuild_keys(self) -> None:
        """Makes SQLite's own indexes anew."""
        with self._database.writing() as connection:
            connection.exec_driver_sql("REINDEX")

    def rebuild_words(self, index: str) -> None:
        """Makes a full-text index anew from what it is of."""
        with self._database.writing() as connection:
            connection.exec_driver_sql(f"INSERT INTO {index} ({index}) VALUES ('delete-all')")
            columns = ", ".join(("rowid", *INDEXES[index].columns))
            connection.exec_driver_sql(f"INSERT INTO {index} ({columns}) {INDEXES[index].source}")

    def recount(self) -> None:
        """Makes the numbers that are kept beside the rows anew."""
        with self._database.writing() as connection:
            recount(connection)

    def drop_dangling(self, dangling: Iterable[tuple[str, int]]) -> list[int]:
        """Deletes rows that refer to what is not there; files are kept and returned by id."""
        files: list[int] = []
        with WriteTransaction.of(self._database) as transaction:
            for table, row in dangling:
                if table == "items":
                    files.append(row)
                elif table == "segments":
                    transaction.remove_segments(schema.segments.c.id == row, {})
                else:
                    statement = f"DELETE FROM {table} WHERE rowid = ?"
                    transaction.connection.exec_driver_sql(statement, (row,))
        return files

    def ask_for_files(self, item_ids: Sequence[int], reason: str) -> None:
        """Marks files as failed, and so that the next ingest reads them."""
        with WriteTransaction.of(self._database) as transaction:
            _mark(transaction, one_of(schema.items.c.id), item_ids, reason)

    def forget_media(self, media_ids: Sequence[int], reason: str) -> None:
        """Drops contents with their segments, and marks the files that hold them as above."""
        with WriteTransaction.of(self._database) as transaction:
            _mark(transaction, one_of(schema.items.c.media_id), media_ids, reason)
            transaction.remove_media(media_ids)

    def drop_vectors(self, segment_ids: Sequence[int]) -> None:
        """Drops vectors whose segments stay to be found by their words."""
        vectors, chosen = schema.vectors, given_ids(segment_ids)
        with WriteTransaction.of(self._database) as transaction:
            transaction.note_removals(one_of(schema.segments.c.id), chosen)
            transaction.connection.execute(
                delete(vectors).where(one_of(vectors.c.segment_id)), chosen
            )

    def raise_numbers(self) -> None:
        """Puts generation and ids beyond all that were ever given."""
        audit = Audit(self._database)
        late, highest = audit.late_generation(), audit.reusable_ids()
        with self._database.writing() as connection:
            if late:
                connection.execute(update(schema.library).values(generation=late + 1))
            if highest:
                connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = 'segments'")
                connection.exec_driver_sql(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('segments', ?)", (highest,)
                )


def _mark(
    transaction: WriteTransaction, chosen: ColumnElement[bool], ids: Sequence[int], reason: str
) -> None:
    marked = {
        "status": Status.FAILED.value,
        "error": reason,
        "media_id": None,
        "mtime_ns": _NEVER_NS,
    }
    transaction.change_items(chosen, given_ids(ids), marked)


_REMOVALS_AT_ONCE = 20_000


@dataclass(frozen=True, slots=True)
class Size:
    """How large a database file is.

    Attributes:
        bytes: All of it, without what waits beside it to be written.
        free: How much of that holds nothing.
    """

    bytes: int
    free: int


class Upkeep:
    """Writes what changes no answer; only the holder of the writer lock may call it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def size(self) -> Size:
        """How large the file is."""
        with self._database.reading() as connection:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return Size(pages * size, free * size)

    def schema_version(self) -> int:
        """Return the version of the tables."""
        with self._database.reading() as connection:
            return tables_version(connection) or 0

    def forget_removals(self, until: int) -> int:
        """Forgets which segments left up to a generation; returns how many notes that were.

        A vector store that is older than that takes note of all that is gone instead.
        """
        library, removals = schema.library.c, schema.removals
        some = select(removals.c.segment_id).where(removals.c.generation <= until)
        forgotten = 0
        while True:
            with self._database.writing() as connection:  # In steps: others may have to write.
                connection.execute(
                    update(schema.library).values(pruned=func.max(library.pruned, until))
                )
                gone = connection.execute(
                    delete(removals).where(removals.c.segment_id.in_(some.limit(_REMOVALS_AT_ONCE)))
                )
            if not gone.rowcount:
                return forgotten
            forgotten += gone.rowcount

    def tidy_words(self) -> None:
        """Merges the pieces of the full-text indexes, which makes them smaller and faster."""
        for index in INDEXES:
            with self._database.writing() as connection:
                connection.exec_driver_sql(f"INSERT INTO {index} ({index}) VALUES ('optimize')")

    def rewrite(self) -> None:
        """Writes the file anew without what is free; it needs as much room again meanwhile."""
        with self._database.outside() as connection:
            connection.execute("VACUUM")

    def empty_log(self) -> None:
        """Moves what waits in the write-ahead log into the file, as far as nobody reads it."""
        with self._database.outside() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_PAGES_AT_ONCE = 2_000
_ROWS_AT_ONCE = 1_000

Advance = Callable[[int, int], None]
"""Called with what is done and what there is to do."""


@dataclass(frozen=True, slots=True)
class TableDigest:
    """What is in a table: two with the same digest have the same rows."""

    rows: int
    sha256: str


def copy(database: Database, target: Path, advance: Advance) -> dict[str, TableDigest]:
    """Copies a database as it is at one moment, whatever is written to it meanwhile.

    Args:
        database: What is copied.
        target: A file that does not exist yet.
        advance: Called with pages.

    Returns:
        By table, what was copied. The copy has been read again and compared with the original.

    Raises:
        LibraryError: if it cannot be written, or is not like the original.
    """
    with database.reading() as held, translated(target):
        held.exec_driver_sql("SELECT count(*) FROM library").one()  # Begins the moment.
        source: Any = held.connection.driver_connection
        with closing(sqlite3.connect(target)) as written:
            source.backup(
                written,
                pages=_PAGES_AT_ONCE,
                progress=lambda _status, left, total: advance(total - left, total),
            )
            written.execute("PRAGMA journal_mode = DELETE")  # One file, nothing beside it.
        original = _digests(source, advance)
    if digests(target, advance) != original:
        target.unlink()
        raise LibraryError(f"{target} cannot be read as it was written: try another disk")
    return original


def digests(path: Path, advance: Advance = lambda _done, _all: None) -> dict[str, TableDigest]:
    """What is in each table of a database file that nobody writes to."""
    address = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with translated(path), closing(sqlite3.connect(address, uri=True)) as connection:
        return _digests(connection, advance)


def _digests(connection: sqlite3.Connection, advance: Advance) -> dict[str, TableDigest]:
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' "
        "ORDER BY name"
    ).fetchall()
    counts = [connection.execute(f"SELECT count(*) FROM {name}").fetchone() for (name,) in tables]
    total = sum(count for (count,) in counts)
    done, found = 0, dict[str, TableDigest]()
    for (name,) in tables:
        rows, digest = 0, hashlib.sha256()
        for chunk in _chunks(connection, name):
            for row in chunk:
                digest.update(_packed(row))
            rows += len(chunk)
            done += len(chunk)
            advance(done, total)
        found[name] = TableDigest(rows, digest.hexdigest())
    return found


def _chunks(connection: sqlite3.Connection, table: str) -> Iterator[list[tuple[Any, ...]]]:
    # By the table's own key, of which some have no `rowid`.
    keys = connection.execute(
        "SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info(?) "
        "WHERE pk ORDER BY pk)",
        (table,),
    ).fetchone()[0]
    cursor = connection.execute(f"SELECT * FROM {table} ORDER BY {keys or 'rowid'}")
    while chunk := cursor.fetchmany(_ROWS_AT_ONCE):
        yield chunk


def _packed(row: tuple[Any, ...]) -> bytes:
    """A row so that no two different ones are packed alike."""
    parts: list[bytes] = []
    for cell in row:
        data = cell if isinstance(cell, bytes) else repr(cell).encode()
        parts.append(b"%s%d:%s" % (type(cell).__name__.encode(), len(data), data))
    return b"".join(parts) + b"\n"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within it nobody else has a database file open, and all of it is in that one file.

    Raises:
        LibraryBusy: if somebody has.
    """
    with translated(path), closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as held:
        try:
            # Nobody can leave the write-ahead log behind while others have the file open.
            held.execute("PRAGMA journal_mode = DELETE")
            held.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise LibraryBusy(
                f"another program has the library in {path.parent} open: close it (the page of "
                "rzen-app, for instance) and run the same command again"
            ) from error
        yield


def identify(path: Path, uid: str, moved: Mapping[Path, Path]) -> None:
    """Makes a database another library than the one it was copied from.

    Args:
        path: The file.
        uid: Its new name, so that vectors saved for the other one are never taken for its own.
        moved: Folders of which the files are elsewhere now.
    """
    database = Database(path)
    try:
        with WriteTransaction.of(database) as transaction:
            transaction.connection.execute(update(schema.library).values(uid=uid))
            for old_base, new_base in moved.items():
                transaction.move_items(old_base, new_base)
    finally:
        database.close()
