"""What only SQLite does: connections and transactions, and statements that other databases lack."""

import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Insert,
    NullPool,
    QueuePool,
    UnaryExpression,
    bindparam,
    create_engine,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import operators

from indexer.catalog import schema
from indexer.errors import LibraryBusy, LibraryError


@dataclass(frozen=True, slots=True)
class Size:
    """How large a database file is.

    Attributes:
        bytes: All of it, without the write-ahead log beside it.
        free: In pages that hold nothing.
    """

    bytes: int
    free: int


BUSY_SECONDS = 30.0
"""How long a transaction waits for another one; no transaction takes nearly as long."""

_RETRY_SECONDS = 0.02
_PAGES_PER_STEP = 2_000
_MIN_FREE_BYTES = 1 << 16  # With less, a disk counts as full.

_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = NORMAL",  # A power cut may lose the last commits.
    "PRAGMA cache_size = -8000",
)
_WRITE_AHEAD = "PRAGMA journal_mode = WAL"


class Database:
    """The SQLite file of a library. Thread-safe.

    Guarantees: foreign keys hold on every connection; readers never wait for the writer and see
    one moment of the library for as long as they hold a connection; `writing` commits all or
    nothing; errors of SQLite come out as `LibraryError`. The tables of a new file are made in one
    transaction. Where its folder cannot be written to, as on a read-only disk, it can be read all
    the same. A file that is moved, deleted or replaced while it is open is neither created again
    nor confused with another one, and nothing is written once a newer program has changed its
    tables.

    Args:
        path: The file.
        read_only: Write nothing whatever is asked for.

    Raises:
        LibraryError: the file cannot be opened, is no database, or has tables of another version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._held = threading.local()
        self._how = _how_to_open(path, read_only=read_only)
        self._identity: tuple[int, int] | None = None
        # The connection that was used last has the most in its cache.
        self._reading = _engine(
            self._connect, poolclass=QueuePool, pool_size=8, max_overflow=64, pool_use_lifo=True
        )
        # Each transaction that writes opens a connection: on one whose snapshot is old, SQLite
        # refuses to write at once instead of waiting.
        self._writing = _engine(self._connect, poolclass=NullPool)
        try:
            self._create(read_only=read_only)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one snapshot of the library; within `moment`, that one."""
        held: Connection | None = getattr(self._held, "connection", None)
        if held is not None:
            yield held
            return
        with translated(self.path, self.close), self._reading.connect() as connection:
            yield connection

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let this thread read one snapshot, over one connection, within the context."""
        with self.reading() as connection:
            before = getattr(self._held, "connection", None)
            self._held.connection = connection
            try:
                yield
            finally:
                self._held.connection = before

    @contextmanager
    def writing(self, wait_seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
        """Yield a transaction that commits at the end, or rolls back if anything is raised.

        Args:
            wait_seconds: How long to wait for another transaction.

        Raises:
            LibraryBusy: that has not ended.
        """
        with self._transaction(wait_seconds) as connection:
            self._refuse_newer(connection)
            yield connection

    @contextmanager
    def outside(self) -> Iterator[sqlite3.Connection]:
        """Yield a new connection without a transaction, for what SQLite does only there."""
        with (
            translated(self.path, self.close),
            closing(self._writing.raw_connection()) as borrowed,
        ):
            driver: Any = borrowed.driver_connection
            yield driver

    def check_unchanged(self) -> None:
        """Check that the library is still the one that was opened, before work that changes it.

        Raises:
            LibraryError: it was moved, deleted or replaced, or a newer program has changed its
                tables.
        """
        self._check_in_place()
        with self.reading() as connection:
            self._refuse_newer(connection)

    def size(self) -> Size:
        """Return how large the file is."""
        with self.reading() as connection:
            pages, free, size = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
                for name in ("page_count", "freelist_count", "page_size")
            )
        return Size(pages * size, free * size)

    def rewrite(self) -> None:
        """Write the file again without its free pages; it needs as much space again meanwhile."""
        with self.outside() as connection:
            connection.execute("VACUUM")

    def empty_log(self) -> None:
        """Move what is in the write-ahead log to the file, as far as no connection reads it."""
        with self.outside() as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy_to(self, target: Path, advance: Callable[[int, int], None]) -> None:
        """Copy one snapshot to a new file, whatever is written to this one meanwhile.

        Args:
            target: A file that does not exist yet.
            advance: Called with the number of pages that are copied, and of all pages.
        """
        with self.reading() as held, translated(target), closing(sqlite3.connect(target)) as copy:
            held.exec_driver_sql("SELECT count(*) FROM library").one()  # Begins the snapshot.
            source: Any = held.connection.driver_connection
            source.backup(
                copy,
                pages=_PAGES_PER_STEP,
                progress=lambda _status, left, total: advance(total - left, total),
            )
            copy.execute("PRAGMA journal_mode = DELETE")  # One file, nothing beside it.

    def close(self) -> None:
        """Close every connection; those that are needed afterwards are new ones."""
        self._reading.dispose()
        self._writing.dispose()

    def _create(self, *, read_only: bool) -> None:
        from indexer.catalog import fulltext, month_counts  # In the terms of this module.

        with self.reading() as connection:
            version = _version(connection)
        if version is None and not read_only:
            with self._transaction() as connection:
                version = _version(connection)
                if version is None:  # Otherwise another process has just made the tables.
                    schema.metadata.create_all(connection, checkfirst=False)
                    for statement in (*fulltext.create_statements(), *month_counts.triggers()):
                        connection.exec_driver_sql(statement)
                    connection.execute(insert(schema.library), schema.new_library())
                    connection.execute(insert(schema.albums), schema.favourites())
                    connection.exec_driver_sql(f"PRAGMA user_version = {schema.VERSION}")
                    version = schema.VERSION
        if version != schema.VERSION:
            raise LibraryError(schema.refusal(self.path.parent, version or 0))
        if not read_only and "mode=rw" in self._how:
            self._complete()

    def _complete(self) -> None:
        """Add what libraries lack that were made before there was any of it."""
        from indexer.catalog import month_counts

        with self.reading() as connection:
            if month_counts.are_kept(connection):
                return
        with self._transaction() as connection:
            if not month_counts.are_kept(connection):  # Otherwise another process has added it.
                month_counts.keep(connection)

    @contextmanager
    def _transaction(self, wait_seconds: float = BUSY_SECONDS) -> Iterator[Connection]:
        with (
            translated(self.path, self.close),
            self._writing.connect() as connection,
            connection.execution_options(wait_seconds=wait_seconds).begin(),
        ):
            yield connection

    def _refuse_newer(self, connection: Connection) -> None:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version > schema.VERSION:
            raise LibraryError(schema.refusal(self.path.parent, version))

    def _check_in_place(self) -> None:
        if _identity(self.path) != self._identity:
            raise LibraryError(_MOVED.format(folder=self.path.parent))

    def _connect(self) -> sqlite3.Connection:
        if self._identity is not None:
            self._check_in_place()
        address = f"{self.path.absolute().as_uri()}?{self._how}"
        connection = sqlite3.connect(
            address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False
        )
        try:
            _prepare(connection, writable="mode=rw" in self._how)
        except BaseException:
            connection.close()
            raise
        if self._identity is None:
            self._identity = _identity(self.path)
            self._how = self._how.replace("mode=rwc", "mode=rw")  # It is never created again.
        return connection


def _version(connection: Connection) -> int | None:
    """Return the version of the tables; None in an empty file, 0 in one of another origin."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first():
        return None
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


