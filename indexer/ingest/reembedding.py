"""Re-embed a library: compute the vectors of another model beside those in use, then switch."""

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from threading import Event as Flag

from embedder.content import Content, Modality
from embedder.interface import Embedder
from embedder.media import Draft
from embedder.media.kinds import Limits, os_reason
from indexer.catalog import Catalog
from indexer.catalog.staged import Outline, StagedVectors
from indexer.catalog.writer import CatalogWriter
from indexer.ingest.pipeline import Listed, Pipeline, SourceEvent
from indexer.ingest.stages import (
    Cause,
    Decoders,
    FileFailed,
    FileRead,
    Job,
    OpenDecoders,
    Piece,
    cost_of,
)
from indexer.ingest.thumbnails import Thumbnails
from indexer.model import Instructions, LibraryModel
from indexer.presence import status_of
from indexer.progress import Progress, ProgressReporter
from indexer.types import Candidate, Failure, IngestOptions, ReembedPlan, ReembedReport, Segment
from indexer.vectors.sync import IndexSync

# What is in the library was decoded before, whatever the limits were then.
_NO_LIMITS = replace(
    Limits(), pixels=sys.maxsize, seconds=inf, pages=sys.maxsize, file_bytes=sys.maxsize
)

_UNHELD = "no file has these bytes any more"
_MISSING = "the file is missing: restore it, or ingest its folder again to remove it"
_CHANGED = "the file has changed since it was indexed: ingest it again, then re-embed again"
_CHANGING = "the file changed while it was read: ingest it when it is complete, then re-embed again"
_CUT_DIFFERENTLY = (
    "the file is cut into other segments than when it was indexed: leave it out, then ingest it "
    "again"
)


@dataclass(frozen=True, eq=False, slots=True)
class ModelSwitch:
    """Gives a library another model; only the holder of the writer lock may `run` it.

    Attributes:
        catalog: What the library holds.
        writer: Removes files, and stores how many near duplicates there are.
        staged: Where the new vectors wait.
        model: The library's model and embedder.
        sync: Its vectors as they are searched.
        thumbnails: Thumbnails, which stay.
        decoders: Opens what decodes files.
    """

    catalog: Catalog
    writer: CatalogWriter
    staged: StagedVectors
    model: LibraryModel
    sync: IndexSync
    thumbnails: Thumbnails
    decoders: OpenDecoders

    def run(
        self,
        name: str,
        instructions: Instructions,
        *,
        leave_out: bool,
        workers: int | None,
        on_progress: Callable[[Progress], None] | None,
        cancel: Flag,
    ) -> ReembedReport:
        """Compute what is missing, and switch if nothing failed; see `indexer.Library.reembed`."""
        progress = ProgressReporter(on_progress)
        options = IngestOptions() if workers is None else IngestOptions(workers=workers)
        instructions = self.model.kept(name, instructions)
        embedder = self.model.open_another(name, instructions)
        try:
            if self._is_current(embedder, instructions):
                embedder.close()
                return ReembedReport(name, seconds=progress.seconds)
            for content_hash in self.writer.remove_orphans():
                self.thumbnails.remove(content_hash)
            reused = self.staged.begin(embedder.info, instructions)
            limits = _NO_LIMITS.within(embedder.info.frame_side)
            with self.decoders(cancel) as decoders:
                work = Reembedding(
                    self.staged,
                    embedder,
                    limits,
                    decoders,
                    workers=options.workers,
                    progress=progress,
                    cancel=cancel,
                )
                work.run()
            cancelled = cancel.is_set()
            switched = not cancelled and (leave_out or not work.failures)
            if switched:
                work.report_progress("switch")
                self.staged.take_over(work.failures)
        except BaseException:
            embedder.close()
            raise
        if switched:
            self.model.replace(embedder)
            self._clear_up(work.failures)
        else:
            embedder.close()
        return ReembedReport(
            model=name,
            segments=reused + work.computed,
            reused=reused,
            failures=_failures(work.failures.values()),
            switched=switched,
            cancelled=cancelled,
            seconds=progress.seconds,
        )

    def plan(self, name: str, instructions: Instructions) -> ReembedPlan:
        """Return what `run` would do; see `indexer.Library.plan_reembed`."""
        with self.model.open_another(name, self.model.kept(name, instructions)) as embedder:
            fingerprint = embedder.info.fingerprint
        if fingerprint == self.catalog.model().fingerprint:
            return ReembedPlan(name, same=True)
        before = self.staged.model()
        if before is None or before.fingerprint != fingerprint:
            missing = _missing(self.staged.outlines(of_all=True))
            return ReembedPlan(name, segments=self.catalog.stats().segments, failures=missing)
        return ReembedPlan(
            name,
            segments=self.staged.missing(),
            reused=self.staged.count(),
            failures=_missing(self.staged.outlines()),
        )

    def _is_current(self, embedder: Embedder, instructions: Instructions) -> bool:
        """Whether the library has that model already; if so, its name is stored."""
        if embedder.info.fingerprint != self.catalog.model().fingerprint:
            return False
        self.model.rename(embedder.info, instructions)
        if self.staged.model() is None:
            self.staged.clear()  # Retired vectors: an earlier run was killed before this.
        return True

    def _clear_up(self, left_out: Collection[str]) -> None:
        """Do what is left after the switch; a kill in between loses nothing."""
        for content_hash in left_out:
            self.thumbnails.remove(content_hash)
        if left_out:
            self.writer.remember_near_duplicates(len(self.catalog.near_duplicates()))
        self.sync.save()
        self.staged.clear()


