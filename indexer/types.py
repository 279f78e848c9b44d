"""The values that cross the indexer's boundary: items, segments, queries, hits and reports."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from embedder.content import Content, Modality
from embedder.media import page_noun
from embedder.media.kinds import Kind, Limits, Word
from indexer.errors import QueryError
from indexer.presence import FolderId


class Status(StrEnum):
    """The visible state in which every file ends."""

    INDEXED = "indexed"
    SKIPPED = "skipped"
    FAILED = "failed"


class FileOrder(StrEnum):
    """What a list of files is ordered by."""

    PATH = "path"
    NAME = "name"
    DATE = "date"
    SIZE = "size"
    ADDED = "added"


class Reason(StrEnum):
    """Why a hit matched: what was compared with the query."""

    PICTURE = "picture"
    TEXT = "text"
    WORDS = "words"
    FILE_NAME = "file name"


class Sort(StrEnum):
    """Order of hits or files."""

    RELEVANCE = "relevance"
    NEWEST = "newest"
    OLDEST = "oldest"


class DateSource(StrEnum):
    """Where the date of a file is from."""

    METADATA = "metadata"
    FILE_NAME = "file name"
    MODIFIED = "modified"


@dataclass(frozen=True, slots=True)
class MediaItem:
    """A file that the library knows.

    Attributes:
        id: Never reused.
        path: Absolute.
        content_hash: SHA-256 of the bytes in hexadecimal; None if the file was never read.
        size: Bytes.
        mtime_ns: Modification time in nanoseconds since 1970.
        kind: None where it is unknown.
        status: The state in which the last ingest left it.
        error: Why it was skipped or failed, one sentence.
        added_at: When it was first seen, UTC.
        date_ns: When it was captured or written, else modified, in nanoseconds since 1970.
        date_source: Which of these.
        segments: How many segments can be found in it.
        favourite: Whether its content is among the favourites.
    """

    id: int
    path: Path
    content_hash: str | None
    size: int
    mtime_ns: int
    kind: Kind | None
    status: Status
    error: str | None
    added_at: datetime
    date_ns: int
    date_source: DateSource
    segments: int = 0
    favourite: bool = False

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return self.path.name

    @property
    def modified_at(self) -> datetime:
        """Modification time, local."""
        return datetime.fromtimestamp(self.mtime_ns / 1e9).astimezone()

    @property
    def date(self) -> datetime:
        """When it was captured or written, else modified, local."""
        return datetime.fromtimestamp(self.date_ns / 1e9).astimezone()


@dataclass(frozen=True, slots=True)
class Segment:
    """What is found: a picture, a clip from `start` to `end`, a page, or a passage of text.

    `id` is the vector's id and is never reused; the places are as in `Draft`.
    """

    id: int
    content_hash: str
    kind: Kind
    modality: Modality
    position: int
    page: int | None
    start: float | None
    end: float | None
    span: tuple[int, int] | None
    text: str | None

    def place_in(self, file: Path) -> str:
        """Return where it is in a file, for people: "page 3", "slide 3", "0:10–0:20" or nothing."""
        if self.page is not None:
            return f"{page_noun(file)} {self.page}"
        if self.start is not None and self.end is not None:
            return f"{clock(self.start)}–{clock(self.end)}"
        return ""


@dataclass(frozen=True, slots=True)
class TextLine:
    """A line of text that was read in a picture, with its words where they could be located."""

    text: str
    words: tuple[Word, ...] = ()


def clock(seconds: float) -> str:
    """Format a time in a video: 0:06, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(frozen=True, eq=False, slots=True)
