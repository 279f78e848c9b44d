"""A decoder process as the program sees it: started, asked, timed and killed."""

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from math import inf
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from embedder.media import Draft
from embedder.media.kinds import Limits
from indexer.decoding import protocol
from indexer.decoding.protocol import InvalidAnswer, Task
from indexer.errors import LibraryError

_log = logging.getLogger(__name__)

_START_SECONDS = 120.0
_EXIT_SECONDS = 5.0
_SECONDS_PER_DRAFT = 2.0  # added to the time of a file, because a small file can hold many pages

# The folder that this package was imported from is searched too, and first if the package is not
# installed; modules in the current folder are never imported.
_START = (
    "import sys; home, performer, *handles = sys.argv[1:]; "
    "home in sys.path or sys.path.insert(0, home); "
    "from indexer.decoding.worker import main; main(performer, *map(int, handles))"
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class DecoderTimeout(Exception):
    """No answer came in time; the message is for the file's owner."""


class DecoderCrash(Exception):
    """The process has ended; the message says how."""


class DecoderProcess:
    """A decoder process, for one thread at a time; only `kill` may be called from another.

    Reading an answer blocks. The pool that owns the process kills it after `deadline`, which ends
    the reading.

    Args:
        performer: The function that performs tasks, as "module:function".
        lock_file: An open file on which large pictures are serialised, or None.

    Attributes:
        files: How many files it was given.
        idle_since: When it was started or last released, by the monotonic clock.
        deadline: When it has to be killed, by the monotonic clock; infinite if no answer is due.

    Raises:
        LibraryError: If it cannot be started.
    """

    def __init__(self, performer: str, lock_file: int | None) -> None:
        self.files = 0
        self.idle_since = monotonic()
        self.deadline = inf
        self._ready = self._killed = False
        self._silence_seconds = self._seconds = self._seconds_left = _START_SECONDS
        self._lock = Lock()
        self._pixel_file: int | None = None
        self._offset = 0  # in that file, up to which it was read
        self._connection, theirs = Pipe()
        try:
            self._pixel_file = _memory_file()
            self._process = _start(performer, theirs, self._pixel_file, lock_file)
        except OSError as error:
            self._connection.close()
            if self._pixel_file is not None:
                os.close(self._pixel_file)
            reason = error.strerror or error
            raise LibraryError(f"cannot start a decoder process: {reason}") from error
        finally:
            theirs.close()

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def run(self, path: Path, task: Task, limits: Limits, seconds: float) -> Generator[Draft]:
        """Perform a task, and yield its results.

        Args:
            path: The file.
            task: What to do with it.
            limits: What it may cost; `silence_seconds` is the longest time without an answer.
            seconds: How long it may take in all. Only waiting for answers counts.

        Raises:
            DecoderTimeout: If it takes too long.
            DecoderCrash: If the process ends.
            InvalidAnswer: If it sends what no working decoder sends.
            MediaError, MemoryError, OSError: The error that the task has ended with.
            LibraryError: If the process does not start.
        """
        self._wait_until_ready()
        self.files += 1
        self._silence_seconds = limits.silence_seconds
        self._seconds = self._seconds_left = seconds
        request = {"path": str(path), "task": task.name, "arguments": task.arguments}
        with self._translated_errors():
            self._connection.send_bytes(protocol.encode(request | {"limits": asdict(limits)}))
        while True:
            message = protocol.decode(self._receive(protocol.MAX_JSON_BYTES))
            if "drafts" in message:
                yield from self._received_drafts(message["drafts"], limits)
            if "error" in message:
                raise protocol.decode_error(message["error"])
            if "end" in message:
                return

    def _received_drafts(self, values: object, limits: Limits) -> list[Draft]:
        self._offset = 0
        drafts = protocol.decode_drafts(values, self._receive_pixels, limits)
        if self._offset:
            with self._translated_errors():
                self._connection.send_bytes(b"")  # what was read may be overwritten
        self._seconds += _SECONDS_PER_DRAFT * len(drafts)
        self._seconds_left += _SECONDS_PER_DRAFT * len(drafts)
        return drafts

    def _receive_pixels(self, count: int) -> bytes:
        if self._pixel_file is None:
            return self._receive(count)
        # Not mapped into memory: reading a map of a file that the decoder has cut off is fatal.
        pixels = os.pread(self._pixel_file, count, self._offset)
        self._offset += count
        return pixels

    def kill(self) -> None:
        """Kill it at once, with the processes it has started, and end the waiting for it."""
        with self._lock:
            if self._connection.closed:
                return
            self._killed = True
            with suppress(OSError):
                if sys.platform == "win32":
                    self._process.kill()
                elif self.is_alive():
                    os.killpg(self._process.pid, signal.SIGKILL)
            if sys.platform != "win32":  # a process that has left the group may keep its end open
                with (
                    suppress(OSError),
                    socket.socket(fileno=os.dup(self._connection.fileno())) as end,
                ):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Kill it, wait until it has ended, and close the connection."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # the system does not let go of it
            self._process.wait(_EXIT_SECONDS)
        with self._lock:
            self._connection.close()
            if self._pixel_file is not None:
                os.close(self._pixel_file)
                self._pixel_file = None

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        try:
            self._receive(protocol.MAX_JSON_BYTES)
        except (DecoderTimeout, DecoderCrash, InvalidAnswer) as error:
            raise LibraryError(
                f"the decoder process does not start ({error}); to see why, run "
                f'{sys.executable} -c "import indexer.decoding.worker"'
            ) from error
        self._ready = True

    def _receive(self, max_bytes: int) -> bytes:
        """Return the next message, unless it is longer or comes too late."""
        started = monotonic()
        self.deadline = started + min(self._silence_seconds, self._seconds_left)
        try:
            with self._translated_errors():
                return self._connection.recv_bytes(max_bytes)
        finally:
            self.deadline = inf
            self._seconds_left -= monotonic() - started

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        """Turn an error of the connection into the reason for it, see `run`."""
        try:
            yield
        except (EOFError, OSError) as error:
            if self._killed:
                raise DecoderTimeout(self._too_long()) from error
            self.deadline = inf  # or the pool would kill it while this waits for its exit code
            if self._connection.readable:  # it is not after a message of more than `max_bytes`
                with suppress(subprocess.TimeoutExpired):
                    raise DecoderCrash(_how_it_ended(self._process.wait(_EXIT_SECONDS))) from error
            raise InvalidAnswer(str(error)) from error

    def _too_long(self) -> str:
        if self._silence_seconds < self._seconds_left:
            reason = f"decoding made no progress for {self._silence_seconds:g} seconds"
        else:
            reason = f"decoding took longer than {self._seconds:.0f} seconds"
        return f"{reason} and was stopped"


def _memory_file() -> int | None:
    """Open a file for pixels that has no name and, where the system can, lies in memory."""
    if sys.platform == "win32":
        return None  # it cannot be passed on to a process
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rzen-pixels")
    with tempfile.TemporaryFile(prefix="rzen-") as file:
        return os.dup(file.fileno())


def _start(
    performer: str, connection: "Connection[Any, Any]", *files: int | None
) -> "subprocess.Popen[bytes]":
    """Start a process that inherits nothing but its end of the connection and some open files."""
    handle = connection.fileno()
    command = [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2]), performer]
    command += [str(handle), *(str(-1 if file is None else file) for file in files)]
    # In a group by itself: Ctrl-C is for the program, and no file should fail because of it.
    options: dict[str, Any]
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        options = {
            "startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]}),
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP,
        }
    else:
        passed = [handle, *(file for file in files if file is not None)]
        options = {"pass_fds": passed, "process_group": 0}
    # What decoders print is shown when debugging; on standard error, where it spoils no output.
    printed = 2 if _log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
        **options,
    )


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
