"""Threads that wait for a disk or a network folder that does not answer."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Generic, TypeVar

from embedder.media.kinds import on_progress
from indexer.errors import Closed

STALLED_SECONDS = 60.0
_MAX_TICK_SECONDS = 1.0  # more has passed where the machine slept or the program was stopped

T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(eq=False, slots=True)
class Wait(Generic[T]):
    """A thread inside `StallWatch.over`.

    Attributes:
        work: What it was given.
        thread: The thread.
        seconds: For how long it has not got any further.
    """

    work: T
    thread: Thread = field(default_factory=current_thread)
    seconds: float = 0.0

    def reset(self) -> None:
        """Note that it has got further."""
        self.seconds = 0.0


class StallWatch(Generic[T]):
    """Gives up threads that wait for a file system, since nothing can interrupt them. Thread-safe.

    Guarantees: once it is answered, a thread that was given up ends with `indexer.errors.Closed`
    and does nothing else.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waits: set[Wait[T]] = set()
        self._looked_at = monotonic()

    @contextmanager
    def over(self, work: T) -> Iterator[None]:
        """Watch over this thread inside; `embedder.media.kinds.report_progress` calls it alive."""
        wait = Wait(work)
        on_progress(wait.reset)
        with self._lock:
            self._waits.add(wait)
        try:
            yield
        finally:
            with self._lock:
                given_up = wait not in self._waits
                self._waits.discard(wait)
            if given_up:
                raise Closed

    def over_each(self, work: T, items: Iterable[Item]) -> Iterator[Item]:
        """Watch over this thread whenever it waits for the next item."""
        iterator = iter(items)
        while True:
            with self.over(work):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def give_up_stalled(self) -> list[Wait[T]]:
        """Return the threads that have stalled, which are given up; to be called often."""
        with self._lock:
            now = monotonic()
            passed, self._looked_at = min(now - self._looked_at, _MAX_TICK_SECONDS), now
            for wait in self._waits:
                wait.seconds += passed
            stalled = [wait for wait in self._waits if wait.seconds > STALLED_SECONDS]
            self._waits.difference_update(stalled)
            return stalled
