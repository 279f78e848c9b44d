"""Several decoding processes: each file is given to one, and an ended one is replaced."""

import logging
import os
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from threading import Event as Flag
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import IO, Self

from embedder.media.detect import detect, must_be_opened
from embedder.media.kind import Kind, Limits, MediaError, UnsupportedMedia
from indexer.entities import Draft
from indexer.flow import Closed
from indexer.sandbox import wire
from indexer.sandbox.process import Ended, Process, Silent

_log = logging.getLogger(__name__)

CUTTER = "indexer.segments:cut"

# A gigabyte may take almost three hours, and each draft adds two seconds for what a small file
# can draw at length: 5,000 pages may take as long again.
_BYTES_PER_SECOND = 100_000
_SECONDS_PER_DRAFT = 2.0
_GRACE_SECONDS = 1.0
_MOST_FILES = 2_000  # decoders leak memory, above all with damaged files
_SENTENCE = 500


class Workers:
    """Decodes files in processes; from several threads, with a process for each that is busy.

    Guarantees: processes start when the first file needs one, and are used again; one that
    hangs, crashes, or is left in the middle of a file is killed and replaced for the next file;
    a cancellation is obeyed within seconds; after `close` none is left.

    Args:
        limits: For `detect`; `cut` is given its own.
        cancel: Once set, waiting ends with `indexer.flow.Closed` after a moment.
        cutter: What cuts files, as module:function; `indexer.segments.cut` if None.
    """

    def __init__(
        self, limits: Limits | None = None, *, cancel: Flag | None = None, cutter: str | None = None
    ) -> None:
        self._limits = limits or Limits()
        self._cancel = cancel or Flag()
        self._cutter = cutter or CUTTER
        self._lock = Lock()
        self._idle: list[Process] = []
        self._busy: set[Process] = set()
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
        with closing(self._answers(Path(path), None, self._limits)) as answers:
            for answer in answers:
                try:
                    found = Kind(str(answer.body.get("kind")))
                except ValueError as error:
                    raise _crashed(path, "it named no kind") from error
        if found is None:
            raise _crashed(path, "it gave no answer")
        return found

    def cut(self, path: str | os.PathLike[str], kind: Kind, limits: Limits) -> Generator[Draft]:
        """As `indexer.segments.cut`.

        Raises:
            MediaError: also if decoding takes too long, or the decoder crashes.
            MemoryError: if it takes too much memory.
            LibraryError: if no process can be started.
        """
        with closing(self._answers(Path(path), kind, limits)) as answers:
            for answer in answers:
                try:
                    draft = wire.draft_of(answer, limits)
                except wire.Garbled as error:
                    raise _crashed(path, error) from error
                yield draft

    def close(self) -> None:
        """Ends all processes; threads that wait for one get `indexer.flow.Closed`."""
        with self._lock:
            self._closed = True
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

    def _answers(self, path: Path, kind: Kind | None, limits: Limits) -> Generator[wire.Message]:
        """What a process says of a file; it is used again only if it came to an end with it."""
        process = self._take()
        usable = False
        try:
            process.wait_until_ready()
            process.ask({"path": str(path), "kind": kind, "limits": asdict(limits)})
            patience = _Patience(limits, _size(path))
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
        except (Silent, Ended, wire.Garbled) as error:
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
            with self._lock:
                if self._closed:
                    raise Closed
                if not self._idle:
                    process = Process(self._cutter, self._open_turns(), self._given_up)
                    self._busy.add(process)
                    return process
                process = self._idle.pop()
                if process.is_alive():
                    self._busy.add(process)
                    return process
            process.end()

    def _give_back(self, process: Process, *, usable: bool) -> None:
        process.files += 1
        with self._lock:
            self._busy.discard(process)
            usable = usable and not self._closed and process.files < _MOST_FILES
            if usable:
                self._idle.append(process)
        if not usable:
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


class _Patience:
    """How long a file may take; only the time counts in which its answers are waited for."""

    def __init__(self, limits: Limits, size: int) -> None:
        self._limits = limits
        self._left = limits.file_seconds + size / _BYTES_PER_SECOND
        self._granted = self._left

    def receive(self, process: Process) -> wire.Message:
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
