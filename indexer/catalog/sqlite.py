"""What only SQLite does: storing paths, lists of numbers as JSON, ids that are never reused."""

import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Insert,
    LargeBinary,
    MetaData,
    Text,
    TypeDecorator,
    bindparam,
    func,
    select,
)

MAX_INTEGER = 2**63 - 1
"""The largest integer that SQLite stores."""


class PathText(TypeDecorator[Path]):
    """An absolute path as text; as bytes where it is not valid Unicode."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Path | str | None, dialect: Dialect) -> Any:
        """Return the path as it is stored."""
        return None if value is None else stored_path(str(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Path | None:
        """Return the path that was stored."""
        return None if value is None else as_path(value)


class PathBytes(TypeDecorator[Path]):
    """An absolute path as bytes, so that all paths below a folder are one range."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Path | str | bytes | None, dialect: Dialect) -> Any:
        """Return the path as it is stored."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Path | None:
        """Return the path that was stored."""
        return None if value is None else as_path(value)


@lru_cache(maxsize=4096)  # Parsing a path takes longer than reading it.
def as_path(stored: str | bytes) -> Path:
    """Return the path that a table holds."""
    return Path(os.fsdecode(stored))


def stored_path(path: str) -> str | bytes:
    """Return a path as `PathText` stores it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def row_id(number: int) -> int | None:
    """Return an id to look for; None, which no row has, where SQLite cannot store the number."""
    return number if abs(number) <= MAX_INTEGER else None


_IDS = func.json_each(bindparam("ids")).table_valued("value", name="ids")


def one_of(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a column is one of the numbers in `given_ids`.

    As a single parameter, a list of any length takes the same statement, prepared once.
    """
    return column.in_(select(_IDS.c.value))


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


def create_tables(
    connection: Connection, metadata: MetaData, more: Iterable[str], version: int
) -> None:
    """Make the tables, run further statements, and note the version of it all."""
    metadata.create_all(connection, checkfirst=False)
    for statement in more:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"PRAGMA user_version = {version}")


def tables_version(connection: Connection) -> int | None:
    """Return the version noted by `create_tables`; None in an empty file, 0 in a foreign one."""
    if not connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").first():
        return None
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
