"""The kinds of media, and why a file of one may be refused."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a media file is for the person who searches; animated pictures count as video."""

    IMAGE = "image"
    VIDEO = "video"
    PDF = "pdf"
    TEXT = "text"


class MediaError(Exception):
    """A file cannot be used; the message is one sentence for the person who owns the file."""


class UnsupportedMedia(MediaError):
    """The file is not of any kind that is indexed; it is skipped rather than failed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding may cost, and how finely media are cut.

    Attributes:
        pixels: Most pixels a picture may have when decoded (JPEG counts as decoded scaled).
        seconds: Longest video.
        pages: Most pages of a PDF.
        file_bytes: Largest text file.
        frame_side: Longest side of the frames that are delivered, in pixels.
        page_side: The same for pages of PDFs, where it is less: they are drawn at any size.
        video_side: The same for frames of videos, where it is less: there are many of them.
        thumbnail_side: Longest side of thumbnails, in pixels.
        clip_seconds: Longest clip that a video is cut into.
        clip_frames: Frames taken of each clip, evenly spaced, first and last included.
        passage_words: Most words of a text passage.
        memory_bytes: Most memory for decoding a file in a process of its own.
        silence_seconds: Longest time that such a process may go without a sign of progress.
        file_seconds: How long it may take for a file of no size; larger ones may take longer.
    """

    pixels: int = 100_000_000
    seconds: float = 6 * 3600
    pages: int = 5_000
    file_bytes: int = 50_000_000
    frame_side: int = 4096
    page_side: int = 2048
    video_side: int = 1024
    thumbnail_side: int = 384
    clip_seconds: float = 10.0
    clip_frames: int = 8
    passage_words: int = 120
    memory_bytes: int = 4 << 30
    silence_seconds: float = 60.0
    file_seconds: float = 600.0

    @property
    def sheet_side(self) -> int:
        """Longest side of a PDF's pages, in pixels."""
        return min(self.frame_side, self.page_side)

    @property
    def clip_side(self) -> int:
        """Longest side of a video's frames, in pixels."""
        return min(self.frame_side, self.video_side)