class QueryPart:
    """One thing that hits should be like (weight above 0) or unlike (below 0).

    Exactly one of the two sources is set: `content`, or `segment_id` of a segment in the library.

    Raises:
        ValueError: if both or none of the sources are set.
        QueryError: if the weight is 0, not a number, or beyond ±100.
    """

    content: Content | None = None
    weight: float = 1.0
    segment_id: int | None = None

    def __post_init__(self) -> None:
        if (self.content is None) == (self.segment_id is None):
            raise ValueError("a query part is either a content or a segment of the library")
        if not -100 <= self.weight <= 100 or self.weight == 0:
            raise QueryError(f"a weight is a number from -100 to 100 and not 0, not {self.weight}")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a hit must be; None or empty means any.

    Attributes:
        kinds: Kinds of media.
        folder: Files in this folder or below it.
        after: Files of this time or later.
        before: Files of an earlier time: the end of a period is not in it, unlike where people
            type the last day, see `indexer.search.filters.parse_dates`.
        album: Files in the album with this id.
        has_text: Files with words: texts, documents, and what words were read in or are said in.
    """

    kinds: frozenset[Kind] = frozenset()
    folder: Path | None = None
    after: datetime | None = None
    before: datetime | None = None
    album: int | None = None
    has_text: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """What to look for: at least one part of positive weight, filters, and which hits to return.

    Attributes:
        parts: What hits should be like, and unlike.
        filters: What they must be.
        limit: Most hits to return.
        offset: Hits to skip first.
        without: Words and phrases, from `terms`; what has one in its text, its name or its details
            is no hit.
        sort: Order of the strong hits; weak ones follow by their relevance.
    """

    parts: tuple[QueryPart, ...]
    filters: Filters = field(default_factory=Filters)
    limit: int = 20
    offset: int = 0
    without: tuple[str, ...] = ()
    sort: Sort = Sort.RELEVANCE


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        segment: What matched best within the item, or within the page of a PDF.
        item: The file it is in; of several copies, the one added first that is there.
        score: What hits are ordered by, 0 to 1.
        rank: From 1, counted over all pages of results.
        relevance: How sure the match is, 0 to 1; comparable across kinds.
        weak: Less relevant than not: shown apart, after the others.
        why: What matched, strongest first.
        more: Further matching segments of the same item, best first.
        copies: Paths of further files with the same bytes.
        missing: The disk or folder that is not connected, or the file itself if that alone is not
            there; None if the file can be opened.
    """

    segment: Segment
    item: MediaItem
    score: float
    rank: int
    relevance: float
    weak: bool
    why: tuple[Reason, ...]
    more: tuple[Segment, ...] = ()
    copies: tuple[Path, ...] = ()
    missing: Path | None = None


