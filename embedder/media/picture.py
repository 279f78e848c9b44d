"""Still pictures: any file that Pillow or pillow-heif decodes → one upright RGB frame."""

import io
import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from embedder.content import Content, Modality
from embedder.media.kinds import (
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    first_bytes,
    open_media,
    os_reason,
    suffixes,
)

Source = str | os.PathLike[str] | bytes | IO[bytes]
"""A picture's path, its bytes, or a file open for reading bytes."""

Range = tuple[float, float]
"""The grey values that stand for black and white."""

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
_LARGE_PIXELS = 16_000_000
_STRIP_PIXELS = 2_000_000
_ICON_STARTS = (b"\0\0\1\0", b"\0\0\2\0", b"icns")
_NESTED_SIZES = re.compile(
    rb"\x89PNG\r\n\x1a\n.{8}(.{4})(.{4})|\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL
)
_TRUNCATED = ("truncated", "broken data stream", "not enough image data", "unexpected end of file")
_DECODERS_LOCK = threading.Lock()
# Only one large picture is decoded at a time, to bound memory. Processes that decode side by side
# put a lock here that they share.
large_pictures: AbstractContextManager[object] = threading.Lock()


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
        size = fitted(image.size, limits.frame_side)
        _draft(image, limits.frame_side)
        return to_frame(image, size)


@contextmanager
def opened_picture(source: Source, limits: Limits) -> Iterator[Image.Image]:
    """Open a picture, refuse too many pixels before any is decoded, and translate all errors."""
    prepare_decoders()
    try:
        with _as_file(source) as file:
            _check_icon(file, limits)
            _check_webp(file, limits)
            with Image.open(file, formats=FORMATS) as image:
                check_pixels(image, limits)
                yield image
    except MediaError:
        raise
    except Exception as error:  # decoders raise anything from zlib.error to AttributeError
        raise MediaError(_reason(error)) from error


@contextmanager
def _as_file(source: Source) -> Iterator[IO[bytes]]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, str | os.PathLike):
        with open_media(source) as file:
            yield file
    else:
        yield source


def prepare_decoders() -> None:
    """Register HEIF with Pillow, once, and replace Pillow's own limit on pixels by ours.

    Pillow's is one number for the whole process, knows nothing of scaled JPEG decoding, and from
    there to twice as many prints a warning instead of refusing. `check_pixels` applies the
    caller's limits to each file before anything is decoded.
    """
    with _DECODERS_LOCK:
        _register_decoders()


@cache
def _register_decoders() -> None:
    from pillow_heif import register_heif_opener

    Image.init()
    register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None


