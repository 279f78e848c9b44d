"""The vectors of another model, computed beside those in use until the library switches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from embedder.content import Modality
from embedder.interface import EmbedderInfo
from embedder.media.kinds import Kind
from indexer.catalog import schema
from indexer.catalog.reader import Model, model_of_row, segment_of_row, select_segments
from indexer.catalog.sqlite import Database, given_ids, one_of, replacing, swap_tables
from indexer.catalog.transaction import WriteTransaction
from indexer.errors import LibraryError
from indexer.types import Segment, Status

_MEDIA_PER_QUERY = 20
_VECTORS_PER_STEP = 20_000


@dataclass(frozen=True, slots=True)
class Outline:
    """Media of which some segments have no vector of the new model yet.

    Attributes:
        content_hash: SHA-256 of its bytes.
        holders: The files that hold them, oldest first.
        segments: All its segments, in order of position.
        missing: Positions of those without a vector.
    """

    content_hash: str
    holders: tuple[Path, ...]
    segments: tuple[Segment, ...]
    missing: frozenset[int]


class StagedVectors:
    """Writes and reads the vectors of another model. Thread-safe.

    Guarantees: each call is one transaction (`clear`: several), so the vectors in use are those
    of one model at any moment; vectors of two models never come together in one table. Only the
    holder of the writer lock may call what writes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def model(self) -> Model | None:
        """Return the model of the pending vectors, if there are any."""
        with self._database.reading() as connection:
            row = connection.execute(select(schema.pending)).one_or_none()
        return None if row is None else model_of_row(row)

    def begin(self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None) -> int:
        """Prepare for the vectors of a model.

        Returns:
            How many of them are there already; those of other models are discarded.
        """
        before = self.model()
        if before is None or before.fingerprint != info.fingerprint:
            self.clear()
        values = {"id": 1} | schema.model_values(info, instructions)
        with self._database.writing() as connection:
            connection.execute(delete(schema.pending))
            connection.execute(insert(schema.pending).values(values))
        return self.count()

    def clear(self) -> int:
        """Delete pending vectors and those of a former model, in steps; return how many."""
        table, discarded = schema.pending_vectors, 0
        some = select(table.c.segment_id).limit(_VECTORS_PER_STEP)
        while True:
            with self._database.writing() as connection:  # Others can write between steps.
                gone = connection.execute(delete(table).where(table.c.segment_id.in_(some)))
                discarded += gone.rowcount
                if not gone.rowcount:
                    connection.execute(delete(schema.pending))
                    return discarded

    def count(self) -> int:
        """Return how many vectors there are."""
        query = select(func.count()).select_from(schema.pending_vectors)
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def missing(self) -> dict[Kind, int]:
        """Return how many segments of each kind have no pending vector."""
        kind = schema.segments.c.kind
        query = _without_vector(select(kind, func.count())).group_by(kind)
        with self._database.reading() as connection:
            return {Kind(name): count for name, count in connection.execute(query)}

    def outlines(self, *, of_all: bool = False) -> Iterator[Outline]:
        """Yield media that lack vectors, oldest first, while more may be added.

        Args:
            of_all: Ignore pending vectors, since they are of another model.
        """
        media, segments = schema.media.c, schema.segments.c
        lacking = _without_vector(select(segments.id)).where(segments.media_id == media.id).exists()
        query = select(media.id, media.content_hash).order_by(media.id).limit(_MEDIA_PER_QUERY)
        query = query if of_all else query.where(lacking)
        last = 0
        while True:
            with self._database.reading() as connection:
                found = connection.execute(query.where(media.id > last)).all()
                chunk = [_outline(connection, *one, of_all=of_all) for one in found]
            if not found:
                return
            last = found[-1][0]
            yield from chunk

    def add(self, vectors: Mapping[int, bytes]) -> None:
        """Store vectors by segment."""
        if not vectors:
            return
        values = [{"segment_id": one, "data": data} for one, data in vectors.items()]
        statement = replacing(insert(schema.pending_vectors))
        with self._database.writing() as connection:
            connection.execute(statement, values)

    def forget(self, segment_ids: Sequence[int]) -> int:
        """Delete the vectors of some segments; return how many there were."""
        segment_id = schema.pending_vectors.c.segment_id
        query = delete(schema.pending_vectors).where(one_of(segment_id))
        with self._database.writing() as connection:
            return connection.execute(query, given_ids(segment_ids)).rowcount

    def take_over(self, left_out: Mapping[str, Mapping[Path, str]]) -> None:
        """Switch from the vectors in use to the pending ones; `clear` deletes the former.

        Args:
            left_out: Media that leave the library, by content hash, with the reason for each of
                their files; these are failed files from then on.

        Raises:
            LibraryError: if other segments have no vector; nothing has changed.
        """
        with WriteTransaction.of(self._database) as transaction:
            connection = transaction.connection
            for content_hash, reasons in left_out.items():
                _leave_out(transaction, content_hash, reasons)
            if connection.execute(_without_vector(select(schema.segments.c.id)).limit(1)).first():
                raise LibraryError(
                    "some segments have no vector of the new model yet: run the command again"
                )
            model = connection.execute(select(schema.pending)).one()
            # The former vectors get the name of the pending ones, which count for nothing without a
            # row in `pending`.
            swap_tables(connection, "vectors", "pending_vectors")
            connection.execute(
                update(schema.library).values(
                    generation=transaction.generation,
                    model=model.model,
                    fingerprint=model.fingerprint,
                    dim=model.dim,
                    instructions=model.instructions,
                )
            )
            connection.execute(delete(schema.pending))


def _without_vector(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Restrict a query to segments that have no pending vector."""
    table, segments = schema.pending_vectors, schema.segments
    joined = segments.outerjoin(table, table.c.segment_id == segments.c.id)
    return query.select_from(joined).where(table.c.segment_id.is_(None))


def _outline(connection: Connection, media_id: int, content_hash: str, *, of_all: bool) -> Outline:
    segments, items, table = schema.segments.c, schema.items.c, schema.pending_vectors
    of_media = select_segments().where(segments.media_id == media_id)
    there = select(table.c.segment_id).join(schema.segments, segments.id == table.c.segment_id)
    have = set(connection.execute(there.where(segments.media_id == media_id)).scalars())
    found = [
        segment_of_row(row) for row in connection.execute(of_media.order_by(segments.position))
    ]
    holders = select(items.path).where(items.media_id == media_id).order_by(items.id)
    return Outline(
        content_hash=content_hash,
        holders=tuple(connection.execute(holders).scalars()),
        segments=tuple(found),
        missing=frozenset(one.position for one in found if of_all or one.id not in have),
    )


def _leave_out(
    transaction: WriteTransaction, content_hash: str, reasons: Mapping[Path, str]
) -> None:
    for path, reason in reasons.items():
        if item := transaction.item_at(path):
            failed = {"status": Status.FAILED.value, "error": reason, "media_id": None}
            transaction.change_item(item, failed)
    media = schema.media.c
    chosen = select(media.id).where(media.content_hash == content_hash)
    transaction.remove_media(transaction.connection.execute(chosen).scalars())
