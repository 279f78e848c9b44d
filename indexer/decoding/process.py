"""One decoding process as seen from outside: started, asked, listened to, ended."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import IO, Any

from embedder.media.kinds import Limits
from indexer.decoding import protocol
from indexer.errors import LibraryError

_log = logging.getLogger(__name__)

_START_SECONDS = 120.0
_END_SECONDS = 5.0
_TICK_SECONDS = 0.25
_PIPE_BYTES = 1 << 20
_SMALL_BYTES = 1 << 15
# The folder that this package came from is searched too, and first if it is not installed; what
# lies in the current folder is never imported.
_START = (
    "import sys; home = sys.argv.pop(1); home in sys.path or sys.path.insert(0, home); "
    "from indexer.decoding.worker import main; main()"
)
# Ctrl-C is for whoever started it: a file must not fail because the person stops the program.
_APART: dict[str, Any] = (
    {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    if sys.platform == "win32"
    else {"process_group": 0}
)
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Silent(Exception):
    """No answer came in time."""


class Ended(Exception):
    """The process is gone; the message says how it ended."""


class Process:
    """A decoding process, for one thread at a time; only `kill` may be called from another.

    Args:
        performer: What performs tasks, as module:function.
        turns: An open file on which large pictures wait for their turn, or None.
        given_up: Asked several times a second while waiting; True ends it with `Silent`.

    Attributes:
        files: How many it was given.
        idle_since: When it was started or last given back, by the monotonic clock.

    Raises:
        LibraryError: if it cannot be started.
    """

    def __init__(self, performer: str, turns: int | None, given_up: Callable[[], bool]) -> None:
        self.files = 0
        self.idle_since = monotonic()
        self._given_up = given_up
        home = str(Path(__file__).parents[2])
        command = [sys.executable, "-P", "-c", _START, home, performer]
        printed = None if _log.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(
                [*command, str(-1 if turns is None else turns)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                pass_fds=() if turns is None else (turns,),
                **_APART,
                env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
            )
        except OSError as error:
            raise LibraryError(
                f"no process for decoding can be started: {error.strerror or error}"
            ) from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        _enlarge(self._answers.fileno())
        self._waiting = memoryview(b"")
        self._ready = False

    @property
    def id(self) -> int:
        """The number that the system gave it."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Waits until it has loaded what it needs.

        Raises:
            LibraryError: if it does not start, which is no file's fault.
            Silent, Ended: if it was given up.
        """
        if self._ready:
            return
        try:
            self.receive(Limits(), _START_SECONDS)
        except (Silent, Ended, protocol.Garbled) as error:
            if self._given_up():
                raise
            raise LibraryError(
                f"the process for decoding does not start ({error}); run it by itself to see why: "
                f"{sys.executable} -m indexer.decoding.worker indexer.decoding.protocol:perform -1"
            ) from error
        self._ready = True

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask(self, request: Mapping[str, Any]) -> None:
        """Sends a request.

        Raises:
            Ended: if nobody is there to take it.
        """
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise Ended(self._ending()) from error

    def receive(self, limits: Limits, seconds: float) -> protocol.Message:
        """The next message.

        Args:
            limits: What it may hold.
            seconds: How long it may take.

        Raises:
            Silent: if it does not come in time.
            Ended: if the process ends.
            Garbled: if what comes is no message.
        """
        deadline = monotonic() + seconds
        head = self._read(protocol.HEAD.size, deadline)
        body, pixels = protocol.sizes(head, limits)
        return protocol.message(self._read(body + pixels, deadline), body)

    def kill(self) -> None:
        """Ends it at once."""
        with suppress(OSError):
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # the system does not let go of it
            self._process.wait(_END_SECONDS)

    def end(self) -> None:
        """Ends it and closes its pipes."""
        self.kill()
        self._requests.close()
        self._answers.close()

    def _read(self, count: int, deadline: float) -> memoryview:
        """So many bytes; small messages are read several at a time, large ones in place."""
        content = memoryview(bytearray(count))
        done = min(count, len(self._waiting))
        content[:done] = self._waiting[:done]
        self._waiting = self._waiting[done:]
        while done < count:
            if count - done >= _SMALL_BYTES:
                done += self._read_into(content[done:], deadline)
                continue
            piece = memoryview(bytearray(_SMALL_BYTES))
            got = self._read_into(piece, deadline)
            used = min(got, count - done)
            content[done : done + used] = piece[:used]
            self._waiting = piece[used:got]
            done += used
        return content

    def _read_into(self, place: memoryview, deadline: float) -> int:
        pipe = self._answers.fileno()
        got = _read_some(pipe, place, deadline, self._given_up, self.kill)
        if not got:
            raise Ended(self._ending())
        return got

    def _ending(self) -> str:
        """How it ended, in a few words."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        code = self._process.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"


def _read_polled(
    pipe: int,
    into: memoryview,
    deadline: float,
    given_up: Callable[[], bool],
    kill: Callable[[], None],
) -> int:
    """Bytes read into the start of `into`; 0 at the end. Never waits beyond the deadline."""
    import select

    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while True:
        left = deadline - monotonic()
        if poll.poll(1000 * max(0.0, min(left, _TICK_SECONDS))):
            return os.readv(pipe, [into])
        if left <= 0 or given_up():
            raise Silent


def _read_guarded(
    pipe: int,
    into: memoryview,
    deadline: float,
    given_up: Callable[[], bool],
    kill: Callable[[], None],
) -> int:
    """The same where pipes cannot be polled (Windows): at the deadline the process is killed."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        kill()

    timer = threading.Timer(max(0.0, deadline - monotonic()), stop)
    timer.daemon = True
    timer.start()
    try:
        data = os.read(pipe, min(len(into), _PIPE_BYTES))
    finally:
        timer.cancel()
    if not data and (late.is_set() or given_up()):
        raise Silent("no answer")
    into[: len(data)] = data
    return len(data)


_read_some = _read_guarded if sys.platform == "win32" else _read_polled


def _enlarge(pipe: int) -> None:
    """Lets a whole frame fit into a pipe, so that the process goes on while nobody reads."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):  # the user has many pipes already
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
