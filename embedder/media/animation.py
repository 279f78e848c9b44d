"""Animated pictures (GIF, APNG, WebP, AVIF) as short clips."""

import itertools
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from embedder.media import progress
from embedder.media.kind import Limits, MediaError
from embedder.media.opening import translated_os_errors
from embedder.media.picture import Source, check_pixels, fitted, opened_picture, to_frame
from embedder.media.shots import SAMPLES_PER_SECOND, Clip, Sample, cut_clips, gather, signature

_PNG_START = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATED = 0x02
_PIXELS_FACTOR = 50


def is_animated(path: Path, head: bytes | None = None) -> bool:
    """Whether a picture file moves; pages of a TIFF and layers of a PSD do not.

    Args:
        path: A picture.
        head: Its first bytes, a few hundred at least, where the caller has them.

    Raises:
        MediaError: if the file cannot be read.
    """
    with translated_os_errors(), path.open("rb") as file:
        head = head if head is not None else file.read(4096)
        if head.startswith(_PNG_START):
            return _png_is_animated(path)
        if head[8:16] == b"WEBPVP8X":
            return len(head) > 20 and bool(head[20] & _WEBP_ANIMATED)
        if head[4:8] == b"ftyp":
            return head[8:12] == b"avis"
    if not head.startswith((b"GIF87a", b"GIF89a")):
        return False
    try:
        with opened_picture(path, Limits()) as image:
            return bool(getattr(image, "is_animated", False))
    except MediaError:
        return False  # decoding will say what is wrong


def read_animation_clips(source: Source, limits: Limits | None = None) -> Iterator[Clip]:
    """Cut an animated picture into clips, as a video is.

    Raises:
        MediaError: if not a single frame can be decoded, or a limit is exceeded.
    """
    limits = limits or Limits()
    yield from cut_clips(_samples(source, limits), limits)


def read_animation(source: Source, limits: Limits | None = None) -> Clip:
    """Read a whole animated picture as one clip of at most `limits.clip_frames` frames.

    Raises:
        MediaError: if not a single frame can be decoded, or a limit is exceeded.
    """
    limits = limits or Limits()
    clip = gather(_samples(source, limits), limits)
    assert clip is not None  # _samples raises instead
    return clip


def _samples(source: Source, limits: Limits) -> Iterator[Sample]:
    """Decode frame by frame; deliver some five a second, the first and the last always."""
    with opened_picture(source, limits) as image:
        count = _frame_count(image)
        most = max(1, _PIXELS_FACTOR * limits.pixels // (image.width * image.height))
        count = min(count, most)
        time, due = 0.0, 0.0
        for index in itertools.count():
            if index >= count or not _decoded(image, index, limits):
                break
            progress.tell()
            end = time + _seconds(image)
            if time >= due or index < 2 * limits.clip_frames or index == count - 1:
                frame = to_frame(image.copy(), fitted(image.size, limits.video_side))
                size = fitted(frame.size, limits.clip_side)
                yield Sample(time, end, frame.resize(size), signature(frame))
                due = time + 1 / SAMPLES_PER_SECOND - 0.01  # times are sums of fractions
            time = end
            if time > limits.seconds:
                raise MediaError(
                    f"the animation is longer than the limit of {limits.seconds:.0f} seconds"
                )


def _decoded(image: Image.Image, index: int, limits: Limits) -> bool:
    """Decode frame `index`; False if the file ends or breaks there, unless it is the first."""
    try:
        image.seek(index)
        check_pixels(image, limits)  # a frame of a GIF may enlarge the canvas
        image.load()
    except Exception:
        if index == 0:
            raise
        return False
    return True


def _frame_count(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a truncated GIF cannot be counted; frames are taken until it breaks
        image.seek(0)
        return 1 << 31


def _seconds(image: Image.Image) -> float:
    """How long the current frame is shown; like browsers, 0.1 s where less than 0.02 is asked."""
    try:
        seconds = float(image.info.get("duration", 0)) / 1000
    except (TypeError, ValueError):
        seconds = 0.0
    return seconds if 0.02 <= seconds < 3600 else 0.1


def _png_is_animated(path: Path) -> bool:
    """Whether an animation chunk of more than one frame comes before the picture's data."""
    with path.open("rb") as file:
        file.seek(8)
        for _ in range(1000):
            header = file.read(8)
            if len(header) < 8 or header[4:] == b"IDAT":
                return False
            if header[4:] == b"acTL":
                count = file.read(4)
                return len(count) == 4 and struct.unpack(">I", count)[0] > 1
            file.seek(struct.unpack(">I", header[:4])[0] + 4, 1)
    return False
