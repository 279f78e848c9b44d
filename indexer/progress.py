"""Progress of an ingest or a re-embedding, and its reporting."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeVar

T = TypeVar("T")

_REPORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest or a re-embedding is; reported several times a second at most.

    Attributes:
        stage: "scan" while files are counted, then "ingest", at last "finish"; of a re-embedding
            "reembed", and "switch" while the new vectors take over.
        done: Files finished; of a re-embedding, segments with a new vector.
        total: Files to do, growing during the scan; of a re-embedding, all segments.
        path: A file that is being worked on, or None.
        failures: Files failed so far.
        seconds: Since the start.
        remaining: Estimated seconds still to go, or None while unknown.
        reused: How much of `done` an earlier run has done.
    """

    stage: str
    done: int
    total: int
    path: Path | None
    failures: int
    seconds: float
    remaining: float | None
    reused: int = 0

    @property
    def rate(self) -> float:
        """Files or segments per second so far."""
        return (self.done - self.reused) / self.seconds if self.seconds > 0 else 0.0


class ProgressReporter:
    """Counts the work of a stage and reports it; for one thread.

    Args:
        on_progress: Called at the start of a stage, then five times a second at most; None to
            report nothing.
    """

    def __init__(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._on_progress = on_progress
        self._stage = ""
        self._total = 0
        self._started_at = monotonic()
        self._reported_at = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the reporter was made, or the stage begun."""
        return monotonic() - self._started_at

    def begin(self, stage: str, total: int = 0) -> None:
        """Begin a stage whose time counts from now; `total` is 0 where it is not known."""
        self._stage, self._total = "", total
        self._started_at = monotonic()
        self.report(stage, 0, total)

    def update(self, done: int, total: int) -> None:
        """Report how much of the stage is done."""
        self.report(self._stage, done, total)

    def counted(self, things: Iterable[T]) -> Iterator[T]:
        """Yield the same things, each counted once it has been worked on."""
        for done, thing in enumerate(things, 1):
            yield thing
            self.update(done, self._total)

    def report(
        self,
        stage: str,
        done: int,
        total: int,
        *,
        path: Path | None = None,
        failures: int = 0,
        reused: int = 0,
        complete: bool = True,
    ) -> None:
        """Call the callback with a `Progress`, unless it was called a moment ago for this stage.

        `complete` says that the total is final, so that the remaining time can be estimated.
        """
        now = monotonic()
        recent = stage == self._stage and now - self._reported_at < _REPORT_SECONDS
        if self._on_progress is None or recent:
            return
        self._stage, self._reported_at = stage, now
        seconds, new = now - self._started_at, done - reused
        known = complete and total and new > 0
        remaining = max(0, total - done) * seconds / new if known else None
        self._on_progress(Progress(stage, done, total, path, failures, seconds, remaining, reused))
