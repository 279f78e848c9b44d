"""Writing to a library's tables: what became of files, and its model."""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Delete, Select, bindparam, delete, func, insert, select, union_all, update

from embedder.content import Modality
from embedder.interface import EmbedderInfo
from embedder.media.kinds import Details, Kind
from indexer.catalog import fulltext, schema
from indexer.catalog.details import (
    all_details,
    described,
    packed_details,
    packed_sidecars,
    unpacked_details,
)
from indexer.catalog.outcomes import Effect, Indexed, Refused, SegmentRecord
from indexer.catalog.sqlite import Database
from indexer.catalog.transaction import Values, WriteTransaction
from indexer.presence import FolderId, deleted
from indexer.types import Candidate, Root, Status

if TYPE_CHECKING:
    from indexer.catalog.listing import Catalog


def record(transaction: WriteTransaction, outcome: Indexed | Refused) -> Effect:
    """Store what became of a file."""
    if isinstance(outcome, Refused):
        return _record_refused(transaction, outcome)
    return _record_indexed(transaction, outcome)


def _record_indexed(transaction: WriteTransaction, outcome: Indexed) -> Effect:
    path, media = outcome.candidate.path, schema.media.c
    before = transaction.item_at(path)
    known = transaction.connection.execute(
        select(media.id, media.kind, media.details).where(
            media.content_hash == outcome.content_hash
        )
    ).one_or_none()
    known_bytes = known is not None
    if known is not None:  # As they were read, which may depend on the name's ending.
        media_id, kind, details = known.id, Kind(known.kind), unpacked_details(known.details)
    else:
        media_id, kind, details = _add_media(transaction, outcome), outcome.kind, outcome.details
    every = all_details(details, outcome.sidecar_details)
    state = _state(outcome.candidate, kind, Status.INDEXED, None, media_id, every)
    state["sidecar_details"] = packed_details(outcome.sidecar_details)
    if before is not None:
        transaction.change_item(before, state)
        if before["status"] != Status.INDEXED.value:
            return Effect.COPY if known_bytes else Effect.ADDED
        same_bytes = before["media_id"] == media_id
        same_sidecars = before["sidecar_details"] == state["sidecar_details"]
        return Effect.UNCHANGED if same_bytes and same_sidecars else Effect.UPDATED
    holders = transaction.holders(media_id) if known_bytes else []
    if moved := next((one for one in holders if _is_deleted(one)), None):
        transaction.change_item(moved, state | transaction.location(path))
        return Effect.MOVED
    transaction.add_item(path, state)
    return Effect.COPY if holders else Effect.ADDED


def _is_deleted(holder: Values) -> bool:
    """Whether a file is gone from a disk that is connected: an unplugged one has not moved."""
    return deleted(holder["path"], FolderId.stored(holder["device"], holder["inode"]))


def _record_refused(transaction: WriteTransaction, outcome: Refused) -> Effect:
    path = outcome.candidate.path
    state = _state(outcome.candidate, outcome.kind, outcome.status, outcome.reason, None, Details())
    before = transaction.item_at(path)
    if before is None:
        transaction.add_item(path, state)
    else:
        transaction.change_item(before, state)
    return Effect.REFUSED


def _state(
    candidate: Candidate,
    kind: Kind | None,
    status: Status,
    error: str | None,
    media_id: int | None,
    details: Details,
) -> dict[str, Any]:
    mtime_ns = storable_time(candidate.mtime_ns)
    return described(candidate.path, mtime_ns, kind, details) | {
        "size": candidate.size,
        "mtime_ns": mtime_ns,
        "sidecars": packed_sidecars(candidate),
        "kind": kind.value if kind else None,
        "status": status.value,
        "error": error,
        "media_id": media_id,
    }


def storable_time(nanoseconds: int) -> int:
    """Return a time clamped to SQLite's 64 bits, which some file systems exceed."""
    return max(-schema.MAX_INTEGER, min(schema.MAX_INTEGER, nanoseconds))


def _add_media(transaction: WriteTransaction, outcome: Indexed) -> int:
    """Store a content with its segments, vectors and words; return its id."""
    records = outcome.segments
    media_id, ids = transaction.add_media(
        outcome.content_hash,
        outcome.kind.value,
        packed_details(outcome.details),
        [_segment_values(one) for one in records],
    )
    transaction.connection.execute(
        insert(schema.vectors),
        [{"segment_id": ids[one.position], "data": one.vector} for one in records],
    )
    if words := [
        {"segment_id": ids[one.position], "data": one.words} for one in records if one.words
    ]:
        transaction.connection.execute(insert(schema.words), words)
    return media_id


