"""The listing part of a re-embedding: which media lack vectors, and the texts among them."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TypeAlias

from embedder.content import Content, Modality
from embedder.interface import Embedder
from embedder.media.kinds import Kind, Limits
from indexer.catalog.staged import Outline, StagedVectors
from indexer.decoding.segment import Draft
from indexer.errors import Closed
from indexer.ingest.batches import Batch
from indexer.ingest.decode import (
    Broken,
    ByteBoundedQueue,
    Cutter,
    Decoder,
    Event,
    FileChanged,
    FileGone,
    FileRead,
    FileRefused,
    Job,
    Piece,
    cost_of,
    stamp,
)
from indexer.types import Candidate, Failure, Progress, Segment

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class MediaJob(Job):
    """Media to be embedded again, by one of the files that hold them.

    Attributes:
        media: What lacks vectors.
        from_text: No file is read, since the library has the words.
        reasons: Why holders could not be used, so far.
        waiting: Segments that were read and have no vector yet, by position.
    """

    media: Outline = field(kw_only=True)
    from_text: bool = False
    reasons: dict[Path, str] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)


@dataclass(frozen=True, eq=False, slots=True)
class Begun:
    """Media of which something will be heard."""

    job: MediaJob


@dataclass(frozen=True, eq=False, slots=True)
class AllBegun:
    """No more media follow."""


Message: TypeAlias = Event | Begun | AllBegun


@dataclass(frozen=True, eq=False, slots=True)
class ReembedSource:
    """Sends the texts that lack vectors and the files that have to be read; runs in one thread."""

    pending: StagedVectors
    jobs: ByteBoundedQueue[Job]
    events: ByteBoundedQueue[Message]
    cancel: Flag

    def run(self) -> None:
        """The body of the thread."""
        try:
            for media in self.pending.outlines():
                if self.cancel.is_set():
                    return
                self._send(media)
            self.events.put(AllBegun(), 0)
        except Closed:
            pass
        except BaseException as error:
            _log.debug("the feeding ends", exc_info=True)
            with suppress(Closed):
                self.events.put(Broken(error), 0)

    def _send(self, media: Outline) -> None:
        lacking = [one for one in media.segments if one.position in media.missing]
        job = job_for(media, from_text=all(one.modality is Modality.TEXT for one in lacking))
        self.events.put(Begun(job), 0)
        if not job.from_text:
            self.jobs.put(job)
            return
        for one in lacking:
            draft = _draft(one)
            self.events.put(Piece(job, one.position, draft, None, cost_of(draft)), cost_of(draft))
        self.events.put(FileRead(job, len(media.segments)), 0)


def is_wanted(job: Job) -> bool:
    """Whether the file still has the bytes that were taken in."""
    return isinstance(job, MediaJob) and job.content_hash == job.media.content_hash


def job_for(
    media: Outline, *, from_text: bool = False, reasons: dict[Path, str] | None = None
) -> MediaJob:
    """A job for the first holder that nothing is wrong with yet."""
    reasons = reasons or {}
    path = next((path for path in media.holders if path not in reasons), Path())
    candidate = Candidate(path, 0, 0)
    return MediaJob(candidate, media=media, from_text=from_text, reasons=reasons)


def _draft(segment: Segment) -> Draft:
    content = Content(text=segment.text, modality=segment.modality)
    return Draft(
        content, page=segment.page, start=segment.start, end=segment.end, span=segment.span
    )


_WAITING_BYTES = 64 << 20
_WAITING_JOBS = 1_000
_COMMIT_SECONDS = 0.5
_COMMIT_BYTES = 32 << 20
_REPORT_SECONDS = 0.2
_STOP_SECONDS = 2.0
_TICK_SECONDS = 0.2

_CHANGED = "it has changed since it was taken in: ingest it again, then run this again"
_CHANGING = "it changed while it was read: ingest it when it is complete, then run this again"
_GONE = "it is not there any more: bring it back, or ingest its folder again to forget it"
_CUT_OTHERWISE = (
    "its segments are not those that were taken in, since it is cut in another way now: leave it "
    "out and ingest it again"
)


class Reembedding:
    """One run over what lacks a vector of the new model; `run` once.

    Guarantees: a vector is stored only with the segment that it is of: a file must still have the
    bytes that were taken in, and be cut into the same segments; whoever cannot be embedded is in
    `failures` with all files that hold the same bytes; what is computed is committed at least
    every half second; after `cancel` is set, `run` returns within seconds.

    Attributes:
        computed: Vectors stored.
        failures: By content hash, what is wrong with each of the files.

    Args:
        pending: Where vectors are stored; made ready for the model.
        embedder: The new model.
        limits: How files are cut; what may be decoded should not be limited, since it has been
            decoded before.
        detect: As `embedder.media.detect`.
        cut: As `indexer.decoding.segment.cut`.
        workers: Threads that read and decode files.
        tell: Called with progress several times a second at most: `done` and `total` count the
            segments of the library, `done` those that had a vector from an earlier run too.
        cancel: Stops it.
    """

    def __init__(
        self,
        pending: StagedVectors,
        embedder: Embedder,
        limits: Limits,
        detect: Callable[[Path], Kind],
        cut: Cutter,
        *,
        workers: int,
        tell: Callable[[Progress], None] | None,
        cancel: Flag,
    ) -> None:
        self.computed = 0
        self.failures: dict[str, dict[Path, str]] = {}
        self._pending = pending
        self._tell = tell
        self._cancel = cancel
        self._jobs: ByteBoundedQueue[Job] = ByteBoundedQueue(_WAITING_JOBS)
        self._events: ByteBoundedQueue[Message] = ByteBoundedQueue(_WAITING_BYTES)
        self._batch = Batch(lambda: embedder)
        self._vectors: dict[MediaJob, dict[int, bytes]] = {}
        self._vector_bytes = 0
        self._open = 0
        self._all_begun = False
        self._path: Path | None = None
        self._started_at = self._committed_at = monotonic()
        self._told_at = 0.0
        self._reused = pending.count()
        self._total = self._reused + sum(pending.missing().values())
        feeder = ReembedSource(pending, self._jobs, self._events, cancel)
        decoder = Decoder(
            jobs=self._jobs,
            events=self._events,
            claim=lambda _hash, _job: True,
            wanted=is_wanted,
            thumbnails=None,
            limits=lambda: limits,
            detect=detect,
            cut=cut,
            cancel=cancel,
        )
        self._threads = [Thread(target=feeder.run, daemon=True, name="reembed-feed")]
        self._threads += [
            Thread(target=decoder.run, daemon=True, name=f"reembed-read-{number}")
            for number in range(workers)
        ]

    def run(self) -> None:
        """Embeds what lacks a vector.

        Raises:
            EmbedderError: if the model does not work.
            LibraryError: if the library cannot be written to.
        """
        for thread in self._threads:
            thread.start()
        try:
            while (self._open or not self._all_begun) and not self._cancel.is_set():
                self._step()
        finally:
            self._jobs.close()
            self._events.close()
            for thread in self._threads:
                thread.join(timeout=_STOP_SECONDS)
            self._commit()

    def report_progress(self, stage: str, *, force: bool = False) -> None:
        """Tells how far it is, several times a second at most."""
        now = monotonic()
        if self._tell is None or (now - self._told_at < _REPORT_SECONDS and not force):
            return
        self._told_at = now
        seconds = now - self._started_at
        left = self._total - self._reused - self.computed
        self._tell(
            Progress(
                stage=stage,
                done=self._reused + self.computed,
                total=self._total,
                path=self._path,
                failures=sum(map(len, self.failures.values())),
                seconds=seconds,
                remaining=left * seconds / self.computed if self.computed else None,
                reused=self._reused,
            )
        )

    def _step(self) -> None:
        event = self._events.take(0 if self._batch else _TICK_SECONDS)
        if event is not None:
            self._handle(event)
        if self._batch.full or (event is None and self._batch):
            self._embed()
        due = monotonic() - self._committed_at > _COMMIT_SECONDS
        if event is None or due or self._vector_bytes > _COMMIT_BYTES:
            self._commit()
        self.report_progress("reembed")

    def _handle(self, event: Message) -> None:
        if isinstance(event, Broken):
            raise event.error
        if isinstance(event, AllBegun):
            self._all_begun = True
            return
        job = event.job
        assert isinstance(job, MediaJob)
        if isinstance(event, Begun):
            self._open += 1
            if not job.media.holders:  # A removal that was cut short; it leaves with the next one.
                self._give_up(job, "no file holds it any more")
        elif job.settled:
            pass
        elif isinstance(event, Piece):
            self._take(event, job)
        elif isinstance(event, FileRead):
            self._check_read(job, event.pieces)
        elif isinstance(event, FileRefused):
            self._try_next(job, event.reason)
        elif isinstance(event, FileChanged):
            self._try_next(job, _CHANGING)
        elif isinstance(event, FileGone):
            self._try_next(job, _GONE)

    def _take(self, piece: Piece, job: MediaJob) -> None:
        self._path = job.candidate.path
        segments, position = job.media.segments, piece.position
        if position >= len(segments) or not _same_place(piece.draft, segments[position]):
            self._give_up(job, _CUT_OTHERWISE)
        elif position in job.media.missing:
            job.waiting.add(position)
            self._batch.add(piece)

    def _check_read(self, job: MediaJob, pieces: int) -> None:
        if not job.from_text and not is_wanted(job):
            self._try_next(job, _CHANGED)
        elif pieces != len(job.media.segments):
            self._give_up(job, _CUT_OTHERWISE)
        else:
            job.expected = pieces
            self._finish_if_complete(job)

    def _embed(self) -> None:
        further, blames = self._batch.embed()
        for blame in blames:
            assert isinstance(blame.job, MediaJob)
            self._give_up(blame.job, blame.reason)
        for job in further:
            assert isinstance(job, MediaJob)
            kept = self._vectors.setdefault(job, {})
            for record in job.records:
                kept[job.media.segments[record.position].id] = record.vector
                self._vector_bytes += len(record.vector)
                job.waiting.discard(record.position)
            job.records.clear()
            self._finish_if_complete(job)

    def _finish_if_complete(self, job: MediaJob) -> None:
        if not job.settled and job.expected is not None and not job.waiting:
            job.settled = True
            self._open -= 1

    def _try_next(self, job: MediaJob, reason: str) -> None:
        """Goes on with another file of the same bytes, if there is one."""
        job.reasons[job.candidate.path] = reason
        self._discard(job)
        if all(path in job.reasons for path in job.media.holders):
            self._give_up(job, reason)
            return
        job.settled = True
        self._jobs.put_first([job_for(job.media, reasons=job.reasons)])

    def _give_up(self, job: MediaJob, reason: str) -> None:
        """Counts media as failed, with every file that holds them."""
        if job.settled:
            return
        job.settled = True
        self._open -= 1
        self._discard(job)
        self.failures[job.media.content_hash] = {
            path: job.reasons.get(path, reason) for path in job.media.holders
        }

    def _discard(self, job: MediaJob) -> None:
        """Of media that fail, nothing stays that could pass for complete in the next run."""
        self._vectors.pop(job, None)
        segments = [job.media.segments[position].id for position in job.media.missing]
        self.computed -= self._pending.forget(segments)

    def _commit(self) -> None:
        """Stores what was embedded; of a file still being read only while it is unchanged."""
        self._committed_at = monotonic()
        for job in list(self._vectors):
            if job.expected is None and not job.from_text and not _is_unchanged(job):
                self._try_next(job, _CHANGING)
        vectors = {one: data for kept in self._vectors.values() for one, data in kept.items()}
        self._vectors, self._vector_bytes = {}, 0
        self._pending.add(vectors)
        self.computed += len(vectors)


def as_failures(failures: dict[str, dict[Path, str]]) -> tuple[Failure, ...]:
    """The files that failed, in order of their paths."""
    found = [Failure(path, why) for files in failures.values() for path, why in files.items()]
    return tuple(sorted(found, key=lambda failure: failure.path))


def _same_place(draft: Draft, segment: Segment) -> bool:
    return (draft.page, draft.start, draft.end, draft.span, draft.content.modality) == (
        segment.page,
        segment.start,
        segment.end,
        segment.span,
        segment.modality,
    )


def _is_unchanged(job: Job) -> bool:
    try:
        return stamp(job.candidate.path) == job.candidate
    except OSError:
        return False
