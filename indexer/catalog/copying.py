"""Copies of a whole database, taken while it is in use and compared by what is in them."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.catalog.audit import as_path
from indexer.catalog.fulltext import folder_words
from indexer.database import Database, translated
from indexer.errors import LibraryBusy, LibraryError
from indexer.schema import stored_path

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
    with translated(path), closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE library SET uid = ?", (uid,))
        rows = connection.execute("SELECT id, path FROM items").fetchall() if moved else []
        for number, stored in rows:
            old = as_path(stored)
            base = next((base for base in moved if base in old.parents), None)
            if base is not None:
                new = moved[base] / old.relative_to(base)
                connection.execute(
                    "UPDATE items SET path = ?, folder = ?, folder_words = ? WHERE id = ?",
                    (
                        stored_path(str(new)),
                        stored_path(str(new.parent)),
                        folder_words(new.parent),
                        number,
                    ),
                )
