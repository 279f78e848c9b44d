"""The tables of a library, declared once, and how values are stored in their columns."""

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    Select,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
    and_,
    or_,
    select,
)

from embedder.content import Modality
from embedder.interface import EmbedderInfo, Vectors
from embedder.media.kinds import Word
from indexer.types import Filters, TextLine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

VERSION = 4
"""Raised with every change of these tables; a library with another number is refused."""

MAX_INTEGER = 2**63 - 1
"""The largest integer that SQLite stores."""

_BOX_STEPS = 10_000  # of the width and height of a picture

FAVOURITES = 1
"""The id of the album of favourites."""


class PathText(TypeDecorator[Path]):
    """An absolute path as text; as bytes where it is not valid Unicode."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Path | str | None, dialect: Dialect) -> Any:
        """Return the path as it is stored."""
        return None if value is None else stored_path(str(value))

    def process_result_value(self, value: Any, dialect: Dialect) -> Path | None:
        """Return the path that was stored."""
        return None if value is None else as_path(value)


class PathBytes(TypeDecorator[Path]):
    """An absolute path as bytes, so that all paths below a folder are one range."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Path | str | bytes | None, dialect: Dialect) -> Any:
        """Return the path as it is stored."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Path | None:
        """Return the path that was stored."""
        return None if value is None else as_path(value)


@lru_cache(maxsize=4096)  # Parsing a path takes longer than reading it.
def as_path(stored: str | bytes) -> Path:
    """Return the path that a table holds."""
    return Path(os.fsdecode(stored))


def stored_path(path: str) -> str | bytes:
    """Return a path as `PathText` stores it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def row_id(number: int) -> int | None:
    """Return an id to look for; None, which no row has, where SQLite cannot store the number."""
    return number if abs(number) <= MAX_INTEGER else None


metadata = MetaData()


class _LibraryColumns(TypedColumns):
    id: Named[int] = Column(Integer, CheckConstraint("id = 1"), primary_key=True)
    uid: Named[str] = Column(Text)
    model: Named[str | None] = Column(Text)
    fingerprint: Named[str | None] = Column(Text)
    dim: Named[int | None]
    instructions: Named[str | None] = Column(Text)
    generation: Named[int]
    pruned: Named[int]
    swept: Named[int]
    near_duplicates: Named[int]
    near_generation: Named[int]
    watched: Named[int]


class _FolderColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    path: Named[Path] = Column(PathBytes, unique=True)
    files: Named[int]
    device: Named[int | None]
    inode: Named[int | None]


class _RootColumns(TypedColumns):
    path: Named[Path] = Column(PathBytes, primary_key=True)
    exclude: Named[str] = Column(Text)
    scanned_us: Named[int | None]


class _MediaColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    content_hash: Named[str] = Column(Text, unique=True)
    kind: Named[str] = Column(Text)
    details: Named[str | None] = Column(Text)
    generation: Named[int] = Column(Integer, index=True)
    reader: Named[str | None] = Column(Text)


class _ItemColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    path: Named[Path] = Column(PathText, unique=True)
    folder_id: Named[int] = Column(ForeignKey("folders.id"), index=True)
    name_words: Named[str] = Column(Text)
    folder_words: Named[str] = Column(Text)
    size: Named[int] = Column(Integer, index=True)
    mtime_ns: Named[int]
    date_ns: Named[int]
    date_source: Named[str] = Column(Text)
    about_words: Named[str | None] = Column(Text)
    sidecars: Named[str | None] = Column(Text)
    sidecar_details: Named[str | None] = Column(Text)
    media_id: Named[int | None] = Column(ForeignKey("media.id"))
    kind: Named[str | None] = Column(Text)
    status: Named[str] = Column(Text)
    error: Named[str | None] = Column(Text)
    added_us: Named[int]


class _SegmentColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    media_id: Named[int] = Column(ForeignKey("media.id", ondelete="CASCADE"))
    position: Named[int]
    kind: Named[str] = Column(Text, index=True)
    modality: Named[str] = Column(Text)
    page: Named[int | None]
    start: Named[float | None]
    end: Named[float | None]
    span_start: Named[int | None]
    span_end: Named[int | None]
    text: Named[str | None] = Column(Text)
    terms: Named[str | None] = Column(Text)
    read_terms: Named[str | None] = Column(Text)
    generation: Named[int] = Column(Integer, index=True)
    picture_hash: Named[int | None]
    picture_tint: Named[bytes | None] = Column(LargeBinary)