class WriterLock:
    """The lock held while writing for longer than a transaction: one holder in all processes.

    It is a lock of the operating system, so it ends with its process, however that ends.

    Args:
        path: The file that is locked.
        check: Called before; raises if the library must not be written to.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        self._path, self._check = path, check

    @contextmanager
    def held(self, wait_seconds: float = 0.0) -> Iterator[None]:
        """Hold the lock.

        Raises:
            LibraryBusy: another holds it, and still did after the wait.
            LibraryError: the file cannot be written or locked, or the check says why not.
        """
        self._check()
        folder = self._path.parent
        if not os.access(folder, os.W_OK):
            raise LibraryError(_SENTENCES["readonly"].format(folder=folder))
        # Each call opens the file again, so that two threads exclude each other as well.
        lock = FileLock(self._path, timeout=wait_seconds, thread_local=False)
        try:
            lock.acquire()
        except Timeout as error:
            raise LibraryBusy(_BUSY.format(folder=folder)) from error
        except (OSError, NotImplementedError) as error:
            raise LibraryError(f"{self._path} cannot be locked: {error}") from error
        try:
            yield
        finally:
            lock.release()


id_table = func.json_each(bindparam("ids")).table_valued("value", name="ids")
"""The numbers in `given_ids`, as a table."""


def one_of(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a column is one of the numbers in `given_ids`.

    As a single parameter, a list of any length takes the same statement, prepared once.
    """
    return column.in_(select(id_table.c.value))


def given_ids(ids: Iterable[int]) -> dict[str, str]:
    """Return numbers as the parameter of `one_of`."""
    return {"ids": json.dumps([int(one) for one in ids])}


def replacing(statement: Insert) -> Insert:
    """Return the insertion with new rows replacing those that have the same key."""
    return statement.prefix_with("OR REPLACE")


def last_id(connection: Connection, table: str) -> int:
    """Return the highest id that a table has ever given to a row."""
    query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
    return connection.exec_driver_sql(query, (table,)).scalar_one_or_none() or 0


def raise_last_id(connection: Connection, table: str, last: int) -> None:
    """Make a table give only ids above one."""
    connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
    connection.exec_driver_sql(
        "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last)
    )


def integrity_errors(connection: Connection, limit: int) -> list[str]:
    """Return what SQLite finds wrong with the file, at most some of it."""
    found = connection.exec_driver_sql(f"PRAGMA integrity_check({limit})").scalars()
    return [str(line) for line in found if line != "ok"]


def dangling_rows(connection: Connection) -> list[tuple[str, int]]:
    """Return rows that refer to missing rows: table and number of the row."""
    found = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return [(row[0], row[1]) for row in found]