def _segment_values(record: SegmentRecord) -> dict[str, Any]:
    return {
        "position": record.position,
        "modality": record.modality,
        "page": record.page,
        "start": record.start,
        "end": record.end,
        "span_start": record.span[0] if record.span else None,
        "span_end": record.span[1] if record.span else None,
        "text": record.text,
        "terms": fulltext.terms_of(record.text),
        "picture_hash": record.picture_hash,
        "picture_tint": record.picture_tint,
    }


_PATHS_PER_QUERY = 1_000
_PICTURES_PER_CHANGE = 1_000
_REMOVALS_PER_STEP = 20_000
_MEDIA_PER_REMOVAL = 500
_ROOTS_PER_QUERY = 200  # SQLite takes expressions of depth 1,000.


@dataclass(frozen=True, slots=True)
class Known:
    """What the library knows of a path."""

    id: int
    size: int
    mtime_ns: int
    status: Status
    sidecars: str | None
    error: str | None

    def same(self, candidate: Candidate) -> bool:
        """Return whether a file and its sidecars have the sizes and times that they had."""
        now = candidate.size, storable_time(candidate.mtime_ns), packed_sidecars(candidate)
        return (self.size, self.mtime_ns, self.sidecars) == now


class KnownFile(NamedTuple):
    """A file that the library knows, with its folder as it was when files were last found in it."""

    id: int
    path: Path
    folder_id: int
    device: int | None
    inode: int | None

    @property
    def folder(self) -> FolderId | None:
        """The folder; None if the ingest was killed, or files of two folders are known there."""
        return FolderId.stored(self.device, self.inode)


def _known_files() -> Select[int, Path, int, int | None, int | None]:
    items, folders = schema.items, schema.folders
    return select(
        items.c.id, items.c.path, items.c.folder_id, folders.c.device, folders.c.inode
    ).join_from(items, folders, items.c.folder_id == folders.c.id)


def _forget_roots(path: Path) -> Delete:
    return delete(schema.roots).where(schema.at_or_below(schema.roots.c.path, path))


