"""How long a decoding process is waited for."""

import logging
import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from threading import Condition, Timer
from threading import Event as Flag
from time import monotonic
from types import TracebackType
from typing import IO, Self

from embedder.media.detect import detect, must_be_opened
from embedder.media.kinds import Kind, Limits, MediaError, UnsupportedMedia
from indexer.decoding import protocol
from indexer.decoding.process import Ended, Process, Silent
from indexer.decoding.protocol import Cut, Task, written
from indexer.decoding.segment import Draft
from indexer.errors import Closed, LibraryBusy

# A gigabyte may take almost three hours, and each draft adds two seconds for what a small file
# can draw at length: 5,000 pages may take as long again.
_BYTES_PER_SECOND = 100_000
_SECONDS_PER_DRAFT = 2.0


class Patience:
    """How long a file may take; only the time counts in which its answers are waited for.

    Args:
        limits: Give the longest silence, and the time for a file of no size.
        size: Bytes of a file that is read from beginning to end.
    """

    def __init__(self, limits: Limits, size: int = 0) -> None:
        self._limits = limits
        self._left = limits.file_seconds + size / _BYTES_PER_SECOND
        self._granted = self._left

    def receive(self, process: Process) -> protocol.Message:
        """The next answer that is more than a sign of life.

        Raises:
            Silent: if it does not come in time; the message is for the file's owner.
        """
        while True:
            started = monotonic()
            silence = self._limits.silence_seconds
            try:
                answer = process.receive(self._limits, min(silence, self._left))
            except Silent as error:
                if silence < self._left:
                    raise Silent(
                        f"decoding got no further for {silence:g} seconds and was stopped"
                    ) from error
                raise Silent(
                    f"decoding took longer than {self._granted:.0f} seconds and was stopped"
                ) from error
            self._left -= monotonic() - started
            if "alive" not in answer.body:
                self._left += _SECONDS_PER_DRAFT
                self._granted += _SECONDS_PER_DRAFT
                return answer


_log = logging.getLogger(__name__)

PERFORMER = "indexer.decoding.protocol:perform"

