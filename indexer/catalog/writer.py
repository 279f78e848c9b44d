"""What became of a file, and how that is stored."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, union_all, update

from embedder.content import Modality
from embedder.interface import EmbedderInfo
from embedder.media.kinds import Kind
from indexer.catalog import rows, schema
from indexer.catalog import rows as conditions
from indexer.catalog.database import Database
from indexer.catalog.fulltext import folder_words, name_words
from indexer.types import Candidate, Status

_LARGEST = 2**63 - 1


class Effect(StrEnum):
    """What recording a file did to the library."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    MOVED = "moved"
    COPY = "copy"
    REFUSED = "refused"


@dataclass(frozen=True, eq=False, slots=True)
class SegmentRecord:
    """A segment ready to be stored; places as in `Draft`, `vector` and `words` packed."""

    position: int
    modality: str
    vector: bytes
    page: int | None = None
    start: float | None = None
    end: float | None = None
    span: tuple[int, int] | None = None
    text: str | None = None
    words: bytes | None = None
    picture_hash: int | None = None
    picture_tint: bytes | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Indexed:
    """A file that was cut and embedded; no segments if its bytes are known already."""

    candidate: Candidate
    kind: Kind
    content_hash: str
    segments: Sequence[SegmentRecord] = ()


@dataclass(frozen=True, eq=False, slots=True)
class Refused:
    """A file that was skipped or failed, and why."""

    candidate: Candidate
    status: Status
    reason: str
    kind: Kind | None = None


def raise_generation(connection: Connection) -> None:
    """Marks the transaction as one that changes segments."""
    generation = schema.library.c.generation
    connection.execute(update(schema.library).values(generation=generation + 1))


def record(connection: Connection, outcome: Indexed | Refused) -> Effect:
    """Stores what became of a file."""
    if isinstance(outcome, Refused):
        return _record_refused(connection, outcome)
    return _record_indexed(connection, outcome)


def _record_indexed(connection: Connection, outcome: Indexed) -> Effect:
    media, items = schema.media.c, schema.items.c
    candidate = outcome.candidate
    before = _item_at(connection, candidate.path)
    media_id = connection.execute(
        select(media.id).where(media.content_hash == outcome.content_hash)
    ).scalar_one_or_none()
    known_bytes = media_id is not None
    if media_id is None:
        media_id = _insert_media(connection, outcome)
    state = _state(candidate, outcome.kind, Status.INDEXED, None, media_id)
    if before is not None:
        connection.execute(update(schema.items).where(items.id == before.id).values(state))
        if before.status != Status.INDEXED.value:
            return Effect.COPY if known_bytes else Effect.ADDED
        return Effect.UNCHANGED if before.media_id == media_id else Effect.UPDATED
    if known_bytes and (old := _vanished_holder(connection, media_id)) is not None:
        connection.execute(
            update(schema.items).where(items.id == old).values(state | _names(candidate.path))
        )
        return Effect.MOVED
    _insert_item(connection, candidate.path, state)
    return Effect.COPY if known_bytes and _holders(connection, media_id) > 1 else Effect.ADDED


def _record_refused(connection: Connection, outcome: Refused) -> Effect:
    candidate = outcome.candidate
    state = _state(candidate, outcome.kind, outcome.status, outcome.reason, None)
    before = _item_at(connection, candidate.path)
    if before is None:
        _insert_item(connection, candidate.path, state)
    else:
        items = schema.items.c
        connection.execute(update(schema.items).where(items.id == before.id).values(state))
    return Effect.REFUSED


def _item_at(connection: Connection, path: Path) -> Any:
    items = schema.items.c
    query = select(items.id, items.status, items.media_id).where(items.path == path)
    return connection.execute(query).one_or_none()


def _state(
    candidate: Candidate,
    kind: Kind | None,
    status: Status,
    error: str | None,
    media_id: int | None,
) -> dict[str, Any]:
    return {
        "size": candidate.size,
        "mtime_ns": storable_time(candidate.mtime_ns),
        "kind": kind.value if kind else None,
        "status": status.value,
        "error": error,
        "media_id": media_id,
    }


def storable_time(nanoseconds: int) -> int:
    """A time that fits into SQLite's 64 bits, as some file systems' do not."""
    return max(-_LARGEST, min(_LARGEST, nanoseconds))


def _names(path: Path) -> dict[str, Any]:
    return {
        "path": path,
        "folder": path.parent,
        "name_words": name_words(path.name),
        "folder_words": folder_words(path.parent),
    }


