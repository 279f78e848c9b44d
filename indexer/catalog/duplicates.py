"""Files that hold the same thing, as the tables know it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from embedder.media.kinds import Kind
from indexer.catalog import rows, schema
from indexer.types import Duplicates, MediaItem

if TYPE_CHECKING:
    from indexer.catalog.reader import Catalog
    from indexer.catalog.writer import CatalogWriter

_CHUNK = 5_000


@dataclass(frozen=True, eq=False, slots=True)
class PictureHashes:
    """How the still pictures of a library look.

    Attributes:
        media_ids: Shape (n,).
        hashes: 64-bit difference hashes, shape (n,).
        tints: Colours on a coarse grid, shape (n, 48).
    """

    media_ids: NDArray[np.int64]
    hashes: NDArray[np.int64]
    tints: NDArray[np.uint8]


def looks(connection: Connection) -> PictureHashes:
    """How all still pictures look, oldest first."""
    segments = schema.segments.c
    query = (
        select(segments.media_id, segments.picture_hash, segments.picture_tint)
        .where(segments.picture_hash.is_not(None), segments.picture_tint.is_not(None))
        .order_by(segments.media_id)
    )
    found = connection.execute(query).all()
    tints = np.frombuffer(b"".join(row[2] or b"" for row in found), dtype=np.uint8)
    return PictureHashes(
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


MAX_BITS = 3
"""Bits of 64 in which the hashes of two pictures that look the same may differ."""

MAX_TINT = 16
"""Steps of 255 by which any colour on their coarse grids may differ."""

_WORTH = 1_000
_BANDS = 4  # One more than MAX_BITS: of two such hashes at least one band is equal.


def duplicates(catalog: "Catalog") -> Duplicates:
    """Files that hold the same bytes, and apart from them pictures that look the same."""
    groups = near_media(catalog)
    oldest = catalog.oldest_items([one for group in groups for one in group])
    near = (tuple(oldest[one] for one in group if one in oldest) for group in groups)
    return Duplicates(
        exact=tuple(catalog.exact_duplicates()),
        near=tuple(group for group in near if len(group) > 1),
    )


def near_media(catalog: "Catalog") -> list[list[int]]:
    """Media of pictures that look the same, in groups."""
    looks = catalog.looks()
    groups = near_groups(looks.hashes, looks.tints)
    return [looks.media_ids[group].tolist() for group in groups]


def count_again(catalog: "Catalog", ledger: "CatalogWriter") -> None:
    """Counts groups of pictures that look the same, once one in a thousand has come or gone.

    To look at all of them takes less time than it took to take in that many.
    """
    worth = 1 + catalog.stats().segments.get(Kind.IMAGE, 0) // _WORTH
    if ledger.pictures_changed(worth) >= worth:
        ledger.remember_near_duplicates(len(near_media(catalog)))


def near_groups(hashes: NDArray[np.int64], tints: NDArray[np.uint8]) -> list[NDArray[np.intp]]:
    """Groups of pictures that look the same, joined where they share a member.

    Args:
        hashes: 64-bit difference hashes, shape (n,).
        tints: Colours on a coarse grid, shape (n, colours).

    Returns:
        The positions of each group of two or more, ascending; groups by their first position.
    """
    if not len(hashes):
        return []
    looks = np.column_stack([hashes.view(np.uint8).reshape(len(hashes), 8), tints])
    # Equal ones first, so that ten thousand black frames are not compared in pairs.
    _, chosen, labels = np.unique(looks, axis=0, return_index=True, return_inverse=True)
    parents = list(range(len(chosen)))

    def root(position: int) -> int:
        while parents[position] != position:
            parents[position] = parents[parents[position]]
            position = parents[position]
        return position

    for left, right in _alike(hashes[chosen].view(np.uint64), tints[chosen]):
        first, second = sorted((root(left), root(right)))
        parents[second] = first
    roots = np.array([root(label) for label in labels.ravel().tolist()])
    order = np.argsort(roots, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))


def _alike(bits: NDArray[np.uint64], tints: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Pairs of positions that look the same; some come more than once.

    In the order of a band's values, equal ones stand together: those a step apart are compared
    at once, then those two steps apart, and so on while any are equal.
    """
    for band in range(_BANDS):
        keys = (bits >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        start, step = np.arange(len(keys)), 0
        while start.size:
            step += 1
            start = start[start < len(keys) - step]
            start = start[keys[start] == keys[start + step]]
            rows, columns = order[start], order[start + step]
            near = np.bitwise_count(bits[rows] ^ bits[columns]) <= MAX_BITS
            rows, columns = rows[near], columns[near]
            distance = np.abs(tints[rows].astype(np.int16) - tints[columns]).max(axis=1, initial=0)
            yield from np.stack([rows, columns], axis=1)[distance <= MAX_TINT].tolist()
