"""The reading half of an ingest: threads that turn files into drafts."""

import hashlib
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Lock
from threading import Event as Flag
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from embedder.interface import EmbedderError
from embedder.media.kinds import Kind, Limits, MediaError, UnsupportedMedia
from indexer.catalog.writer import SegmentRecord
from indexer.decoding.segment import Draft
from indexer.errors import Closed, LibraryError
from indexer.ingest.thumbnails import Thumbnails
from indexer.types import Candidate, Status

_log = logging.getLogger(__name__)

_HASHED_BYTES = 1 << 20
_TINT_SIDE = 4

Cutter: TypeAlias = Callable[[Path, Kind, Limits], Iterator[Draft]]


class Decoders(Protocol):
    """Decodes files: `indexer.decoding.pool.DecoderPool`, or anything with its two methods."""

    def detect(self, path: Path) -> Kind:
        """Return the kind of a file; see `embedder.media.detect`."""
        ...

    def cut(self, path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        """Cut a file into segments; see `indexer.decoding.segment.cut`."""
        ...


OpenDecoders: TypeAlias = Callable[[Limits, Flag], AbstractContextManager[Decoders]]
"""Opens decoders, given limits for `detect` and an event that cancels them."""

T = TypeVar("T")


class ByteBoundedQueue(Generic[T]):
    """A first-in-first-out queue whose waiting entries cost at most `budget` together.

    Guarantees: `put` waits while the budget is used up, but an entry that alone exceeds it gets
    through once the queue is empty; after `close`, `put` raises `Closed` at once, also in
    threads that are waiting, while entries that are already in can still be taken.

    Args:
        budget: Total cost that may wait, in whatever unit `put` is given.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: deque[tuple[T, int]] = deque()
        self._used = 0
        self._closed = False
        self._changed = Condition()

    def put(self, entry: T, cost: int = 1) -> None:
        """Appends an entry, after waiting for room."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._used or self._used + cost <= self._budget
            )
            if self._closed:
                raise Closed
            self._entries.append((entry, cost))
            self._used += cost
            self._changed.notify_all()

    def put_first(self, entries: Iterable[T]) -> None:
        """Puts entries before all others, without waiting and without cost."""
        with self._changed:
            if not self._closed:
                self._entries.extendleft((entry, 0) for entry in entries)
                self._changed.notify_all()

    def take(self, timeout: float | None = None) -> T | None:
        """The next entry, or None if none comes in time.

        Raises:
            Closed: if there is none and never will be.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closed, timeout)
            if not self._entries:
                if self._closed:
                    raise Closed
                return None
            entry, cost = self._entries.popleft()
            self._used -= cost
            self._changed.notify_all()
            return entry

    def close(self) -> None:
        """Ends the waiting of all threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


@dataclass(eq=False, slots=True)
class Job:
    """A file to be read. Only the thread that embeds touches the last three fields."""

    candidate: Candidate
    attempt: int = 1
    kind: Kind | None = None
    content_hash: str | None = None
    records: list[SegmentRecord] = field(default_factory=list)
    expected: int | None = None
    settled: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """A segment of a file, to be embedded."""

    job: Job
    position: int
    draft: Draft
    tint: bytes | None
    cost: int


@dataclass(frozen=True, eq=False, slots=True)
class FileRead:
    """All pieces of a file have been sent; none at all if it was not wanted."""

    job: Job
    pieces: int


@dataclass(frozen=True, eq=False, slots=True)
class FileRefused:
    """A file cannot be used."""

    job: Job
    status: Status
    reason: str


@dataclass(frozen=True, eq=False, slots=True)
class FileChanged:
    """A file is not what it was when its reading began."""

    job: Job


@dataclass(frozen=True, eq=False, slots=True)
class FileGone:
    """A file vanished after it was listed."""

    job: Job


@dataclass(frozen=True, eq=False, slots=True)
class Broken:
    """The ingest cannot go on."""

    error: BaseException


Event: TypeAlias = Piece | FileRead | FileRefused | FileChanged | FileGone | Broken