def _insert_item(connection: Connection, path: Path, state: Mapping[str, Any]) -> None:
    values = _names(path) | dict(state) | {"added_us": rows.microseconds_now()}
    connection.execute(insert(schema.items).values(values))


def _insert_media(connection: Connection, outcome: Indexed) -> int:
    """The media with its segments, vectors and words; returns its id."""
    media_id: int = connection.execute(
        insert(schema.media)
        .values(content_hash=outcome.content_hash, kind=outcome.kind.value)
        .returning(schema.media.c.id)
    ).scalar_one()
    generation = connection.execute(select(schema.library.c.generation)).scalar_one()
    common = {"media_id": media_id, "kind": outcome.kind.value, "generation": generation}
    segments = schema.segments.c
    inserted = connection.execute(
        insert(schema.segments).returning(segments.position, segments.id),
        [common | _segment_values(record) for record in outcome.segments],
    )
    ids = {row.position: row.id for row in inserted}
    connection.execute(
        insert(schema.vectors),
        [{"segment_id": ids[one.position], "data": one.vector} for one in outcome.segments],
    )
    if worded := [
        {"segment_id": ids[one.position], "data": one.words}
        for one in outcome.segments
        if one.words
    ]:
        connection.execute(insert(schema.words), worded)
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
        "picture_hash": record.picture_hash,
        "picture_tint": record.picture_tint,
    }


def _vanished_holder(connection: Connection, media_id: int) -> int | None:
    """The oldest file with these bytes that is no longer where it was."""
    items = schema.items.c
    query = select(items.id, items.path).where(items.media_id == media_id).order_by(items.id)
    return next((row.id for row in connection.execute(query).all() if vanished(row.path)), None)


def _holders(connection: Connection, media_id: int) -> int:
    query = select(func.count()).where(schema.items.c.media_id == media_id)
    return connection.execute(query).scalar_one()


def vanished(path: Path) -> bool:
    """Whether a path certainly leads to no file: an unreadable folder proves nothing."""
    try:
        os.stat(path)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


_CHUNK = 1_000
_MEDIA_IN_ONE_REMOVAL = 500
_ROOTS_IN_ONE_QUERY = 200  # SQLite takes expressions of depth 1,000.


@dataclass(frozen=True, slots=True)
class Known:
    """What the library knows of a path."""

    id: int
    size: int
    mtime_ns: int
    status: Status

    def same(self, candidate: Candidate) -> bool:
        """Whether the file looks as it did when it was last read."""
        return (self.size, self.mtime_ns) == (candidate.size, storable_time(candidate.mtime_ns))


