"""The tables of a library as SQLAlchemy sees them; `indexer.catalog.migrations` makes them.

The full-text tables and the triggers that keep them exist only in the migrations.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
)

metadata = MetaData()


class PathText(TypeDecorator[Path]):
    """An absolute path; one that is not valid Unicode is kept as the bytes it is."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Path | str | None, dialect: Dialect) -> Any:
        """Text wherever possible, so that folders can be compared in SQL."""
        return None if value is None else stored_path(str(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Path | None:
        """The path that was stored."""
        return None if value is None else _path(value)


@lru_cache(maxsize=4096)  # Taking a path apart takes longer than reading it.
def _path(stored: str | bytes) -> Path:
    return Path(os.fsdecode(stored))


def stored_path(path: str) -> str | bytes:
    """A path as the database holds it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


class _LibraryColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    uid: Named[str]
    model: Named[str | None]
    fingerprint: Named[str | None]
    dim: Named[int | None]
    generation: Named[int]
    near_duplicates: Named[int]
    instructions: Named[str | None]
    pruned: Named[int]
    near_generation: Named[int]


class _MediaColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    content_hash: Named[str]
    kind: Named[str]


class _ItemColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    path: Named[Path] = Column(PathText, unique=True)
    folder: Named[Path] = Column(PathText, index=True)
    name_words: Named[str]
    folder_words: Named[str]
    size: Named[int]
    mtime_ns: Named[int]
    media_id: Named[int | None] = Column(ForeignKey("media.id"), index=True)
    kind: Named[str | None]
    status: Named[str]
    error: Named[str | None]
    added_us: Named[int]


class _SegmentColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    media_id: Named[int] = Column(ForeignKey("media.id", ondelete="CASCADE"))
    position: Named[int]
    kind: Named[str]
    modality: Named[str]
    page: Named[int | None]
    start: Named[float | None]
    end: Named[float | None]
    span_start: Named[int | None]
    span_end: Named[int | None]
    text: Named[str | None]
    generation: Named[int]
    picture_hash: Named[int | None]
    picture_tint: Named[bytes | None] = Column(LargeBinary)


class _VectorColumns(TypedColumns):
    segment_id: Named[int] = Column(ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True)
    data: Named[bytes] = Column(LargeBinary)


class _PendingColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    model: Named[str]
    fingerprint: Named[str]
    dim: Named[int]
    instructions: Named[str | None]


class _PendingVectorColumns(TypedColumns):
    segment_id: Named[int] = Column(ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True)
    data: Named[bytes] = Column(LargeBinary)


class _WordColumns(TypedColumns):
    segment_id: Named[int] = Column(ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True)
    data: Named[bytes] = Column(LargeBinary)


class _RemovalColumns(TypedColumns):
    segment_id: Named[int] = Column(Integer, primary_key=True)
    kind: Named[str]
    generation: Named[int] = Column(Integer, index=True)


class _ItemCountColumns(TypedColumns):
    status: Named[str] = Column(Text, primary_key=True)
    kind: Named[str] = Column(Text, primary_key=True)
    files: Named[int]
    bytes: Named[int]


class _SegmentCountColumns(TypedColumns):
    kind: Named[str] = Column(Text, primary_key=True)
    segments: Named[int]


class _FolderColumns(TypedColumns):
    path: Named[Path] = Column(PathText, primary_key=True)
    parent: Named[Path | None] = Column(PathText)
    files: Named[int]
    below: Named[int]
    children: Named[int]


class _UnheldColumns(TypedColumns):
    media_id: Named[int] = Column(ForeignKey("media.id", ondelete="CASCADE"), primary_key=True)


library = Table("library", metadata, _LibraryColumns)
"""One row: whose vectors these are, the generation that each change of segments raises, the last
generation of which `removals` does not tell everything any more, and the one of which the number
of near duplicates is."""

media = Table("media", metadata, _MediaColumns)
"""Bytes that one or more files hold."""

items = Table("items", metadata, _ItemColumns)
"""Files. Only indexed ones have a `media_id`."""

segments = Table("segments", metadata, _SegmentColumns)
"""What is found in media. The ids are those of the vectors and are never used again."""

vectors = Table("vectors", metadata, _VectorColumns)
"""Vectors of segments, float16; apart, so that a scan of the segments does not read them."""

pending = Table("pending", metadata, _PendingColumns)
"""Whose vectors are in `pending_vectors`; without a row, what is there is of no use."""

pending_vectors = Table("pending_vectors", metadata, _PendingVectorColumns)
"""Vectors of another model, computed beside those in use, until all are there."""

words = Table("words", metadata, _WordColumns)
"""Words of pages with their places, as compressed JSON."""

removals = Table("removals", metadata, _RemovalColumns)
"""Segments that are gone, for vector stores that still hold them."""

item_counts = Table("item_counts", metadata, _ItemCountColumns)
"""Files by state and kind, "" for none; kept by triggers, as are the three tables below."""

segment_counts = Table("segment_counts", metadata, _SegmentCountColumns)
"""Segments by kind."""

folders = Table("folders", metadata, _FolderColumns)
"""Folders with indexed files in them or below; the paths are bytes."""

unheld = Table("unheld", metadata, _UnheldColumns)
"""Media that no file may hold any more."""
