"""Pixels: a picture in any of Pillow's modes → grey or colours of 8 bits, in bounded memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_LARGE_PIXELS = 16_000_000
_STRIP_PIXELS = 2_000_000

Range = tuple[float, float]


def is_large(image: Image.Image) -> bool:
    """Whether a picture takes so much memory that a copy of it hurts."""
    return image.width * image.height > _LARGE_PIXELS


def plain_mode(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The picture in mode L, RGB, LA or RGBA, with 8 bits a channel.

    A large one is converted strip by strip and reduced on the way, but not below twice `size`,
    the (width, height) that it is wanted in: converted as a whole, it would be copied two or
    three times.
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
    """A picture in a plain mode as RGB, what is transparent laid onto white."""
    if image.mode not in ("RGBA", "LA"):
        return image.convert("RGB") if image.mode != "RGB" else image
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return white


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """The top row and the pixels of each strip; all but the last have a multiple of `factor`."""
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
    """The values of black and white in a picture of more than 8 bits, None for all others.

    Whole numbers that fit 8, 10, 12, 14 or 16 bits are taken to use that range, as scanners,
    cameras and microscopes do, and fractions to use 0 to 1 where they fit; anything else, as
    depth in metres, is stretched from its least to its greatest value.
    """
    if not image.mode.startswith("I") and image.mode != "F":
        return None
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip).astype(np.float32)
        values = values[np.isfinite(values)]
        low, high = values.min(initial=low), values.max(initial=high)
    if low > high:
        return 0.0, 0.0  # Not a single number.
    ranges = (1,) if image.mode == "F" else (255, 1023, 4095, 16383, 65535)
    if low >= 0 and high <= ranges[-1]:
        return 0.0, float(next(top for top in ranges if high <= top))
    return float(low), float(high)


def _to_8_bits(values: npt.NDArray[Any], span: Range) -> npt.NDArray[np.uint8]:
    """Scale grey values from the range to 0…255; what is no number is black."""
    low, high = span
    grey = values.astype(np.float32)
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled = np.clip((np.where(np.isfinite(grey), grey, low) - low) * scale + 0.5, 0, 255)
    return np.asarray(scaled, dtype=np.uint8)