class CatalogWriter:
    """Writes to a library's tables.

    Guarantees: each call is one transaction (`remove_orphans`: several), so a file is either in
    with all its segments and vectors, or as it was before. Only the holder of the writer lock
    may call what writes.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, paths: Sequence[Path]) -> dict[Path, Known]:
        """What the library knows of some paths; unknown ones are left out."""
        items = schema.items.c
        query = select(items.path, items.id, items.size, items.mtime_ns, items.status)
        found: dict[Path, Known] = {}
        with self._database.reading() as connection:
            for start in range(0, len(paths), _CHUNK):
                chunk = paths[start : start + _CHUNK]
                for row in connection.execute(query.where(items.path.in_(chunk))):
                    found[row[0]] = Known(row[1], row[2], row[3], Status(row[4]))
        return found

    def has_media(self, content_hash: str) -> bool:
        """Whether the bytes are in the library."""
        media = schema.media.c
        query = select(media.id).where(media.content_hash == content_hash)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holds_size(self, size: int) -> bool:
        """Whether any indexed file has this many bytes."""
        items = schema.items.c
        query = select(items.id).where(items.size == size, items.media_id.is_not(None)).limit(1)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def holders(self, content_hash: str) -> list[Path]:
        """The files that hold some bytes, oldest first."""
        items, media = schema.items.c, schema.media.c
        query = (
            select(items.path)
            .join(schema.media, media.id == items.media_id)
            .where(media.content_hash == content_hash)
            .order_by(items.id)
        )
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def failed(self) -> list[Path]:
        """The files that failed, in order."""
        items = schema.items.c
        query = select(items.path).where(items.status == Status.FAILED.value).order_by(items.path)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def below(self, roots: Sequence[Path]) -> Iterator[tuple[int, Path, int]]:
        """Id, path and size of the known files that are one of the roots or below one."""
        items = schema.items.c
        query = select(items.id, items.path, items.size).order_by(items.id)
        with self._database.reading() as connection:
            for start in range(0, len(roots), _ROOTS_IN_ONE_QUERY):
                chunk = roots[start : start + _ROOTS_IN_ONE_QUERY]
                inside = [conditions.below(root) | (items.path == root) for root in chunk]
                for row in connection.execute(query.where(or_(*inside))):
                    yield row[0], row[1], row[2]

    def remember_model(self, name: str, instructions: Mapping[Modality, str] | None = None) -> None:
        """Remembers the model that a new library is meant for, unless one is remembered."""
        library = schema.library.c
        with self._database.reading() as connection:
            if connection.execute(select(library.model)).scalar_one() is not None:
                return
        values = {"model": name, "instructions": rows.packed_instructions(instructions)}
        with self._database.writing() as connection:
            connection.execute(update(schema.library).where(library.model.is_(None)).values(values))

    def rename_model(
        self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None = None
    ) -> None:
        """Remembers what else opens the model whose vectors these are; nothing if it is another."""
        values = {"model": info.name, "instructions": rows.packed_instructions(instructions)}
        same = schema.library.c.fingerprint == info.fingerprint
        with self._database.writing() as connection:
            connection.execute(update(schema.library).where(same).values(values))

    def adopt(self, info: EmbedderInfo, instructions: Mapping[Modality, str] | None = None) -> None:
        """Remembers whose vectors the library holds; only while it holds none."""
        with self._database.writing() as connection:
            connection.execute(
                update(schema.library).values(
                    model=info.name,
                    fingerprint=info.fingerprint,
                    dim=info.dim,
                    instructions=rows.packed_instructions(instructions),
                )
            )

    def record(self, outcomes: Sequence[Indexed | Refused]) -> list[Effect]:
        """Stores what became of some files, in one transaction; effect i is that of outcome i."""
        with self._database.writing() as connection:
            if any(isinstance(outcome, Indexed) and outcome.segments for outcome in outcomes):
                raise_generation(connection)
            return [record(connection, outcome) for outcome in outcomes]

    def remove(self, item_ids: Sequence[int]) -> list[Path]:
        """Forgets files, but not yet what only they held; returns their paths."""
        items = schema.items.c
        gone: list[Path] = []
        with self._database.writing() as connection:
            for start in range(0, len(item_ids), _CHUNK):
                chunk = item_ids[start : start + _CHUNK]
                known = [one for one in map(rows.row_id, chunk) if one is not None]
                statement = delete(schema.items).where(items.id.in_(known)).returning(items.path)
                gone.extend(connection.execute(statement).scalars())
        return gone

    def remove_orphans(self) -> list[str]:
        """Removes bytes that no file holds any more with their segments; returns the hashes."""
        items, media, unheld = schema.items.c, schema.media.c, schema.unheld.c
        held = select(items.id).where(items.media_id == unheld.media_id).exists()
        noted = select(unheld.media_id, held.label("held")).limit(_MEDIA_IN_ONE_REMOVAL)
        gone: list[str] = []
        while True:
            with self._database.reading() as connection:
                found = connection.execute(noted).all()
            if not found:
                return gone
            ids = [row.media_id for row in found if not row.held]
            again = [row.media_id for row in found if row.held]
            with self._database.writing() as connection:
                if ids:
                    raise_generation(connection)
                statement = delete(schema.media).where(media.id.in_(ids))
                gone.extend(connection.execute(statement.returning(media.content_hash)).scalars())
                connection.execute(delete(schema.unheld).where(unheld.media_id.in_(again)))

    def near_duplicates(self) -> int:
        """The number of groups that was remembered last."""
        with self._database.reading() as connection:
            return connection.execute(select(schema.library.c.near_duplicates)).scalar_one()

    def remember_near_duplicates(self, groups: int) -> None:
        """Remembers the number of groups of pictures that look the same, as of now."""
        now = schema.library.c.generation
        values = {"near_duplicates": groups, "near_generation": now}
        with self._database.writing() as connection:
            connection.execute(update(schema.library).values(values))

    def pictures_changed(self, most: int) -> int:
        """How many pictures have come or gone since near duplicates were counted, up to a number.

        Where it has been forgotten what has gone, as many as asked for.
        """
        library, segments, removals = schema.library.c, schema.segments.c, schema.removals.c
        with self._database.reading() as connection:
            since, pruned = connection.execute(
                select(library.near_generation, library.pruned)
            ).one()
            if since < pruned:
                return most
            come = select(segments.id).where(
                segments.generation > since, segments.picture_hash.is_not(None)
            )
            gone = select(removals.segment_id).where(
                removals.generation > since, removals.kind == Kind.IMAGE.value
            )
            both = union_all(come, gone).limit(most).subquery()
            return connection.execute(select(func.count()).select_from(both)).scalar_one()
