"""Numbers of files by folder, kind and month, which are kept beside the files.

Triggers keep them, so that a program that does not know of them keeps them, too.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    column,
    func,
    insert,
    literal_column,
    select,
    table,
)

from indexer.catalog import schema

_ITEMS, _COUNTS = schema.items, schema.month_counts
_KEY = ("folder_id", "kind", "month")


def _values(row: str) -> dict[str, str]:
    """Return the key of a row of `items` as SQL; its month is that in UTC, such as 202307."""
    # Integers are divided towards zero; seconds before 1970 are rounded down, too.
    seconds = f"({row}.date_ns - ({row}.date_ns < 0) * 999999999) / 1000000000"
    month = f"CAST(strftime('%Y%m', {seconds}, 'unixepoch') AS INTEGER)"
    return {"folder_id": f"{row}.folder_id", "kind": f"coalesce({row}.kind, '')", "month": month}


_GROUPS: list[ColumnElement[Any]] = [
    literal_column(value) for value in _values(_ITEMS.name).values()
]
COUNTED = select(*_GROUPS, func.count()).where(_ITEMS.c.media_id.is_not(None)).group_by(*_GROUPS)
"""The query that counts the files behind the rows of `schema.month_counts`."""


def triggers() -> Iterator[str]:
    """Yield the statements that make what keeps the numbers."""
    key = ", ".join(_KEY)
    add = (
        f"INSERT INTO {_COUNTS.name} ({key}, files) SELECT {', '.join(_values('new').values())}, 1 "
        f"WHERE new.media_id IS NOT NULL ON CONFLICT ({key}) DO UPDATE SET files = files + 1;"
    )
    same = " AND ".join(f"{name} = {value}" for name, value in _values("old").items())
    take = (
        f"UPDATE {_COUNTS.name} SET files = files - 1 WHERE old.media_id IS NOT NULL AND {same};"
        f"DELETE FROM {_COUNTS.name} WHERE files = 0 AND {same};"
    )
    changed = "folder_id, kind, date_ns, media_id"
    events = {"INSERT": add, "DELETE": take, f"UPDATE OF {changed}": take + add}
    for event, body in events.items():
        name = f"{_COUNTS.name}_{event.split()[0].lower()}"
        yield f"CREATE TRIGGER {name} AFTER {event} ON {_ITEMS.name} BEGIN {body} END"


def are_kept(connection: Connection) -> bool:
    """Return whether a library has the numbers; old ones that only were read have not."""
    tables = table("sqlite_master", column("name"))
    query = select(tables.c.name).where(tables.c.name == _COUNTS.name)
    return connection.execute(query).first() is not None


def keep(connection: Connection) -> None:
    """Count the files of a library that has no such numbers yet, and keep the numbers from now."""
    _COUNTS.create(connection)
    counted = insert(_COUNTS).from_select(_COUNTS.columns.keys(), COUNTED)
    connection.execute(counted)
    for statement in triggers():
        connection.exec_driver_sql(statement)
