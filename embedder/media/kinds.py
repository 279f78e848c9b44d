"""What all readers of media share: kinds, limits, drafts, errors, access to files, progress."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from io import BufferedReader
from pathlib import Path

from PIL import Image

from embedder.content import Content, Modality


class Kind(StrEnum):
    """What a media file is to the person who searches; animated pictures are videos."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    PDF = "pdf"
    TEXT = "text"


class MediaError(Exception):
    """A file cannot be used; the message is one sentence for the person who owns the file."""


class UnsupportedMedia(MediaError):
    """The file is of no kind that is indexed, or a text without a word: it is skipped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding may cost, and how finely media are cut.

    Attributes:
        pixels: Most pixels of a picture when decoded (a JPEG is decoded at a scale).
        seconds: Longest video.
        pages: Most pages of a PDF or TIFF.
        file_bytes: Largest text file.
        frame_side: Longest side of the frames that are delivered, in pixels.
        page_side: The same for pages of documents, which are drawn at any size.
        video_side: The same for frames of videos, of which there are many.
        thumbnail_side: Longest side of thumbnails, in pixels.
        clip_seconds: Longest clip that a video is cut into.
        clip_frames: Frames taken of each clip, evenly spaced, first and last included.
        passage_words: Most words of a text passage.
        memory_bytes: Most memory of the process that decodes a file.
        silence_seconds: Longest time without progress before that process is killed.
        file_seconds: Longest time for a small file; larger ones may take longer.
    """

    pixels: int = 100_000_000
    seconds: float = 6 * 3600
    pages: int = 5_000
    file_bytes: int = 50_000_000
    frame_side: int = 4096
    page_side: int = 2048
    video_side: int = 1024
    thumbnail_side: int = 384
    clip_seconds: float = 10.0
    clip_frames: int = 8
    passage_words: int = 120
    memory_bytes: int = 4 << 30
    silence_seconds: float = 60.0
    file_seconds: float = 600.0

    def within(self, frame_side: int) -> "Limits":
        """Return the limits with frames no larger than a model makes use of."""
        return replace(self, frame_side=min(self.frame_side, frame_side))

    @property
    def sheet_side(self) -> int:
        """Longest side of a document's pages, in pixels."""
        return min(self.frame_side, self.page_side)

    @property
    def clip_side(self) -> int:
        """Longest side of a video's frames, in pixels."""
        return min(self.frame_side, self.video_side)


@dataclass(frozen=True, slots=True)
class Word:
    """A word; the box is in fractions of the page's width and height as it is shown, 0 to 1."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.right, self.bottom


Labelled = tuple[tuple[str, str], ...]
"""Values with the labels that people see, such as ("Camera", "Canon EOS 5D"), each label once."""

SEPARATOR = "; "
"""Stands between several values of one label."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Words that are said from `start` to `end`, in seconds from the start of the file."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Track:
    """What is said in a file.

    Attributes:
        name: What tells it from the others: its language as a code or in words, or empty.
        cues: In order of their times.
    """

    name: str
    cues: tuple[Cue, ...]


@dataclass(frozen=True, slots=True)
class Details:
    """What a file, or a file beside it, says about it.

    Attributes:
        captured_at: When it was taken or written; without a zone if none is given.
        latitude: Degrees north, -90 to 90.
        longitude: Degrees east, -180 to 180.
        words: What people have written about it, and search finds: title, caption, keywords,
            people, place, author; several of a label are joined by `SEPARATOR`.
        facts: What else is shown: camera, lens, exposure, size, duration, encoding.
        tracks: What is said in it.
    """

    captured_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    words: Labelled = ()
    facts: Labelled = ()
    tracks: tuple[Track, ...] = ()

    def over(self, other: "Details") -> "Details":
        """Return these details, and those of another source where these say nothing.

        Words and tracks are those of both, since what either says should be found.
        """
        located = self if self.latitude is not None else other
        known = dict(self.facts)
        return Details(
            captured_at=self.captured_at or other.captured_at,
            latitude=located.latitude,
            longitude=located.longitude,
            words=_joined(self.words, other.words),
            facts=self.facts + tuple(pair for pair in other.facts if pair[0] not in known),
            tracks=tuple(dict.fromkeys(self.tracks + other.tracks)),
        )


def _joined(first: Labelled, second: Labelled) -> Labelled:
    """Return the values of both under each label, without repetitions."""
    joined = dict(first)
    for label, value in second:
        held = joined.get(label)
        known = {_plain(part) for part in held.split(SEPARATOR)} if held else set()
        new = [part for part in value.split(SEPARATOR) if _plain(part) not in known]
        joined[label] = SEPARATOR.join([held, *new] if held else new)
    return tuple(joined.items())


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@dataclass(frozen=True, eq=False, slots=True)
class Draft:
    """A segment that was cut from a file and has neither an id nor a vector yet.

    Attributes:
        content: What is embedded; its text is also what full-text search sees.
        thumbnail: Small RGB picture for result grids, or None for text.
        page: Page number from 1, pages only.
        start: Seconds from the start of the file, clips only.
        end: Seconds from the start of the file, clips only.
        span: First and one-past-last character in the extracted text, passages only.
        words: Words of a page with their boxes.
        picture_hash: 64-bit difference hash of a still picture, as a signed integer.
        details: What the file says about itself; on its first segment only.
    """

    content: Content
    thumbnail: Image.Image | None = None
    page: int | None = None
    start: float | None = None
    end: float | None = None
    span: tuple[int, int] | None = None
    words: tuple[Word, ...] = ()
    picture_hash: int | None = None
    details: Details | None = None