class CatalogWriter:
    """Writes to a library's tables.

    Guarantees: each call is one transaction unless it says otherwise, so a file is either stored
    with all its segments and vectors, or as it was before. Only the holder of the writer lock may
    call what writes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, paths: Sequence[Path]) -> dict[Path, Known]:
        """Return what the library knows of some paths; unknown ones are left out."""
        items = schema.items.c
        query = select(
            *(items.path, items.id, items.size, items.mtime_ns, items.status, items.sidecars),
            items.error,
        )
        found: dict[Path, Known] = {}
        with self._database.reading() as connection:
            for start in range(0, len(paths), _PATHS_PER_QUERY):
                chunk = paths[start : start + _PATHS_PER_QUERY]
                for row in connection.execute(query.where(items.path.in_(chunk))):
                    path, item, size, mtime_ns, status, sidecars, error = row
                    found[path] = Known(item, size, mtime_ns, Status(status), sidecars, error)
        return found

    def has_media(self, content_hash: str) -> bool:
        """Return whether a content is in the library."""
        media = schema.media.c
        query = select(media.id).where(media.content_hash == content_hash)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holds_size(self, size: int) -> bool:
        """Return whether any indexed file has this many bytes."""
        items = schema.items.c
        query = select(items.id).where(items.size == size, items.media_id.is_not(None)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holders(self, content_hash: str) -> list[KnownFile]:
        """Return the files that hold a content, oldest first."""
        items, media = schema.items.c, schema.media.c
        query = _known_files().join(schema.media, media.id == items.media_id)
        query = query.where(media.content_hash == content_hash).order_by(items.id)
        with self._database.reading() as connection:
            return [KnownFile(*row) for row in connection.execute(query)]

    def failed(self) -> list[Path]:
        """Return the files that failed, in order."""
        items = schema.items.c
        query = select(items.path).where(items.status == Status.FAILED.value).order_by(items.path)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def below(self, paths: Sequence[Path]) -> Iterator[KnownFile]:
        """Yield the known files that are at one of some paths or below one."""
        items = schema.items.c
        query = _known_files().order_by(items.id)
        with self._database.reading() as connection:
            for start in range(0, len(paths), _ROOTS_PER_QUERY):
                chunk = paths[start : start + _ROOTS_PER_QUERY]
                inside = schema.in_folders(*chunk) | items.path.in_(chunk)
                for row in connection.execute(query.where(inside)):
                    yield KnownFile(*row)

    def remember_folders(
        self, seen: Mapping[Path, FolderId], kept_in: Container[Path] = frozenset()
    ) -> None:
        """Store which folders files were found in; others are ignored.

        Args:
            seen: The folders by their paths.
            kept_in: Those in which files stay that are not there. They may hold files of several
                disks, so that no number is stored until all known files are found.
        """
        folders, paths = schema.folders.c, list(seen)
        query = select(folders.id, folders.path, folders.device, folders.inode)
        changed: list[dict[str, int | None]] = []
        with self._database.reading() as connection:
            for start in range(0, len(paths), _PATHS_PER_QUERY):
                chunk = paths[start : start + _PATHS_PER_QUERY]
                for row in connection.execute(query.where(folders.path.in_(chunk))):
                    now = None if row.path in kept_in else seen[row.path]
                    if now != FolderId.stored(row.device, row.inode):
                        device, inode = (now.device, now.inode) if now else (None, None)
                        changed.append({"of": row.id, "device": device, "inode": inode})
        if changed:
            statement = update(schema.folders).where(folders.id == bindparam("of"))
            with self._database.writing() as connection:
                connection.execute(statement, changed)

    def remember_root(self, root: Root, replaced: Iterable[Path] = ()) -> None:
        """Store a root and its exclusions, in place of some others."""
        table, exclude = schema.roots, json.dumps(root.exclude)
        with self._database.writing() as connection:
            for path in replaced:
                connection.execute(delete(table).where(table.c.path == path))
            known = update(table).where(table.c.path == root.path).values(exclude=exclude)
            if not connection.execute(known).rowcount:
                connection.execute(insert(table), {"path": root.path, "exclude": exclude})

    def note_scan(self, paths: Sequence[Path]) -> None:
        """Store that the roots among some paths were ingested just now."""
        table, now = schema.roots, schema.microseconds_now()
        statement = update(table).where(table.c.path == bindparam("root")).values(scanned_us=now)
        if paths:
            with self._database.writing() as connection:
                connection.execute(statement, [{"root": path} for path in paths])

    def set_watched(self, watched: bool) -> None:
        """Store whether the page keeps the roots up to date."""
        with self._database.writing() as connection:
            connection.execute(update(schema.library).values(watched=int(watched)))

    def forget_roots(self, path: Path) -> int:
        """Delete the roots at a path or below it; return how many."""
        with self._database.writing() as connection:
            return connection.execute(_forget_roots(path)).rowcount

    def remember_model(self, name: str, instructions: Mapping[Modality, str] | None = None) -> None:
        """Store the model that a new library is meant for, unless one is stored."""
        library = schema.library.c
        with self._database.reading() as connection:
            if connection.execute(select(library.model)).scalar_one() is not None:
                return
        values = {"model": name, "instructions": schema.packed_instructions(instructions)}
        with self._database.writing() as connection:
            connection.execute(update(schema.library).where(library.model.is_(None)).values(values))

    def rename_model(
        self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None = None
    ) -> None:
        """Store another specification of the library's model; do nothing if it is another model."""
        values = schema.model_values(info, instructions)
        same = schema.library.c.fingerprint == info.fingerprint
        with self._database.writing() as connection:
            connection.execute(update(schema.library).where(same).values(values))

    def adopt(self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None = None) -> None:
        """Store the model of the vectors to come; only while the library holds none."""
        with self._database.writing() as connection:
            values = schema.model_values(info, instructions)
            connection.execute(update(schema.library).values(values))

    def record(self, outcomes: Sequence[Indexed | Refused]) -> list[Effect]:
        """Store what became of some files; effect i is that of outcome i."""
        with WriteTransaction.of(self._database) as transaction:
            return [record(transaction, outcome) for outcome in outcomes]

    def remove(self, item_ids: Sequence[int]) -> list[Path]:
        """Remove files, but not yet the contents that only they held; return their paths."""
        gone: list[Path] = []
        with WriteTransaction.of(self._database) as transaction:
            for start in range(0, len(item_ids), _PATHS_PER_QUERY):
                chunk = map(schema.row_id, item_ids[start : start + _PATHS_PER_QUERY])
                gone += transaction.remove_items(one for one in chunk if one is not None)
        return gone

    def remove_orphans(self) -> list[str]:
        """Remove contents without a file, with their segments, in steps; return their hashes."""
        library, media, gone = schema.library.c, schema.media.c, list[str]()
        with self._database.reading() as connection:
            swept, generation = connection.execute(select(library.swept, library.generation)).one()
            # Since then, the generation of a media rose when its last file left it.
            orphans = select(media.id).where(media.generation > swept, ~schema.has_file())
            ids = connection.execute(orphans).scalars().all()
        for start in range(0, len(ids), _MEDIA_PER_REMOVAL):
            with WriteTransaction.of(self._database) as transaction:
                gone += transaction.remove_media(ids[start : start + _MEDIA_PER_REMOVAL])
        if swept < generation:
            with self._database.writing() as connection:
                connection.execute(update(schema.library).values(swept=generation))
        return gone

    def forget_removals(self, until: int) -> int:
        """Delete the notes of removals up to a generation, in steps; return how many.

        A vector index that is older than that compares all ids instead.
        """
        library, removals = schema.library.c, schema.removals
        some = select(removals.c.segment_id).where(removals.c.generation <= until)
        forgotten = 0
        while True:
            with self._database.writing() as connection:  # Others can write between steps.
                connection.execute(
                    update(schema.library).values(pruned=func.max(library.pruned, until))
                )
                gone = connection.execute(
                    delete(removals).where(
                        removals.c.segment_id.in_(some.limit(_REMOVALS_PER_STEP))
                    )
                )
            if not gone.rowcount:
                return forgotten
            forgotten += gone.rowcount

    def merge_words(self) -> None:
        """Merge the parts of the full-text indexes, which makes them smaller and faster."""
        for index in fulltext.INDEXES:
            with self._database.writing() as connection:
                fulltext.optimize(connection, index)

    def move(self, uid: str, folders: Mapping[Path, Path]) -> None:
        """Make the library another one than it was copied from, with files in other folders.

        Args:
            uid: Its new name, so that vectors saved for the other one are never taken for its own.
            folders: New folders by old ones.
        """
        with WriteTransaction.of(self._database) as transaction:
            transaction.connection.execute(update(schema.library).values(uid=uid))
            for old, new in folders.items():
                transaction.move_items(old, new)

    def count_near_duplicates(self, catalog: "Catalog") -> None:
        """Count groups of pictures that look the same, once one in a thousand has come or gone.

        Comparing all of them takes less time than it took to index as many.
        """
        worth = 1 + catalog.stats().segments.get(Kind.IMAGE, 0) // _PICTURES_PER_CHANGE
        if self.pictures_changed(worth) >= worth:
            self.remember_near_duplicates(len(catalog.near_duplicates()))

    def near_duplicates(self) -> int:
        """Return the number of groups that was stored last."""
        with self._database.reading() as connection:
            return connection.execute(select(schema.library.c.near_duplicates)).scalar_one()

    def remember_near_duplicates(self, groups: int) -> None:
        """Store the number of groups of pictures that look the same, as of now."""
        now = schema.library.c.generation
        values = {"near_duplicates": groups, "near_generation": now}
        with self._database.writing() as connection:
            connection.execute(update(schema.library).values(values))

    def pictures_changed(self, limit: int) -> int:
        """Return how many pictures were added or removed since near duplicates were counted.

        At most `limit`, and just that where notes of removals since then have been deleted.
        """
        library, segments, removals = schema.library.c, schema.segments.c, schema.removals.c
        with self._database.reading() as connection:
            since, pruned = connection.execute(
                select(library.near_generation, library.pruned)
            ).one()
            if since < pruned:
                return limit
            come = select(segments.id).where(
                segments.generation > since, segments.picture_hash.is_not(None)
            )
            gone = select(removals.segment_id).where(
                removals.generation > since, removals.kind == Kind.IMAGE.value
            )
            both = union_all(come, gone).limit(limit).subquery()
            return connection.execute(select(func.count()).select_from(both)).scalar_one()
