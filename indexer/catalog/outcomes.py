"""What became of a file, and how that is stored."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from embedder.media.kinds import Kind
from indexer import schema
from indexer.catalog import rows
from indexer.catalog.fulltext import folder_words, name_words
from indexer.entities import Status
from indexer.scan import Candidate

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