@dataclass(frozen=True, slots=True)
class LibraryStats:
    """What a library holds.

    Attributes:
        items: Indexed files by kind.
        segments: Segments by kind.
        skipped: Files skipped.
        failed: Files failed.
        bytes: Size of all indexed files.
    """

    items: Mapping[Kind, int]
    segments: Mapping[Kind, int]
    skipped: int
    failed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Files that hold the same thing.

    Attributes:
        exact: Groups of files with the same bytes, each oldest first.
        near: Groups of pictures that look the same but differ in bytes (another size, format or
            compression), one file for each picture, each group oldest first.
    """

    exact: tuple[tuple[MediaItem, ...], ...] = ()
    near: tuple[tuple[MediaItem, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that did not get in, and why, in one sentence."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Kept:
    """Files that are not there and stay in the library, since they may come back.

    Attributes:
        path: The disk or folder that is not connected.
        files: How many files of it the library has.
    """

    path: Path
    files: int


@dataclass(frozen=True, slots=True)
class Root:
    """What is ingested.

    Attributes:
        path: A file, a folder, or a pattern such as `photos/**/*.jpg`.
        exclude: Patterns of names or paths to leave out; see `indexer.ingest.discovery.scan`.
    """

    path: Path
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexedFolder:
    """A folder that the library remembers, to ingest it again on request.

    Attributes:
        path: The folder.
        exclude: Patterns of names or paths that are left out.
        files: How many files the library has of it.
        reachable: Whether it is there and not empty.
        missing: Whether it is gone and no file of it is left, as after it was renamed.
        scanned_at: When it was last ingested to the end, UTC; None before that.
    """

    path: Path
    exclude: tuple[str, ...]
    files: int
    reachable: bool
    missing: bool
    scanned_at: datetime | None


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        exclude: Patterns of names or paths to leave out, see `indexer.ingest.discovery.scan`,
            beside those that the library remembers for the folder.
        include: Patterns that it remembers, and that are not left out any more.
        retry_failed: Try files again that failed before, though they have not changed; without
            any paths given, only these.
        workers: Files that are decoded at a time, each in another process; the model uses all
            CPUs as well.
        limits: What decoding may cost; `frame_side` is lowered to what the model makes use of.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    retry_failed: bool = False
    workers: int = field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)))
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did; every file seen is counted in exactly one of the first seven fields.

    Attributes:
        added: Files new to the library.
        updated: Files whose bytes changed, or what their sidecars say.
        unchanged: Files left as they were, unread.
        moved: Files known by their bytes under another path, where they were deleted.
        copies: New files whose bytes are in the library already; they share its vectors.
        skipped: Files of no supported kind.
        failures: Files that could not be used.
        removed: Known files that were deleted or are excluded now.
        kept: Known files that are not there, though not deleted as far as can be said.
        near_duplicates: Groups of pictures that look the same but differ in bytes, in the whole
            library; of a thousand pictures and more, not counted again for each that changes.
        cancelled: It was stopped early; the next run continues.
        seconds: How long it took.
        segments: Segments written.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    copies: int = 0
    skipped: tuple[Failure, ...] = ()
    failures: tuple[Failure, ...] = ()
    removed: int = 0
    kept: tuple[Kept, ...] = ()
    near_duplicates: int = 0
    cancelled: bool = False
    seconds: float = 0.0
    segments: int = 0

    @property
    def has_changed(self) -> bool:
        """Whether the library has other files now, or other contents of them."""
        return any((self.added, self.updated, self.moved, self.copies, self.removed))


@dataclass(frozen=True, slots=True)
class ReadingReport:
    """What reading the words in pictures did.

    Attributes:
        read: Files whose pictures were looked at.
        with_text: How many of them show words.
        failures: Files that could not be read, and are not tried again until they change.
        left: Files that are still to be read: those that are not there, or where it was stopped.
        cancelled: It was stopped early; the next run continues.
        seconds: How long it took.
    """

    read: int = 0
    with_text: int = 0
    failures: tuple[Failure, ...] = ()
    left: int = 0
    cancelled: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class IngestPlan:
    """What an ingest would do, as far as it is known without decoding anything.

    Attributes:
        added: New files.
        updated: Known files that have changed.
        moved: Known files under another path, old and new.
        copies: New files whose bytes are in the library already.
        removed: Known files that were deleted or are excluded now.
        kept: Known files that are not there, though not deleted as far as can be said.
        skipped: Files of no supported kind, and why.
        failures: Files that cannot be used, and why.
        unchanged: How many files would be left as they are, unread.
    """

    added: tuple[Path, ...] = ()
    updated: tuple[Path, ...] = ()
    moved: tuple[tuple[Path, Path], ...] = ()
    copies: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()
    kept: tuple[Kept, ...] = ()
    skipped: tuple[Failure, ...] = ()
    failures: tuple[Failure, ...] = ()
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """What a re-embedding did.

    Attributes:
        model: The model that was asked for.
        segments: Segments that have a vector of it now, those of earlier runs included.
        reused: How many of them an earlier run had computed.
        failures: Files that could not be read or embedded again. If the library switched, they
            have left it and are failed files now; otherwise they are why it did not.
        switched: The library has the model now. If not, its vectors are those it had.
        cancelled: It was stopped early; the next run continues.
        seconds: How long it took.
    """

    model: str
    segments: int = 0
    reused: int = 0
    failures: tuple[Failure, ...] = ()
    switched: bool = False
    cancelled: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ReembedPlan:
    """What a re-embedding would do, found without reading any file.

    Attributes:
        model: The model that was asked for.
        same: The library's vectors are of that model already; nothing would be done.
        segments: Segments that lack a vector of it, by kind.
        reused: Segments that have one from an earlier run.
        failures: Files that are not there and that no copy stands in for.
    """

    model: str
    same: bool = False
    segments: Mapping[Kind, int] = field(default_factory=dict)
    reused: int = 0
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be indexed.

    Attributes:
        path: Absolute, as reached: links are not resolved.
        size: Bytes.
        mtime_ns: Modification time in nanoseconds since 1970.
        folder: The folder that it was found in.
        sidecars: The files beside it that describe it, and are not indexed themselves.
    """

    path: Path
    size: int
    mtime_ns: int
    folder: FolderId | None = field(default=None, compare=False)
    sidecars: tuple["Candidate", ...] = field(default=(), compare=False)
