"""A queue between threads that is bounded by what waits in it."""

from collections import deque
from collections.abc import Iterable
from threading import Condition
from typing import Generic, TypeVar

from indexer.errors import Closed

T = TypeVar("T")


class ByteBoundedQueue(Generic[T]):
    """A first-in-first-out queue whose waiting entries cost at most `budget` together.

    Guarantees: `put` waits while the budget is used up, but an entry that alone exceeds it gets
    through once the queue is empty; after `close`, `put` raises `Closed` at once, also in
    threads that are waiting, while entries that are already in can still be taken.

    Args:
        budget: Total cost that may wait, in whatever unit `put` is given.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._entries: deque[tuple[T, int]] = deque()
        self._used = 0
        self._closed = False
        self._changed = Condition()

    def put(self, entry: T, cost: int = 1) -> None:
        """Append an entry, after waiting for room."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._used or self._used + cost <= self._budget
            )
            if self._closed:
                raise Closed
            self._entries.append((entry, cost))
            self._used += cost
            self._changed.notify_all()

    def put_first(self, entries: Iterable[T]) -> None:
        """Insert entries before all others, without waiting and without cost."""
        with self._changed:
            if not self._closed:
                self._entries.extendleft((entry, 0) for entry in entries)
                self._changed.notify_all()

    def take(self, timeout: float | None = None) -> T | None:
        """Remove and return the next entry, or None if there is none within `timeout` seconds.

        Raises:
            Closed: if the queue is empty and closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._entries or self._closed, timeout)
            if not self._entries:
                if self._closed:
                    raise Closed
                return None
            entry, cost = self._entries.popleft()
            self._used -= cost
            self._changed.notify_all()
            return entry

    def close(self) -> None:
        """Wake all waiting threads and refuse further entries."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
