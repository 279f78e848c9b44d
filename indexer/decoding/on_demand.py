"""Decoding for whoever waits for it: files to search with, pages and pictures, texts around a find.

It happens in processes of their own, as in an ingest, but with less patience: a file that hangs,
crashes or takes all memory costs whoever sent it a sentence.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from embedder.content import Content
from embedder.media.io import os_reason
from embedder.media.kinds import Kind, Limits, MediaError
from indexer.decoding.pool import Bounds, DecoderPool
from indexer.decoding.protocol import Draw, Excerpt, Read, Task
from indexer.decoding.segment import Draft
from indexer.errors import Closed, LibraryError

_BOUNDS = Bounds(
    processes=max(2, min(4, os.cpu_count() or 1)),
    waiting=12,
    wait_seconds=20.0,
    spare_seconds=0.3,
    idle_seconds=300.0,
)
# An hour of video is sought through in a second or two; nobody waits for longer than a minute.
_SILENCE_SECONDS = 20.0
_FILE_SECONDS = 60.0
_MEMORY_BYTES = 2 << 30  # Enough for the largest pictures; as many processes may take it at once.


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of a text file, and what stands around it.

    Attributes:
        before: What stands before it.
        text: The stretch.
        after: What stands after it.
        first: Whether nothing comes before `before`.
        last: Whether nothing comes after `after`.
    """

    before: str
    text: str
    after: str
    first: bool
    last: bool


class OnDemandDecoder:
    """Decodes single things of files, in a few processes that are kept. Thread-safe.

    Guarantees: a file takes a minute at most; who finds all processes busy waits for 20 seconds
    at most, and a crowd is sent away at once; processes end that nobody needs for five minutes.

    Every method raises `MediaError` if the file cannot be used, and `LibraryBusy` if too many
    others wait.
    """

    def __init__(self, workers: DecoderPool | None = None) -> None:
        self._workers = workers or DecoderPool(bounds=_BOUNDS)

    def prepare(self) -> None:
        """Starts a process in advance, if none is there; returns at once."""
        with suppress(LibraryError):  # who asks for something will be told
            self._workers.prepare()

    def content(
        self, path: Path, limits: Limits, page: int | None = None, expected: Kind | None = None
    ) -> Content:
        """A whole file as a query is, see `embedder.media.read_content`.

        Args:
            path: A picture, video, PDF or text file.
            limits: What decoding may cost.
            page: Page of a PDF from 1; without it, the first.
            expected: The kind that it must be of, or None.
        """
        return self._one(path, Read(page, expected), limits).content

    def page(self, path: Path, number: int, side: int) -> Image.Image:
        """A page of a PDF whose longest side has `side` pixels."""
        return self._one(path, Draw(number), Limits(frame_side=side)).content.frames[0]

    def picture(self, path: Path, side: int) -> Image.Image:
        """A picture whose longest side has at most `side` pixels."""
        return self._one(path, Draw(), Limits(frame_side=side)).content.frames[0]

    def passage(self, path: Path, span: tuple[int, int], around: int) -> Passage:
        """A stretch of a text file.

        Args:
            path: A text file.
            span: First character, and one past the last.
            around: Characters wanted before and after it.
        """
        draft = self._one(path, Excerpt(*span, around), Limits())
        text = draft.content.text or ""
        begins, length = draft.span or (0, len(text))
        start, end = (min(max(0, at - begins), len(text)) for at in span)
        return Passage(
            before=text[:start],
            text=text[start:end],
            after=text[end:],
            first=begins == 0,
            last=begins + len(text) >= length,
        )

    def close(self) -> None:
        """Ends the processes, and with them whatever they are asked."""
        self._workers.close()

    def _one(self, path: Path, task: Task, limits: Limits) -> Draft:
        bounded = replace(
            limits,
            silence_seconds=_SILENCE_SECONDS,
            file_seconds=_FILE_SECONDS,
            memory_bytes=_MEMORY_BYTES,
        )
        with _translated():
            draft = self._workers.one(path, task, bounded)
        if not draft.content.frames and not isinstance(task, Read | Excerpt):
            raise MediaError("its decoder gave answers without sense: it is damaged, or made to")
        return draft


@contextmanager
def _translated() -> Iterator[None]:
    """Whatever is no file's fault or names none becomes a sentence."""
    try:
        yield
    except MemoryError as error:
        raise MediaError("it takes more memory to decode than there is for it") from error
    except Closed as error:
        raise LibraryError("the library is being closed") from error
    except OSError as error:
        raise MediaError(os_reason(error)) from error
