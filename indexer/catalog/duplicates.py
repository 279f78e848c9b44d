"""Groups of files that hold the same thing, and which of them were dismissed."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from threading import Lock

from sqlalchemy import delete, func, insert, select

from embedder.media.members import may_have_members
from embedder.media.raw import RAW_SUFFIXES
from indexer.catalog import schema
from indexer.catalog.details import unpacked_details
from indexer.catalog.listing import Catalog
from indexer.catalog.reader import item_of_row, select_items
from indexer.catalog.sqlite import Database, given_ids, one_of, replacing
from indexer.types import MediaItem

_PIXELS = re.compile(r"(\d+) × (\d+)")
_KEY_DIGITS = 32


class DuplicateKind(StrEnum):
    """In what the files of a group are the same."""

    EXACT = "exact"
    """In their bytes."""

    NEAR = "near"
    """In how the pictures look."""


@dataclass(frozen=True, slots=True)
class DuplicateFile:
    """A file of a group.

    Attributes:
        item: The file.
        segment_id: Its first segment, which has a thumbnail if any has.
        pixels: Width and height of a picture or video; None where they are not known.
    """

    item: MediaItem
    segment_id: int
    pixels: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Files that hold the same thing.

    Attributes:
        key: Names the group for as long as the same contents are in it.
        files: The best first: files of their own before those that are attached to mails, camera
            raw files before others, then those with the most pixels, the most bytes, the oldest
            date, the shortest name.
    """

    key: str
    files: tuple[DuplicateFile, ...]


@dataclass(frozen=True, slots=True)
class DuplicatePage:
    """Some groups, and how many there are in all."""

    groups: tuple[DuplicateGroup, ...]
    total: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A group by the ids of its media, which is one for exact copies."""

    key: str
    media_ids: tuple[int, ...]


class DuplicateGroups:
    """Finds groups of files that hold the same thing. Thread-safe.

    The groups are those at the moment; they are found again when files have come or gone, which
    takes about a second for 100,000 pictures.
    """

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog
        self._known: dict[DuplicateKind, tuple[int, list[_Found]]] = {}
        self._lock = Lock()

    def page(self, kind: DuplicateKind, limit: int, offset: int = 0) -> DuplicatePage:
        """Return some of the groups that were not dismissed.

        Exact copies that take the most room come first, and the pictures that were added last.
        """
        with self._catalog.moment():
            dismissed = self._dismissed()
            found = [one for one in self._groups(kind) if one.key not in dismissed]
            groups = self._loaded(found[offset : offset + limit])
        return DuplicatePage(tuple(groups), len(found))

    def of(self, item_ids: Iterable[int]) -> list[DuplicateGroup]:
        """Return all groups that some files are in, also dismissed ones."""
        items = schema.items.c
        query = select(items.media_id).where(one_of(items.id), items.media_id.is_not(None))
        chosen = given_ids(one for one in item_ids if schema.row_id(one) is not None)
        with self._catalog.moment(), self._database.reading() as connection:
            media = set(connection.execute(query, chosen).scalars())
            every = chain.from_iterable(map(self._groups, DuplicateKind))
            return self._loaded([one for one in every if not media.isdisjoint(one.media_ids)])

    def dismiss(self, key: str) -> None:
        """Note that what is in a group is not the same; with other contents it is another group."""
        with self._database.writing() as connection:
            connection.execute(replacing(insert(schema.dismissed_groups)), {"key": key})

    def restore(self, key: str) -> None:
        """Take back that a group was dismissed."""
        table = schema.dismissed_groups
        with self._database.writing() as connection:
            connection.execute(delete(table).where(table.c.key == key))

    def _dismissed(self) -> set[str]:
        with self._database.reading() as connection:
            return set(connection.execute(select(schema.dismissed_groups.c.key)).scalars())

    def _groups(self, kind: DuplicateKind) -> list[_Found]:
        """Return all groups of a kind; called within a moment, whose generation they are of."""
        with self._lock:
            generation = self._catalog.generation()
            known = self._known.get(kind)
            if known is None or known[0] != generation:
                found = self._exact() if kind is DuplicateKind.EXACT else self._near()
                self._known[kind] = known = generation, found
            return known[1]

    def _near(self) -> list[_Found]:
        groups = sorted(self._catalog.near_duplicates(), key=lambda group: -group[-1])
        return self._keyed([(tuple(group), 1) for group in groups])

    def _exact(self) -> list[_Found]:
        items = schema.items.c
        copies = func.count()
        query = (
            select(items.media_id, copies)
            .where(items.media_id.is_not(None))
            .group_by(items.media_id)
            .having(copies > 1)
            .order_by(((copies - 1) * func.max(items.size)).desc(), items.media_id)
        )
        with self._database.reading() as connection:
            found = connection.execute(query).all()
        return self._keyed([((media_id,), number) for media_id, number in found if media_id])

    def _keyed(self, groups: Sequence[tuple[tuple[int, ...], int]]) -> list[_Found]:
        """Name groups of media of which each is held by a number of files that matters."""
        media = schema.media.c
        query = select(media.id, media.content_hash).where(one_of(media.id))
        chosen = given_ids(chain.from_iterable(ids for ids, _ in groups))
        with self._database.reading() as connection:
            hashes = dict(connection.execute(query, chosen).all())
        return [_Found(_key([hashes[one] for one in ids] * number), ids) for ids, number in groups]

    def _loaded(self, found: Sequence[_Found]) -> list[DuplicateGroup]:
        """Return groups with their files."""
        media_ids = set(chain.from_iterable(one.media_ids for one in found))
        items, media, segments = schema.items.c, schema.media.c, schema.segments.c
        holders = select_items().where(one_of(items.media_id)).order_by(items.id)
        firsts = select(segments.media_id, segments.id, media.details).join_from(
            schema.segments, schema.media, media.id == segments.media_id
        )
        firsts = firsts.where(one_of(segments.media_id), segments.position == 0)
        files: dict[int, list[DuplicateFile]] = {}
        with self._database.reading() as connection:
            chosen = given_ids(media_ids)
            shown = {
                media_id: (segment_id, _pixels(details))
                for media_id, segment_id, details in connection.execute(firsts, chosen)
            }
            for row in connection.execute(holders, chosen):
                if row.media_id in shown:
                    file = DuplicateFile(item_of_row(row), *shown[row.media_id])
                    files.setdefault(row.media_id, []).append(file)
        groups = []
        for one in found:
            held = chain.from_iterable(files.get(media_id, ()) for media_id in one.media_ids)
            groups.append(DuplicateGroup(one.key, tuple(sorted(held, key=_worst_last))))
        return [one for one in groups if len(one.files) > 1]  # Others may just have left.


def _key(hashes: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()[:_KEY_DIGITS]


def _pixels(details: str | None) -> tuple[int, int] | None:
    said = unpacked_details(details)
    size = _PIXELS.search(dict(said.facts).get("Size", "")) if said else None
    return (int(size[1]), int(size[2])) if size else None


def _worst_last(file: DuplicateFile) -> tuple[bool, bool, int, int, int, int, Path]:
    """Return what files of a group are sorted by."""
    width, height = file.pixels or (0, 0)
    item = file.item
    is_raw = item.path.suffix.lower() in RAW_SUFFIXES
    is_attached = may_have_members(item.path.parent)  # To a mail.
    quality = (not is_raw, -width * height, -item.size)
    return (is_attached, *quality, item.date_ns, len(item.name), item.path)
