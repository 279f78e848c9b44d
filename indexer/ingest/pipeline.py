"""Counting what an ingest does, and telling how far it is."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from time import monotonic

from embedder.interface import Embedder, EmbedderInfo
from embedder.media.kinds import Kind, Limits
from indexer.catalog.writer import CatalogWriter, Effect, Indexed, Refused
from indexer.config import IngestOptions, within
from indexer.errors import Closed
from indexer.ingest.batches import Batch
from indexer.ingest.decode import (
    ByteBoundedQueue,
    Claims,
    Cutter,
    Decoder,
    Event,
    FileChanged,
    FileGone,
    FileRead,
    FileRefused,
    Job,
    Piece,
)
from indexer.ingest.discovery import Discovered, Discovery, Scan
from indexer.ingest.thumbnails import Thumbnails
from indexer.types import Failure, IngestReport, Progress, Status

_REPORT_SECONDS = 0.2


class IngestTally:
    """The counts of one ingest; for the thread that runs it."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self.path: Path | None = None
        self.known: set[int] = set()
        self._on_progress = on_progress
        self._effects: Counter[Effect] = Counter()
        self._skipped: list[Failure] = []
        self._failures: list[Failure] = []
        self._segments = 0
        self._jobs = 0
        self._done = 0
        self._started_at = monotonic()
        self._reported_at = 0.0

    @property
    def open(self) -> int:
        """Files that still need work."""
        return self._jobs - self._done

    @property
    def changed(self) -> bool:
        """Whether any file was stored with segments or got other ones."""
        return any(
            count for effect, count in self._effects.items() if effect is not Effect.UNCHANGED
        )

    def see(self, sighting: Discovered) -> None:
        """Counts files that were listed."""
        self.known.update(sighting.known)
        self._effects[Effect.UNCHANGED] += sighting.unchanged
        self._jobs += sighting.jobs
        self._failures.extend(sighting.failures)

    def refuse(self, failure: Failure, status: Status) -> None:
        """Counts a file that was skipped or failed."""
        (self._skipped if status is Status.SKIPPED else self._failures).append(failure)

    def finish(self) -> None:
        """Counts a file as done."""
        self._done += 1

    def count(self, outcomes: Sequence[Indexed | Refused], effects: Sequence[Effect]) -> None:
        """Counts what storing some files did; effect i is that of outcome i."""
        self._effects.update(effects)
        self._segments += sum(
            len(outcome.segments) for outcome in outcomes if isinstance(outcome, Indexed)
        )

    def report_progress(self, stage: str, *, force: bool = False) -> None:
        """Tells how far the ingest is, several times a second at most."""
        now = monotonic()
        if self._on_progress is None or (now - self._reported_at < _REPORT_SECONDS and not force):
            return
        self._reported_at = now
        seconds = now - self._started_at
        remaining = self.open * seconds / self._done if self._done else None
        self._on_progress(
            Progress(
                stage=stage,
                done=self._done,
                total=self._jobs,
                path=self.path,
                failures=len(self._failures),
                seconds=seconds,
                remaining=remaining if stage == "ingest" else None,
            )
        )

    def report(self, *, removed: int, near_duplicates: int, cancelled: bool) -> IngestReport:
        """What the ingest did."""
        return IngestReport(
            added=self._effects[Effect.ADDED],
            updated=self._effects[Effect.UPDATED],
            unchanged=self._effects[Effect.UNCHANGED],
            moved=self._effects[Effect.MOVED],
            copies=self._effects[Effect.COPY],
            skipped=tuple(sorted(self._skipped, key=lambda failure: failure.path)),
            failures=tuple(sorted(self._failures, key=lambda failure: failure.path)),
            removed=removed,
            near_duplicates=near_duplicates,
            cancelled=cancelled,
            seconds=monotonic() - self._started_at,
            segments=self._segments,
        )


_log = logging.getLogger(__name__)

_WAITING_BYTES = 64 << 20
_WAITING_JOBS = 200_000
_COMMIT_SECONDS = 0.5
_COMMIT_BYTES = 32 << 20
_STOP_SECONDS = 2.0
_TICK_SECONDS = 0.2
_ATTEMPTS = 2


