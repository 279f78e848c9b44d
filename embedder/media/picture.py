"""Still pictures: any file that Pillow or pillow-heif decodes → one upright RGB frame."""

import errno
import io
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from embedder.content import Content, Modality
from embedder.media.jxl import JXL_SIGNATURE, WEAK_JXL_SIGNATURE, check_jxl, register_jxl
from embedder.media.kinds import (
    Details,
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    first_bytes,
    open_media,
    os_reason,
    report_progress,
    suffixes,
)
from embedder.media.metadata import picture_details, raw_details
from embedder.media.pixels import (
    check_size,
    fitted,
    is_large,
    onto_white,
    plain_mode,
    thumbnail,
)
from embedder.media.raw import (
    ORIENTATION_TAG,
    RAW_SIGNATURES,
    RAW_SUFFIXES,
    is_raw,
    opened_raw,
)
from embedder.media.svg import SVG_SIGNATURES, is_svg, open_svg
from embedder.media.truncation import decode

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
_HEAD_BYTES = 4096
_SUBFILE_TAGS = (254, 255)
"""What a frame of a TIFF is to the others, and the same before TIFF 5."""
_REDUCED_OR_MASK, _OLD_REDUCED = 0b101, 2
_MOVING = re.compile(rb"(?:MotionPhoto|MicroVideo)\W+1\b")
"""What XMP says of a photo with a video behind it; of Google's phones, and of most others."""
_SCALED_JPEG_FACTOR = 4
_MAX_TEXT_BYTES = 16 << 20  # a PNG with more XMP than one megabyte is no bomb
_ICON_STARTS = (b"\0\0\1\0", b"\0\0\2\0", b"icns")
_NESTED_SIZES = re.compile(
    rb"\x89PNG\r\n\x1a\n.{8}(.{4})(.{4})|\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL
)
_UNHELPFUL = re.compile(r"^$|decoder error|libjxl")  # numbers, and advice to developers
_TRUNCATED = ("truncated", "broken data stream", "not enough image data", "unexpected end of file")
_DECODERS_LOCK = threading.Lock()
# Only one large picture is decoded at a time, to bound memory. Processes that decode side by side
# put a lock here that they share.
large_pictures: AbstractContextManager[object] = threading.Lock()


def read_picture(
    source: Source, limits: Limits | None = None, page: int | None = None
) -> Image.Image:
    """Decode a picture as a person would see it.

    JPEG files are decoded at a reduced scale. EXIF orientation is applied, transparency is laid
    onto white, more than 8 bits a channel are scaled to 8. Of several pictures in a file, the
    first is taken.

    Args:
        source: Path, bytes or binary file.
        limits: What decoding may cost.
        page: Page of a TIFF from 1; without it, the first.

    Returns:
        An RGB picture whose longest side has at most `limits.frame_side` pixels.

    Raises:
        MediaError: if it cannot be read, is truncated, declares too many pixels, or there is no
            such page.
    """
    limits = limits or Limits()
    with opened_picture(source, limits) as image:
        frames = _pages(image, limits)
        if page is not None and not 1 <= page <= len(frames):
            raise MediaError(f"the picture has no page {page}; its pages are 1 to {len(frames)}")
        return _frame(image, frames[(page or 1) - 1], limits)


def _frame(image: Image.Image, number: int, limits: Limits) -> Image.Image:
    """Decode a frame of an opened picture, which is at its first one or at one before."""
    if number:
        image.seek(number)
        check_pixels(image, limits)
    size = fitted(image.size, limits.frame_side)
    _draft(image, limits.frame_side)
    return to_frame(image, size)


def _pages(image: Image.Image, limits: Limits) -> list[int]:
    """Return the numbers of the frames that are pages: the first, and further ones of a TIFF.

    Previews and masks are frames of a TIFF, too, but no pages.
    """
    pages = []
    if isinstance(image, TiffImageFile):
        for number in range(limits.pages + 1):
            try:
                image.seek(number)
                kind, old_kind = (image.tag_v2.get(tag, 0) for tag in _SUBFILE_TAGS)
                if not (kind & _REDUCED_OR_MASK or old_kind == _OLD_REDUCED):
                    pages.append(number)
            except Exception:  # the end, or damaged from here on
                break
        else:
            raise MediaError(f"the TIFF has more pages than the limit of {limits.pages}")
        image.seek(0)
    return pages or [0]


@contextmanager
def opened_picture(source: Source, limits: Limits) -> Iterator[Image.Image]:
    """Open a picture, refuse too many pixels before any is decoded, and translate all errors."""
    prepare_decoders()
    try:
        with _as_file(source) as file, _opened(file, _suffix(source), limits) as image:
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


def _suffix(source: Source) -> str:
    return os.path.splitext(source)[1] if isinstance(source, str | os.PathLike) else ""


@contextmanager
def _opened(file: IO[bytes], suffix: str, limits: Limits) -> Iterator[Image.Image]:
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if is_raw(head, suffix):
        with opened_raw(file, limits.pixels) as image:
            yield image
    elif is_svg(head):
        yield open_svg(file, limits)
    else:
        _check_icon(file, limits)
        _check_webp(file, limits)
        check_jxl(file, limits.pixels)
        formats = (*FORMATS, "JXL") if register_jxl() else FORMATS
        with Image.open(file, formats=formats) as image:
            yield image


