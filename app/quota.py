"""How many bytes visitors may send: those that are still coming in count with those that stay."""

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import monotonic

from app.names import UploadError

LEAST_BYTES = 4096
"""What even an empty file takes on a disk."""

_STEP_BYTES = 1 << 20


class TooLarge(UploadError):
    """A file is larger than a single one may be."""


class NoRoom(UploadError):
    """There is no room for a file, whatever its size."""


class Quota:
    """Room for what is sent to a folder. Thread-safe.

    Guarantees: what stays and what is coming in never exceed `most` together, whether or not its
    length is announced; nobody keeps room from others by announcing much and sending nothing.

    Args:
        folder: Where they lie.
        most: Bytes that may be there; None for as many as the disk holds.
        spare: Bytes that the disk keeps free.
        recount: Called when there is no room, with how many bytes are lacking; may make room, and
            returns how many are used then. Also called for the first file.
        full: The sentence for whoever finds no room.
        pause: Seconds in which the last count is believed.
    """

    def __init__(
        self,
        folder: Path,
        most: int | None,
        recount: Callable[[int], int],
        *,
        spare: int,
        full: str,
        pause: float = 0.0,
    ) -> None:
        self._folder = folder
        self._most = most
        self._recount = recount
        self._spare = spare
        self._pause = pause
        self._full = full
        self._used = 0
        self._coming = 0
        self._counted_at: float | None = None
        self._lock = Lock()

    def admit(self, announced: int = 0) -> "Entry":
        """Begins with a file.

        Args:
            announced: The bytes that it is said to have.

        Raises:
            NoRoom: if there is no room for so many.
        """
        with self._lock:
            self._check(max(announced, LEAST_BYTES))
        return Entry(self)

    def reserve(self, count: int) -> None:
        """Takes room for so many bytes that come in; for entries."""
        with self._lock:
            self._check(count)
            self._coming += count

    def settle(self, reserved: int, kept: int) -> None:
        """Gives reserved bytes back, save those that stay; for entries."""
        with self._lock:
            self._coming -= reserved
            self._used += kept

    def _check(self, count: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < count + self._spare:
            raise NoRoom("the disk is full: make room and send the file again")
        if self._most is None:
            return
        if self._counted_at is None:
            self._count(0)
        lacking = self._used + self._coming + count - self._most
        if lacking > 0 and self._may_count():
            self._count(lacking)
            lacking = self._used + self._coming + count - self._most
        if lacking > 0:
            raise NoRoom(self._full)

    def _count(self, lacking: int) -> None:
        self._used = self._recount(lacking)
        self._counted_at = monotonic()

    def _may_count(self) -> bool:
        return self._counted_at is None or monotonic() - self._counted_at >= self._pause


class Entry:
    """A file that is coming in; closed without `keep` it leaves no trace in the quota."""

    def __init__(self, quota: Quota) -> None:
        self.size = 0
        self._quota = quota
        self._reserved = 0
        self._kept = 0

    def take(self, count: int) -> None:
        """Makes room for the next bytes of it.

        Raises:
            NoRoom: if there is none.
        """
        self.size += count
        if self.size > self._reserved:
            more = max(_STEP_BYTES, self.size - self._reserved)
            try:
                self._quota.reserve(more)
            except NoRoom:
                more = self.size - self._reserved  # Perhaps there is room for the last bytes.
                self._quota.reserve(more)
            self._reserved += more

    def keep(self) -> None:
        """Says that the file stays."""
        self._kept = max(self.size, LEAST_BYTES)

    def close(self) -> None:
        """Ends it; may be called again."""
        self._quota.settle(self._reserved, self._kept)
        self._reserved = self._kept = 0
