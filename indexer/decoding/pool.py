"""Decoder processes, and a pool of them that threads share."""

import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from math import inf
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Condition, Event, Lock, Thread
from time import monotonic
from typing import IO, Any, Self

from embedder.media import Draft
from embedder.media.kinds import Details, Kind, Limits, MediaError, open_media, translated_os_errors
from indexer.decoding import protocol
from indexer.decoding.protocol import DecoderError, DecoderKilled, Task, invalid_answer
from indexer.errors import Closed, LibraryError

_log = logging.getLogger(__name__)

PERFORMER = "indexer.decoding.worker:perform"

_SUPERVISION_SECONDS = 0.25
_SLEPT_SECONDS = 5.0  # a supervision that comes so late was stopped itself
_CANCEL_GRACE_SECONDS = 1.0
_BYTES_PER_SECOND = 100_000  # at this rate a gigabyte may take almost three hours
_MAX_KILLS = 2  # from outside, while decoders decode the same file
_MAX_STARTS = 8  # of decoders for the same file, which may be killed before they get it
_MAX_FILES_PER_PROCESS = 2_000  # decoders leak memory, above all with damaged files
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
# What decoders are given of the environment: no passwords, tokens or settings of this program.
_ENVIRONMENT = frozenset(
    "PATH HOME LANG LANGUAGE TMPDIR TEMP TMP LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH "
    "SYSTEMROOT WINDIR SYSTEMDRIVE USERPROFILE APPDATA LOCALAPPDATA".split()
)
_ENVIRONMENT_PREFIXES = ("LC_", "PYTHON")
# The kernel sends SIGKILL when memory is short. A decoder has itself sent SIGALRM in case that this
# program is not there to kill it, which may come first after the machine has slept.
_SIGNALS_FROM_OUTSIDE = ("SIGKILL", "SIGTERM", "SIGALRM")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _KilledAtStart(DecoderKilled):
    """A decoder was killed before it got a file."""


class DecoderProcess:
    """A decoder process, for one thread at a time; only `kill` may be called from another.

    Reading an answer blocks. The pool that owns the process kills it once it is overdue, which ends
    the reading.

    Args:
        performer: The function that performs tasks, as "module:function".
        lock_file: An open file on which large pictures are serialised, or None.

    Attributes:
        files: How many files it was given.
        idle_since: When it was started or last released, by the monotonic clock.
        waiting_since: When the waiting for an answer began, by the monotonic clock; infinite if no
            answer is due.

    Raises:
        LibraryError: If it cannot be started.
    """

    def __init__(self, performer: str, lock_file: int | None) -> None:
        self.files = 0
        self.idle_since = monotonic()
        self.waiting_since = inf
        self._ready = self._killed = False
        self._silence_seconds = self._seconds = self._seconds_left = _START_SECONDS
        self._lock = Lock()
        self._connection, theirs = Pipe()
        if sys.platform != "win32":  # the same connection, for what is not bytes
            self._socket = socket.socket(fileno=os.dup(self._connection.fileno()))
        try:
            self._process = _start(performer, theirs, lock_file)
        except OSError as error:
            self._disconnect()
            reason = error.strerror or error
            raise LibraryError(f"cannot start a decoder process: {reason}") from error
        finally:
            theirs.close()

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def is_overdue(self, now: float, awake_since: float) -> bool:
        """Whether an answer is due, and was in all the time that this program has been awake."""
        return max(self.waiting_since, awake_since) + self._patience < now

    @property
    def _patience(self) -> float:
        return min(self._silence_seconds, self._seconds_left)

    def run(
        self, path: Path, file: IO[bytes], task: Task, limits: Limits, seconds: float
    ) -> Generator[Draft]:
        """Perform a task, and yield its results.

        Args:
            path: The path of the file, for its name.
            file: The file, which the process cannot open for itself.
            task: What to do with it.
            limits: What it may cost; `silence_seconds` is the longest time without an answer.
            seconds: How long it may take in all. Only waiting for answers counts.

        Raises:
            DecoderError: If it takes too long, or the process ends or sends what no working
                decoder sends; `DecoderKilled` if something else has killed it.
            MediaError, MemoryError, OSError: The error that the task has ended with.
            LibraryError: If the process does not start.
        """
        self._wait_until_ready()
        self.files += 1
        self._silence_seconds = limits.silence_seconds
        self._seconds = self._seconds_left = seconds
        request = {"path": str(path), "task": task.name, "arguments": task.arguments}
        with self._translated_errors():
            self._send(protocol.encode(request | {"limits": asdict(limits)}), file)
        while True:
            message = protocol.decode(self._receive(protocol.MAX_JSON_BYTES))
            if "drafts" in message:
                drafts = protocol.decode_drafts(message["drafts"], self._receive, limits)
                self._seconds += _SECONDS_PER_DRAFT * len(drafts)
                self._seconds_left += _SECONDS_PER_DRAFT * len(drafts)
                yield from drafts
            if "error" in message:
                raise protocol.decode_error(message["error"])
            if "end" in message:
                return

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
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Kill it, wait until it has ended, and close the connection."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):  # the system does not let go of it
            self._process.wait(_EXIT_SECONDS)
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        self._connection.close()
        if sys.platform != "win32":
            self._socket.close()

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        try:
            ready = protocol.decode(self._receive(protocol.MAX_JSON_BYTES))
        except DecoderKilled as error:
            raise _KilledAtStart from error
        except DecoderError as error:
            raise LibraryError(
                "the decoder process does not start; to see why, run "
                f'{sys.executable} -c "import indexer.decoding.worker"'
            ) from error
        self._ready = True
        _log.debug("decoder %d is confined by: %s", self._process.pid, ready.get("confined"))

    def _send(self, request: bytes, file: IO[bytes]) -> None:
        """Send a request and its file, in one call, so that the process wakes up once."""
        if sys.platform == "win32":
            self._connection.send_bytes(request)
        else:
            message = struct.pack("!i", len(request)) + request  # as `Connection` does
            socket.send_fds(self._socket, [b"\0", message], [file.fileno()])

    def _receive(self, max_bytes: int) -> bytes:
        """Return the next message, unless it is longer or comes too late."""
        self.waiting_since = started = monotonic()
        try:
            with self._translated_errors():
                return self._connection.recv_bytes(max_bytes)
        finally:
            self.waiting_since = inf
            waited = monotonic() - started
            if waited <= self._patience:  # or the machine slept, since the process was not killed
                self._seconds_left -= waited

    @contextmanager
    def _translated_errors(self) -> Generator[None]:
        """Turn an error of the connection into the reason for it, see `run`."""
        try:
            yield
        except (EOFError, OSError) as error:
            if self._killed:
                raise DecoderError(self._too_long()) from error
            self.waiting_since = inf  # or the pool would kill it while this waits for its exit code
            if self._connection.readable:  # it is not after a message of more than `max_bytes`
                with suppress(subprocess.TimeoutExpired):
                    raise _crash(self._process.wait(_EXIT_SECONDS)) from error
            raise invalid_answer(str(error)) from error

    def _too_long(self) -> str:
        if self._silence_seconds < self._seconds_left:
            reason = f"decoding made no progress for {self._silence_seconds:g} seconds"
        else:
            reason = f"decoding took longer than {self._seconds:.0f} seconds"
        return f"{reason} and was stopped"