class _SegmentDataColumns(TypedColumns):
    segment_id: Named[int] = Column(ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True)
    data: Named[bytes] = Column(LargeBinary)


class _AlbumColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    name: Named[str] = Column(Text)
    cover: Named[str | None] = Column(Text)
    search: Named[str | None] = Column(Text)
    border: Named[float | None]
    evaluated: Named[str | None] = Column(Text)
    created_us: Named[int]


class _AlbumContentColumns(TypedColumns):
    album_id: Named[int] = Column(ForeignKey("albums.id", ondelete="CASCADE"), primary_key=True)
    content_hash: Named[str] = Column(Text, primary_key=True)
    added_us: Named[int]


class _AnswerColumns(TypedColumns):
    album_id: Named[int] = Column(ForeignKey("albums.id", ondelete="CASCADE"), primary_key=True)
    content_hash: Named[str] = Column(Text, primary_key=True)
    belongs: Named[bool]


class _SavedSearchColumns(TypedColumns):
    id: Named[int] = Column(Integer, primary_key=True)
    name: Named[str] = Column(Text)
    search: Named[str] = Column(Text)


class _DismissedGroupColumns(TypedColumns):
    key: Named[str] = Column(Text, primary_key=True)


class _PendingColumns(TypedColumns):
    id: Named[int] = Column(Integer, CheckConstraint("id = 1"), primary_key=True)
    model: Named[str] = Column(Text)
    fingerprint: Named[str] = Column(Text)
    dim: Named[int]
    instructions: Named[str | None] = Column(Text)


class _RemovalColumns(TypedColumns):
    segment_id: Named[int] = Column(Integer, primary_key=True)
    kind: Named[str] = Column(Text)
    generation: Named[int] = Column(Integer, index=True)


class _ItemCountColumns(TypedColumns):
    status: Named[str] = Column(Text, primary_key=True)
    kind: Named[str] = Column(Text, primary_key=True)
    files: Named[int]
    bytes: Named[int]


class _SegmentCountColumns(TypedColumns):
    kind: Named[str] = Column(Text, primary_key=True)
    segments: Named[int]


class _MonthCountColumns(TypedColumns):
    folder_id: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    kind: Named[str] = Column(Text, primary_key=True)
    month: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    files: Named[int]


library = Table("library", metadata, _LibraryColumns)
"""One row: the model of the vectors, and the numbers of the library.

`generation` rises with each change of segments or of the files that hold them; `removals` is
complete after generation `pruned`; media without a file were removed at generation `swept`;
`near_duplicates` was counted at `near_generation`; `watched` is 1 if the page keeps the folders up
to date.
"""

folders = Table("folders", metadata, _FolderColumns, sqlite_autoincrement=True)
"""Folders of items, with the number of indexed files in each (not below it).

`device` and `inode` are its `indexer.presence.FolderId` when files were last found in it.
"""

roots = Table("roots", metadata, _RootColumns, sqlite_with_rowid=False)
"""Folders that are ingested again on request, with the patterns to leave out as a JSON list.

`scanned_us` is when one was last ingested to the end.
"""

media = Table("media", metadata, _MediaColumns, sqlite_autoincrement=True)
"""Contents (bytes) that one or more files hold.

`generation` is the library's at the last change of the set of holders: which indexed files have
these bytes, in which folders, and of which dates. `details` is what they say about themselves.
`reader` is the revision of the engine that has looked for words in their pictures; NULL before.
"""

items = Table("items", metadata, _ItemColumns, sqlite_autoincrement=True)
"""Files. Only indexed ones have a `media_id`.

`date_ns` and `about_words` follow from the details of a file and its sidecars, see
`indexer.catalog.details`; `sidecars` are those that `sidecar_details` was read from.
"""

segments = Table("segments", metadata, _SegmentColumns, sqlite_autoincrement=True)
"""What is found in media. The ids are those of the vectors and are never reused.

`terms` is indexed in place of `text` where the two differ, see `fulltext.terms_of`; `read_terms`,
the words that were read in the picture, beside it.
"""

vectors = Table("vectors", metadata, _SegmentDataColumns)
"""Vectors of segments, float16; apart, so that a scan of the segments does not read them."""

pending = Table("pending", metadata, _PendingColumns)
"""The model of `pending_vectors`; without a row, those are left over from a former model."""

pending_vectors = Table("pending_vectors", metadata, _SegmentDataColumns)
"""Vectors of another model, computed beside those in use until all are there.

Declared exactly like `vectors`: the two tables swap their names when the library switches.
"""

