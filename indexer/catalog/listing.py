"""The whole catalog: pages of files, folders and duplicates, `reader` and `timeline`."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    and_,
    func,
    select,
    true,
    union_all,
)

from embedder.media.kinds import Details, Kind
from indexer.catalog import names, schema
from indexer.catalog.details import all_details, unpacked_details
from indexer.catalog.reader import CatalogReader, item_of_row, select_items
from indexer.catalog.sqlite import Database, given_ids, one_of, unindexed
from indexer.catalog.timeline import Timeline
from indexer.types import Duplicates, FileOrder, Filters, MediaItem, Root, Status

MAX_HASH_DISTANCE = 3
"""Bits of 64 in which the hashes of two pictures that look the same may differ."""

MAX_TINT_DISTANCE = 16
"""Steps of 255 by which any colour on their coarse grids may differ."""

_HASH_BANDS = 4  # One more than MAX_HASH_DISTANCE: at least one band of two such hashes is equal.
_MAX_SORTED_FILES = 4_000  # Sorting as many takes a few milliseconds.
_MEDIA_PER_QUERY = 5_000
_MAX_COPIES = 20
_ROOT_PATHS = select(schema.roots.c.path).order_by(schema.roots.c.path)


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


@dataclass(frozen=True, slots=True)
class Look:
    """How a still picture looks.

    Attributes:
        bits: 64-bit difference hash, signed.
        tint: Colours on a coarse grid, a byte each.
    """

    bits: int
    tint: bytes


class Catalog(CatalogReader):
    """Reads a library's tables; see `CatalogReader`, which answers searches.

    Attributes:
        timeline: Reads files by date.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.timeline = Timeline(database)
        self._branches: tuple[int, list[tuple[Path, int]]] | None = None

    def items(
        self,
        *,
        status: Status | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        folder: Path | None = None,
        order: FileOrder = FileOrder.PATH,
        descending: bool = False,
        limit: int = 100,
        offset: int = 0,
    ) -> list[MediaItem]:
        """Return a page of files in order.

        Args:
            status: Only in this state.
            kind: Only of this kind.
            name: Only with this in their names, whatever the case.
            folder: Only in this folder or below it.
            order: What they are ordered by.
            descending: Begin with the last one.
            limit: Most files to return.
            offset: Files to skip first.
        """
        items = schema.items.c
        with self._database.reading() as connection:
            # Few files with that in their names are looked up and sorted. Where they are many, the
            # files in order are looked through until the page is full, which is soon.
            plain = names.plain_name(name) if name else ""
            few = names.names_with(connection, plain, _MAX_SORTED_FILES) if name else None
            if order is FileOrder.PATH and folder is None and not descending:
                page = _in_order(status, kind, plain) if few is None else _sorted(status, kind)
            else:
                by = _ORDERS[order].desc() if descending else _ORDERS[order]
                fitting = _fitting(status, kind, folder, plain, few)
                page = select(items.id, items.path).where(fitting).order_by(by, items.id)
            page = page.limit(limit).offset(min(offset, schema.MAX_INTEGER))
            ids = connection.execute(page, given_ids(few or ())).scalars().all()
            query = select_items().where(one_of(items.id))
            found = connection.execute(query, given_ids(ids))
            by_id = {row.id: item_of_row(row) for row in found}
        return [by_id[one] for one in ids]

    def files(self, item_ids: Iterable[int]) -> list[MediaItem]:
        """Return files by their ids, in that order; unknown ids and repetitions are left out."""
        wanted = [one for one in dict.fromkeys(item_ids) if schema.row_id(one) is not None]
        query = select_items().where(one_of(schema.items.c.id))
        with self._database.reading() as connection:
            by_id = {
                row.id: item_of_row(row) for row in connection.execute(query, given_ids(wanted))
            }
        return [by_id[one] for one in wanted if one in by_id]

    def count_items(
        self, *, kind: Kind | None = None, name: str | None = None, folder: Path | None = None
    ) -> dict[Status, int]:
        """Return how many files there are in each state; the arguments are those of `items`."""
        with self._database.reading() as connection:
            if not name and folder is None:
                counts = schema.item_counts.c
                query = select(counts.status, func.sum(counts.files)).group_by(counts.status)
                query = query if kind is None else query.where(counts.kind == kind.value)
                found = connection.execute(query)
            else:
                plain = names.plain_name(name) if name else ""
                few = names.names_with(connection, plain, _MAX_SORTED_FILES) if name else None
                state = unindexed(schema.items.c.status)
                fitting = _fitting(None, kind, folder, plain, few)
                query = select(state, func.count()).where(fitting).group_by(state)
                found = connection.execute(query, given_ids(few or ()))
            return dict.fromkeys(Status, 0) | {Status(name): files for name, files in found}

    def item_ids(
        self,
        status: Status,
        *,
        kind: Kind | None = None,
        name: str | None = None,
        folder: Path | None = None,
    ) -> list[int]:
        """Return the ids of all files of which `items` returns a page."""
        plain = names.plain_name(name) if name else ""
        query = select(schema.items.c.id).where(_fitting(status, kind, folder, plain, None))
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def first_segments(self, item_ids: Iterable[int]) -> dict[int, int]:
        """Return the first segments of some files by the files' ids, as far as they are indexed."""
        items, segments = schema.items.c, schema.segments.c
        query = (
            select(items.id, segments.id)
            .join_from(schema.items, schema.segments, segments.media_id == items.media_id)
            .where(one_of(items.id), segments.position == 0)
        )
        with self._database.reading() as connection:
            return dict(connection.execute(query, given_ids(item_ids)).all())

    def details(self, item_id: int) -> Details:
        """Return what a file says about itself, then its sidecars, and at last those of copies."""
        items, media, number = schema.items.c, schema.media.c, schema.row_id(item_id)
        content = select(items.media_id).where(items.id == number).scalar_subquery()
        beside = (
            select(items.sidecar_details)
            .where(items.media_id == content, items.sidecar_details.is_not(None))
            .order_by(items.id != number, items.id)
        )
        with self._database.reading() as connection:
            own = connection.execute(select(media.details).where(media.id == content)).scalar()
            said = connection.execute(beside.limit(_MAX_COPIES)).scalars().all()
        return reduce(all_details, map(unpacked_details, (own, *said)), Details())

    def folders(self) -> list[tuple[Path, int]]:
        """Return the folders that hold indexed files, with their number, in order."""
        table = schema.folders.c
        query = select(table.path, table.files).where(table.files > 0).order_by(table.path)
        with self._database.reading() as connection:
            return [(path, files) for path, files in connection.execute(query)]

    def has_folder(self, folder: Path) -> bool:
        """Return whether any indexed file is in a folder or below."""
        table = schema.folders.c
        query = select(table.id).where(table.files > 0, schema.below(folder)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def roots(self) -> list[Root]:
        """Return the folders that are ingested again on request, in order."""
        table = schema.roots.c
        query = select(table.path, table.exclude).order_by(table.path)
        with self._database.reading() as connection:
            found = connection.execute(query).all()
        return [Root(row.path, tuple(json.loads(row.exclude))) for row in found]

    def root_paths(self) -> list[Path]:
        """Return the paths of these folders."""
        with self._database.reading() as connection:
            return list(connection.execute(_ROOT_PATHS).scalars())

    def scanned_at(self) -> dict[Path, datetime | None]:
        """Return when each root was last ingested to the end, UTC."""
        table = schema.roots.c
        with self._database.reading() as connection:
            found = connection.execute(select(table.path, table.scanned_us)).all()
        return {path: schema.moment(us) if us else None for path, us in found}

    def watched(self) -> bool:
        """Return whether the page keeps the roots up to date."""
        with self._database.reading() as connection:
            return bool(connection.execute(select(schema.library.c.watched)).scalar_one())

    def files_below(self, path: Path) -> int:
        """Return how many indexed files are in a folder or below."""
        table = schema.folders.c
        query = select(func.coalesce(func.sum(table.files), 0)).where(schema.below(path))
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one()

    def paths_in(self, folder: Path) -> list[Path]:
        """Return the paths of all files in a folder or below, in any state."""
        query = select(schema.items.c.path).where(schema.in_folders(folder))
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def has_path(self, path: Path) -> bool:
        """Return whether the library knows any file at a path or below it, indexed or not."""
        items = schema.items.c
        inside = schema.in_folders(path) | (items.path == path)
        query = select(items.id).where(inside).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def branches(self, filters: Filters | None = None) -> list[tuple[Path, int]]:
        """Return the folders with files or several branches, and the files in and below, in order.

        Args:
            filters: Which files to count; None for all that are indexed.
        """
        if filters is not None and filters != Filters():
            return _branches(self.timeline.folders(filters))
        with self._database.moment():
            generation = self.generation()
            known = self._branches
            if known is None or known[0] != generation:
                known = self._branches = generation, _branches(self.folders())
        return list(known[1])

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

    def looks(self, segment_ids: Sequence[int]) -> dict[int, Look]:
        """Return how some segments look, without those that are no still pictures."""
        segments = schema.segments.c
        query = select(segments.id, segments.picture_hash, segments.picture_tint).where(
            one_of(segments.id),
            segments.picture_hash.is_not(None),
            segments.picture_tint.is_not(None),
        )
        with self._database.reading() as connection:
            found = connection.execute(query, given_ids(segment_ids))
            return {row[0]: Look(row[1] or 0, row[2] or b"") for row in found}

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


_ORDERS: Mapping[FileOrder, ColumnElement[Any]] = {
    FileOrder.PATH: schema.items.c.path,
    FileOrder.NAME: schema.items.c.name_words,
    FileOrder.DATE: schema.items.c.date_ns,
    FileOrder.SIZE: schema.items.c.size,
    FileOrder.ADDED: schema.items.c.added_us,
}


def _fitting(
    status: Status | None,
    kind: Kind | None,
    folder: Path | None,
    plain: str,
    few: Sequence[int] | None,
) -> ColumnElement[bool]:
    """Return the condition on files; `few` are those with `plain` in their names, if known."""
    items = schema.items.c
    conditions = [
        None if status is None else items.status == status.value,
        None if kind is None else items.kind == kind.value,
        None if folder is None else schema.in_folders(folder),
        None if few is None else one_of(items.id),
        items.name_words.contains(plain, autoescape=True) if plain and few is None else None,
    ]
    return and_(true(), *(one for one in conditions if one is not None))


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


def _branches(folders: Iterable[tuple[Path, int]]) -> list[tuple[Path, int]]:
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
    return [(Path(path), below[path]) for path in shown]


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
