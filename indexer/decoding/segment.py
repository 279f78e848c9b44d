"""Policy: what of a file can be found. A picture, the clips of a video, pages, passages."""

import os
from collections.abc import Iterator
from pathlib import Path

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
from embedder.media.text import passages
from indexer.types import Draft


def cut(path: str | os.PathLike[str], kind: Kind, limits: Limits | None = None) -> Iterator[Draft]:
    """Cut a file into the segments that can be found.

    Args:
        path: The file.
        kind: What `embedder.media.detect` says it is.
        limits: What decoding may cost and how finely it is cut.

    Yields:
        Drafts in order, at least one, decoded one after the other: memory does not grow with
        the length of the file.

    Raises:
        MediaError: if the file cannot be used, or breaks off in the middle.
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
    """The thumbnail is the middle frame: the first is often black or still fading in."""
    return Draft(
        Content(frames=clip.frames, modality=Modality.VIDEO),
        thumbnail(clip.frames[len(clip.frames) // 2], limits),
        start=clip.start,
        end=clip.end,
    )


def _page(page: Page, limits: Limits) -> Draft:
    """A blank page is a segment too: page numbers have no gaps, and it can be asked for."""
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