_HASH_BLOCK_BYTES = 1 << 18

NEVER = re.compile(rb"(?!)")
"""Matches no bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaKind:
    """All that is known of a kind of media; the record stands beside its reader.

    Attributes:
        kind: The key under which it is stored.
        noun: What a file of it is called in messages.
        unit: What its segments are called: "picture", "clip", "recording", "page" or "passage".
        modality: As what its segments are embedded.
        has_text: Whether its segments may have words that full-text search finds.
        has_picture: Whether its segments have thumbnails.
        suffixes: Extensions of its files, in lower case, with the dot.
        media_types: MIME types by suffix, for the files that a browser can show.
        signature: Matches the first bytes of its files.
        named_signature: Matches those of files that have one of its suffixes.
        weak_signature: Too short to outweigh bytes that read as text.
        read: A whole file as one content, as a query is; of a document, the page from 1, or the
            first.
        cut: A file into drafts in order, at least one, decoded one at a time.
        details: What a file says about itself; None if it says nothing. What cannot be read is
            left out.
        draw: A picture, or the page of a document from 1, its longest side `frame_side`; None for
            kinds that are shown otherwise.
    """

    kind: Kind
    noun: str
    unit: str
    modality: Modality
    has_text: bool = False
    has_picture: bool = False
    suffixes: frozenset[str]
    media_types: Mapping[str, str] = field(default_factory=dict)
    signature: re.Pattern[bytes] = NEVER
    named_signature: re.Pattern[bytes] = NEVER
    weak_signature: re.Pattern[bytes] = NEVER
    read: Callable[[Path, Limits, int | None], Content]
    cut: Callable[[Path, Limits], Iterator[Draft]]
    details: Callable[[Path, Limits], Details | None] = lambda _path, _limits: None
    draw: Callable[[Path, int | None, Limits], Image.Image] | None = None


def first_bytes(*patterns: bytes) -> re.Pattern[bytes]:
    """Compile alternatives for the first bytes of a file, in which a dot is any byte."""
    return re.compile(b"|".join(patterns), re.DOTALL)


def suffixes(names: str) -> frozenset[str]:
    """Return extensions with their dots, from names separated by spaces."""
    return frozenset(f".{name}" for name in names.split())


@contextmanager
def translated_os_errors() -> Iterator[None]:
    """Turn an `OSError` raised inside into a `MediaError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise MediaError(os_reason(error)) from error


def os_reason(error: OSError) -> str:
    """Return in one sentence why the operating system refused a file."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "reading the file is not permitted; change its permissions to index it"
    if isinstance(error, IsADirectoryError):
        return "this is a folder, not a file"
    return f"the file cannot be read: {error.strerror or error}"


_OPEN_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)
_held = ContextVar[tuple[str, BufferedReader] | None]("held", default=None)


def open_media(path: str | os.PathLike[str]) -> AbstractContextManager[BufferedReader]:
    """Open a file to read it from its beginning; nothing else opens files of a user.

    A file may lie within another one, as one that is attached to a mail does, whose path is then
    that of the mail and the name of the attachment.

    Pipes and devices may give bytes late or for ever, so only regular files are opened. That is
    looked at once the file is open, because a name may become another file's at any time.

    Raises:
        OSError: If it is not a regular file, or the operating system refuses it.
    """
    held = _held.get()
    if held is not None and held[0] == os.fspath(path):
        held[1].seek(0)
        return nullcontext(held[1])
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except NotADirectoryError:
        from embedder.media.members import open_member

        return open_member(Path(path))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file")
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return os.fdopen(descriptor, "rb")


@contextmanager
def holding(path: str | os.PathLike[str], file: BufferedReader) -> Iterator[None]:
    """Read an open file wherever `open_media` is given its path in this context.

    A process that may not open files reads those that another one has opened for it.
    """
    token = _held.set((os.fspath(path), file))
    try:
        yield
    finally:
        _held.reset(token)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Raises:
        OSError: If it cannot be read, or has more bytes than when it was opened.
    """
    digest, count = hashlib.sha256(), 0
    with open_media(path) as file:
        size = os.fstat(file.fileno()).st_size
        buffer = bytearray(min(size + 1, _HASH_BLOCK_BYTES))
        while length := file.readinto(buffer):
            digest.update(memoryview(buffer)[:length])
            count += length
            if count > size:  # it would have no end while something is appended to it
                raise OSError(errno.EBUSY, "it grew while it was read")
            report_progress()
    return digest.hexdigest()


_progress_listener = ContextVar[Callable[[], None]]("progress_listener", default=lambda: None)


def on_progress(listener: Callable[[], None]) -> None:
    """Have `listener` called at each step of a long decoding in this context."""
    _progress_listener.set(listener)


def report_progress() -> None:
    """Report a step of something that may take long; decoders call it."""
    _progress_listener.get()()
