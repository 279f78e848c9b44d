"""Media files: their kind, and their frames and text within limits.

Decoders are imported with the first file of their kind: OpenCV for videos, PyMuPDF for PDF,
pillow-heif for pictures. Everything here is thread-safe.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from embedder.content import Content
from embedder.media.detect import MEDIA_KINDS, MEDIA_TYPES, detect, suffix_kind
from embedder.media.kinds import (
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    UnsupportedMedia,
    Word,
)
from embedder.media.pdf import Page, read_page, read_pages, render_page
from embedder.media.picture import difference_hash, read_picture, thumbnail
from embedder.media.shots import Clip
from embedder.media.text import passages, read_text
from embedder.media.video import read_clips, sample_video

__all__ = [
    "MEDIA_KINDS",
    "MEDIA_TYPES",
    "Clip",
    "Draft",
    "Kind",
    "Limits",
    "MediaError",
    "MediaKind",
    "Page",
    "UnsupportedMedia",
    "Word",
    "cut",
    "detect",
    "difference_hash",
    "passages",
    "read_clips",
    "read_content",
    "read_page",
    "read_pages",
    "read_picture",
    "read_text",
    "render_page",
    "sample_video",
    "suffix_kind",
    "thumbnail",
]


def read_content(
    path: str | os.PathLike[str], limits: Limits | None = None, page: int | None = None
) -> Content:
    """Read a whole file as one content, as a query is.

    Args:
        path: A picture, video, PDF or text file.
        limits: What decoding may cost.
        page: Page of a PDF from 1; without it, the first.

    Returns:
        A picture as one frame, a video as evenly spaced frames, a PDF page as its picture and
        its words, a text file as its text.

    Raises:
        MediaError: if the file cannot be used; `UnsupportedMedia` if it is of no known kind.
    """
    return MEDIA_KINDS[detect(path)].read(Path(path), limits or Limits(), page)


def cut(path: str | os.PathLike[str], kind: Kind, limits: Limits | None = None) -> Iterator[Draft]:
    """Cut a file into searchable segments.

    Args:
        path: The file.
        kind: Its kind, as returned by `detect`.
        limits: How finely to cut, and what decoding may cost.

    Yields:
        Drafts in order, at least one. They are decoded one at a time, so memory does not grow
        with the length of the file.

    Raises:
        MediaError: if the file cannot be used, or is truncated.
    """
    yield from MEDIA_KINDS[kind].cut(Path(path), limits or Limits())
