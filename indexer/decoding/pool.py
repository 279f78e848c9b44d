"""A pool of decoder processes that threads share."""

import logging
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from math import inf
from pathlib import Path
from threading import Condition, Event, Thread
from time import monotonic
from typing import IO, Self

from embedder.media import Draft
from embedder.media.kinds import Kind, Limits, MediaError
from indexer.decoding.process import DecoderCrash, DecoderProcess, DecoderTimeout
from indexer.decoding.protocol import InvalidAnswer, Task
from indexer.errors import Closed, LibraryError

_log = logging.getLogger(__name__)

PERFORMER = "indexer.decoding.worker:perform"

_SUPERVISION_SECONDS = 0.25
_CANCEL_GRACE_SECONDS = 1.0
_BYTES_PER_SECOND = 100_000  # at this rate a gigabyte may take almost three hours
_MAX_FILES_PER_PROCESS = 2_000  # decoders leak memory, above all with damaged files


class DecoderPool:
    """Decodes files in processes; each thread that asks has one while it is busy. Thread-safe.

    Guarantees: processes start when the first file needs one, and are reused; one that hangs,
    crashes, or is abandoned in the middle of a file is killed and replaced for the next file; a
    cancellation takes effect within seconds; after `close` none is left.

    Args:
        cancel: Once set, waiting ends with `indexer.errors.Closed` after a moment.
        performer: The function that performs tasks, as "module:function"; if None,
            `indexer.decoding.worker.perform`.

    Attributes:
        idle_seconds: After which an unused process ends.
    """

    idle_seconds = inf

    def __init__(
        self,
        *,
        cancel: Event | None = None,
        performer: str | None = None,
    ) -> None:
        self._cancel = cancel or Event()
        self._performer = performer or PERFORMER
        self._changed = Condition()
        self._idle: list[DecoderProcess] = []
        self._busy: set[DecoderProcess] = set()
        self._supervisor: Thread | None = None
        self._closed = Event()
        self._cancelled_at: float | None = None
        self._lock_file: IO[bytes] | None = None

    def cut(self, path: str | os.PathLike[str], kind: Kind, limits: Limits) -> Generator[Draft]:
        """Cut a file into segments, as `embedder.media.cut` does.

        Raises:
            MediaError: If the file cannot be used, takes too long, or makes its decoder crash.
            MemoryError: If it takes too much memory.
            LibraryError: If no process can be started.
        """
        task = Task("cut", {"kind": kind})
        yield from self._results(path, task, limits, _file_seconds(path, limits))

    def close(self) -> None:
        """End all processes; threads that wait for one get `indexer.errors.Closed`."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            idle, self._idle, busy = self._idle, [], list(self._busy)
        for process in busy:
            process.kill()  # the thread that uses it closes it
        for process in idle:
            process.close()
        if self._lock_file is not None:
            self._lock_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _results(
        self,
        path: str | os.PathLike[str],
        task: Task,
        limits: Limits,
        seconds: float,
    ) -> Generator[Draft]:
        """Yield what a process gives; it is reused only if it has come to an end with the file."""
        process = self._acquire()
        usable = False
        try:
            yield from process.run(Path(path), task, limits, seconds)
            usable = True
        except (MediaError, OSError):
            usable = True
            raise
        except (DecoderTimeout, DecoderCrash, InvalidAnswer, LibraryError) as error:
            if self._given_up():
                raise Closed from None
            if isinstance(error, LibraryError):
                raise
            raise unusable(path, error) from error
        finally:
            self._release(process, usable=usable)

    def _acquire(self) -> DecoderProcess:
        """Return a free process, or a new one."""
        while True:
            with self._changed:
                self._wait_for_a_free_process()
                if self._closed.is_set():
                    raise Closed
                process = self._idle.pop() if self._idle else self._started()
                if process.is_alive():
                    self._busy.add(process)
                    return process
            process.close()

    def _wait_for_a_free_process(self) -> None:
        """Wait until a process may be started or used; called with the pool's condition held."""

    def _release(self, process: DecoderProcess, *, usable: bool) -> None:
        process.idle_since = monotonic()
        usable = usable and process.files < _MAX_FILES_PER_PROCESS
        with self._changed:
            self._busy.discard(process)
            usable = usable and not self._closed.is_set()
            if usable:
                self._idle.append(process)
            self._changed.notify_all()
        if not usable:
            process.close()

    def _started(self) -> DecoderProcess:
        """Start a process, and the thread that supervises all of them."""
        process = DecoderProcess(self._performer, self._open_lock_file())
        if self._supervisor is None:
            self._supervisor = Thread(target=self._supervise, name="decoders", daemon=True)
            self._supervisor.start()
        return process

    def _supervise(self) -> None:
        """Kill processes that are overdue and end those that are idle, while there are any."""
        while not self._closed.wait(_SUPERVISION_SECONDS):
            now, given_up = monotonic(), self._given_up()
            with self._changed:
                overdue = [one for one in self._busy if one.deadline < (inf if given_up else now)]
                unused = [one for one in self._idle if now - one.idle_since > self.idle_seconds]
                self._idle = [one for one in self._idle if one not in unused]
                if not (self._busy or self._idle or unused):
                    self._supervisor = None
                    return
            for process in overdue:
                process.kill()
            for process in unused:
                process.close()

    def _given_up(self) -> bool:
        """Whether nothing waits for answers any more."""
        if self._closed.is_set():
            return True
        if not self._cancel.is_set():
            return False
        self._cancelled_at = self._cancelled_at or monotonic()
        return monotonic() - self._cancelled_at > _CANCEL_GRACE_SECONDS

    def _open_lock_file(self) -> int | None:
        """The file that serialises large pictures; Windows has no locks that end with a process."""
        if sys.platform == "win32":
            return None
        if self._lock_file is None:
            self._lock_file = tempfile.TemporaryFile(prefix="rzen-")  # noqa: SIM115
        return self._lock_file.fileno()


def _file_seconds(path: str | os.PathLike[str], limits: Limits) -> float:
    """Return how long a file may take that is read from beginning to end."""
    try:
        return limits.file_seconds + Path(path).stat().st_size / _BYTES_PER_SECOND
    except OSError:
        return limits.file_seconds  # the decoder reports why


def only(path: str | os.PathLike[str], results: Generator[Draft]) -> Draft:
    """Return the result of a task that gives one."""
    with closing(results):
        found = list(islice(results, 2))
    if len(found) != 1:
        raise unusable(path, InvalidAnswer(f"{len(found)} results"))
    return found[0]


def unusable(path: str | os.PathLike[str], error: Exception) -> MediaError:
    """Return the error that blames a file for what its decoder did."""
    _log.debug("decoding %r failed: %s", str(path), error)
    if isinstance(error, DecoderTimeout):
        return MediaError(str(error))
    if isinstance(error, DecoderCrash):
        return MediaError(f"the decoder crashed ({error}); the file may be corrupt or malicious")
    return MediaError("the decoder sent an invalid answer; the file may be corrupt or malicious")
