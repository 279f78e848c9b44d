"""The stages of the pipeline: files are read in threads, and their segments embedded in batches.

What a stage hands to the next goes through queues that are bounded by bytes.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from threading import Event as Flag
from threading import Lock
from time import monotonic
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image

from embedder.interface import Embedder, EmbedderError, EmbedError, Vectors
from embedder.media import Draft, detect
from embedder.media.kinds import (
    Details,
    Kind,
    Limits,
    MediaError,
    UnsupportedMedia,
    holding,
    open_media,
    os_reason,
    sha256_of,
)
from embedder.media.members import stat_media
from embedder.media.subtitles import SUBTITLES, SUFFIXES
from indexer.catalog.details import all_details
from indexer.catalog.outcomes import SegmentRecord
from indexer.catalog.schema import packed_vector, packed_words
from indexer.errors import Closed, LibraryError
from indexer.ingest.queues import ByteBoundedQueue
from indexer.ingest.stalls import StallWatch
from indexer.ingest.thumbnails import Thumbnails
from indexer.types import Candidate

_log = logging.getLogger(__name__)

_MAX_WAITING_BYTES = 64 << 20
_TINT_SIDE = 4
_BYTES_PER_WORD = 200  # Of a page's word with its box, as Python objects.
_FIRST_BATCH_SIZE = 4
_MAX_BATCH_SIZE = 32
_MAX_BATCH_BYTES = 48 << 20
_MAX_BATCH_SECONDS = 1.0
_MAX_UNEXPECTED_FAILURES = 3


class Decoders(Protocol):
    """Decodes files: `indexer.decoding.pool.DecoderPool`, or anything with these methods."""

    def cut(self, path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        """Cut a file into segments; see `embedder.media.cut`."""
        ...

    def describe(self, sidecar: Path) -> Details:
        """Return what a sidecar says about the file beside it."""
        ...


OpenDecoders: TypeAlias = Callable[[Flag], AbstractContextManager[Decoders]]
"""Opens decoders, given an event that cancels them."""


@dataclass(eq=False, slots=True)
class Job:
    """A file to be read.

    Attributes:
        candidate: The file as it was when its reading began.
        attempt: 1, or 2 if it changed while it was read the first time.
        kind: Set by the thread that reads it.
        content_hash: SHA-256 of its bytes in hexadecimal; likewise.
        details: What its bytes say about themselves; likewise.
        sidecar_details: What its sidecars say about it; likewise.
        records: Its embedded segments. This and what follows belongs to the thread that embeds.
        expected: How many segments it has, once it has been read to the end.
        settled: It is stored, refused, or replaced by another job.
    """

    candidate: Candidate
    attempt: int = 1
    kind: Kind | None = None
    content_hash: str | None = None
    details: Details | None = None
    sidecar_details: Details | None = None
    records: list[SegmentRecord] = field(default_factory=list)
    expected: int | None = None
    settled: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Piece:
    """A segment of a file, to be embedded; `cost` in bytes."""

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


class Cause(Enum):
    """Why a file gives no segments."""

    UNSUPPORTED = auto()
    UNREADABLE = auto()
    CHANGED = auto()
    VANISHED = auto()
    NOT_EMBEDDED = auto()


@dataclass(frozen=True, eq=False, slots=True)
class FileFailed:
    """A file cannot be read or embedded."""

    job: Job
    cause: Cause
    reason: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Broken:
    """A thread failed, so the pipeline cannot go on."""

    error: BaseException


Event: TypeAlias = Piece | FileRead | FileFailed | Broken


class FileReader(ABC):
    """Reads files in threads and sends what comes out of them: the reading half of a pipeline.

    Attributes:
        jobs: Files to read.
        events: What came out of them.
        cancel: Once set, no further file is begun and long ones are abandoned in the middle.
        stalls: Watches over threads that read a file (the job) or list files (None).

    Args:
        decoders: Cuts files.
        thumbnails: Where thumbnails are written, or None.
        max_jobs: How many jobs may wait.
        cancel: See above.
    """

    def __init__(
        self, decoders: Decoders, thumbnails: Thumbnails | None, max_jobs: int, cancel: Flag
    ) -> None:
        self.jobs: ByteBoundedQueue[Job] = ByteBoundedQueue(max_jobs)
        self.events: ByteBoundedQueue[Any] = ByteBoundedQueue(_MAX_WAITING_BYTES)
        self.cancel = cancel
        self.stalls = StallWatch[Job | None]()
        self._decoders, self._thumbnails = decoders, thumbnails

    def refuse(self, _path: Path) -> None:
        """Raise `UnsupportedMedia` for a file that is not an item, though its format is known."""
        return

    def claim(self, _job: Job) -> bool:
        """Whether a file may be read now, rather than after another one with the same bytes."""
        return True

    @abstractmethod
    def is_wanted(self, job: Job) -> bool:
        """Whether a file has to be cut, now that its content hash is known."""

    @abstractmethod
    def limits(self) -> Limits:
        """Return what decoding may cost; called when a file is cut, since it opens the model."""

    def run_in_thread(self, work: Callable[[], None]) -> None:
        """Do work until it ends or the queues are closed; an error ends the pipeline."""
        try:
            work()
        except Closed:
            pass
        except BaseException as error:
            _log.debug("a thread of the pipeline ends", exc_info=True)
            with suppress(Closed):  # Another thread has reported its error first.
                self.events.put(Broken(error), 0)

    def read_files(self) -> None:
        """Read files until the queue of jobs is closed; the work of several threads."""
        while not self.cancel.is_set():
            job = self.jobs.take()
            assert job is not None
            self._read(job)

    def _read(self, job: Job) -> None:
        path = job.candidate.path
        try:
            with self._identified(job) as (kind, content_hash):
                self._read_sidecars(job)
                if self.claim(job):
                    self.events.put(self._cut(job, kind, content_hash), 0)
        except UnsupportedMedia as error:
            self._fail(job, Cause.UNSUPPORTED, str(error))
        except MediaError as error:
            self._fail_unless_changed(job, str(error))
        except OSError as error:
            self._fail_unless_changed(job, os_reason(error))
        except (Closed, LibraryError, EmbedderError):
            raise
        except MemoryError:
            self._fail(job, Cause.UNREADABLE, "there is not enough memory to decode it")
        except Exception as error:
            _log.exception("unexpected error while reading %r", str(path))
            self._fail(job, Cause.UNREADABLE, f"it cannot be decoded: {error!r}")

    @contextmanager
    def _identified(self, job: Job) -> Iterator[tuple[Kind, str]]:
        """Find the kind and the content hash of a file, and hold it open.

        So what is hashed is what is decoded, whatever its path leads to meanwhile.
        """
        path = job.candidate.path
        with ExitStack() as stack:
            with self.stalls.over(job):
                file = stack.enter_context(open_media(path))
                stack.enter_context(holding(path, file))
                now = os.fstat(file.fileno())
                job.candidate = replace(job.candidate, size=now.st_size, mtime_ns=now.st_mtime_ns)
                job.kind = detect(path)
                self.refuse(path)
                job.content_hash = sha256_of(path)
            yield job.kind, job.content_hash

    def _read_sidecars(self, job: Job) -> None:
        """Read what the sidecars of a file say about it; one that cannot be read says nothing.

        Of subtitles, the details of the file then say why.
        """
        for sidecar in job.candidate.sidecars:
            with suppress(MemoryError):
                try:
                    with self.stalls.over(job):
                        said = self._decoders.describe(sidecar.path)
                except MediaError as error:
                    said = _unread(sidecar.path, error)
                job.sidecar_details = all_details(job.sidecar_details, said)

    def _fail(self, job: Job, cause: Cause, reason: str = "") -> None:
        self.events.put(FileFailed(job, cause, reason), 0)

    def _fail_unless_changed(self, job: Job, reason: str) -> None:
        """Look again at a file that cannot be read: it may be still being written, or gone."""
        cause = Cause.UNREADABLE
        with self.stalls.over(job):
            try:
                if stat_file(job.candidate.path) != job.candidate:
                    cause = Cause.CHANGED
            except FileNotFoundError:
                cause = Cause.VANISHED
            except OSError as error:
                reason = os_reason(error)
        self._fail(job, cause, reason)

    def _cut(self, job: Job, kind: Kind, content_hash: str) -> Event:
        """Send the pieces of a file; return how it ended."""
        count = 0
        if self.is_wanted(job):
            drafts = self._decoders.cut(job.candidate.path, kind, self.limits())
            try:
                for draft in drafts:
                    self._send_piece(job, count, draft, content_hash)
                    count += 1
            finally:
                if isinstance(drafts, Generator):
                    drafts.close()  # At once, since a process may be busy with the rest.
            if not count:
                return FileFailed(job, Cause.UNREADABLE, "the file has no content to index")
        with self.stalls.over(job):
            unchanged = stat_file(job.candidate.path) == job.candidate
        return FileRead(job, count) if unchanged else FileFailed(job, Cause.CHANGED)

    def _send_piece(self, job: Job, position: int, draft: Draft, content_hash: str) -> None:
        if position and self.cancel.is_set():
            raise Closed
        job.details = job.details or draft.details
        if draft.thumbnail is not None and self._thumbnails is not None:
            self._thumbnails.write(content_hash, position, draft.thumbnail)
        piece = Piece(job, position, draft, _tint(draft), cost_of(draft))
        self.events.put(piece, piece.cost)


def _unread(sidecar: Path, error: MediaError) -> Details:
    """Return what to say of a sidecar that cannot be read."""
    if sidecar.suffix.lower() not in SUFFIXES:
        return Details()
    _log.warning("%s is not read: %s", sidecar, error)
    return Details(facts=((SUBTITLES, f"{sidecar.name} is not read: {error}"),))


def stat_file(path: Path) -> Candidate:
    """Return a file as it is now; raises `OSError`."""
    return _candidate(path, stat_media(path))


def _candidate(path: Path, status: os.stat_result) -> Candidate:
    return Candidate(path, status.st_size, status.st_mtime_ns)


def _tint(draft: Draft) -> bytes | None:
    """Return a still picture's colours on a coarse grid: pictures may differ in nothing else."""
    if draft.picture_hash is None or draft.thumbnail is None:
        return None
    small = draft.thumbnail.resize((_TINT_SIDE, _TINT_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8).tobytes()


def cost_of(draft: Draft) -> int:
    """Return roughly how many bytes a draft holds."""
    pixels = sum(frame.width * frame.height for frame in draft.content.frames)
    return 3 * pixels + len(draft.content.text or "") + _BYTES_PER_WORD * len(draft.words)


class Batch:
    """Pieces that wait to be embedded together.

    Guarantees: a piece gets its own vector or its file fails; a file that fails costs no other
    one anything. The batch grows and shrinks with the speed of the model, so that an ingest with
    a slow model still stops within seconds.

    Args:
        embedder: Opens the model; called when the first piece is embedded.
    """

    def __init__(self, embedder: Callable[[], Embedder]) -> None:
        self._embedder = embedder
        self._pieces: list[Piece] = []
        self._bytes = 0
        self._size = _FIRST_BATCH_SIZE
        self._model_works = False
        self._unexpected_failures = 0

    def __len__(self) -> int:
        return len(self._pieces)

    @property
    def full(self) -> bool:
        """Whether it is time to embed."""
        return len(self._pieces) >= self._size or self._bytes > _MAX_BATCH_BYTES

    def add(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces.append(piece)
        self._bytes += piece.cost

    def embed(self) -> tuple[list[Job], list[FileFailed]]:
        """Embed the pieces of all files not settled, and append the results to their records.

        Returns:
            The files that have got further, and those that cannot be embedded.

        Raises:
            EmbedderError: if the model does not work at all.
        """
        pieces, failed = [one for one in self._pieces if not one.job.settled], list[FileFailed]()
        self._pieces, self._bytes = [], 0
        started = monotonic()
        while pieces:
            try:
                vectors = self._vectors(pieces)
            except EmbedError as error:
                job = pieces[error.position].job
                reason = f"it cannot be embedded: {error.reason}"
                failed.append(FileFailed(job, Cause.NOT_EMBEDDED, reason))
                pieces = [piece for piece in pieces if piece.job is not job]
                continue
            for piece, vector in zip(pieces, vectors, strict=True):
                piece.job.records.append(_record(piece, packed_vector(vector)))
            break
        self._resize(monotonic() - started)
        return list(dict.fromkeys(piece.job for piece in pieces)), failed

    def _resize(self, seconds: float) -> None:
        if seconds > _MAX_BATCH_SECONDS:
            self._size = max(1, self._size // 2)
        elif seconds < _MAX_BATCH_SECONDS / 2:
            self._size = min(_MAX_BATCH_SIZE, self._size * 2)

    def _vectors(self, pieces: Sequence[Piece]) -> Vectors:
        """Return row i for piece i, or raise `EmbedError` with the position of the culprit."""
        embedder = self._embedder()
        contents = [piece.draft.content for piece in pieces]
        try:
            vectors = embedder.embed(contents, "document")
        except EmbedderError:
            raise
        except Exception as error:
            _log.exception("unexpected error while embedding")
            raise self._located(embedder, pieces, error) from error
        if vectors.shape != (len(pieces), embedder.info.dim):
            raise EmbedderError(
                f"the model {embedder.info.name} returned vectors of shape {vectors.shape} "
                f"for {len(pieces)} contents of {embedder.info.dim} dimensions"
            )
        self._model_works = True
        return vectors

    def _located(
        self, embedder: Embedder, pieces: Sequence[Piece], error: Exception
    ) -> EmbedderError:
        """Embed each piece alone to find out whether one of them or the model is at fault."""
        culprits: list[int] = []
        for position, piece in enumerate(pieces):
            try:
                embedder.embed([piece.draft.content], "document")
            except Exception:
                culprits.append(position)
        files = {piece.job for piece in pieces}
        works = files != {pieces[one].job for one in culprits}
        if not works and not self._model_works:
            self._unexpected_failures += len(files)
        self._model_works |= works
        if not culprits or self._unexpected_failures >= _MAX_UNEXPECTED_FAILURES:
            return EmbedderError(f"the model {embedder.info.name} does not work: {error!r}")
        return EmbedError(culprits[0], f"the model fails on it with {error!r}")


def _record(piece: Piece, vector: bytes) -> SegmentRecord:
    draft = piece.draft
    return SegmentRecord(
        position=piece.position,
        modality=draft.content.modality.value,
        vector=vector,
        page=draft.page,
        start=draft.start,
        end=draft.end,
        span=draft.span,
        text=draft.content.text,
        words=packed_words(draft.words) if draft.words else None,
        picture_hash=draft.picture_hash,
        picture_tint=piece.tint,
    )


class Claims:
    """Which bytes are being read, so that files with the same ones are embedded once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[str, list[Job]] = {}

    def claim(self, content_hash: str, job: Job) -> bool:
        """Return True if the job is the first with these bytes; otherwise it waits for that one."""
        with self._lock:
            if content_hash in self._waiting:
                self._waiting[content_hash].append(job)
                return False
            self._waiting[content_hash] = []
            return True

    def release(self, content_hash: str) -> list[Job]:
        """Release the bytes; return the jobs that waited for them."""
        with self._lock:
            return self._waiting.pop(content_hash, [])
