"""Pixels of pictures: how many there may be, their reduction, and their conversion to 8-bit RGB."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from embedder.media.kinds import Limits, MediaError

Range = tuple[float, float]
"""The grey values that stand for black and white."""

_LARGE_PIXELS = 16_000_000
_STRIP_PIXELS = 2_000_000


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Scale (width, height) down so that the longest side has at most `side` pixels."""
    longest = max(size)
    if longest <= side:
        return size
    width, height = (max(1, round(pixels * side / longest)) for pixels in size)
    return width, height


def thumbnail(frame: Image.Image, limits: Limits | None = None) -> Image.Image:
    """Shrink a frame so that its longest side has at most `limits.thumbnail_side` pixels."""
    size = fitted(frame.size, (limits or Limits()).thumbnail_side)
    return frame.resize(size, Image.Resampling.HAMMING, reducing_gap=2.0)


def check_size(width: int, height: int, allowed: int) -> None:
    """Refuse a picture without pixels, and one with more than are allowed.

    Raises:
        MediaError: if so.
    """
    if width * height > allowed:
        raise MediaError(
            f"the picture has {width} × {height} = {width * height / 1e6:.0f} million pixels, "
            f"more than the limit of {allowed / 1e6:.0f} million"
        )
    if width * height == 0:
        raise MediaError("the picture has no pixels")


def is_large(image: Image.Image) -> bool:
    """Whether a picture takes so much memory that copies of it should be avoided."""
    return image.width * image.height > _LARGE_PIXELS


def plain_mode(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Convert a picture to mode L, RGB, LA or RGBA, with 8 bits a channel.

    A large one is converted strip by strip, which saves two or three copies of it, and reduced on
    the way, but not below twice `size`, the (width, height) that it is wanted in.
    """
    values = _grey_range(image)
    factor = max(image.size) // (2 * max(size))
    if not is_large(image) or factor < 2:
        return _converted(image, values)
    whole: Image.Image | None = None
    for top, strip in _strips(image, factor):
        small = _converted(strip, values).reduce(factor)
        if whole is None:
            whole = Image.new(small.mode, (small.width, -(-image.height // factor)))
        whole.paste(small, (0, top // factor))
    assert whole is not None  # a large picture has rows
    return whole


def onto_white(image: Image.Image) -> Image.Image:
    """Convert a picture in a plain mode to RGB, with transparency laid onto white."""
    if image.mode not in ("RGBA", "LA"):
        return image.convert("RGB") if image.mode != "RGB" else image
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return white


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield the top row and the pixels of each strip; heights are multiples of `factor`."""
    width, height = image.size
    rows = factor * max(1, _STRIP_PIXELS // (factor * width))
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _converted(image: Image.Image, values: Range | None) -> Image.Image:
    if values is not None:
        return Image.fromarray(_to_8_bits(np.asarray(image), values))
    if image.mode in ("L", "RGB", "RGBA", "LA"):
        transparent = image.mode in ("L", "RGB") and "transparency" in image.info
        return image.convert("RGBA") if transparent else image
    if image.mode in ("P", "PA"):
        transparent = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if transparent else "RGB")
    if image.mode in ("La", "RGBa"):
        return image.convert("LA" if image.mode == "La" else "RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


def _grey_range(image: Image.Image) -> Range | None:
    """Return the values of black and white in a picture of more than 8 bits, None for others.

    Integers that fit 8, 10, 12, 14 or 16 bits are assumed to use that range, as scanners, cameras
    and microscopes do, and fractions to use 0 to 1 where they fit; anything else, such as depth in
    metres, is stretched from its least to its greatest value.
    """
    if not image.mode.startswith("I") and image.mode != "F":
        return None
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip).astype(np.float32)
        values = values[np.isfinite(values)]
        low, high = values.min(initial=low), values.max(initial=high)
    if low > high:
        return 0.0, 0.0  # no finite value
    ranges = (1,) if image.mode == "F" else (255, 1023, 4095, 16383, 65535)
    if low >= 0 and high <= ranges[-1]:
        return 0.0, float(next(top for top in ranges if high <= top))
    return float(low), float(high)


def _to_8_bits(values: npt.NDArray[Any], span: Range) -> npt.NDArray[np.uint8]:
    """Scale grey values from the range to 0…255; values that are not finite become black."""
    low, high = span
    grey = values.astype(np.float32)
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled = np.clip((np.where(np.isfinite(grey), grey, low) - low) * scale + 0.5, 0, 255)
    return np.asarray(scaled, dtype=np.uint8)