words = Table("words", metadata, _SegmentDataColumns)
"""Words of PDF pages with their boxes, as compressed JSON."""

readings = Table("readings", metadata, _SegmentDataColumns)
"""Lines of text that were read in pictures, with the boxes of their words, as compressed JSON."""

removals = Table("removals", metadata, _RemovalColumns)
"""Removed segments, for vector indexes that still hold them."""

albums = Table("albums", metadata, _AlbumColumns, sqlite_autoincrement=True)
"""Albums; `FAVOURITES` is in every library.

Living ones have a `search`, a JSON object, and the `border`, the probability from which on what it
finds is in them; `evaluated` is the state of the library when it was last searched. `cover` is the
hash of a content.
"""

album_contents = Table("album_contents", metadata, _AlbumContentColumns)
"""What is in albums.

Contents rather than files, so that moved files and remaining copies stay in them; hashes rather
than media, so that files that are removed and added again, or lost to damage, come back to them.
"""

answers = Table("answers", metadata, _AnswerColumns)
"""What belongs to living albums, and what does not, as their owner has answered."""

saved_searches = Table("saved_searches", metadata, _SavedSearchColumns, sqlite_autoincrement=True)
"""Searches with names, as JSON objects."""

dismissed_groups = Table("dismissed_groups", metadata, _DismissedGroupColumns)
"""Groups of duplicates whose files hold different things, as their owner has said."""

item_counts = Table("item_counts", metadata, _ItemCountColumns, sqlite_with_rowid=False)
"""Files by status and kind ("" for none); kept by `indexer.catalog.transaction`."""

segment_counts = Table("segment_counts", metadata, _SegmentCountColumns, sqlite_with_rowid=False)
"""Segments by kind; kept likewise."""

month_counts = Table("month_counts", metadata, _MonthCountColumns, sqlite_with_rowid=False)
"""Indexed files by folder, kind and month in UTC (202307); kept by `indexer.catalog.month_counts`.

Added to libraries without it when they are opened.
"""

# With folder and date, so that the holders of all media are read from the index alone.
Index("ix_items_holders", items.c.media_id, items.c.folder_id, items.c.date_ns)
# With all that filters look at, so that files are counted and read by date from the index alone.
Index(
    "ix_items_by_date",
    items.c.date_ns,
    items.c.id,
    items.c.kind,
    items.c.folder_id,
    items.c.media_id,
)
# Each page of files is read in order of paths, by status or by status and kind.
Index("ix_items_by_status", items.c.status, items.c.path)
Index("ix_items_by_status_and_kind", items.c.status, items.c.kind, items.c.path)
# An edited file takes the places of the content that it had.
Index("ix_album_contents_hash", album_contents.c.content_hash)
Index("ix_answers_hash", answers.c.content_hash)
Index("ix_segments_media", segments.c.media_id, segments.c.position, unique=True)
# The segments with words, of which pictures have few.
Index(
    "ix_segments_with_words",
    segments.c.media_id,
    sqlite_where=segments.c.text.is_not(None) | segments.c.read_terms.is_not(None),
)


def new_library() -> dict[str, object]:
    """Return the row of `library` in new tables."""
    numbers = ("generation", "pruned", "swept", "near_duplicates", "near_generation", "watched")
    return {"id": 1, "uid": token_hex(8)} | dict.fromkeys(numbers, 0)


def favourites() -> dict[str, object]:
    """Return the row of the album that each library has."""
    return {"id": FAVOURITES, "name": "Favourites", "created_us": microseconds_now()}


def refusal(folder: Path, version: int) -> str:
    """Return why a library of another version is refused, and what to do."""
    if version > VERSION:
        return (
            f"the library in {folder} was made by a newer version of RzenEmbed Search (its tables "
            f"are version {version}, this program reads {VERSION}): update the program"
        )
    return (
        f"the library in {folder} was made by an older version of RzenEmbed Search (its tables are "
        f"version {version}, this program reads {VERSION}): rename the folder and index "
        f"your files again with `python -m indexer.ingest PATH --library {folder}`"
    )


