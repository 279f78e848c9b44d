"""Counting what an ingest does, and telling how far it is."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from indexer.catalog.outcomes import Effect, Indexed, Refused
from indexer.entities import Status
from indexer.reports import Failure, IngestReport, Progress
from indexer.sighting import Sighting

_REPORT_SECONDS = 0.2


class Tally:
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

    def see(self, sighting: Sighting) -> None:
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
