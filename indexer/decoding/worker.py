"""A decoding process: requests come in as lines of JSON, answers go out as `wire` messages.

It is started by `process`, decodes one file after the other, and ends when its input does, that
is, when whoever started it has ended. Where the platform can, it limits its memory, and ends of
itself when it stands still: a decoder that hangs inside of C code can be told of neither.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, TypeAlias

from embedder.media import detect, io, picture
from embedder.media.kinds import Limits, MediaError, UnsupportedMedia
from indexer.decoding import protocol
from indexer.decoding.protocol import Task, understood
from indexer.decoding.segment import Draft

_ALIVE_SECONDS = 1.0
_TURN_SECONDS = 0.05
_HELD_BYTES = 1 << 15
_HELD_SECONDS = 0.1
_LATE_SECONDS = 5.0
_SENTENCE = 500
_NICE = 10

Performer: TypeAlias = Callable[[Path, Task, Limits], Iterator[Draft]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until the input ends.

    Args:
        arguments: What performs tasks, as module:function; where large pictures wait for their
            turn, as the number of an open file or -1.
    """
    performer, turns = sys.argv[1:] if arguments is None else arguments
    requests, answers = _own_channels()
    module, _, name = performer.partition(":")
    worker = _Worker(answers, getattr(import_module(module), name))
    if int(turns) >= 0:
        picture.large_pictures = _Turn(int(turns), worker.tell)
    io.listen(worker.tell)
    _forbid_core_dumps()
    _give_way()
    worker.send(protocol.packed({"ready": True}))
    _alarm(0)
    threading.Thread(target=_end_with, args=(requests,), daemon=True).start()
    with os.fdopen(requests, "rb") as lines:
        for line in lines:
            worker.answer(json.loads(line))


class _Worker:
    """Answers requests; the file's limits are in force while it does."""

    def __init__(self, answers: int, perform: Performer) -> None:
        self._answers = answers
        self._perform = perform
        self._limits = Limits()
        self._told_at = 0.0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sent_at = 0.0

    def answer(self, request: Mapping[str, Any]) -> None:
        """Sends what a file gives, then how it ended."""
        self._limits = Limits(**request["limits"])
        _bound_memory(self._limits.memory_bytes)
        self._watch()
        try:
            if request["task"] is None:
                self.send(protocol.packed({"kind": detect(request["path"])}))
            else:
                task = understood(request["task"])
                for draft in self._perform(Path(request["path"]), task, self._limits):
                    self._pass_on(draft)
            ending: Mapping[str, Any] = {"end": True}
        except Exception as error:
            ending = {"error": _described(error)}
        self.send(protocol.packed(ending))
        _alarm(0)

    def send(self, parts: Sequence[bytes]) -> None:
        """Writes a message, after those held back; being read slowly is no silence."""
        _alarm(0)
        together = b"".join([*self._held, *parts[:2]])  # all but pixels
        self._held, self._held_bytes = [], 0
        for part in (together, *parts[2:]):
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(self._answers, rest) :]
        self._sent_at = monotonic()
        self._watch()

    def _pass_on(self, draft: Draft) -> None:
        """Sends a draft; passages are sent together, for each message wakes the reader."""
        parts = protocol.draft_parts(draft)
        self._held_bytes += sum(map(len, parts))
        late = monotonic() - self._sent_at > _HELD_SECONDS
        if late or draft.content.frames or self._held_bytes > _HELD_BYTES:
            self.send(parts)
        else:
            self._held += parts

    def tell(self) -> None:
        """Gives a sign of life, if the last was some time ago."""
        now = monotonic()
        if now - self._told_at > _ALIVE_SECONDS:
            self._told_at = now
            self.send(protocol.packed({"alive": True}))

    def _watch(self) -> None:
        _alarm(self._limits.silence_seconds + _LATE_SECONDS)


class _Turn:
    """A lock among processes on one byte of a file; whoever ends gives it back."""

    def __init__(self, file: int, tell: Callable[[], None]) -> None:
        self._file = file
        self._tell = tell

    def __enter__(self) -> None:
        import fcntl

        while True:
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                return
            self._tell()
            sleep(_TURN_SECONDS)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_UN, 1)


def _own_channels() -> tuple[int, int]:
    """Descriptors for requests and answers that no decoder reads from or prints to."""
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return requests, answers


def _end_with(requests: int) -> None:
    """Ends the process when nobody is left to ask, whatever it is doing.

    Windows cannot tell so without reading: there it ends after the file.
    """
    if sys.platform != "win32":
        import select

        poll = select.poll()
        poll.register(requests, 0)  # requests do not wake it, only their end does
        poll.poll()
        os._exit(0)


def _described(error: Exception) -> dict[str, Any]:
    """An exception as the parts that it is made of again."""
    if isinstance(error, MediaError):
        kind = "unsupported" if isinstance(error, UnsupportedMedia) else "media"
        return {"is": kind, "message": str(error)[:_SENTENCE]}
    if isinstance(error, MemoryError):
        return {"is": "memory", "message": ""}
    if isinstance(error, OSError) and error.errno is not None:
        return {"is": "os", "errno": error.errno, "message": str(error.strerror)[:_SENTENCE]}
    return {"is": "other", "message": repr(error)[:_SENTENCE]}


def _forbid_core_dumps() -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _give_way() -> None:
    """Whoever searches goes first; decoding that nobody waits beside is not slower for it."""
    if sys.platform != "win32":
        os.nice(_NICE)


def _bound_memory(most: int) -> None:
    """Has allocations fail beyond `most` bytes of private memory.

    Linux counts what is written to (RLIMIT_DATA). Other systems, and address space, which
    libraries reserve far more of than they use, are left alone.
    """
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _alarm(seconds: float) -> None:
    """Has the system end the process after that time; 0 calls it off."""
    if sys.platform != "win32":
        import signal

        signal.setitimer(signal.ITIMER_REAL, seconds)


if __name__ == "__main__":
    main()
