"""The pipeline: list, read, embed and store; and the ingest of files, which is one use of it."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from time import monotonic
from typing import TypeAlias

from embedder.interface import Embedder, EmbedderInfo
from embedder.media.kinds import Limits
from indexer.catalog.outcomes import Effect, Indexed, Refused
from indexer.catalog.writer import CatalogWriter
from indexer.errors import Closed, LibraryError
from indexer.ingest.discovery import Compared, compare
from indexer.ingest.live_photos import refuse_moving_part
from indexer.ingest.stages import (
    Batch,
    Broken,
    Cause,
    Claims,
    Decoders,
    Event,
    FileFailed,
    FileRead,
    FileReader,
    Job,
    Piece,
)
from indexer.ingest.stalls import STALLED_SECONDS
from indexer.ingest.thumbnails import Thumbnails
from indexer.presence import FolderId
from indexer.progress import Progress, ProgressReporter
from indexer.types import Failure, IngestOptions, IngestReport, Kept, Root, Status

_COMMIT_BYTES = 32 << 20
_STOP_SECONDS = 2.0
_TICK_SECONDS = 0.2
_MAX_STALLED_THREADS = 16
_STALLED = f"a disk or network folder has not answered for {STALLED_SECONDS:.0f} seconds"
_REMEDY = "unmount or exclude it, and run the same command again"
_MAX_ATTEMPTS = 2


@dataclass(frozen=True, eq=False, slots=True)
class Listed:
    """Work that a source has found.

    Attributes:
        count: How many jobs will be settled.
        to_read: Those of them whose files have to be read.
    """

    count: int
    to_read: Sequence[Job] = ()


@dataclass(frozen=True, eq=False, slots=True)
class _Exhausted:
    """The source has listed everything."""


SourceEvent: TypeAlias = Listed | Piece | FileRead | FileFailed


class Pipeline(FileReader):
    """Reads, embeds and stores what a source lists; `run` once.

    One thread lists, several read and decode, and the calling thread embeds and stores. The queue
    between them is bounded by bytes, so memory does not grow with the number or size of files.

    Guarantees: a file is stored with all its segments or not at all; one that fails costs no other
    file anything; complete files are committed at least every half second; after `cancel` is set,
    `run` returns within seconds.

    A subclass is the source and the sink: it says what there is to do (`source`), and what to do
    when a job has got further (`advance`), has failed (`fail`), or is due to be stored (`commit`).
    `claim` and `is_wanted` are called in the reading threads, `source` in the listing thread, and
    everything else in the calling thread.

    Attributes:
        name: Of the threads.
        max_waiting_jobs: How many files may wait to be read.
        commit_seconds: How long results may wait to be stored.
        total: Jobs listed.
        done: Jobs settled.
        listing: Whether more jobs may be listed.
        path: A file that is being embedded.
        unsaved_bytes: What `commit` would store.

    Args:
        embedder: Opens the model; called when the first file needs it.
        decoders: Cuts files.
        workers: Threads that read and decode.
        cancel: Stops the pipeline.
        thumbnails: Where thumbnails are written, or None.
    """

    name = "pipeline"
    max_waiting_jobs = 1_000
    commit_seconds = 0.5

    def __init__(
        self,
        embedder: Callable[[], Embedder],
        decoders: Decoders,
        *,
        workers: int,
        cancel: Flag,
        thumbnails: Thumbnails | None = None,
    ) -> None:
        super().__init__(decoders, thumbnails, self.max_waiting_jobs, cancel)
        self.total = self.done = self.unsaved_bytes = 0
        self.listing = True
        self.path: Path | None = None
        self._batch = Batch(embedder)
        self._committed_at = monotonic()
        self._workers = workers
        self._threads: list[Thread] = []
        self._stalled_threads = 0
        self._listing_stalled = False

    @abstractmethod
    def source(self) -> Iterator[SourceEvent]:
        """List the jobs; pieces whose files need not be read follow their job."""

    def accepts(self, _piece: Piece) -> bool:
        """Whether a piece has to be embedded."""
        return True

    def on_listed(self, listed: Listed) -> None:
        """Count what was listed."""
        self.total += listed.count

    @abstractmethod
    def advance(self, job: Job) -> None:
        """Note that a job has more `records`, or has become complete (`expected`)."""

    @abstractmethod
    def fail(self, failed: FileFailed) -> None:
        """Settle a job that has failed, or replace it."""

    @abstractmethod
    def commit(self) -> None:
        """Store what is embedded."""

    @abstractmethod
    def report_progress(self) -> None:
        """Report how far the work is; called several times a second."""

    def run(self) -> None:
        """Do the work; what was embedded is stored when this returns or raises.

        Raises:
            EmbedderError: if the model cannot be opened or does not work.
            LibraryError: if the library cannot be written to, or holds vectors of another model;
                or if disks do not answer: not where files are listed, or for many files.
        """
        for work in [self._list, *[self.read_files] * self._workers]:
            self._start(work)
        try:
            while (self.listing or self.done < self.total) and not self.cancel.is_set():
                self._step()
                self._replace_stalled()
            if self.cancel.is_set():
                self._drain(monotonic() + _STOP_SECONDS)
            elif self._listing_stalled:
                raise LibraryError(f"{_STALLED} while files were listed: {_REMEDY}")
        finally:
            self._close_queues()
            for thread in self._threads:
                thread.join(timeout=_STOP_SECONDS)
            self.commit()

    def settle(self, job: Job) -> None:
        """Count a job as done."""
        job.settled = True
        self.done += 1

    def replace(self, job: Job, other: Job) -> None:
        """Have another job read in the place of one."""
        job.settled = True
        self.jobs.put_first([other])

    def _start(self, work: Callable[[], None]) -> None:
        thread = Thread(target=self.run_in_thread, args=(work,), daemon=True, name=self.name)
        self._threads.append(thread)
        thread.start()

    def _replace_stalled(self) -> None:
        """Fail the files whose disks do not answer, and continue in other threads."""
        for wait in self.stalls.give_up_stalled():
            self._threads.remove(wait.thread)
            self._stalled_threads += 1
            if wait.work is None:  # what has been listed is still read
                self._listing_stalled, self.listing = True, False
                continue
            if self._stalled_threads > _MAX_STALLED_THREADS:
                raise LibraryError(f"{_STALLED}: {_REMEDY}")
            self._handle(FileFailed(wait.work, Cause.UNREADABLE, _STALLED))
            self._start(self.read_files)

    def _embed(self) -> None:
        """Embed the batch."""
        advanced, failed = self._batch.embed()
        for one in failed:
            self.fail(one)
        for job in advanced:
            self.advance(job)

    def _close_queues(self) -> None:
        self.jobs.close()
        self.events.close()

    def _drain(self, deadline: float) -> None:
        """Embed what has been decoded, until a time of `monotonic`, since parts are not stored."""
        self._close_queues()
        with suppress(Closed):
            while monotonic() < deadline:
                event = self.events.take()
                if event is not None and not isinstance(event, Broken):
                    self._handle(event)
                if self._batch.full:
                    self._embed()
        self._embed()

    def _step(self) -> None:
        event = self.events.take(0 if self._batch else _TICK_SECONDS)
        if event is not None:
            self._handle(event)
        if self._batch.full or (event is None and self._batch):
            self._embed()
        due = monotonic() - self._committed_at > self.commit_seconds
        if event is None or due or self.unsaved_bytes > _COMMIT_BYTES:
            self._committed_at = monotonic()
            self.commit()
        self.report_progress()

    def _handle(self, event: Event | Listed | _Exhausted) -> None:
        if isinstance(event, Broken):
            raise event.error
        if isinstance(event, _Exhausted):
            self.listing = False
        elif isinstance(event, Listed):
            self.on_listed(event)
        elif event.job.settled:
            pass  # It has failed or was replaced, and its reader did not know yet.
        elif isinstance(event, FileFailed):
            self.fail(event)
        elif isinstance(event, FileRead):
            event.job.expected = event.pieces
            self.advance(event.job)
        elif self.accepts(event):
            self.path = event.job.candidate.path
            self._batch.add(event)

    def _list(self) -> None:
        """Send what the source lists to the other threads; the work of one thread."""
        for event in self.source():
            if self.cancel.is_set():
                return
            self.events.put(event, event.cost if isinstance(event, Piece) else 0)
            for job in event.to_read if isinstance(event, Listed) else ():
                self.jobs.put(job)
        self.events.put(_Exhausted(), 0)


@dataclass(frozen=True, eq=False, slots=True)
class _ListedFiles(Listed):
    """Files that were listed, also those that need no work."""

    found: Compared = field(kw_only=True)


class FileIngest(Pipeline):
    """The ingest of what is at some roots.

    Guarantees, beside those of `Pipeline`: files with the same bytes are embedded once; a file
    that changes while it is read is read again, once.

    Attributes:
        known: Ids of the files found that the library knew.
        folders: The folders in which files were found.
        sidecars: Sidecars that the library knew as files, by their ids.

    Args:
        roots: What to ingest.
        options: How to ingest.
        writer: Stores results.
        thumbnails: Stores thumbnails.
        embedder: Opens the model; called when the first file needs it.
        adopt: Called before the first file is stored: from then on the vectors are that model's.
        decoders: Cuts files.
        on_progress: Called several times a second at most.
        cancel: Stops it.
    """

    name = "ingest"
    max_waiting_jobs = 200_000  # Listing runs ahead, so that the total is known early.

    def __init__(  # noqa: PLR0913 -- what it needs of a library, each by name
        self,
        roots: Sequence[Root],
        options: IngestOptions,
        *,
        writer: CatalogWriter,
        thumbnails: Thumbnails,
        embedder: Callable[[], Embedder],
        adopt: Callable[[EmbedderInfo], None],
        decoders: Decoders,
        on_progress: Callable[[Progress], None] | None,
        cancel: Flag,
    ) -> None:
        super().__init__(
            embedder, decoders, workers=options.workers, cancel=cancel, thumbnails=thumbnails
        )
        self.known: set[int] = set()
        self.folders: dict[Path, FolderId] = {}
        self.sidecars: dict[int, Path] = {}
        self._roots, self._options, self._writer = roots, options, writer
        self._embedder, self._adopt = embedder, adopt
        self._remove_thumbnails = thumbnails.remove
        self._claims = Claims()
        self._progress = ProgressReporter(on_progress)
        self._results: list[Indexed | Refused] = []
        self._adopted = False
        self._effects: Counter[Effect] = Counter()
        self._skipped: list[Failure] = []
        self._failures: list[Failure] = []
        self._segments = 0

    @property
    def changed(self) -> bool:
        """Whether any file was stored with segments or got other ones."""
        return any(
            count for effect, count in self._effects.items() if effect is not Effect.UNCHANGED
        )

    def run(self) -> None:
        """Ingest the files; see `Pipeline.run`."""
        super().run()
        self._report("finish")

    def source(self) -> Iterator[SourceEvent]:
        """List the new and changed files."""
        listed = compare(self._writer, self._roots, self._options)
        for found in self.stalls.over_each(None, listed):
            work = [Job(candidate) for candidate in found.new + found.changed]
            yield _ListedFiles(len(work), work, found=found)

    def on_listed(self, listed: Listed) -> None:
        """Count the files, also those that need no work."""
        super().on_listed(listed)
        assert isinstance(listed, _ListedFiles)
        self.known.update(one.id for one in listed.found.known)
        self.folders |= listed.found.folders
        self.sidecars |= listed.found.sidecars
        self._effects[Effect.UNCHANGED] += listed.found.unchanged
        self._failures += listed.found.failures

    def limits(self) -> Limits:
        """Return the limits of the options, with frames no larger than the model makes use of."""
        return self._options.limits.within(self._embedder().info.frame_side)

    def refuse(self, path: Path) -> None:
        """Refuse the moving parts of live photos."""
        refuse_moving_part(path)

    def claim(self, job: Job) -> bool:
        """Whether no other file with the same bytes is being read."""
        return job.content_hash is None or self._claims.claim(job.content_hash, job)

    def is_wanted(self, job: Job) -> bool:
        """Whether the library does not hold the bytes yet."""
        return job.content_hash is not None and not self._writer.has_media(job.content_hash)

    def advance(self, job: Job) -> None:
        """Keep a file for the next commit once all its segments are embedded."""
        if job.settled or job.expected is None or len(job.records) < job.expected:
            return
        self.settle(job)
        assert job.kind is not None
        assert job.content_hash is not None
        records = tuple(job.records)
        job.records.clear()
        self._results.append(
            Indexed(
                job.candidate,
                job.kind,
                job.content_hash,
                records,
                job.details,
                job.sidecar_details,
            )
        )
        self.unsaved_bytes += sum(
            len(one.vector) + len(one.text or "") + len(one.words or b"") for one in records
        )

    def fail(self, failed: FileFailed) -> None:
        """Keep a failure for the next commit; read a file that has changed once more."""
        job, reason = failed.job, failed.reason
        if failed.cause is Cause.CHANGED and job.attempt < _MAX_ATTEMPTS:
            self._release(job)
            self.replace(job, Job(job.candidate, attempt=job.attempt + 1))
            return
        self.settle(job)
        status = Status.SKIPPED if failed.cause is Cause.UNSUPPORTED else Status.FAILED
        if failed.cause is Cause.VANISHED:
            reason = "the file vanished before it was read"
        elif failed.cause is Cause.CHANGED:
            reason = "the file changed twice while it was read: ingest it again when it is complete"
        if failed.cause is not Cause.VANISHED:
            self._results.append(Refused(job.candidate, status, reason, job.kind))
        failure = Failure(job.candidate.path, reason)
        (self._skipped if status is Status.SKIPPED else self._failures).append(failure)
        self._release(job)

    def commit(self) -> None:
        """Store the results, and then the files that waited since they have the same bytes."""
        results, self._results, self.unsaved_bytes = self._results, [], 0
        while results:
            if not self._adopted and any(isinstance(one, Indexed) for one in results):
                self._adopt(self._embedder().info)
                self._adopted = True
            self._effects.update(self._writer.record(results))
            copies: list[Indexed | Refused] = []
            for one in results:
                if not isinstance(one, Indexed):
                    continue
                self._segments += len(one.segments)
                for job in self._claims.release(one.content_hash):
                    self.settle(job)
                    kind, said = job.kind or one.kind, job.sidecar_details
                    copies.append(
                        Indexed(job.candidate, kind, one.content_hash, sidecar_details=said)
                    )
            results = copies

    def report_progress(self) -> None:
        """Report how many files are done."""
        self._report("scan" if self.listing else "ingest")

    def report(
        self, *, removed: int, kept: Sequence[Kept], near_duplicates: int, cancelled: bool
    ) -> IngestReport:
        """Return what the ingest did."""
        effects = self._effects
        return IngestReport(
            added=effects[Effect.ADDED],
            updated=effects[Effect.UPDATED],
            unchanged=effects[Effect.UNCHANGED],
            moved=effects[Effect.MOVED],
            copies=effects[Effect.COPY],
            skipped=tuple(sorted(self._skipped, key=lambda failure: failure.path)),
            failures=tuple(sorted(self._failures, key=lambda failure: failure.path)),
            removed=removed,
            kept=tuple(kept),
            near_duplicates=near_duplicates,
            cancelled=cancelled,
            seconds=self._progress.seconds,
            segments=self._segments,
        )

    def _report(self, stage: str) -> None:
        self._progress.report(
            stage,
            self.done,
            self.total,
            path=self.path,
            failures=len(self._failures),
            complete=stage == "ingest",
        )

    def _release(self, job: Job) -> None:
        """Let another file with the same bytes be read, after this one was not stored."""
        if job.content_hash is not None:
            if not self._writer.has_media(job.content_hash):
                self._remove_thumbnails(job.content_hash)
            self.jobs.put_first(self._claims.release(job.content_hash))