@dataclass(eq=False, slots=True)
class _MediaJob(Job):
    """Media to be embedded with the new model, through one of the files that hold them.

    Attributes:
        media: What lacks vectors.
        from_text: The catalog has the text, so no file is read.
        reasons: Why files that hold the media could not be used, so far.
    """

    media: Outline = field(kw_only=True)
    from_text: bool = False
    reasons: dict[Path, str] = field(default_factory=dict)


class Reembedding(Pipeline):
    """Embeds the segments that lack a vector of the new model.

    Guarantees, beside those of `Pipeline`: a vector is stored only with the segment that it is
    of, so a file must still have the bytes that were indexed and be cut into the same segments;
    media that cannot be embedded are in `failures` with all files that hold them.

    Attributes:
        computed: Vectors stored.
        failures: By content hash, what is wrong with each of the files.

    Args:
        staged: Where vectors are stored; made ready for the model.
        embedder: The new model.
        limits: How files are cut.
        decoders: Cuts files.
        workers: Threads that read and decode files.
        progress: Reports segments: those of the library, and those that have a vector.
        cancel: Stops it.
    """

    name = "reembed"

    def __init__(
        self,
        staged: StagedVectors,
        embedder: Embedder,
        limits: Limits,
        decoders: Decoders,
        *,
        workers: int,
        progress: ProgressReporter,
        cancel: Flag,
    ) -> None:
        super().__init__(lambda: embedder, decoders, workers=workers, cancel=cancel)
        self.computed = 0
        self.failures: dict[str, dict[Path, str]] = {}
        self._staged, self._limits, self._progress = staged, limits, progress
        self._vectors: dict[int, bytes] = {}
        self._reused = staged.count()
        self._segments = self._reused + sum(staged.missing().values())

    def source(self) -> Iterator[SourceEvent]:
        """List the media that lack vectors, and the texts among their segments."""
        for media in self._staged.outlines():
            lacking = _lacking(media)
            job = _job(media, from_text=all(one.modality is Modality.TEXT for one in lacking))
            if not media.holders:  # A removal was interrupted; the next one removes the media.
                yield Listed(1)
                yield FileFailed(job, Cause.UNREADABLE, _UNHELD)
            elif not job.from_text:
                yield Listed(1, [job])
            else:
                yield Listed(1)
                for one in lacking:
                    draft = _draft(one)
                    yield Piece(job, one.position, draft, None, cost_of(draft))
                yield FileRead(job, len(media.segments))

    def limits(self) -> Limits:
        """Return the limits given."""
        return self._limits

    def is_wanted(self, job: Job) -> bool:
        """Whether the file still has the bytes that were indexed."""
        return isinstance(job, _MediaJob) and job.content_hash == job.media.content_hash

    def accepts(self, piece: Piece) -> bool:
        """Whether the segment lacks a vector; if it is another one than was indexed, all fails."""
        job, position = piece.job, piece.position
        assert isinstance(job, _MediaJob)
        segments = job.media.segments
        if position >= len(segments) or not _same_place(piece.draft, segments[position]):
            self._give_up(job, _CUT_DIFFERENTLY)
            return False
        return position in job.media.missing

    def advance(self, job: Job) -> None:
        """Keep the vectors of a file that was read to the end for the next commit."""
        assert isinstance(job, _MediaJob)
        if job.expected is None:
            return
        if not job.from_text and not self.is_wanted(job):
            self._try_next(job, _CHANGED)
        elif job.expected != len(job.media.segments):
            self._give_up(job, _CUT_DIFFERENTLY)
        elif len(job.records) == len(job.media.missing):
            self.settle(job)
            for record in job.records:
                self._vectors[job.media.segments[record.position].id] = record.vector
                self.unsaved_bytes += len(record.vector)
            job.records.clear()

    def fail(self, failed: FileFailed) -> None:
        """Try another file with the same bytes, unless it is these that cannot be embedded."""
        assert isinstance(failed.job, _MediaJob)
        if failed.cause is Cause.NOT_EMBEDDED:
            self._give_up(failed.job, failed.reason)
        else:
            reasons = {Cause.CHANGED: _CHANGING, Cause.VANISHED: _MISSING}
            self._try_next(failed.job, reasons.get(failed.cause, failed.reason))

    def commit(self) -> None:
        """Store the new vectors."""
        vectors, self._vectors, self.unsaved_bytes = self._vectors, {}, 0
        self._staged.add(vectors)
        self.computed += len(vectors)

    def report_progress(self, stage: str = "reembed") -> None:
        """Report how many segments have a vector of the new model."""
        self._progress.report(
            stage,
            self._reused + self.computed,
            self._segments,
            path=self.path,
            failures=sum(map(len, self.failures.values())),
            reused=self._reused,
        )

    def _try_next(self, job: _MediaJob, reason: str) -> None:
        """Continue with another file of the same bytes, if there is one."""
        job.reasons[job.candidate.path] = reason
        if all(path in job.reasons for path in job.media.holders):
            self._give_up(job, reason)
        else:
            self.replace(job, _job(job.media, reasons=job.reasons))

    def _give_up(self, job: _MediaJob, reason: str) -> None:
        """Count media as failed, with every file that holds them."""
        self.settle(job)
        self.failures[job.media.content_hash] = {
            path: job.reasons.get(path, reason) for path in job.media.holders
        }