def _start(
    performer: str, connection: "Connection[Any, Any]", lock_file: int | None
) -> "subprocess.Popen[bytes]":
    """Start a process that inherits nothing but its end of the connection and the lock file."""
    handle = connection.fileno()
    command = [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2]), performer]
    command += [str(handle), str(-1 if lock_file is None else lock_file)]
    # In a group by itself: Ctrl-C is for the program, and no file should fail because of it.
    options: dict[str, Any]
    if sys.platform == "win32":
        os.set_handle_inheritable(handle, True)
        options = {
            "startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]}),
            "creationflags": subprocess.CREATE_NEW_PROCESS_GROUP,
        }
    else:
        passed = [handle] if lock_file is None else [handle, lock_file]
        options = {"pass_fds": passed, "process_group": 0}
    # What decoders print is shown when debugging; on standard error, where it spoils no output.
    printed = 2 if _log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        env=_environment() | dict.fromkeys(_ONE_THREAD, "1"),
        **options,
    )


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }


def _crash(code: int) -> DecoderError:
    how = f"exit code {code}"
    if code < 0:
        with suppress(ValueError):  # real-time signals have no names
            how = signal.Signals(-code).name
    if how in _SIGNALS_FROM_OUTSIDE:
        return DecoderKilled(
            f"the decoder was killed twice ({how}): memory may be short; free some and try again"
        )
    return DecoderError(f"the decoder crashed ({how}); the file may be corrupt or malicious")


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
        with translated_os_errors():
            opened = open_media(path)
        with opened as file:
            size = os.fstat(file.fileno()).st_size
            seconds = limits.file_seconds + size / _BYTES_PER_SECOND
            task = Task("cut", {"kind": kind})
            yield from self._results(Path(path), file, task, limits, seconds)

    def describe(self, sidecar: Path) -> Details:
        """Return what a sidecar says about the file beside it.

        Raises:
            MediaError, MemoryError, LibraryError: As `cut`.
        """
        limits, details = Limits(), Details()
        with translated_os_errors():
            opened = open_media(sidecar)
        with opened as file:
            task = Task("describe")
            for draft in self._results(sidecar, file, task, limits, limits.file_seconds):
                details = draft.details or details
        return details

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
        self, path: Path, file: IO[bytes], task: Task, limits: Limits, seconds: float
    ) -> Generator[Draft]:
        """Yield what a process gives; where it is killed from outside, another one continues."""
        count = kills = 0
        for _ in range(_MAX_STARTS):
            try:
                with closing(self._attempt(path, file, task, limits, seconds)) as drafts:
                    for draft in islice(drafts, count, None):
                        count += 1
                        yield draft
                return
            except _KilledAtStart:
                continue
            except DecoderKilled:
                kills += 1
                if kills == _MAX_KILLS:
                    raise
        raise LibraryError(
            "decoder processes are killed while they start: memory may be short; free some and run "
            "the same command again"
        )

    def _attempt(
        self, path: Path, file: IO[bytes], task: Task, limits: Limits, seconds: float
    ) -> Generator[Draft]:
        """Yield what a process gives; it is reused only if it has come to an end with the file."""
        process = self._acquire()
        usable = False
        try:
            yield from process.run(path, file, task, limits, seconds)
            usable = True
        except (DecoderError, LibraryError):
            if self._given_up():
                raise Closed from None
            raise
        except (MediaError, OSError):
            usable = True
            raise
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
        """Kill processes that are overdue and end those that are idle, while there are any.

        A machine that sleeps, or a group of processes that is stopped, blames no file.
        """
        awake_since = seen_at = monotonic()
        while not self._closed.wait(_SUPERVISION_SECONDS):
            before, seen_at = seen_at, monotonic()
            if seen_at - before > _SLEPT_SECONDS:
                awake_since = seen_at
            now = inf if self._given_up() else seen_at
            with self._changed:
                overdue = [one for one in self._busy if one.is_overdue(now, awake_since)]
                unused = [one for one in self._idle if seen_at - one.idle_since > self.idle_seconds]
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
