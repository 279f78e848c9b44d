"""Decoding on request: files to search with, pages, pictures, and the context of a hit."""

import os
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from PIL import Image

from embedder.content import Content
from embedder.media import Draft
from embedder.media.kinds import Kind, Limits, MediaError, open_media, os_reason
from indexer.decoding.pool import DecoderPool
from indexer.decoding.protocol import Task, invalid_answer
from indexer.errors import Closed, LibraryBusy, LibraryError

# Less than an ingest allows: seeking through an hour of video takes a second or two.
_SILENCE_SECONDS = 20.0
_FILE_SECONDS = 60.0
_MEMORY_BYTES = 2 << 30  # enough for the largest pictures; each process may take as much


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many processes there are, and for how long.

    Attributes:
        processes: How many may work at a time.
        waiting: How many callers may wait for one of them.
        wait_seconds: How long a caller waits.
        spare_seconds: How long a caller waits for a busy process before another one is started,
            which takes longer than most files.
        idle_seconds: After which an unused process ends.
    """

    processes: int = max(2, min(4, os.cpu_count() or 1))
    waiting: int = 28  # 32 clients at once are served; threads remain for other requests
    wait_seconds: float = 20.0
    spare_seconds: float = 0.3
    idle_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Passage:
    """A span of a text file with its context.

    Attributes:
        before: The text before the span.
        text: The span.
        after: The text after the span.
        first: Whether `before` begins at the start of the file.
        last: Whether `after` reaches the end of the file.
    """

    before: str
    text: str
    after: str
    first: bool
    last: bool


class OnDemandDecoder(DecoderPool):
    """Decodes single things from files, in a few processes that are kept. Thread-safe.

    Guarantees: a file takes a minute at most; a caller waits 20 seconds at most for a process, and
    is refused at once if too many others do; processes that are unused for five minutes end.

    Every method raises `MediaError` if the file cannot be used, and `LibraryBusy` if too many
    callers wait.

    Args:
        bounds: How many processes there are, and for how long.
        performer: The function that performs tasks, as "module:function", for tests.
    """

    def __init__(self, bounds: Bounds | None = None, *, performer: str | None = None) -> None:
        super().__init__(performer=performer)
        self._bounds = bounds or Bounds()
        self._waiting = 0
        self.idle_seconds = self._bounds.idle_seconds

    def prepare(self) -> None:
        """Start a process in advance if there is none; return at once."""
        with self._changed, suppress(LibraryError):  # the first request reports it
            if not (self._closed.is_set() or self._idle or self._busy):
                self._idle.append(self._started())

    def content(
        self, path: Path, limits: Limits, page: int | None = None, expected: Kind | None = None
    ) -> Content:
        """Read a whole file as a query, as `embedder.media.read_content` does.

        Args:
            path: A picture, video, PDF or text file.
            limits: What decoding may cost.
            page: Page of a PDF or TIFF, from 1; None for the first.
            expected: The kind that the file must be, or None.
        """
        return self._one(path, Task("read", {"page": page, "expected": expected}), limits).content

    def page(self, path: Path, number: int, side: int) -> Image.Image:
        """Render a page of a PDF or TIFF so that its longest side has `side` pixels."""
        return self._picture(path, Task("draw", {"page": number}), side)

    def picture(self, path: Path, side: int) -> Image.Image:
        """Read a picture, scaled so that its longest side has at most `side` pixels."""
        return self._picture(path, Task("draw"), side)

    def frames(
        self, path: Path, start: float, interval: float, count: int, side: int
    ) -> tuple[Image.Image, ...]:
        """Read frames of a video, their longest side at most `side` pixels.

        Args:
            path: A video or an animated picture.
            start: When the first is shown, in seconds.
            interval: Seconds from one to the next.
            count: How many; fewer where the video ends.
            side: The most pixels of their longest side.
        """
        task = Task("frames", {"start": start, "interval": interval})
        return self._one(path, task, Limits(frame_side=side, clip_frames=count)).content.frames

    def passage(self, path: Path, span: tuple[int, int], around: int) -> Passage:
        """Read a span of a text file with its context.

        Args:
            path: A text file.
            span: First character, and one past the last.
            around: Characters of context before and after it.
        """
        start, end = span
        task = Task("excerpt", {"start": start, "end": end, "around": around})
        draft = self._one(path, task, Limits())
        text = draft.content.text or ""
        offset, length = draft.span or (0, len(text))
        start, end = (min(max(0, at - offset), len(text)) for at in span)
        return Passage(
            before=text[:start],
            text=text[start:end],
            after=text[end:],
            first=offset == 0,
            last=offset + len(text) >= length,
        )

    def _picture(self, path: Path, task: Task, side: int) -> Image.Image:
        frames = self._one(path, task, Limits(frame_side=side)).content.frames
        if not frames:
            raise invalid_answer("no picture")
        return frames[0]

    def _one(self, path: Path, task: Task, limits: Limits) -> Draft:
        """Return the result of a task; turn every error into a message for the user."""
        limits = replace(limits, silence_seconds=_SILENCE_SECONDS, memory_bytes=_MEMORY_BYTES)
        try:
            with (
                open_media(path) as file,
                closing(self._results(path, file, task, limits, _FILE_SECONDS)) as results,
            ):
                found = list(islice(results, 2))
        except MemoryError as error:
            raise MediaError("decoding it takes too much memory") from error
        except Closed as error:
            raise LibraryError("the library is being closed") from error
        except OSError as error:
            raise MediaError(os_reason(error)) from error
        if len(found) != 1:
            raise invalid_answer("not one result")
        return found[0]

    def _wait_for_a_free_process(self) -> None:
        bounds, closed = self._bounds, self._closed
        if len(self._busy) < bounds.processes:
            self._changed.wait_for(
                lambda: closed.is_set() or self._idle or not self._busy, bounds.spare_seconds
            )
        if len(self._busy) < bounds.processes:
            return
        free = False
        if self._waiting < bounds.waiting:
            self._waiting += 1
            try:
                free = self._changed.wait_for(
                    lambda: closed.is_set() or len(self._busy) < bounds.processes,
                    bounds.wait_seconds,
                )
            finally:
                self._waiting -= 1
        if not free:
            raise LibraryBusy("too many files are being decoded: try again in a moment")