def to_frame(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Turn an opened picture of any mode into an RGB picture of `size`, then set it upright."""
    with large_pictures if is_large(image) else nullcontext():
        image.load()
        frame = plain_mode(image, size)
    if size != frame.size:
        frame = frame.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    frame = onto_white(frame)
    orientation = _orientation(image)
    if orientation in _TRANSPOSE:
        frame = frame.transpose(_TRANSPOSE[orientation])
    return frame if frame is not image else image.copy()


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


def difference_hash(image: Image.Image) -> int:
    """Hash the coarse look of a picture into 64 bits, of which near-duplicates differ in few.

    The picture is reduced to 9 × 8 grey values; each bit says whether a value is less than its
    right neighbour.

    Returns:
        A signed 64-bit integer, as SQLite stores them; 0 for a picture without structure.
    """
    small = image.convert("L").resize((9, 8), Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.int16)
    bits = np.packbits(grey[:, :-1] < grey[:, 1:])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def check_pixels(image: Image.Image, limits: Limits) -> None:
    """Refuse too many pixels; a sequential JPEG may have more, since it is decoded at a scale."""
    # Not a progressive one: libjpeg keeps all its coefficients, whatever the scale.
    scaled = image.format in ("JPEG", "MPO") and not image.info.get("progressive")
    allowed = limits.pixels * (_SCALED_JPEG_FACTOR if scaled else 1)
    _check_size(image.width, image.height, allowed)


def _check_icon(file: IO[bytes], limits: Limits) -> None:
    """Check the pictures nested in an icon, which Pillow decodes as soon as it is opened.

    Their sizes need not be those that the icon's directory declares.
    """
    file.seek(0)
    if file.read(4) in _ICON_STARTS:
        for found in _NESTED_SIZES.finditer(file.read()):
            width, height = (int.from_bytes(side, "big") for side in found.groups() if side)
            _check_size(width, height, limits.pixels)
    file.seek(0)


def _check_webp(file: IO[bytes], limits: Limits) -> None:
    """Check the canvas of a WebP, for which Pillow allocates memory as soon as it is opened."""
    file.seek(0)
    head = file.read(30)
    file.seek(0)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return
    if head[12:16] == b"VP8X":
        sides = [int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27)]
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        sides = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
    else:
        sides = [int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28)]
    _check_size(sides[0], sides[1], limits.pixels)


def _check_size(width: int, height: int, allowed: int) -> None:
    if width * height > allowed:
        raise MediaError(
            f"the picture has {width} × {height} = {width * height / 1e6:.0f} million pixels, "
            f"more than the limit of {allowed / 1e6:.0f} million"
        )
    if width * height == 0:
        raise MediaError("the picture has no pixels")


def _draft(image: Image.Image, side: int) -> None:
    """Decode a JPEG at 1/2, 1/4 or 1/8 where its longest side stays at least `side`."""
    longest = max(image.size)
    if image.format in ("JPEG", "MPO") and longest > side:
        width, height = (max(1, pixels * side // longest) for pixels in image.size)
        image.draft(None, (width, height))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata does not make a broken picture
        return 1


def _reason(error: Exception) -> str:
    """Return in one sentence why a decoder failed, for the owner of the file."""
    message = str(error)
    if isinstance(error, UnidentifiedImageError):
        return "the picture is damaged, or of a format that is not supported"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode the picture"
    if isinstance(error, EOFError) or any(sign in message.lower() for sign in _TRUNCATED):
        return "the file is truncated: it ends before the picture does"
    if isinstance(error, OSError) and error.errno is not None:
        return os_reason(error)
    detail = message.splitlines()[0] if message else type(error).__name__
    return f"the picture is damaged or truncated and cannot be decoded ({detail:.80})"


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


FTYP_BRANDS = rb"hei[cxms]|hev[cx]|mif1|msf1|avif|avis"
_TEXTUAL = rb"P[1-7fF]|#define|/\* XPM"


def _read(path: Path, limits: Limits, _page: int | None) -> Content:
    return Content(frames=[read_picture(path, limits)])


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    frame = read_picture(path, limits)
    small = thumbnail(frame, limits)
    yield Draft(Content(frames=[frame]), small, picture_hash=difference_hash(small))


IMAGE = MediaKind(
    kind=Kind.IMAGE,
    noun="picture",
    unit="picture",
    modality=Modality.IMAGE,
    has_picture=True,
    suffixes=suffixes(
        "jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff jp2 j2k j2c jpx jpf jpc pbm pgm "
        "ppm pnm pfm heic heif hif avif avifs ico icns psd tga qoi dds pcx sgi xbm xpm"
    ),
    media_types={
        ".jpg": "image/jpeg",
        ".jpeg": "image/jpeg",
        ".jpe": "image/jpeg",
        ".png": "image/png",
        ".webp": "image/webp",
        ".gif": "image/gif",
        ".avif": "image/avif",
        ".bmp": "image/bmp",
    },
    signature=first_bytes(
        *(rb"\xff\xd8\xff", rb"\x89PNG\r\n\x1a\n", rb"GIF8[79]a", rb"RIFF.{4}WEBP", rb"II[*+]\0"),
        *(rb"MM\0[*+]", rb"\0\0\0\x0cjP  \r\n\x87\n", rb"\xff\x4f\xff\x51", rb"8BPS\0", rb"qoif"),
        *(rb"icns", rb"DDS ", rb".{4}ftyp(?:" + FTYP_BRANDS + rb")"),
    ),
    named_signature=first_bytes(_TEXTUAL),
    weak_signature=first_bytes(
        _TEXTUAL, rb"BM", rb"\0\0\x01\0", rb"\n\x05\x01", rb"\x01\xda[\0\x01]"
    ),
    read=_read,
    cut=_cut,
    draw=lambda path, _page, limits: read_picture(path, limits),
)