def _job(
    media: Outline, *, from_text: bool = False, reasons: dict[Path, str] | None = None
) -> _MediaJob:
    """Return a job for the first file that holds the media and has not failed."""
    reasons = reasons or {}
    path = next((path for path in media.holders if path not in reasons), Path())
    return _MediaJob(Candidate(path, 0, 0), media=media, from_text=from_text, reasons=reasons)


def _lacking(media: Outline) -> list[Segment]:
    return [one for one in media.segments if one.position in media.missing]


def _draft(segment: Segment) -> Draft:
    content = Content(text=segment.text, modality=segment.modality)
    return Draft(
        content, page=segment.page, start=segment.start, end=segment.end, span=segment.span
    )


def _same_place(draft: Draft, segment: Segment) -> bool:
    return (draft.page, draft.start, draft.end, draft.span, draft.content.modality) == (
        segment.page,
        segment.start,
        segment.end,
        segment.span,
        segment.modality,
    )


def _missing(outlines: Iterable[Outline]) -> tuple[Failure, ...]:
    """Return files that would have to be read and are missing, without opening any."""
    missing = []
    for outline in outlines:
        if any(one.modality is not Modality.TEXT for one in _lacking(outline)):
            reasons = {path: _reason_missing(path) for path in outline.holders}
            if all(reasons.values()):
                missing += [Failure(path, reason) for path, reason in reasons.items() if reason]
    return tuple(missing)


def _reason_missing(path: Path) -> str | None:
    try:
        status_of(path)
    except FileNotFoundError:
        return "the file is missing"
    except OSError as error:
        return os_reason(error)
    return None


def _failures(reasons: Iterable[dict[Path, str]]) -> tuple[Failure, ...]:
    """Return the files that failed, in order of their paths."""
    found = [Failure(path, why) for files in reasons for path, why in files.items()]
    return tuple(sorted(found, key=lambda failure: failure.path))
