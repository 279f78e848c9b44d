"""What has changed in the vectors of a library since a generation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Result, select

from embedder.interface import Vectors
from embedder.media.kinds import Kind
from indexer.catalog import rows, schema
from indexer.catalog.sqlite import last_id

Ids = NDArray[np.int64]

_VECTORS_PER_CHUNK = 4_096
_HOLDERS_PER_CHUNK = 16_384

_VECTORS = select(schema.segments.c.id, schema.segments.c.kind, schema.vectors.c.data).join(
    schema.vectors, schema.vectors.c.segment_id == schema.segments.c.id
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a generation.

    Attributes:
        generation: The generation that the changes lead to.
        dim: Length of the vectors, 0 while there are none.
        fingerprint: Of the model of the vectors; all vectors have changed if it has.
        removed: Ids of removed segments by kind, perhaps with ids that were never added.
        added: Chunks of (kind, ids, vectors); consumed while the connection is open.
        holders: Chunks of (kind, ids, folder ids, mtimes in ns): for every segment of every media
            whose holders have changed, one entry per file that holds it. Consumed after `added`,
            while the connection is open.
    """

    generation: int
    dim: int
    fingerprint: str | None
    removed: dict[Kind, Ids]
    added: Iterator[tuple[Kind, Ids, Vectors]]
    holders: Iterator[tuple[Kind, Ids, NDArray[np.int32], Ids]]


def changes(connection: Connection, since: int) -> Changes:
    """Return what has changed since a generation; everything if `since` is 0."""
    library = schema.library.c
    generation, dim, fingerprint, pruned = connection.execute(
        select(library.generation, library.dim, library.fingerprint, library.pruned)
    ).one()
    removed: dict[Kind, Ids] = {}
    if since:
        removed = _removed(connection, since) if since >= pruned else _absent(connection)
    found = _vectors_since(connection, since) if since else _every_vector(connection)
    added = _by_kind(found.partitions(_VECTORS_PER_CHUNK), dim or 0)
    return Changes(generation, dim or 0, fingerprint, removed, added, _holders(connection, since))


def _every_vector(connection: Connection) -> Result[int, str, bytes]:
    return connection.execute(_VECTORS.order_by(schema.segments.c.id))


def _vectors_since(connection: Connection, since: int) -> Result[int, str, bytes]:
    segments = schema.segments.c
    query = _VECTORS.where(segments.generation > since)
    # As the index on generations has them: in the order of ids alone, all would be read.
    return connection.execute(query.order_by(segments.generation, segments.id))


def _removed(connection: Connection, since: int) -> dict[Kind, Ids]:
    removals = schema.removals.c
    query = select(removals.segment_id, removals.kind).where(removals.generation > since)
    found: dict[Kind, list[int]] = {}
    for segment_id, kind in connection.execute(query):
        found.setdefault(Kind(kind), []).append(segment_id)
    return {kind: np.array(ids, dtype=np.int64) for kind, ids in found.items()}


def _absent(connection: Connection) -> dict[Kind, Ids]:
    """Return all ids ever given that are gone, for every kind: removals are not noted any more."""
    found = connection.execute(select(schema.segments.c.id)).scalars()
    present = np.fromiter(found, dtype=np.int64)
    everything = np.arange(1, last_id(connection, "segments") + 1, dtype=np.int64)
    gone = np.setdiff1d(everything, present, assume_unique=True)
    return dict.fromkeys(Kind, gone)


def _holders(
    connection: Connection, since: int
) -> Iterator[tuple[Kind, Ids, NDArray[np.int32], Ids]]:
    media, items, segments = schema.media, schema.items, schema.segments
    query = (
        select(segments.c.id, items.c.folder_id, items.c.mtime_ns)
        .join_from(media, segments, segments.c.media_id == media.c.id)
        .join(items, items.c.media_id == media.c.id)
    )
    # In the order in which media were added, their segments are in the order of ids.
    query = query.where(media.c.generation > since) if since else query.order_by(media.c.id)
    for kind in Kind:
        found = connection.execute(query.where(media.c.kind == kind.value))
        for chunk in found.partitions(_HOLDERS_PER_CHUNK):
            table = np.fromiter(chain.from_iterable(chunk), np.int64).reshape(-1, 3)
            yield kind, table[:, 0], table[:, 1].astype(np.int32), table[:, 2]


def _by_kind(partitions: Iterable[Sequence[Any]], dim: int) -> Iterator[tuple[Kind, Ids, Vectors]]:
    for partition in partitions:
        for kind in sorted({row[1] for row in partition}):
            chosen = [row for row in partition if row[1] == kind]
            ids = np.array([row[0] for row in chosen], dtype=np.int64)
            yield Kind(kind), ids, rows.unpacked_vectors([row[2] for row in chosen], dim)
