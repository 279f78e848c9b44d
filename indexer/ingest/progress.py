"""Report progress to a callback, several times a second at most."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import TypeVar

from indexer.types import Progress

T = TypeVar("T")

_REPORT_SECONDS = 0.2


class ProgressReporter:
    """Counts the work of a stage and reports it; for one thread.

    Args:
        on_progress: Called five times a second at most; None to report nothing.
    """

    def __init__(self, on_progress: Callable[[Progress], None] | None = None) -> None:
        self._on_progress = on_progress
        self._stage = ""
        self._done = self._total = 0
        self._started_at = monotonic()
        self._reported_at = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the reporter was made, or the stage begun."""
        return monotonic() - self._started_at

    def begin(self, stage: str, total: int = 0) -> None:
        """Begin a stage whose time counts from now; `total` is 0 where it is not known."""
        self._stage, self._done, self._total = stage, 0, total
        self._started_at = monotonic()
        self.report(stage, 0, total, force=True)

    def advance(self, count: int = 1) -> None:
        """Count further work of the stage as done."""
        self.update(self._done + count, self._total)

    def update(self, done: int, total: int) -> None:
        """Set how much of the stage is done."""
        self._done, self._total = done, total
        self.report(self._stage, done, total)

    def counted(self, things: Iterable[T]) -> Iterator[T]:
        """Yield the same things, each counted once it has been worked on."""
        for thing in things:
            yield thing
            self.advance()

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
        force: bool = False,
    ) -> None:
        """Call the callback with a `Progress`, unless it was called a moment ago.

        `complete` says that the total is final, so that the remaining time can be estimated;
        `force` calls it in any case, as for a new stage.
        """
        now = monotonic()
        if self._on_progress is None or (now - self._reported_at < _REPORT_SECONDS and not force):
            return
        self._reported_at = now
        seconds, new = now - self._started_at, done - reused
        known = complete and total and new > 0
        remaining = max(0, total - done) * seconds / new if known else None
        self._on_progress(Progress(stage, done, total, path, failures, seconds, remaining, reused))