def microseconds_now() -> int:
    """Return microseconds since 1970."""
    return (datetime.now(UTC) - EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """Return the time, UTC, so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def packed_words(words: Sequence[Word]) -> bytes:
    """Return the words of a page with their boxes as they are stored."""
    listed = [[word.text, *(round(side, 5) for side in word.box)] for word in words]
    return zlib.compress(json.dumps(listed, separators=(",", ":")).encode())


def unpacked_words(data: bytes) -> tuple[Word, ...]:
    """Return the words that `packed_words` stored."""
    return tuple(Word(*row) for row in json.loads(zlib.decompress(data)))


def packed_lines(lines: Sequence[TextLine]) -> bytes:
    """Return lines with the boxes of their words as they are stored."""
    listed = [
        [
            line.text,
            [
                [
                    word.text,
                    *(round(side * _BOX_STEPS) for side in word.box),
                ]
                for word in line.words
            ],
        ]
        for line in lines
    ]
    return zlib.compress(json.dumps(listed, ensure_ascii=False, separators=(",", ":")).encode())


def unpacked_lines(data: bytes) -> tuple[TextLine, ...]:
    """Return the lines that `packed_lines` stored."""
    return tuple(
        TextLine(
            text, tuple(Word(word, *(side / _BOX_STEPS for side in box)) for word, *box in words)
        )
        for text, words in json.loads(zlib.decompress(data))
    )


def packed_instructions(instructions: Mapping[Modality, str] | None) -> str | None:
    """Return instructions as they are stored; None if there are none."""
    return json.dumps(dict(sorted(instructions.items()))) if instructions else None


def unpacked_instructions(data: str | None) -> dict[Modality, str] | None:
    """Return the instructions that `packed_instructions` stored."""
    if data is None:
        return None
    return {Modality(name): instruction for name, instruction in json.loads(data).items()}


def model_values(
    info: EmbedderInfo, instructions: Mapping[Modality, str] | None
) -> dict[str, object]:
    """Return a model and its instructions as `library` and `pending` store them."""
    return {
        "model": info.name,
        "fingerprint": info.fingerprint,
        "dim": info.dim,
        "instructions": packed_instructions(instructions),
    }


def packed_vector(vector: NDArray[np.float32]) -> bytes:
    """Return a vector of shape (dim,) as it is stored: float16."""
    return vector.astype("<f2").tobytes()


def unpacked_vectors(data: Sequence[bytes], dim: int) -> Vectors:
    """Return stored vectors as a float32 array of shape (len(data), dim)."""
    return np.frombuffer(b"".join(data), dtype="<f2").reshape(-1, dim).astype(np.float32)


def of_items(filters: Filters) -> ColumnElement[bool]:
    """Return the condition that a file is indexed and satisfies the filters."""
    conditions: list[ColumnElement[bool]] = [items.c.media_id.is_not(None)]
    if filters.kinds:
        conditions.append(items.c.kind.in_([kind.value for kind in filters.kinds]))
    if filters.folder is not None:
        conditions.append(in_folders(filters.folder))
    if filters.album is not None:
        conditions.append(items.c.media_id.in_(media_in(filters.album)))
    if filters.has_text:
        conditions.append(items.c.media_id.in_(select(segments.c.media_id).where(has_words())))
    if filters.after is not None:
        conditions.append(items.c.date_ns >= nanoseconds(filters.after))
    if filters.before is not None:
        conditions.append(items.c.date_ns < nanoseconds(filters.before))
    return and_(*conditions)


def media_in(album_id: int) -> Select[int]:
    """Return the query for the media of an album."""
    holds = album_contents.c.content_hash == media.c.content_hash
    joined = select(media.c.id).join(album_contents, holds)
    return joined.where(album_contents.c.album_id == row_id(album_id))


def has_words() -> ColumnElement[bool]:
    """Return the condition that a segment has words, of the file or read in its picture."""
    return segments.c.text.is_not(None) | segments.c.read_terms.is_not(None)


def has_file() -> ColumnElement[bool]:
    """Return the condition that a file holds a media."""
    return select(items.c.id).where(items.c.media_id == media.c.id).exists()


def in_folders(*paths: Path) -> ColumnElement[bool]:
    """Return the condition that a file is in one of some folders or below one."""
    return items.c.folder_id.in_(select(folders.c.id).where(below(*paths)))


def below(*paths: Path) -> ColumnElement[bool]:
    """Return the condition that a folder is one of some folders or below one."""
    return at_or_below(folders.c.path, *paths)


def at_or_below(path: ColumnElement[Path], *paths: Path) -> ColumnElement[bool]:
    """Return the condition that a path in bytes is one of some paths or below one."""
    ranges = list[ColumnElement[bool]]()
    for folder in paths:
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
