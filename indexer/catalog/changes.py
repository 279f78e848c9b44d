"""What has changed in the vectors of a library since a generation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Result, select

from embedder.interface import Vectors
from embedder.media.kinds import Kind
from indexer.catalog import rows, schema

_CHUNK = 4_096

_VECTORS = select(schema.segments.c.id, schema.segments.c.kind, schema.vectors.c.data).join(
    schema.vectors, schema.vectors.c.segment_id == schema.segments.c.id
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What has changed since a generation.

    Attributes:
        generation: The generation that the changes lead to.
        dim: Length of the vectors, 0 while there are none.
        fingerprint: Of the model whose vectors they are; of another one, all have changed.
        removed: Ids of segments that are gone, by kind; some may never have been seen.
        added: Chunks of (kind, ids, vectors); consumed while the connection is open.
    """

    generation: int
    dim: int
    fingerprint: str | None
    removed: dict[Kind, NDArray[np.int64]]
    added: Iterator[tuple[Kind, NDArray[np.int64], Vectors]]


def changes(connection: Connection, since: int) -> Changes:
    """What has changed since a generation; everything there is if `since` is 0."""
    library = schema.library.c
    generation, dim, fingerprint, pruned = connection.execute(
        select(library.generation, library.dim, library.fingerprint, library.pruned)
    ).one()
    removed: dict[Kind, NDArray[np.int64]] = {}
    if since:
        removed = _removed(connection, since) if since >= pruned else _absent(connection)
    found = _vectors_since(connection, since) if since else _every_vector(connection)
    added = _by_kind(found.partitions(_CHUNK), dim or 0)
    return Changes(generation, dim or 0, fingerprint, removed, added)


def _every_vector(connection: Connection) -> Result[int, str, bytes]:
    return connection.execute(_VECTORS.order_by(schema.segments.c.id))


def _vectors_since(connection: Connection, since: int) -> Result[int, str, bytes]:
    segments = schema.segments.c
    query = _VECTORS.where(segments.generation > since)
    # As the index on generations has them: in the order of ids alone, all would be read.
    return connection.execute(query.order_by(segments.generation, segments.id))


def _removed(connection: Connection, since: int) -> dict[Kind, NDArray[np.int64]]:
    removals = schema.removals.c
    query = select(removals.segment_id, removals.kind).where(removals.generation > since)
    found: dict[Kind, list[int]] = {}
    for segment_id, kind in connection.execute(query):
        found.setdefault(Kind(kind), []).append(segment_id)
    return {kind: np.array(ids, dtype=np.int64) for kind, ids in found.items()}


def _absent(connection: Connection) -> dict[Kind, NDArray[np.int64]]:
    """All ids that there may have been and that are gone, where nothing tells which were which."""
    found = connection.execute(select(schema.segments.c.id)).scalars()
    present = np.fromiter(found, dtype=np.int64)
    highest = connection.exec_driver_sql(
        "SELECT seq FROM sqlite_sequence WHERE name = 'segments'"
    ).scalar_one_or_none()
    everything = np.arange(1, (highest or 0) + 1, dtype=np.int64)
    gone = np.setdiff1d(everything, present, assume_unique=True)
    return dict.fromkeys(Kind, gone)


def _by_kind(
    partitions: Iterable[Sequence[Any]], dim: int
) -> Iterator[tuple[Kind, NDArray[np.int64], Vectors]]:
    for partition in partitions:
        for kind in sorted({row[1] for row in partition}):
            chosen = [row for row in partition if row[1] == kind]
            ids = np.array([row[0] for row in chosen], dtype=np.int64)
            yield Kind(kind), ids, rows.unpacked_vectors([row[2] for row in chosen], dim)