def prepare_decoders() -> None:
    """Register further formats with Pillow, once, and replace Pillow's limit on pixels by ours.

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
    register_jxl()
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = _MAX_TEXT_BYTES


def to_frame(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Turn an opened picture of any mode into an RGB picture of `size`, then set it upright."""
    with large_pictures if is_large(image) else nullcontext():
        decode(image)
        frame = plain_mode(image, size)
    if size != frame.size:
        frame = frame.resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    frame = onto_white(frame)
    orientation = _orientation(image)
    if orientation in _TRANSPOSE:
        frame = frame.transpose(_TRANSPOSE[orientation])
    return frame if frame is not image else image.copy()


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
    check_size(image.width, image.height, allowed)


def _check_icon(file: IO[bytes], limits: Limits) -> None:
    """Check the pictures nested in an icon, which Pillow decodes as soon as it is opened.

    Their sizes need not be those that the icon's directory declares.
    """
    file.seek(0)
    if file.read(4) in _ICON_STARTS:
        for found in _NESTED_SIZES.finditer(file.read()):
            width, height = (int.from_bytes(side, "big") for side in found.groups() if side)
            check_size(width, height, limits.pixels)
    file.seek(0)


def _check_webp(file: IO[bytes], limits: Limits) -> None:
    """Check that a WebP is whole, and its canvas, for which Pillow allocates memory at once."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(30)
    file.seek(0)
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return
    declared = 8 + int.from_bytes(head[4:8], "little")
    if size < declared:
        raise MediaError(f"the file is truncated: only {100 * size // declared}% of it is there")
    if head[12:16] == b"VP8X":
        sides = [int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27)]
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        sides = [(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1]
    else:
        sides = [int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28)]
    check_size(sides[0], sides[1], limits.pixels)


def _draft(image: Image.Image, side: int) -> None:
    """Decode a JPEG at 1/2, 1/4 or 1/8 where its longest side stays at least `side`."""
    longest = max(image.size)
    if image.format in ("JPEG", "MPO") and longest > side:
        width, height = (max(1, pixels * side // longest) for pixels in image.size)
        image.draft(None, (width, height))


def _orientation(image: Image.Image) -> int:
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # libjxl has turned it already, unless it was made from a JPEG
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
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
        if error.strerror == os.strerror(errno.EINVAL):  # a decoder sought before the beginning
            return "the picture is damaged and cannot be decoded"
        return os_reason(error)
    # Decoders describe what is wrong with a file by these two; anything else is about their code.
    if isinstance(error, OSError | SyntaxError) and not _UNHELPFUL.search(message):
        detail = message.splitlines()[0]
        return f"the picture is damaged or truncated and cannot be decoded ({detail:.80})"
    return "the picture is damaged, or of a format that is not supported"


FTYP_BRANDS = rb"hei[cxms]|hev[cx]|mif1|msf1|avif|avis"
_TEXTUAL = rb"P[1-7fF]|#define|/\* XPM"


def _read(path: Path, limits: Limits, page: int | None) -> Content:
    return Content(frames=[read_picture(path, limits, page)])


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    with opened_picture(path, limits) as image:
        pages = _pages(image, limits)
        if len(pages) > 1:
            yield from _cut_pages(image, pages, limits)
        else:
            frame = _frame(image, pages[0], limits)
            small = thumbnail(frame, limits)
            yield Draft(Content(frames=[frame]), small, picture_hash=difference_hash(small))


def _cut_pages(image: Image.Image, pages: Sequence[int], limits: Limits) -> Iterator[Draft]:
    """Yield pages, which have no hash: blank ones and forms look alike, and are no duplicates."""
    damaged: Exception | None = None
    found = False
    for page, number in enumerate(pages, 1):
        report_progress()
        try:
            frame = _frame(image, number, limits)
        except Exception as error:  # decoders raise anything from zlib.error to AttributeError
            damaged = error
            continue
        found = True
        yield Draft(Content(frames=[frame]), thumbnail(frame, limits), page=page)
    if damaged and not found:
        raise damaged


def _details(path: Path, limits: Limits) -> Details:
    with open_media(path) as file:
        if is_raw(file.read(_HEAD_BYTES), path.suffix):
            return raw_details(file)
    with opened_picture(path, limits) as image:
        details = picture_details(image)
        facts = details.facts if image.format else ()  # a drawing has the size that is asked for
        if _MOVING.search(image.info.get("xmp", b"")):
            facts += (("Motion photo", "yes"),)
        return replace(details, facts=facts)


IMAGE = MediaKind(
    kind=Kind.IMAGE,
    noun="picture",
    unit="picture",
    modality=Modality.IMAGE,
    has_picture=True,
    suffixes=suffixes(
        "jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff jp2 j2k j2c jpx jpf jpc pbm pgm "
        "ppm pnm pfm heic heics heif heifs hif avif avifs ico cur icns psd tga icb vda vst qoi dds "
        "pcx dcx sgi ras sun xbm xpm fli flc svg svgz jxl"
    )
    | RAW_SUFFIXES,
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
        *(rb"icns", rb"DDS ", rb"\x59\xa6\x6a\x95", rb".{4}ftyp(?:" + FTYP_BRANDS + rb")"),
        *RAW_SIGNATURES,
        JXL_SIGNATURE,
    ),
    named_signature=first_bytes(_TEXTUAL, *SVG_SIGNATURES),
    weak_signature=first_bytes(
        *(_TEXTUAL, rb"BM", rb"\0\0[\1\2]\0[^\0]\0", rb"\n\x05\x01", rb"\x01\xda[\0\x01]"),
        WEAK_JXL_SIGNATURE,
    ),
    read=_read,
    cut=_cut,
    details=_details,
    draw=lambda path, page, limits: read_picture(path, limits, page),
)
