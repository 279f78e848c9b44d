"""A decoder process: reads requests from a connection, decodes one file at a time, and answers.

It ends when it finds that the other end of its connection is closed, that is, that the program
which started it has ended. Where the platform allows, it confines itself, reads files that the
program opens for it, limits its own memory, and has itself killed when it makes no progress: a
decoder that hangs in C code cannot be interrupted otherwise.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeAlias

from embedder.content import Content, Modality
from embedder.media import (
    MEDIA_KINDS,
    Draft,
    Kind,
    Limits,
    MediaError,
    cut,
    detect,
    picture,
    read_content,
    read_frames,
)
from embedder.media.kinds import holding, on_progress
from embedder.media.metadata import sidecar_details
from indexer.decoding import protocol
from indexer.decoding.confinement import confine
from indexer.decoding.protocol import Task

_MAX_QUERY_CHARACTERS = 200_000
_ALIVE_SECONDS = 1.0
_LOCK_POLL_SECONDS = 0.05
_BATCH_BYTES = 1 << 15
_ALARM_DELAY_SECONDS = 5.0  # the program kills first, with a better message
_NICE = 10

Performer: TypeAlias = Callable[[Path, Task, Limits], Iterator[Draft]]


def main(performer: str, connection_handle: int, lock_file: int) -> None:
    """Serve requests until the connection is closed.

    Args:
        performer: The function that performs tasks, as "module:function".
        connection_handle: File descriptor (on Windows: handle) of the connection.
        lock_file: File descriptor that serialises the decoding of large pictures, or -1.
    """
    connection = _connected(connection_handle)
    module, _, name = performer.partition(":")
    server = _Server(connection, getattr(import_module(module), name))
    if lock_file >= 0:
        picture.large_pictures = _ProcessLock(lock_file, server.report_alive)
    on_progress(server.report_alive)
    if sys.platform != "win32":
        os.nice(_NICE)  # searches go first; on an idle machine this costs nothing
    server.send(protocol.encode({"ready": True, "confined": confine()}))
    _set_alarm(0)
    with suppress(EOFError, ConnectionError):
        while True:
            server.serve()


def perform(path: Path, task: Task, limits: Limits) -> Iterator[Draft]:
    """Perform a task.

    Raises:
        MediaError: If the file cannot be used.
    """
    return _TASKS[task.name](path, limits, **task.arguments)


def _cut(path: Path, limits: Limits, kind: str) -> Iterator[Draft]:
    """Cut the file into searchable segments."""
    return cut(path, Kind(kind), limits)


def _read(path: Path, limits: Limits, page: int | None, expected: str | None) -> Iterator[Draft]:
    """Read the whole file, of the kind expected, as a query, with no more text than models read."""
    if expected and (kind := detect(path)) != expected:
        raise MediaError(f"it is of the kind {kind}, not {expected}")
    content = read_content(path, limits, page)
    text = content.text and content.text[:_MAX_QUERY_CHARACTERS]
    yield Draft(replace(content, text=text))


def _draw(path: Path, limits: Limits, page: int | None = None) -> Iterator[Draft]:
    """Render a PDF page or, without a page, a picture, with a longest side of `frame_side`."""
    draw = MEDIA_KINDS[detect(path)].draw
    if draw is None:
        raise MediaError("it is neither a picture nor a document")
    yield Draft(Content(frames=[draw(path, page, limits)]))


def _frames(path: Path, limits: Limits, start: float, interval: float) -> Iterator[Draft]:
    """Read frames of a video from a time on, as many as a clip may have."""
    yield Draft(Content(frames=read_frames(path, start, interval, limits), modality=Modality.VIDEO))


def _excerpt(path: Path, limits: Limits, start: int, end: int, around: int) -> Iterator[Draft]:
    """Read a span of a text file with its context.

    The span of the draft holds the offset of its text, and the length of the file's text.
    """
    text = read_content(path, limits).text or ""
    first = max(0, start - around)
    shown = text[first : end + around]
    if not shown.strip():
        raise MediaError("the text has changed since it was indexed")
    yield Draft(Content(text=shown), span=(first, len(text)))


def _describe(path: Path, limits: Limits) -> Iterator[Draft]:
    """Read what a sidecar says about the file beside it, as the details of a draft."""
    yield Draft(Content(text=path.name), details=sidecar_details([path]))


_TASKS: Mapping[str, Callable[..., Iterator[Draft]]] = {
    "cut": _cut,
    "read": _read,
    "draw": _draw,
    "frames": _frames,
    "excerpt": _excerpt,
    "describe": _describe,
}


class _Server:
    """Answers requests, within the limits that each request sets."""

    def __init__(self, connection: Connection, perform: Performer) -> None:
        self._connection = connection
        self._perform = perform
        self._limits = Limits()
        self._batch: list[bytes] = []
        self._alive_at = 0.0
        if sys.platform != "win32":  # the same connection, for what is not bytes
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def serve(self) -> None:
        """Wait for a request, and answer it."""
        if sys.platform == "win32":
            self._answer(protocol.decode(self._connection.recv_bytes()), nullcontext())
            return
        _, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not descriptors:
            raise EOFError
        with os.fdopen(descriptors[0], "rb") as file:
            request = protocol.decode(self._connection.recv_bytes())
            self._answer(request, holding(request["path"], file))

    def _answer(self, request: dict[str, Any], file: AbstractContextManager[None]) -> None:
        """Send the results of a task, then how it ended."""
        path, task = Path(request["path"]), Task(request["task"], request["arguments"])
        self._limits = Limits(**request["limits"])
        _limit_memory(self._limits.memory_bytes)
        self._watch()
        ending: dict[str, Any] = {"end": True}
        try:
            with file:
                for draft in self._perform(path, task, self._limits):
                    self._add(draft)
        except Exception as error:
            ending = {"error": protocol.encode_error(error)}
        self._flush(ending)
        _set_alarm(0)

    def send(self, message: bytes) -> None:
        """Send a message; waiting for a slow reader does not count as silence."""
        _set_alarm(0)
        self._connection.send_bytes(message)
        self._watch()

    def report_alive(self) -> None:
        """Report progress, at most once a second."""
        if monotonic() - self._alive_at > _ALIVE_SECONDS:
            self._alive_at = monotonic()
            self.send(protocol.encode({"alive": True}))

    def _add(self, draft: Draft) -> None:
        """Send a draft with its pictures; batch texts: each message wakes the reader."""
        data, pictures = protocol.encode_draft(draft)
        pixels = [one.tobytes() for one in pictures]  # first: there may be no memory for them
        if pixels and self._batch:
            self._flush({})
        self._batch.append(data)
        if pixels or sum(map(len, self._batch)) > _BATCH_BYTES:
            self._flush({})
        for one in pixels:
            self.send(one)

    def _flush(self, ending: dict[str, Any]) -> None:
        self.send(protocol.encode_drafts(self._batch, ending))
        self._batch = []

    def _watch(self) -> None:
        _set_alarm(self._limits.silence_seconds + _ALARM_DELAY_SECONDS)


class _ProcessLock:
    """A lock among processes, on one byte of a file; the system releases it when a process ends."""

    def __init__(self, file: int, report_alive: Callable[[], None]) -> None:
        self._file = file
        self._report_alive = report_alive

    def __enter__(self) -> None:
        import fcntl

        while True:
            with suppress(BlockingIOError, PermissionError):
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                return
            self._report_alive()
            sleep(_LOCK_POLL_SECONDS)

    def __exit__(self, *_error: object) -> None:
        import fcntl

        fcntl.lockf(self._file, fcntl.LOCK_UN, 1)


def _connected(handle: int) -> Connection:
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection(handle)
    return Connection(handle)


def _limit_memory(most: int) -> None:
    """Make allocations fail beyond `most` bytes of private memory, on Linux.

    RLIMIT_DATA counts what is written to. Address space is not limited, because libraries reserve
    far more of it than they use. The limit cannot be raised again, neither by a file that has taken
    over the decoder nor by a later request.
    """
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _set_alarm(seconds: float) -> None:
    """Have the system kill the process after that time; 0 cancels it."""
    if sys.platform != "win32":
        import signal

        signal.setitimer(signal.ITIMER_REAL, seconds)