_GRACE_SECONDS = 1.0
_MOST_FILES = 2_000  # decoders leak memory, above all with damaged files
_SENTENCE = 500


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many processes there are at a time, and for how long.

    Attributes:
        processes: Most that work.
        waiting: Most callers that wait for one of them.
        wait_seconds: How long they do.
        spare_seconds: How long a caller waits for a process that works before another one is
            started: that takes longer than most files.
        idle_seconds: After which a process that nobody needed ends.
    """

    processes: int
    waiting: int
    wait_seconds: float
    spare_seconds: float
    idle_seconds: float


class DecoderPool:
    """Decodes files in processes; from several threads, with a process for each that is busy.

    Guarantees: processes start when the first file needs one, and are used again; one that
    hangs, crashes, or is left in the middle of a file is killed and replaced for the next file;
    a cancellation is obeyed within seconds; after `close` none is left.

    Args:
        limits: For `detect`; tasks are given their own.
        cancel: Once set, waiting ends with `indexer.errors.Closed` after a moment.
        bounds: How many processes there may be; without them, one for each thread that asks.
        performer: What performs tasks, as module:function; `indexer.decoding.protocol.perform` if
            None.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        cancel: Flag | None = None,
        bounds: Bounds | None = None,
        performer: str | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._cancel = cancel or Flag()
        self._bounds = bounds
        self._performer = performer or PERFORMER
        self._changed = Condition()
        self._idle: list[Process] = []
        self._busy: set[Process] = set()
        self._waiting = 0
        self._retiring: Timer | None = None
        self._closed = False
        self._cancelled_at: float | None = None
        self._turns: IO[bytes] | None = None

    def detect(self, path: str | os.PathLike[str]) -> Kind:
        """As `embedder.media.detect`.

        Comparing the first bytes needs no process of its own. A GIF does: it is opened to tell
        whether it moves.
        """
        if not must_be_opened(path):
            return detect(path)
        found: Kind | None = None
        patience = Patience(self._limits, _size(Path(path)))
        with closing(self._answers(Path(path), None, self._limits, patience)) as answers:
            for answer in answers:
                try:
                    found = Kind(str(answer.body.get("kind")))
                except ValueError as error:
                    raise _crashed(path, "it named no kind") from error
        if found is None:
            raise _crashed(path, "it gave no answer")
        return found

    def cut(self, path: str | os.PathLike[str], kind: Kind, limits: Limits) -> Generator[Draft]:
        """As `indexer.decoding.segment.cut`.

        Raises:
            MediaError: also if decoding takes too long, or the decoder crashes.
            MemoryError: if it takes too much memory.
            LibraryError: if no process can be started.
        """
        yield from self._drafts(Path(path), Cut(kind), limits, Patience(limits, _size(Path(path))))

    def one(self, path: str | os.PathLike[str], task: Task, limits: Limits) -> Draft:
        """What a task gives that gives one draft; raises as `cut` does.

        It may take `limits.file_seconds`, however large the file is.

        Raises:
            LibraryBusy: if so many others wait for a process that there is none in time.
        """
        with closing(self._drafts(Path(path), task, limits, Patience(limits))) as drafts:
            found = list(islice(drafts, 2))
        if len(found) != 1:
            raise _crashed(path, f"it gave {len(found)} answers")
        return found[0]

    def prepare(self) -> None:
        """Starts a process, so that the first file need not wait for it; returns at once."""
        with self._changed:
            if not (self._closed or self._idle or self._busy):
                self._idle.append(self._started())
                self._retire_later()

    def close(self) -> None:
        """Ends all processes; threads that wait for one get `indexer.errors.Closed`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._retiring is not None:
                self._retiring.cancel()
            idle, self._idle, busy = self._idle, [], list(self._busy)
        for process in busy:
            process.kill()  # whoever waits for it closes its pipes
        for process in idle:
            process.end()
        if self._turns is not None:
            self._turns.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _drafts(
        self, path: Path, task: Task, limits: Limits, patience: Patience
    ) -> Generator[Draft]:
        with closing(self._answers(path, task, limits, patience)) as answers:
            for answer in answers:
                try:
                    draft = protocol.draft_of(answer, limits)
                except protocol.Garbled as error:
                    raise _crashed(path, error) from error
                yield draft

    def _answers(
        self, path: Path, task: Task | None, limits: Limits, patience: Patience
    ) -> Generator[protocol.Message]:
        """What a process says of a file; it is used again only if it came to an end with it."""
        process = self._take()
        usable = False
        try:
            process.wait_until_ready()
            asked = None if task is None else written(task)
            process.ask({"path": str(path), "task": asked, "limits": asdict(limits)})
            while True:
                answer = patience.receive(process)
                if "error" in answer.body:
                    error = _error(answer.body["error"])
                    usable = not isinstance(error, MemoryError)
                    raise error
                if "end" in answer.body:
                    usable = True
                    return
                yield answer
        except (Silent, Ended, protocol.Garbled) as error:
            if self._given_up():
                raise Closed from None
            if isinstance(error, Silent):
                raise MediaError(str(error)) from error
            raise _crashed(path, error) from error
        finally:
            self._give_back(process, usable=usable)

    def _take(self) -> Process:
        """A process that is free, or a new one."""
        while True:
            with self._changed:
                self._wait_for_a_turn()
                if self._closed:
                    raise Closed
                process = self._idle.pop() if self._idle else self._started()
                if process.is_alive():
                    self._busy.add(process)
                    return process
            process.end()

    def _started(self) -> Process:
        return Process(self._performer, self._open_turns(), self._given_up)

    def _wait_for_a_turn(self) -> None:
        bounds = self._bounds
        if bounds is None:
            return
        if len(self._busy) < bounds.processes:
            self._changed.wait_for(
                lambda: self._closed or self._idle or not self._busy, bounds.spare_seconds
            )
        if len(self._busy) < bounds.processes:
            return
        free = False
        if self._waiting < bounds.waiting:
            self._waiting += 1
            try:
                free = self._changed.wait_for(
                    lambda: self._closed or len(self._busy) < bounds.processes, bounds.wait_seconds
                )
            finally:
                self._waiting -= 1
        if not free:
            raise LibraryBusy("too many files are being looked at: try again in a moment")

    def _give_back(self, process: Process, *, usable: bool) -> None:
        process.files += 1
        process.idle_since = monotonic()
        with self._changed:
            self._busy.discard(process)
            usable = usable and not self._closed and process.files < _MOST_FILES
            if usable:
                self._idle.append(process)
                self._retire_later()
            self._changed.notify_all()
        if not usable:
            process.end()

    def _retire_later(self) -> None:
        """Has processes end that nobody needs for some time."""
        if self._bounds is None or self._retiring is not None:
            return
        self._retiring = Timer(self._bounds.idle_seconds, self._retire)
        self._retiring.daemon = True
        self._retiring.start()

    def _retire(self) -> None:
        assert self._bounds is not None
        with self._changed:
            self._retiring = None
            latest = monotonic() - self._bounds.idle_seconds
            old = [one for one in self._idle if one.idle_since <= latest]
            self._idle = [one for one in self._idle if one.idle_since > latest]
            if self._idle and not self._closed:
                self._retire_later()
        for process in old:
            process.end()

    def _given_up(self) -> bool:
        """Whether nobody wants an answer any more."""
        if self._closed:
            return True
        if not self._cancel.is_set():
            return False
        self._cancelled_at = self._cancelled_at or monotonic()
        return monotonic() - self._cancelled_at > _GRACE_SECONDS

    def _open_turns(self) -> int | None:
        """The file on which large pictures wait for their turn; Windows has no such locks."""
        if sys.platform == "win32":
            return None
        if self._turns is None:
            self._turns = tempfile.TemporaryFile(prefix="rzen-")  # noqa: SIM115
        return self._turns.fileno()


def _error(described: object) -> Exception:
    """The exception that a process told of."""
    given = described if isinstance(described, Mapping) else {}
    kind, text = given.get("is"), " ".join(str(given.get("message")).split())[:_SENTENCE]
    if kind == "unsupported":
        return UnsupportedMedia(text)
    if kind == "media":
        return MediaError(text)
    if kind == "memory":
        return MemoryError()
    if kind == "os" and isinstance(given.get("errno"), int):
        return OSError(given["errno"], text)
    _log.error("unexpected error in a decoder: %s", text)
    return MediaError(f"it cannot be decoded: {text}")


def _crashed(path: str | os.PathLike[str], how: object) -> MediaError:
    _log.debug("the decoder of %r crashed: %s", str(path), how)
    if isinstance(how, Ended):
        return MediaError(f"it made its decoder crash ({how}): it is damaged, or made to do so")
    return MediaError("its decoder gave answers without sense: it is damaged, or made to do so")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # the decoder will say
