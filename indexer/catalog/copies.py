"""Files that hold the same thing, as the tables know it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from indexer import schema
from indexer.catalog import rows
from indexer.entities import MediaItem

_CHUNK = 5_000


@dataclass(frozen=True, eq=False, slots=True)
class Looks:
    """How the still pictures of a library look.

    Attributes:
        media_ids: Shape (n,).
        hashes: 64-bit difference hashes, shape (n,).
        tints: Colours on a coarse grid, shape (n, 48).
    """

    media_ids: NDArray[np.int64]
    hashes: NDArray[np.int64]
    tints: NDArray[np.uint8]


def looks(connection: Connection) -> Looks:
    """How all still pictures look, oldest first."""
    segments = schema.segments.c
    query = (
        select(segments.media_id, segments.picture_hash, segments.picture_tint)
        .where(segments.picture_hash.is_not(None), segments.picture_tint.is_not(None))
        .order_by(segments.media_id)
    )
    found = connection.execute(query).all()
    tints = np.frombuffer(b"".join(row[2] or b"" for row in found), dtype=np.uint8)
    return Looks(
        np.array([row[0] for row in found], dtype=np.int64),
        np.array([row[1] for row in found], dtype=np.int64),
        tints.reshape(len(found), -1) if found else tints.reshape(0, 48),
    )


def exact(connection: Connection) -> list[tuple[MediaItem, ...]]:
    """Groups of files with the same bytes, each oldest first."""
    items = schema.items.c
    shared = (
        select(items.media_id)
        .where(items.media_id.is_not(None))
        .group_by(items.media_id)
        .having(func.count() > 1)
    )
    query = rows.select_items().where(items.media_id.in_(shared)).order_by(items.id)
    groups: dict[int, list[MediaItem]] = {}
    for row in connection.execute(query):
        groups.setdefault(row.media_id, []).append(rows.item(row))
    return [tuple(group) for group in groups.values()]


def oldest(connection: Connection, media_ids: Sequence[int]) -> dict[int, MediaItem]:
    """The file that was added first, by media."""
    items = schema.items.c
    found: dict[int, MediaItem] = {}
    for start in range(0, len(media_ids), _CHUNK):
        chunk = list(media_ids[start : start + _CHUNK])
        query = rows.select_items().where(items.media_id.in_(chunk)).order_by(items.id)
        for row in connection.execute(query):
            found.setdefault(row.media_id, rows.item(row))
    return found