@dataclass(frozen=True, eq=False, slots=True)
class PipelineContext:
    """What an ingest works with.

    Attributes:
        ledger: Where results are stored.
        thumbnails: Where small pictures are stored.
        embedder: Opens the model; called when the first file needs it.
        adopt: Called before the first file is stored: from then on the vectors are that model's.
        scan: `indexer.ingest.discovery.scan`.
        detect: As `embedder.media.detect`.
        cut: As `indexer.decoding.segment.cut`.
    """

    ledger: CatalogWriter
    thumbnails: Thumbnails
    embedder: Callable[[], Embedder]
    adopt: Callable[[EmbedderInfo], None]
    scan: Scan
    detect: Callable[[Path], Kind]
    cut: Cutter


class Pipeline:
    """One ingest of some paths; `run` once.

    Guarantees: a file is stored with all its segments or not at all; a file that fails costs no
    other file anything; what is stored is committed at least every half second; after `cancel`
    is set, `run` returns within seconds.
    """

    def __init__(
        self,
        workshop: PipelineContext,
        options: IngestOptions,
        on_progress: Callable[[Progress], None] | None,
        cancel: Flag,
    ) -> None:
        self._workshop = workshop
        self._options = options
        self._cancel = cancel
        self._jobs: ByteBoundedQueue[Job] = ByteBoundedQueue(_WAITING_JOBS)
        self._events: ByteBoundedQueue[Event | Discovered] = ByteBoundedQueue(_WAITING_BYTES)
        self._claims = Claims()
        self._tally = IngestTally(on_progress)
        self._batch = Batch(workshop.embedder)
        self._outcomes: list[Indexed | Refused] = []
        self._outcome_bytes = 0
        self._committed_at = monotonic()
        self._adopted = False
        self._scanning = True

    def run(self, paths: Sequence[Path]) -> IngestTally:
        """Ingests the paths; what became of their files is stored when it returns or raises.

        Raises:
            LibraryError: if the library cannot be written to, or holds vectors of another model.
            EmbedderUnavailable: if the model cannot be opened.
        """
        threads = [Thread(target=self._sighter(paths).run, daemon=True, name="ingest-scan")]
        decoder = self._decoder()
        threads += [
            Thread(target=decoder.run, daemon=True, name=f"ingest-read-{number}")
            for number in range(self._options.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work()
            if self._cancel.is_set():
                self._wind_down()
        finally:
            self._jobs.close()
            self._events.close()
            for thread in threads:
                thread.join(timeout=_STOP_SECONDS)
        self._commit()
        self._tally.report_progress("finish", force=True)
        return self._tally

    def _sighter(self, paths: Sequence[Path]) -> Discovery:
        return Discovery(
            ledger=self._workshop.ledger,
            scan=self._workshop.scan,
            jobs=self._jobs,
            events=self._events,
            cancel=self._cancel,
            options=self._options,
            paths=paths,
        )

    def _decoder(self) -> Decoder:
        shop = self._workshop
        return Decoder(
            jobs=self._jobs,
            events=self._events,
            claim=self._claims.claim,
            wanted=self._is_new,
            thumbnails=shop.thumbnails,
            limits=self._limits,
            detect=shop.detect,
            cut=shop.cut,
            cancel=self._cancel,
        )

    def _is_new(self, job: Job) -> bool:
        return job.content_hash is not None and not self._workshop.ledger.has_media(
            job.content_hash
        )

    def _limits(self) -> Limits:
        """The limits given, with frames no larger than the model makes use of."""
        return within(self._options.limits, self._workshop.embedder().info)

    def _work(self) -> None:
        while self._scanning or self._tally.open:
            if self._cancel.is_set():
                return
            event = self._events.take(0 if self._batch else _TICK_SECONDS)
            if event is not None:
                self._handle(event)
            if self._batch.full or (event is None and self._batch):
                self._embed()
            if (
                event is None
                or monotonic() - self._committed_at > _COMMIT_SECONDS
                or self._outcome_bytes > _COMMIT_BYTES
            ):
                self._commit()
            self._tally.report_progress("scan" if self._scanning else "ingest")

    def _handle(self, event: Event | Discovered) -> None:
        if isinstance(event, Discovered):
            self._tally.see(event)
            self._scanning = not event.last
        elif isinstance(event, Piece):
            if not event.job.settled:
                self._tally.path = event.job.candidate.path
                self._batch.add(event)
        elif isinstance(event, FileRead):
            event.job.expected = event.pieces
            self._settle_if_complete(event.job)
        elif isinstance(event, FileRefused):
            self._refuse(event.job, event.status, event.reason)
        elif isinstance(event, FileChanged):
            self._read_again(event.job)
        elif isinstance(event, FileGone):
            self._settle(event.job)
            self._release(event.job)
            gone = Failure(event.job.candidate.path, "it vanished before it was read")
            self._tally.refuse(gone, Status.FAILED)
        else:
            raise event.error

    def _embed(self) -> None:
        """Embeds the batch; a content that cannot be embedded costs its file and no other."""
        further, blames = self._batch.embed()
        for blame in blames:
            self._refuse(blame.job, Status.FAILED, blame.reason)
        for job in further:
            self._settle_if_complete(job)

    def _settle_if_complete(self, job: Job) -> None:
        if job.settled or job.expected is None or len(job.records) < job.expected:
            return
        self._settle(job)
        assert job.kind is not None
        assert job.content_hash is not None
        records = tuple(job.records)
        job.records.clear()
        self._outcomes.append(Indexed(job.candidate, job.kind, job.content_hash, records))
        self._outcome_bytes += sum(
            len(one.vector) + len(one.text or "") + len(one.words or b"") for one in records
        )

    def _refuse(self, job: Job, status: Status, reason: str) -> None:
        if job.settled:
            return
        self._settle(job)
        self._outcomes.append(Refused(job.candidate, status, reason, job.kind))
        self._tally.refuse(Failure(job.candidate.path, reason), status)
        self._release(job)

    def _read_again(self, job: Job) -> None:
        """Starts a file over that changed while it was read, once."""
        if job.attempt >= _ATTEMPTS:
            self._refuse(
                job,
                Status.FAILED,
                "it changed while it was read, twice: ingest again when it is complete",
            )
            return
        job.settled = True
        self._release(job)
        self._jobs.put_first([Job(job.candidate, attempt=job.attempt + 1)])

    def _settle(self, job: Job) -> None:
        job.settled = True
        self._tally.finish()

    def _release(self, job: Job) -> None:
        """Lets files with the same bytes go their own way, after this one did not get in."""
        if job.content_hash is not None:
            if not self._workshop.ledger.has_media(job.content_hash):
                self._workshop.thumbnails.remove(job.content_hash)
            self._jobs.put_first(self._claims.release(job.content_hash))

    def _commit(self) -> None:
        """Stores what has been settled, then files that have the same bytes."""
        self._committed_at = monotonic()
        outcomes, self._outcomes, self._outcome_bytes = self._outcomes, [], 0
        while outcomes:
            if any(isinstance(outcome, Indexed) for outcome in outcomes):
                self._adopt()
            self._tally.count(outcomes, self._workshop.ledger.record(outcomes))
            copies: list[Indexed | Refused] = []
            for outcome in outcomes:
                if isinstance(outcome, Indexed):
                    for job in self._claims.release(outcome.content_hash):
                        self._settle(job)
                        copies.append(
                            Indexed(job.candidate, job.kind or outcome.kind, outcome.content_hash)
                        )
            outcomes = copies

    def _adopt(self) -> None:
        if not self._adopted:
            self._workshop.adopt(self._workshop.embedder().info)
            self._adopted = True

    def _wind_down(self) -> None:
        """After a cancellation: what has been read completely is still embedded, for a moment."""
        deadline = monotonic() + _STOP_SECONDS
        self._jobs.close()
        self._events.close()
        waiting = self._batch.take()
        with suppress(Closed):
            while monotonic() < deadline:
                event = self._events.take()
                if isinstance(event, Piece):
                    waiting.append(event)
                elif isinstance(event, FileRead | FileRefused):
                    self._handle(event)
        for job in dict.fromkeys(piece.job for piece in waiting):
            if job.expected is not None and monotonic() < deadline:
                for piece in waiting:
                    if piece.job is job:
                        self._batch.add(piece)
                self._embed()
