"""How a file is cut into segments: a picture, the clips of a video, pages, passages."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from embedder.content import Content, Modality
from embedder.media import (
    Clip,
    Kind,
    Limits,
    Page,
    difference_hash,
    read_clips,
    read_pages,
    read_picture,
    read_text,
    thumbnail,
)
from embedder.media.pdf import Word
from embedder.media.text import passages


@dataclass(frozen=True, eq=False, slots=True)
class Draft:
    """A segment that was cut from a file and has neither an id nor a vector yet.

    Attributes:
        content: What is embedded; its text is also what full-text search sees.
        thumbnail: Small RGB picture for result grids, or None for text.
        page: Page number from 1, PDF only.
        start: Seconds from the start of the file, clips only.
        end: Seconds from the start of the file, clips only.
        span: First and one-past-last character in the extracted text, passages only.
        words: Words of a page with their boxes.
        picture_hash: 64-bit difference hash of a still picture, as a signed integer.
    """

    content: Content
    thumbnail: Image.Image | None = None
    page: int | None = None
    start: float | None = None
    end: float | None = None
    span: tuple[int, int] | None = None
    words: tuple[Word, ...] = ()
    picture_hash: int | None = None


def cut(path: str | os.PathLike[str], kind: Kind, limits: Limits | None = None) -> Iterator[Draft]:
    """Cut a file into searchable segments.

    Args:
        path: The file.
        kind: Its kind, as returned by `embedder.media.detect`.
        limits: How finely to cut, and what decoding may cost.

    Yields:
        Drafts in order, at least one. They are decoded one at a time, so memory does not grow
        with the length of the file.

    Raises:
        MediaError: If the file cannot be used, or is truncated.
    """
    path, limits = Path(path), limits or Limits()
    if kind is Kind.IMAGE:
        yield _picture(path, limits)
    elif kind is Kind.VIDEO:
        for clip in read_clips(path, limits):
            yield _clip(clip, limits)
    elif kind is Kind.PDF:
        for page in read_pages(path, limits):
            yield _page(page, limits)
    else:
        yield from _passages(path, limits)


def _picture(path: Path, limits: Limits) -> Draft:
    frame = read_picture(path, limits)
    small = thumbnail(frame, limits)
    return Draft(Content(frames=[frame]), small, picture_hash=difference_hash(small))


def _clip(clip: Clip, limits: Limits) -> Draft:
    # The middle frame: the first is often black or still fading in.
    middle = clip.frames[len(clip.frames) // 2]
    return Draft(
        Content(frames=clip.frames, modality=Modality.VIDEO),
        thumbnail(middle, limits),
        start=clip.start,
        end=clip.end,
    )


def _page(page: Page, limits: Limits) -> Draft:
    # Blank pages are segments too: page numbers have no gaps, and any page can be requested.
    return Draft(
        Content(text=page.text, frames=[page.picture], modality=Modality.PAGE),
        thumbnail(page.picture, limits),
        page=page.number,
        words=page.words,
    )


def _passages(path: Path, limits: Limits) -> Iterator[Draft]:
    text = read_text(path, limits)
    for start, end in passages(text, limits):
        yield Draft(Content(text=text[start:end]), span=(start, end))
