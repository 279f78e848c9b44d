"""Media files: what kind they are, and their frames and text within limits.

Decoders are imported when the first file of their kind comes: OpenCV for videos, PyMuPDF for
PDF, pillow-heif for pictures. Everything here may be called from several threads.
"""

import os
from pathlib import Path

from embedder.content import Content, Modality
from embedder.media.detect import detect, suffix_kind
from embedder.media.kinds import Kind, Limits, MediaError, UnsupportedMedia
from embedder.media.pdf import Page, Word, read_page, read_pages, render_page
from embedder.media.picture import difference_hash, read_picture, thumbnail
from embedder.media.shots import Clip
from embedder.media.text import passages, read_text
from embedder.media.video import read_clips, sample_video

__all__ = [
    "Clip",
    "Kind",
    "Limits",
    "MediaError",
    "Page",
    "UnsupportedMedia",
    "Word",
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
    path, limits = Path(path), limits or Limits()
    kind = detect(path)
    if kind is Kind.TEXT:
        return Content(text=read_text(path, limits))
    if kind is Kind.PDF:
        found = read_page(path, page or 1, limits)
        return Content(text=found.text, frames=[found.picture], modality=Modality.PAGE)
    if kind is Kind.VIDEO:
        return Content(frames=sample_video(path, limits).frames, modality=Modality.VIDEO)
    return Content(frames=[read_picture(path, limits)])
