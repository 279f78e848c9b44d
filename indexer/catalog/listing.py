"""The whole catalog: pages of files, folders, samples and duplicates, and `reader`."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    func,
    select,
    true,
    union_all,
)

from embedder.media.kinds import Kind
from indexer.catalog import fulltext, schema
from indexer.catalog.reader import (
    CatalogReader,
    item_of_row,
    segment_of_row,
    select_items,
    select_segments,
)
from indexer.catalog.sqlite import Database, given_ids, id_table, one_of, unindexed
from indexer.types import Duplicates, MediaItem, Segment, Status

MAX_HASH_DISTANCE = 3
"""Bits of 64 in which the hashes of two pictures that look the same may differ."""

MAX_TINT_DISTANCE = 16
"""Steps of 255 by which any colour on their coarse grids may differ."""

_HASH_BANDS = 4  # One more than MAX_HASH_DISTANCE: at least one band of two such hashes is equal.
_MAX_SORTED_FILES = 4_000  # Sorting as many takes a few milliseconds.
_MEDIA_PER_QUERY = 5_000
_PROBES_PER_FILE = 10  # Some probes hit the same file where many were removed.


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


class Catalog(CatalogReader):
    """Reads a library's tables; see `CatalogReader`, which answers searches."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._branches: tuple[tuple[int, int], list[tuple[Path, int]]] | None = None

    def items(
        self,
        *,
        status: Status | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[MediaItem]:
        """Return a page of files in order of their paths.

        Args:
            status: Only in this state.
            kind: Only of this kind.
            name: Only with this in their names, whatever the case.
            limit: Most files to return.
            offset: Files to skip first.
        """
        with self._database.reading() as connection:
            # Few files with that in their names are looked up and sorted. Where they are many, the
            # files in order are looked through until the page is full, which is soon.
            plain = fulltext.plain_name(name) if name else ""
            few = fulltext.names_with(connection, plain, _MAX_SORTED_FILES) if plain else None
            page = _in_order(status, kind, plain) if few is None else _sorted(status, kind)
            page = page.limit(limit).offset(min(offset, schema.MAX_INTEGER))
            ids = connection.execute(page, given_ids(few or ())).scalars().all()
            query = select_items().where(one_of(schema.items.c.id))
            found = connection.execute(query, given_ids(ids))
            by_id = {row.id: item_of_row(row) for row in found}
        return [by_id[one] for one in ids]

    def folders(self) -> list[tuple[Path, int]]:
        """Return the folders that hold indexed files, with their number, in order."""
        table = schema.folders.c
        query = select(table.path, table.files).where(table.files > 0).order_by(table.path)
        with self._database.reading() as connection:
            return [(path, files) for path, files in connection.execute(query)]

    def branches(self, limit: int) -> list[tuple[Path, int]]:
        """Return the folders with indexed files or several branches, and the files in and below.

        They come in order, at most `limit` of them.
        """
        with self._database.moment():
            key = self.generation(), limit
            known = self._branches
            if known is None or known[0] != key:
                known = self._branches = key, _branches(self.folders(), limit)
        return list(known[1])

    def sample(self, count: int) -> list[tuple[MediaItem, Segment]]:
        """Return files with different contents from all over the library, and where each begins.

        They are the same ones each time, oldest first; at most `count`.
        """
        segments = schema.segments.c
        heads = select_segments().where(one_of(segments.media_id), segments.position == 0)
        with self._database.moment(), self._database.reading() as connection:
            by_media = self.oldest_items(self._sampled_media(count))
            found = connection.execute(heads.order_by(segments.media_id), given_ids(by_media))
            return [(by_media[row.media_id], segment_of_row(row)) for row in found]

    def _sampled_media(self, count: int) -> list[int]:
        """Return ids of media at equal distances, by probing some ids between first and last."""
        media = schema.media.c
        next_one = (
            select(media.id)
            .where(media.id >= id_table.c.value)
            .order_by(media.id)
            .limit(1)
            .correlate(id_table)
            .scalar_subquery()
        )
        ends = (select(end(media.id)).scalar_subquery() for end in (func.min, func.max))
        newest = select(media.id).order_by(media.id.desc()).limit(count)
        with self._database.reading() as connection:
            first, last = connection.execute(select(*ends)).one()
            if first is None or count < 1:
                return []
            probes = count * _PROBES_PER_FILE
            points = (first + n * (last - first) // (probes - 1) for n in range(probes))
            probing = select(next_one).select_from(id_table)
            found = sorted(set(connection.execute(probing, given_ids(points)).scalars()))
            if len(found) < count:
                found = sorted({*found, *connection.execute(newest).scalars()})
        if len(found) <= count:
            return found
        return [found[n * len(found) // count] for n in range(count)]

    def duplicates(self) -> Duplicates:
        """Return files with the same bytes, and pictures that look the same."""
        groups = self.near_duplicates()
        oldest = self.oldest_items([media_id for group in groups for media_id in group])
        near = (tuple(oldest[one] for one in group if one in oldest) for group in groups)
        return Duplicates(
            exact=tuple(self.exact_duplicates()),
            near=tuple(group for group in near if len(group) > 1),
        )

    def near_duplicates(self) -> list[list[int]]:
        """Return media of pictures that look the same, in groups."""
        pictures = self.picture_hashes()
        groups = near_groups(pictures.hashes, pictures.tints)
        return [pictures.media_ids[group].tolist() for group in groups]

    def picture_hashes(self) -> PictureHashes:
        """Return the hashes of all still pictures, oldest first."""
        segments = schema.segments.c
        query = (
            select(segments.media_id, segments.picture_hash, segments.picture_tint)
            .where(segments.picture_hash.is_not(None), segments.picture_tint.is_not(None))
            .order_by(segments.media_id)
        )
        with self._database.reading() as connection:
            found = connection.execute(query).all()
        tints = np.frombuffer(b"".join(row[2] or b"" for row in found), dtype=np.uint8)
        return PictureHashes(
            np.array([row[0] for row in found], dtype=np.int64),
            np.array([row[1] for row in found], dtype=np.int64),
            tints.reshape(len(found), -1) if found else tints.reshape(0, 48),
        )

    def exact_duplicates(self) -> list[tuple[MediaItem, ...]]:
        """Return groups of files with the same bytes, each oldest first."""
        items = schema.items.c
        shared = (
            select(items.media_id)
            .where(items.media_id.is_not(None))
            .group_by(items.media_id)
            .having(func.count() > 1)
        )
        query = select_items().where(items.media_id.in_(shared)).order_by(items.id)
        groups: dict[int, list[MediaItem]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                groups.setdefault(row.media_id, []).append(item_of_row(row))
        return [tuple(group) for group in groups.values()]

    def oldest_items(self, media_ids: Sequence[int]) -> dict[int, MediaItem]:
        """Return the file that was added first, by media."""
        items = schema.items.c
        query = select_items().where(one_of(items.media_id)).order_by(items.id)
        found: dict[int, MediaItem] = {}
        for start in range(0, len(media_ids), _MEDIA_PER_QUERY):
            chosen = given_ids(media_ids[start : start + _MEDIA_PER_QUERY])
            with self._database.reading() as connection:
                for row in connection.execute(query, chosen):
                    found.setdefault(row.media_id, item_of_row(row))
        return found


def _chosen(
    status: Status | None, kind: Kind | None, column: ColumnElement[str]
) -> Select[int, Path]:
    items = schema.items.c
    query = select(items.id, items.path)
    query = query if status is None else query.where(column == status.value)
    return query if kind is None else query.where(items.kind == kind.value)


def _sorted(status: Status | None, kind: Kind | None) -> Select[int, Path]:
    """Return the query that sorts some files, given by their ids."""
    items = schema.items.c
    # By their ids alone, since an index on states would lead through all files.
    query = _chosen(status, kind, unindexed(items.status)).where(one_of(items.id))
    return query.order_by(unindexed(items.path))


def _in_order(
    status: Status | None, kind: Kind | None, plain: str
) -> Select[int, Path] | CompoundSelect[int, Path]:
    """Return the query that reads files in order of their paths from an index."""
    items = schema.items.c
    having = items.name_words.contains(plain, autoescape=True) if plain else true()
    if kind is None or status is not None:
        return _chosen(status, kind, items.status).where(having).order_by(items.path)
    # Each state is in order in the index on states, kinds and paths, and SQLite merges them.
    parts = (_chosen(one, kind, items.status).where(having) for one in Status)
    return union_all(*parts).order_by("path")


def _branches(folders: Iterable[tuple[Path, int]], limit: int) -> list[tuple[Path, int]]:
    """See `Catalog.branches`; 6,000 folders take some 10 ms."""
    own = {str(path): files for path, files in folders}
    parents: dict[str, str] = {}  # The root is its own parent.
    for path in own:
        child = path
        while child not in parents:
            parent = os.path.dirname(child)  # noqa: PTH120 -- Path's takes ten times as long.
            parents[child], child = parent, parent
    below, branches = Counter(own), Counter[str]()
    for path in sorted(parents, key=len, reverse=True):  # Folders before those that hold them.
        if (parent := parents[path]) != path:
            below[parent] += below[path]
            branches[parent] += 1
    shown = sorted((one for one in parents if one in own or branches[one] != 1), key=os.fsencode)
    return [(Path(path), below[path]) for path in shown[:limit]]


def near_groups(hashes: NDArray[np.int64], tints: NDArray[np.uint8]) -> list[NDArray[np.intp]]:
    """Return groups of pictures that look the same, joined where they share a member.

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
    """Yield pairs of positions that look the same; some come more than once.

    In the order of a band's values, equal ones stand together: those a step apart are compared
    at once, then those two steps apart, and so on while any are equal.
    """
    for band in range(_HASH_BANDS):
        keys = (bits >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        start, step = np.arange(len(keys)), 0
        while start.size:
            step += 1
            start = start[start < len(keys) - step]
            start = start[keys[start] == keys[start + step]]
            rows, columns = order[start], order[start + step]
            near = np.bitwise_count(bits[rows] ^ bits[columns]) <= MAX_HASH_DISTANCE
            rows, columns = rows[near], columns[near]
            distance = np.abs(tints[rows].astype(np.int16) - tints[columns]).max(axis=1, initial=0)
            yield from np.stack([rows, columns], axis=1)[distance <= MAX_TINT_DISTANCE].tolist()
