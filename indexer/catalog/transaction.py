"""Changing items and media, with the numbers that are kept beside them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)

from indexer.catalog import schema
from indexer.catalog.details import has_tracks
from indexer.catalog.names import folder_words, name_words
from indexer.catalog.sqlite import Database, given_ids, one_of, replacing
from indexer.catalog.transcripts import transcribe
from indexer.types import Status

_COUNTED = (
    schema.items.c.id,
    schema.items.c.folder_id,
    schema.items.c.status,
    schema.items.c.kind,
    schema.items.c.size,
    schema.items.c.date_ns,
    schema.items.c.media_id,
    schema.items.c.sidecar_details,
)

Values = Mapping[str, Any]
"""Values of an item by the names of their columns."""


class WriteTransaction:
    """One transaction that changes items or media.

    Guarantees, once `finish` has been called: `item_counts`, `segment_counts` and `folders.files`
    are what counting would give; folders without items are gone; every removed segment is in
    `removals`; where the set of holders of a media changed, perhaps to none, its generation is the
    library's, which has been raised; a file whose bytes changed is in the albums that it was in;
    the texts of clips are what their video and the subtitles beside its files say.
    """

    @classmethod
    @contextmanager
    def of(cls, database: Database) -> Iterator[Self]:
        """Begin one; it commits at the end, or rolls back if anything is raised."""
        with database.writing() as connection:
            transaction = cls(connection)
            yield transaction
            transaction.finish()

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._generation: int | None = None
        self._folder_ids: dict[Path, int] = {}
        self._files: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._segments: Counter[str] = Counter()
        self._files_in: Counter[int] = Counter()
        self._left_folders: set[int] = set()
        self._held_otherwise: set[int] = set()
        self._subtitled_otherwise: set[int] = set()
        self._replaced: list[tuple[int, int]] = []

    @property
    def generation(self) -> int:
        """The library's new generation; raised when it is first read."""
        if self._generation is None:
            generation = schema.library.c.generation
            raised = update(schema.library).values(generation=generation + 1)
            self._generation = self.connection.execute(raised.returning(generation)).scalar_one()
        return self._generation

    def item_at(self, path: Path) -> Values | None:
        """Return what is counted of the item at a path."""
        query = select(*_COUNTED).where(schema.items.c.path == path)
        found = self.connection.execute(query).one_or_none()
        return None if found is None else found._asdict()

    def holders(self, media_id: int) -> list[Values]:
        """Return the same of the items that hold a media, with path and folder, oldest first."""
        items, folders = schema.items.c, schema.folders.c
        query = select(*_COUNTED, items.path, folders.device, folders.inode).join_from(
            schema.items, schema.folders, items.folder_id == folders.id
        )
        query = query.where(items.media_id == media_id)
        return [one._asdict() for one in self.connection.execute(query.order_by(items.id))]

    def add_item(self, path: Path, values: Values) -> None:
        """Insert an item."""
        added = self.location(path) | dict(values) | {"added_us": schema.microseconds_now()}
        self.connection.execute(insert(schema.items), added)
        self._count(None, added)

    def change_item(self, before: Values, values: Values) -> None:
        """Update an item, given what `item_at` returned."""
        table = schema.items
        self.connection.execute(update(table).where(table.c.id == before["id"]), dict(values))
        self._count(before, {**before, **values})

    def change_items(
        self, condition: ColumnElement[bool], parameters: Values, values: Values
    ) -> None:
        """Update all items that satisfy a condition."""
        query = select(*_COUNTED).where(condition)
        for before in self.connection.execute(query, parameters).all():
            self.change_item(before._asdict(), values)

    def remove_items(self, item_ids: Iterable[int]) -> list[Path]:
        """Delete items; return their paths."""
        items, parameters = schema.items, given_ids(item_ids)
        chosen = one_of(items.c.id)
        query = select(*_COUNTED, items.c.path).where(chosen)
        removed = self.connection.execute(query, parameters).all()
        self.connection.execute(delete(items).where(chosen), parameters)
        for item in removed:
            self._count(item._asdict(), None)
        return [item.path for item in removed]

    def move_items(self, old: Path, new: Path) -> None:
        """Give the items below a folder paths below another one."""
        items = schema.items.c
        query = select(*_COUNTED, items.path).where(schema.in_folders(old))
        for item in self.connection.execute(query).all():
            path = new / item.path.relative_to(old)
            self.change_item(item._asdict(), self.location(path))

    def location(self, path: Path) -> dict[str, Any]:
        """Return the values of an item that follow from its path."""
        return {
            "path": path,
            "folder_id": self._folder_id(path.parent),
            "name_words": name_words(path.name),
            "folder_words": folder_words(path.parent),
        }

    def add_media(
        self, content_hash: str, kind: str, details: str | None, segments: Sequence[Values]
    ) -> tuple[int, dict[int, int]]:
        """Insert a content with its segments; return its id, and the segments' ids by position."""
        table, media = schema.segments, schema.media
        values = {"content_hash": content_hash, "kind": kind, "generation": self.generation}
        media_id: int = self.connection.execute(
            insert(media).returning(media.c.id), {**values, "details": details}
        ).scalar_one()
        common = {"media_id": media_id, "kind": kind, "generation": self.generation}
        inserted = self.connection.execute(
            insert(table).returning(table.c.position, table.c.id),
            [common | dict(one) for one in segments],
        )
        self._segments[kind] += len(segments)
        if has_tracks(details):
            self._subtitled_otherwise.add(media_id)
        return media_id, {row.position: row.id for row in inserted}

    def remove_media(self, media_ids: Iterable[int]) -> list[str]:
        """Delete contents that no item refers to, with their segments; return their hashes."""
        media, parameters = schema.media, given_ids(media_ids)
        self.remove_segments(one_of(schema.segments.c.media_id), parameters)
        gone = delete(media).where(one_of(media.c.id)).returning(media.c.content_hash)
        return list(self.connection.execute(gone, parameters).scalars())

    def remove_segments(self, condition: ColumnElement[bool], parameters: Values) -> None:
        """Delete segments, and note that they are gone."""
        segments = schema.segments
        self.note_removals(condition, parameters)
        counts = select(segments.c.kind, func.count()).where(condition).group_by(segments.c.kind)
        for kind, count in self.connection.execute(counts, parameters):
            self._segments[kind] -= count
        self.connection.execute(delete(segments).where(condition), parameters)

    def note_removals(self, condition: ColumnElement[bool], parameters: Values) -> None:
        """Note that the vectors of segments are gone, for indexes that still hold them."""
        segments = schema.segments.c
        gone = select(segments.id, segments.kind, literal(self.generation)).where(condition)
        noted = replacing(insert(schema.removals)).from_select(
            ["segment_id", "kind", "generation"], gone
        )
        self.connection.execute(noted, parameters)

    def finish(self) -> None:
        """Store the numbers and texts; called once, at the end of the transaction."""
        for media_id in sorted(self._subtitled_otherwise):
            if transcribe(self.connection, media_id):
                self._held_otherwise.add(media_id)  # which raises the generation
        for (status, kind), files in self._files.items():
            more = {"files": files, "bytes": self._bytes[status, kind]}
            self._add(schema.item_counts, {"status": status, "kind": kind}, more)
        for kind, segments in self._segments.items():
            self._add(schema.segment_counts, {"kind": kind}, {"segments": segments})
        for folder_id, files in self._files_in.items():
            self._add(schema.folders, {"id": folder_id}, {"files": files})
        self._drop_folders()
        for old, new in self._replaced:
            self._keep_in_albums(old, new)
        if self._held_otherwise:
            media, changed = schema.media, given_ids(self._held_otherwise)
            statement = update(media).where(one_of(media.c.id)).values(generation=self.generation)
            self.connection.execute(statement, changed)

    def _folder_id(self, folder: Path) -> int:
        if folder not in self._folder_ids:
            folders = schema.folders
            query = select(folders.c.id).where(folders.c.path == folder)
            found = self.connection.execute(query).scalar_one_or_none()
            if found is None:
                added = insert(folders).returning(folders.c.id)
                found = self.connection.execute(added, {"path": folder, "files": 0}).scalar_one()
            self._folder_ids[folder] = found
        return self._folder_ids[folder]

    def _count(self, before: Values | None, after: Values | None) -> None:
        """Note that an item became another one, appeared or went."""
        for item, sign in ((before, -1), (after, 1)):
            if item is not None:
                key = item["status"], item["kind"] or ""
                self._files[key] += sign
                self._bytes[key] += sign * item["size"]
                if item["status"] == Status.INDEXED.value:
                    self._files_in[item["folder_id"]] += sign
        if before is not None and (after is None or after["folder_id"] != before["folder_id"]):
            self._left_folders.add(before["folder_id"])
        held, holds = _holder(before), _holder(after)
        if held and holds and held[0] != holds[0]:
            self._replaced.append((held[0], holds[0]))
        for item, other in ((before, after), (after, before)):
            if item and item["media_id"] and _says(item) and _says(item) != _says(other):
                self._subtitled_otherwise.add(item["media_id"])
        if held != holds:
            self._held_otherwise |= {one[0] for one in (held, holds) if one is not None}

    def _add(self, table: Table, key: Values, more: Values) -> None:
        """Add to the numbers in the row with a key, or make that row."""
        if not any(more.values()):
            return
        raised = update(table).values({name: table.c[name] + by for name, by in more.items()})
        for name, value in key.items():
            raised = raised.where(table.c[name] == value)
        if not self.connection.execute(raised).rowcount:
            self.connection.execute(insert(table), {**key, **more})

    def _keep_in_albums(self, old: int, new: int) -> None:
        """Put a media into the albums of the one that a file held before."""
        media, items = schema.media.c, schema.items.c
        former = select(media.content_hash).where(media.id == old).scalar_subquery()
        present = select(media.content_hash).where(media.id == new).scalar_subquery()
        copy_is_left = select(items.id).where(items.media_id == old).exists()
        for table in (schema.album_contents, schema.answers):
            of_former = table.c.content_hash == former
            kept = [present if one.name == "content_hash" else one for one in table.c]
            copied = insert(table).from_select(table.c.keys(), select(*kept).where(of_former))
            self.connection.execute(replacing(copied))
            self.connection.execute(delete(table).where(of_former, ~copy_is_left))

    def _drop_folders(self) -> None:
        """Delete the folders that the last item has left."""
        if self._left_folders:
            folders, items = schema.folders, schema.items
            occupied = select(items.c.id).where(items.c.folder_id == folders.c.id).exists()
            empty = delete(folders).where(one_of(folders.c.id), ~occupied)
            self.connection.execute(empty, given_ids(self._left_folders))


def _says(item: Values | None) -> tuple[int, str] | None:
    """Return what the subtitles beside a file say, and of which media; None without any."""
    if item is None or not has_tracks(item.get("sidecar_details")):
        return None
    return item["media_id"], item["sidecar_details"]


def _holder(item: Values | None) -> tuple[int, int, int] | None:
    """Return what an index keeps of an item that holds a media: that media, folder and date."""
    if item is None or item["media_id"] is None:
        return None
    return item["media_id"], item["folder_id"], item["date_ns"]
