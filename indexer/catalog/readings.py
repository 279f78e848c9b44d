"""`Readings`: the words that were read in pictures, and what is still to be read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, insert, select, update

from embedder.media.kinds import Kind
from embedder.normalisation import folded
from indexer.catalog import schema
from indexer.catalog.reader import segment_of_row, select_segments
from indexer.catalog.sqlite import Database, given_ids, one_of, replacing
from indexer.catalog.transaction import WriteTransaction
from indexer.types import Segment, TextLine

READ_KINDS = (Kind.IMAGE, Kind.PDF, Kind.VIDEO)
"""The kinds with pictures that words are read in, in the order in which they are read."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Media in which words have not been looked for.

    Attributes:
        media_id: Its id.
        kind: Its kind.
        holders: The files with these bytes, oldest first.
        segments: Its segments in order.
    """

    media_id: int
    kind: Kind
    holders: tuple[Path, ...]
    segments: tuple[Segment, ...]


Lines = Mapping[int, Sequence[TextLine]]
"""Lines by segment."""


class Readings:
    """Reads and writes what was read in pictures. Thread-safe.

    Guarantee: the lines of a media, and that they were looked for, are stored in one transaction.
    Only the holder of the writer lock may call what writes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self) -> int:
        """Return how many media there are to read words in, read or not."""
        query = select(func.count()).select_from(schema.media).where(_readable(), schema.has_file())
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def unread(self, revision: str) -> list[int]:
        """Return the media that an engine has not read: pictures first, the newest of each kind."""
        media, items = schema.media.c, schema.items.c
        order = case({kind.value: at for at, kind in enumerate(READ_KINDS)}, value=media.kind)
        newest = func.max(items.date_ns)
        query = (
            select(media.id)
            .join(schema.items, items.media_id == media.id)
            .where(_readable(), media.reader.is_distinct_from(revision))
            .group_by(media.id)
            .order_by(order, newest.desc(), media.id)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def outline(self, media_id: int) -> Unread | None:
        """Return where to look for words in a media; None if no file holds it any more."""
        media, items, segments = schema.media.c, schema.items.c, schema.segments.c
        holders = select(items.path).where(items.media_id == media_id).order_by(items.id)
        places = select_segments().where(segments.media_id == media_id)
        with self._database.reading() as connection:
            kind = connection.execute(select(media.kind).where(media.id == media_id)).scalar()
            paths = connection.execute(holders).scalars().all()
            rows = connection.execute(places.order_by(segments.position)).all()
        if kind is None or not paths:
            return None
        return Unread(media_id, Kind(kind), tuple(paths), tuple(map(segment_of_row, rows)))

    def record(self, revision: str, found: Mapping[int, Lines], *, changed: bool = True) -> None:
        """Store what an engine has read, in place of what was read before.

        Args:
            revision: Of the engine.
            found: Lines by media; what has gone meanwhile is ignored.
            changed: Raise the library's generation, so that what was searched before is searched
                again.
        """
        media = schema.media
        with WriteTransaction.of(self._database) as transaction:
            connection = transaction.connection
            for lines in found.values():
                _store(connection, lines)
            read = update(media).where(one_of(media.c.id)).values(reader=revision)
            connection.execute(read, given_ids(found))
            if changed:
                _ = transaction.generation


def _readable() -> ColumnElement[bool]:
    return schema.media.c.kind.in_([kind.value for kind in READ_KINDS])


def _store(connection: Connection, lines: Lines) -> None:
    """Store the lines of some segments; those without a line have none any more."""
    segments, readings = schema.segments, schema.readings
    known = select(segments.c.id, segments.c.read_terms).where(one_of(segments.c.id))
    before = {row.id: row.read_terms for row in connection.execute(known, given_ids(lines))}
    rows, terms = [], []
    for segment_id, read in lines.items():
        if segment_id not in before or not (read or before[segment_id]):
            continue
        text = " ".join(line.text for line in read)
        terms.append({"of": segment_id, "words": folded(text) or None})
        rows.append({"segment_id": segment_id, "data": schema.packed_lines(read)})
    if rows:
        values = update(segments).where(segments.c.id == bindparam("of"))
        connection.execute(values.values(read_terms=bindparam("words")), terms)
        connection.execute(replacing(insert(readings)), rows)