class Claims:
    """Which bytes are being read, so that files with the same ones are embedded once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[str, list[Job]] = {}

    def claim(self, content_hash: str, job: Job) -> bool:
        """True if the job is the first with these bytes; otherwise it waits for that one."""
        with self._lock:
            if content_hash in self._waiting:
                self._waiting[content_hash].append(job)
                return False
            self._waiting[content_hash] = []
            return True

    def release(self, content_hash: str) -> list[Job]:
        """Gives the bytes free; returns the jobs that waited."""
        with self._lock:
            return self._waiting.pop(content_hash, [])


@dataclass(frozen=True, eq=False, slots=True)
class Decoder:
    """Takes jobs and sends events until the queue of jobs is closed; runs in several threads.

    Attributes:
        jobs: Files to read.
        events: What came out of them.
        claim: Called with a job whose bytes are known by their hash: False lets it wait for
            another job with the same bytes, see `Claims`.
        wanted: Called after that: False ends the job without cutting the file.
        thumbnails: Where small pictures go, or None.
        limits: Called when the first file is cut, since it opens the embedder.
        detect: As `embedder.media.detect`.
        cut: As `indexer.decoding.segment.cut`; in an ingest both are those of
            `indexer.decoding.pool.DecoderPool`.
        cancel: Once set, no further file is begun and long ones are left in the middle.
    """

    jobs: ByteBoundedQueue[Job]
    events: ByteBoundedQueue[Any]
    claim: Callable[[str, Job], bool]
    wanted: Callable[[Job], bool]
    thumbnails: Thumbnails | None
    limits: Callable[[], Limits]
    detect: Callable[[Path], Kind]
    cut: Cutter
    cancel: Flag

    def run(self) -> None:
        """The body of a thread."""
        try:
            while not self.cancel.is_set():
                job = self.jobs.take()
                assert job is not None
                self._read(job)
        except Closed:
            pass
        except BaseException as error:
            _log.debug("decoding ends", exc_info=True)
            with suppress(Closed):  # Another thread has told of its error first.
                self._send(Broken(error))

    def _read(self, job: Job) -> None:
        path = job.candidate.path
        try:
            job.candidate = stamp(path)
            job.kind = self.detect(path)
            job.content_hash = hash_of(path)
            if self.claim(job.content_hash, job):
                self._send(self._cut(job, job.kind, job.content_hash))
        except UnsupportedMedia as error:
            self._send(FileRefused(job, Status.SKIPPED, str(error)))
        except MediaError as error:
            self._send(self._refused_or_changed(job, str(error)))
        except FileNotFoundError:
            self._send(FileGone(job))
        except OSError as error:
            self._send(FileRefused(job, Status.FAILED, os_reason(error)))
        except (Closed, LibraryError, EmbedderError):
            raise
        except MemoryError:
            self._send(FileRefused(job, Status.FAILED, "there is not enough memory to decode it"))
        except Exception as error:
            _log.exception("unexpected error while reading %r", str(path))
            self._send(FileRefused(job, Status.FAILED, f"it cannot be decoded: {error!r}"))

    def _cut(self, job: Job, kind: Kind, content_hash: str) -> Event:
        """Sends the pieces of a file and returns how it ended."""
        count = 0
        if self.wanted(job):
            drafts = self.cut(job.candidate.path, kind, self.limits())
            try:
                for draft in drafts:
                    self._send_piece(job, count, draft, content_hash)
                    count += 1
            finally:
                if isinstance(drafts, Generator):
                    drafts.close()  # at once, since a process may be busy with the rest
            if not count:
                return FileRefused(job, Status.FAILED, "there is nothing in it to be found")
        if stamp(job.candidate.path) != job.candidate:
            return FileChanged(job)
        return FileRead(job, count)

    def _send_piece(self, job: Job, position: int, draft: Draft, content_hash: str) -> None:
        if position and self.cancel.is_set():
            raise Closed
        if draft.thumbnail is not None and self.thumbnails is not None:
            _keep(self.thumbnails, content_hash, position, draft.thumbnail)
        piece = Piece(job, position, draft, _tint(draft), cost_of(draft))
        self.events.put(piece, piece.cost)

    def _refused_or_changed(self, job: Job, reason: str) -> Event:
        """A file that is being written is not refused for what is still missing."""
        try:
            if stamp(job.candidate.path) != job.candidate:
                return FileChanged(job)
        except FileNotFoundError:
            return FileGone(job)
        except OSError as error:
            reason = os_reason(error)
        return FileRefused(job, Status.FAILED, reason)

    def _send(self, event: Event) -> None:
        self.events.put(event, 0)


def stamp(path: Path) -> Candidate:
    """A file as it is now."""
    status = path.stat()
    return Candidate(path, status.st_size, status.st_mtime_ns)


def hash_of(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_HASHED_BYTES):
            digest.update(block)
    return digest.hexdigest()


def os_reason(error: OSError) -> str:
    """Why the operating system refused a file, in one sentence."""
    from embedder.media.io import os_reason as reason

    return reason(error)


def _keep(thumbnails: Thumbnails, content_hash: str, position: int, picture: Image.Image) -> None:
    try:
        thumbnails.write(content_hash, position, picture)
    except OSError as error:
        raise LibraryError(
            f"thumbnails cannot be written to the library: {error.strerror or error}"
        ) from error


def _tint(draft: Draft) -> bytes | None:
    """Colours of a still picture on a coarse grid, to tell apart what only hashes alike."""
    if draft.picture_hash is None or draft.thumbnail is None:
        return None
    small = draft.thumbnail.resize((_TINT_SIDE, _TINT_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).tobytes()


def cost_of(draft: Draft) -> int:
    """Bytes that a draft holds, roughly."""
    pixels = sum(frame.width * frame.height for frame in draft.content.frames)
    return 3 * pixels + len(draft.content.text or "") + 200 * len(draft.words)
