"""Telling how far a task in several steps is."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TypeVar

from indexer.types import Progress

T = TypeVar("T")

_REPORT_SECONDS = 0.2


class ProgressReporter:
    """Counts within the current step; for one thread.

    Args:
        tell: Called with progress several times a second at most, or nobody.
    """

    def __init__(self, tell: Callable[[Progress], None] | None = None) -> None:
        self._tell = tell
        self._stage = ""
        self._done = self._total = 0
        self._started_at = monotonic()
        self._told_at = 0.0

    def begin(self, stage: str, total: int = 0) -> None:
        """Begins a step; the total is 0 where it is not known."""
        self._stage, self._done, self._total = stage, 0, total
        self._started_at = monotonic()
        self._report(force=True)

    def advance(self, count: int = 1) -> None:
        """Counts on."""
        self._done += count
        self._report()

    def reach(self, done: int, total: int) -> None:
        """Says how much of how much is done."""
        self._done, self._total = done, total
        self._report()

    def counted(self, things: Iterable[T]) -> Iterator[T]:
        """The same things, counted as they go by."""
        for thing in things:
            yield thing
            self.advance()

    def _report(self, *, force: bool = False) -> None:
        now = monotonic()
        if self._tell is None or (now - self._told_at < _REPORT_SECONDS and not force):
            return
        self._told_at = now
        seconds = now - self._started_at
        left = max(0, self._total - self._done)
        self._tell(
            Progress(
                stage=self._stage,
                done=self._done,
                total=self._total,
                path=None,
                failures=0,
                seconds=seconds,
                remaining=left * seconds / self._done if self._done and self._total else None,
            )
        )
