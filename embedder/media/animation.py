"""Animated pictures: which pictures are, and their frames as a stream of samples."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image

from embedder.media.kinds import (
    Limits,
    MediaError,
    open_media,
    report_progress,
    translated_os_errors,
)
from embedder.media.picture import check_pixels, opened_picture, to_frame
from embedder.media.pixels import fitted
from embedder.media.shots import SAMPLES_PER_SECOND, Sample, signature

_MAX_ANIMATION_PIXELS = 50  # of all frames together, in multiples of `Limits.pixels`
_PNG_START = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATED = 0x02
_MAX_GIF_BYTES = 64 << 20


def is_animated(path: Path, head: bytes) -> bool:
    """Whether a picture file is animated; pages of a TIFF and layers of a PSD do not count.

    Args:
        path: A picture.
        head: Its first bytes, a few hundred at least.

    Raises:
        MediaError: if the file cannot be read.
    """
    if head[8:16] == b"WEBPVP8X":
        return len(head) > 20 and bool(head[20] & _WEBP_ANIMATED)
    if head[4:8] == b"ftyp":
        return head[8:12] == b"avis"
    is_png, is_gif = head.startswith(_PNG_START), head.startswith((b"GIF87a", b"GIF89a"))
    if not (is_png or is_gif):
        return False
    with translated_os_errors(), open_media(path) as file:
        return _png_is_animated(file) if is_png else _gif_is_animated(file)


def animation_samples(path: Path, limits: Limits) -> Iterator[Sample]:
    """Decode frame by frame and yield some five a second, always the first and the last.

    Args:
        path: A picture file, animated or not.
        limits: Gives `pixels`, `seconds`, `frame_side`, `video_side` and `clip_frames`.

    Raises:
        MediaError: if not a single frame can be decoded, or a limit is exceeded.
    """
    with opened_picture(path, limits) as image:
        max_frames = _MAX_ANIMATION_PIXELS * limits.pixels // (image.width * image.height)
        count = min(_frame_count(image), max(1, max_frames))
        time, due = 0.0, 0.0
        for index in range(count):
            if not _decode_frame(image, index, limits):
                break
            report_progress()
            end = time + _frame_seconds(image)
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


def _decode_frame(image: Image.Image, index: int, limits: Limits) -> bool:
    """Decode frame `index`; return False if the file ends or breaks there, after the first."""
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
    except Exception:  # a truncated GIF cannot be counted: read it until it breaks
        image.seek(0)
        return 1 << 31


def _frame_seconds(image: Image.Image) -> float:
    """Return the duration of the current frame: like browsers, 0.1 s if it is less than 0.02 s."""
    try:
        seconds = float(image.info.get("duration", 0)) / 1000
    except (TypeError, ValueError):
        seconds = 0.0
    return seconds if 0.02 <= seconds < 3600 else 0.1


def _png_is_animated(file: IO[bytes]) -> bool:
    """Whether an animation chunk of several frames comes before the picture's data."""
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


def _gif_is_animated(file: IO[bytes]) -> bool:
    """Whether a second picture begins within the first megabytes."""
    file.seek(10)
    flags, pictures = file.read(3)[:1], 0
    _skip_colours(file, flags)
    while file.tell() < _MAX_GIF_BYTES:
        match file.read(1):
            case b"" | b";":  # the end
                return False
            case b"!":  # an extension: its label
                file.seek(1, 1)
            case b",":  # a picture: its place and flags, its colours, the size of its codes
                pictures += 1
                if pictures == 2:
                    return True
                _skip_colours(file, file.read(9)[8:])
                file.seek(1, 1)
            case _:
                continue  # as decoders do
        while (size := int.from_bytes(file.read(1))) and file.tell() < _MAX_GIF_BYTES:
            file.seek(size, 1)
    return False


def _skip_colours(file: IO[bytes], flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, 1)
