"""Pages of the list of files, in order of their paths."""

from pathlib import Path

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Select,
    Text,
    literal_column,
    select,
    text,
    true,
    union_all,
)

from embedder.media.kinds import Kind
from indexer.catalog import rows, schema
from indexer.catalog.fulltext import plain_name
from indexer.catalog.sqlite import MAX_INTEGER, given_ids, one_of
from indexer.types import MediaItem, Status

_FEW = 4_000  # It takes a few milliseconds to put them in order.
_PART = 3
_MOST_PARTS = 200  # What begins so many parts is in very many names.

_BEGINNING = text(
    "SELECT term FROM name_parts_terms WHERE term >= :first AND term < :last LIMIT :most"
)
_WITH = text("SELECT rowid FROM name_parts WHERE name_parts MATCH :expression LIMIT :most")


def items(
    connection: Connection,
    status: Status | None,
    kind: Kind | None,
    name: str | None,
    limit: int,
    offset: int,
) -> list[MediaItem]:
    """See `Library.items`.

    Files whose names have something in them are looked up if they are few, and put in order. If
    they are many, the files in order are looked through until a page is full, which is soon.
    """
    plain = plain_name(name) if name else ""
    few = _with(connection, plain) if plain else None
    page = _in_order(status, kind, plain) if few is None else _put_in_order(status, kind)
    given = given_ids(few or ())
    page = page.limit(limit).offset(min(offset, MAX_INTEGER))
    ids = connection.execute(page, given).scalars().all()
    query = rows.select_items().where(one_of(schema.items.c.id))
    found = {row.id: rows.item(row) for row in connection.execute(query, given_ids(ids))}
    return [found[one] for one in ids]


def _chosen(
    status: Status | None, kind: Kind | None, state: ColumnElement[str]
) -> Select[int, Path]:
    items = schema.items.c
    query = select(items.id, items.path)
    query = query if status is None else query.where(state == status.value)
    return query if kind is None else query.where(items.kind == kind.value)


def _put_in_order(status: Status | None, kind: Kind | None) -> Select[int, Path]:
    """Some files, by their ids: the plus keeps SQLite from going along another index."""
    query = _chosen(status, kind, literal_column("+items.status", Text))
    return query.where(one_of(schema.items.c.id)).order_by(literal_column("+items.path"))


def _in_order(
    status: Status | None, kind: Kind | None, plain: str
) -> Select[int, Path] | CompoundSelect[int, Path]:
    """By an index that has the files in order of their paths, from the first one on."""
    items = schema.items.c
    having = items.name_words.contains(plain, autoescape=True) if plain else true()
    if kind is None or status is not None:
        return _chosen(status, kind, items.status).where(having).order_by(items.path)
    # Each state is in order in the index on states, kinds and paths, and SQLite merges them.
    parts = (_chosen(one, kind, items.status).where(having) for one in Status)
    return union_all(*parts).order_by("path")


def _with(connection: Connection, plain: str) -> list[int] | None:
    """Files with something in their names, whatever the case; None if they may be many."""
    if "\0" in plain:
        return []  # No name has it, and FTS5 takes it for an end.
    parts = [plain]
    if len(plain) < _PART:  # Then it is the beginning of parts.
        folded = plain.lower()
        given = {"first": folded, "last": f"{folded}\U0010ffff", "most": _MOST_PARTS}
        parts = list(connection.execute(_BEGINNING, given).scalars())
        if len(parts) == _MOST_PARTS:
            return None
        if not parts:
            return []
    expression = " OR ".join('"' + part.replace('"', '""') + '"' for part in parts)
    given = {"expression": expression, "most": _FEW + 1}
    found = list(connection.execute(_WITH, given).scalars())
    return found if len(found) <= _FEW else None
