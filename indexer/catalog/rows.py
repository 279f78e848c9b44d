"""How values are stored in columns, and the conditions that filters are."""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, or_, select

from embedder.content import Modality
from embedder.interface import Vectors
from embedder.media.kinds import Word
from indexer.catalog import schema
from indexer.catalog.sqlite import MAX_INTEGER
from indexer.types import Filters

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds_now() -> int:
    """Return microseconds since 1970."""
    return (datetime.now(UTC) - EPOCH) // timedelta(microseconds=1)


def packed_words(words: Sequence[Word]) -> bytes:
    """Return the words of a page with their boxes as they are stored."""
    rows = [
        [word.text, *(round(side, 5) for side in (word.left, word.top, word.right, word.bottom))]
        for word in words
    ]
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode())


def unpacked_words(data: bytes) -> tuple[Word, ...]:
    """Return the words that `packed_words` stored."""
    return tuple(Word(*row) for row in json.loads(zlib.decompress(data)))


def packed_instructions(instructions: Mapping[Modality, str] | None) -> str | None:
    """Return instructions as they are stored; None if there are none."""
    return json.dumps(dict(sorted(instructions.items()))) if instructions else None


def unpacked_instructions(data: str | None) -> dict[Modality, str] | None:
    """Return the instructions that `packed_instructions` stored."""
    if data is None:
        return None
    return {Modality(name): instruction for name, instruction in json.loads(data).items()}


def packed_vector(vector: NDArray[np.float32]) -> bytes:
    """Return a vector of shape (dim,) as it is stored: float16."""
    return vector.astype("<f2").tobytes()


def unpacked_vectors(data: Sequence[bytes], dim: int) -> Vectors:
    """Return stored vectors as a float32 array of shape (len(data), dim)."""
    return np.frombuffer(b"".join(data), dtype="<f2").reshape(-1, dim).astype(np.float32)


def of_items(filters: Filters) -> ColumnElement[bool]:
    """Return the condition that a file is indexed and satisfies the filters."""
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
    """Return nanoseconds since 1970, clamped to 64 bits; local time where no zone is given."""
    try:
        since = moment.astimezone(UTC) - EPOCH
    except (OverflowError, ValueError, OSError):
        return MAX_INTEGER if moment.year > EPOCH.year else -MAX_INTEGER
    return max(-MAX_INTEGER, min(MAX_INTEGER, since // timedelta(microseconds=1) * 1000))
