"""Between rows of the tables and the values that cross the indexer's boundary."""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select

from embedder.content import Modality
from embedder.interface import Vectors
from embedder.media.kinds import Kind, Word
from indexer.catalog import schema
from indexer.catalog.sqlite import MAX_INTEGER
from indexer.types import Filters, MediaItem, Segment, Status

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def select_items() -> Select[*tuple[Any, ...]]:
    """A query for items, to be given conditions; for `item`."""
    items, media, segments = schema.items, schema.media, schema.segments
    count = (
        select(func.count())
        .select_from(segments)
        .where(segments.c.media_id == items.c.media_id)
        .correlate(items)
        .scalar_subquery()
    )
    return select(
        items.c.id,
        items.c.path,
        media.c.content_hash,
        items.c.size,
        items.c.mtime_ns,
        items.c.kind,
        items.c.status,
        items.c.error,
        items.c.added_us,
        count.label("segments"),
        items.c.media_id,
    ).select_from(items.outerjoin(media, media.c.id == items.c.media_id))


def item(row: Row[*tuple[Any, ...]]) -> MediaItem:
    """The file that a row of `select_items` describes."""
    item_id, path, content_hash, size, mtime_ns, kind, status, error, added_us, segments, *_ = row
    return MediaItem(
        id=item_id,
        path=path,
        content_hash=content_hash,
        size=size,
        mtime_ns=mtime_ns,
        kind=Kind(kind) if kind else None,
        status=Status(status),
        error=error,
        added_at=_EPOCH + timedelta(microseconds=added_us),
        segments=segments,
    )


def microseconds_now() -> int:
    """Microseconds since 1970."""
    return (datetime.now(UTC) - _EPOCH) // timedelta(microseconds=1)


def select_segments() -> Select[*tuple[Any, ...]]:
    """A query for segments, to be given conditions; for `segment`."""
    segments, media = schema.segments.c, schema.media.c
    return select(
        segments.id,
        media.content_hash,
        segments.kind,
        segments.modality,
        segments.position,
        segments.page,
        segments.start,
        segments.end,
        segments.span_start,
        segments.span_end,
        segments.text,
        segments.media_id,
    ).join_from(schema.segments, schema.media, media.id == segments.media_id)


def segment(row: Row[*tuple[Any, ...]]) -> Segment:
    """The segment that a row of `select_segments` describes."""
    segment_id, content_hash, kind, modality, position, page, start, end, first, last, text, *_ = (
        row
    )
    return Segment(
        id=segment_id,
        content_hash=content_hash,
        kind=Kind(kind),
        modality=Modality(modality),
        position=position,
        page=page,
        start=start,
        end=end,
        span=None if first is None else (first, last),
        text=text,
    )


def packed_words(words: Sequence[Word]) -> bytes:
    """Words of a page with their places, for the table of words."""
    rows = [
        [word.text, *(round(side, 5) for side in (word.left, word.top, word.right, word.bottom))]
        for word in words
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode())


def unpacked_words(data: bytes) -> tuple[Word, ...]:
    """The opposite of `packed_words`."""
    return tuple(Word(*row) for row in json.loads(zlib.decompress(data)))


def packed_instructions(instructions: Mapping[Modality, str] | None) -> str | None:
    """What documents of each modality are told, as it is stored; nothing if nothing is said."""
    return json.dumps(dict(sorted(instructions.items()))) if instructions else None


def unpacked_instructions(data: str | None) -> dict[Modality, str] | None:
    """The opposite of `packed_instructions`."""
    if data is None:
        return None
    return {Modality(name): instruction for name, instruction in json.loads(data).items()}


def packed_vector(vector: NDArray[np.float32]) -> bytes:
    """A vector of shape (dim,) as it is stored: float16."""
    return vector.astype("<f2").tobytes()


def unpacked_vectors(data: Sequence[bytes], dim: int) -> Vectors:
    """Float32 array of shape (len(data), dim) from vectors as they are stored."""
    return np.frombuffer(b"".join(data), dtype="<f2").reshape(-1, dim).astype(np.float32)


def restricts_files(filters: Filters) -> bool:
    """Whether the filters look at files, and not only at kinds."""
    return any(part is not None for part in (filters.folder, filters.after, filters.before))


def of_items(filters: Filters) -> ColumnElement[bool]:
    """The condition on indexed files."""
    items = schema.items.c
    conditions: list[ColumnElement[bool]] = [items.media_id.is_not(None)]
    if filters.kinds:
        conditions.append(items.kind.in_([kind.value for kind in filters.kinds]))
    if filters.folder is not None:
        conditions.append(in_folders(filters.folder))
    if filters.after is not None:
        conditions.append(items.mtime_ns >= nanoseconds(filters.after))
    if filters.before is not None:
        conditions.append(items.mtime_ns < nanoseconds(filters.before))
    return and_(*conditions)


def in_folders(*folders: Path) -> ColumnElement[bool]:
    """Return the condition that a file is in one of some folders or below one."""
    return schema.items.c.folder_id.in_(select(schema.folders.c.id).where(below(*folders)))


def below(*folders: Path) -> ColumnElement[bool]:
    """Return the condition that a folder is one of some folders or below one."""
    path, ranges = schema.folders.c.path, list[ColumnElement[bool]]()
    for folder in folders:
        start = os.fsencode(os.path.join(os.path.abspath(folder), ""))
        end = start[:-1] + bytes([start[-1] + 1])
        ranges += [path == os.path.abspath(folder), and_(path >= start, path < end)]
    return or_(*ranges)


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds since 1970 of a moment, local where no zone is given; far ones are clamped."""
    try:
        since = moment.astimezone(UTC) - _EPOCH
    except (OverflowError, ValueError, OSError):
        return MAX_INTEGER if moment.year > _EPOCH.year else -MAX_INTEGER
    return max(-MAX_INTEGER, min(MAX_INTEGER, since // timedelta(microseconds=1) * 1000))