def reindex(connection: Connection) -> None:
    """Make all indexes again, full-text indexes not among them."""
    connection.exec_driver_sql("REINDEX")


def swap_tables(connection: Connection, one: str, other: str) -> None:
    """Exchange the names of two tables, which takes the same time however many rows they have."""
    for old, new in ((one, "swapped"), (other, one), ("swapped", other)):
        connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column that SQLite does not look up in an index, nor sorts by one."""
    return UnaryExpression(column, operator=operators.custom_op("+"))


def _how_to_open(path: Path, *, read_only: bool) -> str:
    """Return the options to open the file with, which depend on its folder."""
    if os.access(path.parent, os.W_OK) or not path.is_file():
        return "mode=ro" if read_only else "mode=rwc"
    # In a folder that cannot be written to, SQLite cannot make the files that it reads along with a
    # write-ahead log; without a log it needs none.
    log = path.with_name(path.name + "-wal")
    return "mode=ro" if log.is_file() and log.stat().st_size else "mode=ro&immutable=1"


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file has a name now; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _engine(connect: Callable[[], sqlite3.Connection], **pool: Any) -> Engine:
    # Parameters are searches and paths, which are private: no error shows them.
    engine = create_engine("sqlite://", creator=connect, hide_parameters=True, **pool)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "after_cursor_execute", _remember_cursor)
    event.listen(engine, "checkin", _close_cursors)
    return engine


@contextmanager
def translated(path: Path, reopen: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Raise errors of SQLite about a file as `LibraryError`.

    Args:
        path: The file.
        reopen: Called after an error of the disk. SQLite reports one, too, where its write-ahead
            log was deleted while it was open, and until every connection to it is closed.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        reason = getattr(error, "orig", error)
        if _DISK_ERROR in str(reason):
            reopen()
        raise _as_library_error(reason, path) from error


def _as_library_error(error: BaseException, path: Path) -> LibraryError:
    """Return the error with a sentence for people, found by SQLite's message."""
    message = str(error)
    if "locked" in message or "busy" in message:
        return LibraryBusy(_BUSY.format(folder=path.parent))
    if _DISK_ERROR in message and _is_full(path.parent):
        message = "disk is full"  # SQLite cannot always tell.
    for sign, sentence in _SENTENCES.items():
        if sign in message:
            return LibraryError(sentence.format(path=path, folder=path.parent))
    return LibraryError(f"the library's database {path} cannot be used: {message}")


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _MIN_FREE_BYTES
    except OSError:
        return False


_DISK_ERROR = "disk I/O error"
_BUSY = "another program is adding to the library in {folder}: try again when it has finished"
_MOVED = (
    "the library in {folder} was moved, deleted or replaced while it was open: put it back, or "
    "restart the program to use what is there now"
)
_SENTENCES = {
    "not a database": "{path} is not the database of a library: choose another folder",
    "malformed": "the library's database {path} is damaged: restore it from a copy, or delete "
    "the folder {folder} and ingest again",
    "readonly": "the library in {folder} cannot be written to: check its permissions",
    "unable to open": "the library's database {path} cannot be opened: check that the folder "
    "exists and its permissions",
    "disk is full": "the disk is full: free some space in {folder} and run the same command again",
    _DISK_ERROR: "the disk that holds {folder} reports an error, or files of the library were "
    "deleted while it was open: try again",
    **dict.fromkeys(
        ("no such table", "no such column"),
        "the library in {folder} has other tables than when it was opened: restart the program",
    ),
}


def _prepare(connection: sqlite3.Connection, *, writable: bool) -> None:
    connection.isolation_level = None  # SQLAlchemy says when a transaction begins, see `_begin`.
    for pragma in (*_PRAGMAS, *([_WRITE_AHEAD] if writable else [])):
        connection.execute(pragma)


def _remember_cursor(connection: Connection, cursor: Any, *_statement: object) -> None:
    connection.info.setdefault("cursors", []).append(cursor)


def _close_cursors(_driver: object, record: Any) -> None:
    """Close results that were not read to their end, which would keep an old snapshot open."""
    for cursor in record.info.pop("cursors", ()):
        cursor.close()


def _begin(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    wait_seconds = connection.get_execution_options().get("wait_seconds")
    if wait_seconds is None:  # It only reads.
        driver.execute("BEGIN")
        return
    driver.execute(f"PRAGMA busy_timeout = {1000 * wait_seconds:.0f}")
    give_up = monotonic() + wait_seconds
    while True:
        try:
            driver.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as error:
            # In some states SQLite returns at once in spite of the connection's timeout.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > give_up:
                raise
            sleep(_RETRY_SECONDS)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep every other process from opening a database file, all of which is in that one file.

    Raises:
        LibraryBusy: another process has it open.
    """
    with translated(path), closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as held:
        try:
            # The journal mode can only be changed by the last connection to the file.
            held.execute("PRAGMA journal_mode = DELETE")
            held.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise LibraryBusy(
                f"another program has the library in {path.parent} open: close it (the page of "
                "rzen-app, for instance) and run the same command again"
            ) from error
        yield
