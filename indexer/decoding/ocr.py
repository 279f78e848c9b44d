"""Processes that read the words in pictures: they decode files, as decoders do, and load a model.

They are confined likewise. A file that has taken one over can say nothing but lines of text.
"""

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.content import Content
from embedder.media import MEDIA_KINDS, Draft, Kind, Limits, MediaError, read_frames
from embedder.media.kinds import open_media, report_progress, translated_os_errors
from indexer.decoding.pool import DecoderPool
from indexer.decoding.protocol import Task, invalid_answer
from indexer.types import Segment, TextLine

if TYPE_CHECKING:
    from embedder.ocr import Reader

REVISION = "PP-OCRv6 small 1"
"""Of what is read: raised with every change of the models and of `embedder.ocr` that matters."""

PERFORMER = "indexer.decoding.ocr:perform"
_SIDE = 2000  # in pixels, as `embedder.ocr` reads them
_SILENCE_SECONDS = 3600.0  # to read one picture, while others have the processor
_SECONDS_PER_PLACE = 60.0
_NICE = 9  # added to that of decoders, so that it has what nothing else uses
_LOOK_SIDE = 96  # pixels
_SAME_LOOK = 1.0  # grey values of 255 by which frames of the same slide differ, in the mean


class OcrPool(DecoderPool):
    """Reads the words in the pictures of files; see `DecoderPool`.

    Attributes:
        revision: Of what it reads.
    """

    revision = REVISION

    def __init__(self, *, cancel: Event | None = None, performer: str = PERFORMER) -> None:
        super().__init__(cancel=cancel, performer=performer)

    def lines(
        self, path: Path, kind: Kind, places: Sequence[Segment]
    ) -> Generator[tuple[int, TextLine]]:
        """Yield the lines at some places of a file, each with the segment that it is in.

        Raises:
            MediaError, MemoryError, LibraryError: As `cut`.
        """
        asked = [(one.page, one.start, one.end) for one in places]
        task = Task("ocr", {"kind": kind, "places": asked})
        limits = replace(Limits(), frame_side=_SIDE, silence_seconds=_SILENCE_SECONDS)
        seconds = limits.file_seconds + _SECONDS_PER_PLACE * len(places)
        with translated_os_errors():
            opened = open_media(path)
        with opened as file, closing(self._results(path, file, task, limits, seconds)) as drafts:
            for draft in drafts:
                at = -1 if draft.span is None else draft.span[0]
                if not 0 <= at < len(places) or not draft.content.text:
                    raise invalid_answer("no line of a place that was asked for")
                yield places[at].id, TextLine(draft.content.text, draft.words)


def perform(path: Path, task: Task, limits: Limits) -> Iterator[Draft]:
    """Yield the lines at the places of a task, as drafts with the number of the place as span."""
    reader, before = _reader(), None
    kind = Kind(task.arguments["kind"])
    lines: list[Draft] = []
    for at, (page, start, end) in enumerate(task.arguments["places"]):
        report_progress()
        picture = _picture(path, kind, page, (start, end), limits)
        look = _look(picture) if kind is Kind.VIDEO else None
        if before is None or look is None or np.abs(look - before).mean() > _SAME_LOOK:
            lines = [
                Draft(Content(text=line.text), words=line.words) for line in reader.read(picture)
            ]
        before = look
        for line in lines:
            yield replace(line, span=(at, at + 1))


def _picture(
    path: Path,
    kind: Kind,
    page: int | None,
    times: tuple[float | None, float | None],
    limits: Limits,
) -> Image.Image:
    """Return a picture or page, or the frame in the middle of a clip."""
    start, end = times
    if kind is Kind.VIDEO:
        middle = ((start or 0.0) + (end or 0.0)) / 2
        limits = replace(limits, clip_frames=1, video_side=limits.frame_side)
        return read_frames(path, middle, 1.0, limits)[0]
    draw = MEDIA_KINDS[kind].draw
    if draw is None:
        raise MediaError("it is neither a picture nor a document")
    return draw(path, page, limits)


def _look(picture: Image.Image) -> NDArray[np.int16]:
    """Return a small grey version of a frame."""
    small = picture.convert("L").resize((_LOOK_SIDE, _LOOK_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.int16)


@cache
def _reader() -> "Reader":
    """Return the engine of this process, and lower its priority."""
    from embedder.ocr import Reader

    if sys.platform != "win32":
        os.nice(_NICE)
    return Reader()
