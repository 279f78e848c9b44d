"""Still pictures: any file that Pillow or pillow-heif decodes → one upright RGB frame."""

import io
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from embedder.media.kind import Limits, MediaError
from embedder.media.opening import os_reason

Source = str | os.PathLike[str] | bytes | IO[bytes]
"""A picture's path, its bytes, or a file open for reading bytes."""

# Left out: plug-ins that run other programs (EPS) or only recognise their format (HDF5, WMF …).
FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "HEIF", "AVIF", "BMP", "DIB", "TIFF", "JPEG2000"),
    *("PPM", "ICO", "CUR", "ICNS", "PSD", "QOI", "DDS", "SGI", "SUN", "PCX", "DCX", "FLI"),
    *("XBM", "XPM", "TGA"),
)
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION_TAG = 0x0112
_SCALED_JPEG_FACTOR = 4
_DECODERS_LOCK = threading.Lock()


def read_picture(source: Source, limits: Limits | None = None) -> Image.Image:
    """Decode a picture as a person would see it.

    JPEG files are decoded at a reduced scale. EXIF orientation is applied, transparency is laid
    onto white, more than 8 bits a channel are scaled to 8. Of several pictures in a file, the
    first is taken.

    Args:
        source: Path, bytes or binary file.
        limits: What decoding may cost.

    Returns:
        An RGB picture whose longest side has at most `limits.frame_side` pixels.

    Raises:
        MediaError: if it cannot be read, is truncated, or declares too many pixels.
    """
    limits = limits or Limits()
    with opened_picture(source, limits) as image:
        _draft(image, limits.frame_side)
        return to_frame(image, limits.frame_side)


@contextmanager
def opened_picture(source: Source, limits: Limits) -> Iterator[Image.Image]:
    """Open a picture, refuse too many pixels before any is decoded, and translate all errors."""
    prepare_decoders()
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with Image.open(opened, formats=FORMATS) as image:
            _check_pixels(image, limits)
            yield image
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything from zlib.error to AttributeError
        raise MediaError(_reason(error)) from error


def prepare_decoders() -> None:
    """Register HEIF with Pillow, once, and lift Pillow's own limit on pixels.

    Pillow's limit is one number for the whole process and knows nothing of scaled JPEG decoding;
    between its two thresholds it prints a warning instead of refusing. `opened_picture` checks
    each file against the caller's limits before decoding.
    """
    with _DECODERS_LOCK:
        _register_decoders()


@cache
def _register_decoders() -> None:
    from pillow_heif import register_heif_opener

    Image.init()
    register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None


def to_frame(image: Image.Image, side: int) -> Image.Image:
    """Turn an opened picture of any mode into an upright RGB picture of at most `side` pixels."""
    image.load()
    orientation = _orientation(image)
    frame = _plain_mode(image)
    size = fitted(frame.size, side)
    if size != frame.size:
        frame = frame.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    frame = _onto_white(frame)
    if orientation in _TRANSPOSE:
        frame = frame.transpose(_TRANSPOSE[orientation])
    return frame if frame is not image else image.copy()


def fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size in pixels at which a picture's longest side is at most `side`."""
    longest = max(size)
    if longest <= side:
        return size
    width, height = (max(1, round(pixels * side / longest)) for pixels in size)
    return width, height


def thumbnail(frame: Image.Image, limits: Limits | None = None) -> Image.Image:
    """Shrink a frame so that its longest side has at most `limits.thumbnail_side` pixels."""
    size = fitted(frame.size, (limits or Limits()).thumbnail_side)
    return frame.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def difference_hash(image: Image.Image) -> int:
    """Describe the coarse look of a picture in 64 bits, so that near-duplicates differ in few.

    The picture is reduced to 9 × 8 grey values; each bit says whether a value is less than its
    right neighbour.

    Returns:
        A signed 64-bit integer, as SQLite stores them. A picture without structure gives 0.
    """
    small = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    bits = np.packbits(grey[:, :-1] < grey[:, 1:])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def _check_pixels(image: Image.Image, limits: Limits) -> None:
    """Refuse too many pixels; a sequential JPEG may have more, for it is decoded at a scale.

    A progressive one may not: libjpeg keeps all its coefficients, whatever the scale.
    """
    scaled = image.format in ("JPEG", "MPO") and not image.info.get("progressive")
    allowed = limits.pixels * (_SCALED_JPEG_FACTOR if scaled else 1)
    pixels = image.width * image.height
    if pixels > allowed:
        raise MediaError(
            f"the picture has {image.width} × {image.height} = {pixels / 1e6:.0f} million pixels, "
            f"more than the limit of {allowed / 1e6:.0f} million"
        )
    if pixels == 0:
        raise MediaError("the picture has no pixels")


def _draft(image: Image.Image, side: int) -> None:
    """Have a JPEG decoded at 1/2, 1/4 or 1/8 where its longest side stays at least `side`."""
    longest = max(image.size)
    if image.format in ("JPEG", "MPO") and longest > side:
        width, height = (max(1, pixels * side // longest) for pixels in image.size)
        image.draft(None, (width, height))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata does not make a broken picture
        return 1


def _plain_mode(image: Image.Image) -> Image.Image:
    """The picture in mode L, RGB, LA or RGBA, with 8 bits a channel."""
    if image.mode in ("L", "RGB", "RGBA", "LA"):
        transparent = image.mode in ("L", "RGB") and "transparency" in image.info
        return image.convert("RGBA") if transparent else image
    if image.mode in ("P", "PA"):
        transparent = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if transparent else "RGB")
    if image.mode in ("La", "RGBa"):
        return image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode == "LAB":
        return _from_lab(image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _to_8_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Scale grey values of any range to 0…255.

    Values that fit 8, 10, 12, 14 or 16 bits are taken to use that range, as scanners, cameras and
    microscopes do; anything else, as depth maps in metres, is stretched from its least to its
    greatest value.
    """
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(grey.min()), float(grey.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, float(next(2**n - 1 for n in (8, 10, 12, 14, 16) if high <= 2**n - 1))
    scale = 255.0 / (high - low) if high > low else 0.0
    scaled: npt.NDArray[np.uint8] = np.clip((grey - low) * scale + 0.5, 0, 255).astype(np.uint8)
    return scaled


def _from_lab(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None  # only in-place conversion returns None
    return converted


def _onto_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("RGBA", "LA"):
        return image.convert("RGB") if image.mode != "RGB" else image
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image.convert("RGB"), mask=image.getchannel("A"))
    return white


def _reason(error: Exception) -> str:
    """Why a decoder gave up, in one sentence for the owner of the file."""
    message = str(error)
    if isinstance(error, UnidentifiedImageError):
        return "the picture is damaged, or of a format that is not supported"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode the picture"
    truncated = ("truncated", "Truncated", "broken data stream", "not enough image data")
    if isinstance(error, EOFError) or any(word in message for word in truncated):
        return "the file is truncated: it ends before the picture does"
    if isinstance(error, OSError) and error.errno is not None:
        return os_reason(error)
    if isinstance(error, zlib.error | SyntaxError | ValueError | OSError) and message:
        return f"the picture is damaged and cannot be decoded: {Path(message).name or message}"
    return f"the picture is damaged and cannot be decoded ({type(error).__name__})"
