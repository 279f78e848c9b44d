"""Camera raw files: the preview that the camera left in them, or the picture developed from it.

LibRaw finds the largest preview, which most cameras store as large as the picture itself, and
with the look that the camera gave it. Only where there is none is the raw itself developed.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from typing import IO, Any

from PIL import Image

from embedder.media.kinds import MediaError, first_bytes, suffixes
from embedder.media.pixels import check_size

ORIENTATION_TAG = 0x0112

RAW_SUFFIXES = suffixes(
    "dng nef nrw cr2 cr3 crw raf arw srf sr2 orf rw2 rwl pef srw 3fr fff iiq erf mef mos kdc dcr "
    "mrw x3f gpr"
)
RAW_SIGNATURES = (
    *(rb"FUJIFILMCCD-RAW", rb"FOVb", rb"\0MRM", rb"II\x1a\0\0\0HEAPCCDR", rb"IIR[OS]", rb"MMOR"),
    *(rb"IIU\0", rb".{4}ftypcrx "),
)
_RAW = first_bytes(*RAW_SIGNATURES)
_TIFF = first_bytes(rb"II\*\0", rb"MM\0\*")
_JPEG_START = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]")
_MAX_JPEGS = 50
_JPEG_HEAD_BYTES = 1 << 20
_LEAST_SIDE = 640
_UNREADABLE = (
    "the camera raw file cannot be read: it is damaged, truncated, or of a camera that is not "
    "supported"
)
_ORIENTATIONS = {3: 3, 5: 8, 6: 6}
"""EXIF's orientations by LibRaw's."""


def is_raw(head: bytes, suffix: str) -> bool:
    """Whether a file is a camera raw; many are TIFF by their bytes, and known by their names."""
    return bool(_RAW.match(head) or (suffix.lower() in RAW_SUFFIXES and _TIFF.match(head)))


@contextmanager
def opened_raw(file: IO[bytes], allowed: int) -> Iterator[Image.Image]:
    """Open the largest preview in a raw file, or what the raw gives where that is larger.

    Args:
        file: Open for reading.
        allowed: Most pixels of a raw that is developed.

    Yields:
        A picture with its orientation in its EXIF, as in a JPEG.

    Raises:
        MediaError: if there is neither, or too many pixels would have to be developed.
    """
    data = file.read()
    with _load_rawpy().RawPy() as raw:
        is_open = _open(raw, data)
        orientation = _ORIENTATIONS.get(raw.sizes.flip, 1) if is_open else 1
        picture = _preview(raw) if is_open else None
        if _side(picture) < _LEAST_SIDE:
            picture = max(picture, _largest_jpeg(data), key=_side)
        if _side(picture) < _LEAST_SIDE and is_open:
            try:
                picture = max(picture, _developed(raw, allowed), key=_side)
            except MediaError:
                if picture is None:
                    raise
        with picture or _tiff(data) as picture:
            with suppress(Exception):  # broken metadata does not make a broken picture
                picture.getexif().setdefault(ORIENTATION_TAG, orientation)
            yield picture


@cache
def _load_rawpy() -> Any:
    """Import rawpy when the first raw file comes."""
    import rawpy

    return rawpy


def _open(raw: Any, data: bytes) -> bool:
    """Have LibRaw open a file; return False if it does not know it."""
    try:
        raw.open_buffer(io.BytesIO(data))
    except _load_rawpy().LibRawError:
        return False
    return True


def _side(picture: Image.Image | None) -> int:
    return max(picture.size) if picture else 0


def _preview(raw: Any) -> Image.Image | None:
    """Open the largest preview that LibRaw knows of; its pixels may still be damaged."""
    rawpy = _load_rawpy()
    with suppress(rawpy.LibRawError, OSError, ValueError):
        found = raw.extract_thumb()
        if found.format is rawpy.ThumbFormat.JPEG:
            return Image.open(io.BytesIO(found.data), formats=("JPEG",))
        return Image.fromarray(found.data)
    return None


def _largest_jpeg(data: bytes) -> Image.Image | None:
    """Open the largest JPEG in a file that is cut off, or of a camera that LibRaw does not know.

    The raw itself may be a JPEG, too, but not one of 8 bits, which alone Pillow opens.
    """
    pixels = {}
    for found in islice(_JPEG_START.finditer(data), _MAX_JPEGS):
        head = io.BytesIO(data[found.start() : found.start() + _JPEG_HEAD_BYTES])
        with suppress(OSError, ValueError), Image.open(head, formats=("JPEG",)) as image:
            pixels[found.start()] = image.width * image.height
    if not pixels:
        return None
    start = max(pixels, key=lambda at: pixels[at])
    return Image.open(io.BytesIO(data[start:]), formats=("JPEG",))


def _tiff(data: bytes) -> Image.Image:
    """Open the first picture of what may be an ordinary TIFF that is named as a raw file."""
    try:
        return Image.open(io.BytesIO(data), formats=("TIFF",))
    except Exception as error:  # of damaged directories anything may come
        raise MediaError(_UNREADABLE) from error


def _developed(raw: Any, allowed: int) -> Image.Image:
    """Return the raw at half its size, not turned.

    Raises:
        MediaError: if that is not possible.
    """
    check_size(raw.sizes.raw_width, raw.sizes.raw_height, allowed)
    try:
        raw.unpack()
        pixels = raw.postprocess(half_size=True, use_camera_wb=True, user_flip=0)
    except _load_rawpy().LibRawError as error:
        raise MediaError(_UNREADABLE) from error
    if pixels.min() == pixels.max():  # what LibRaw makes of data that are not there
        raise MediaError(_UNREADABLE)
    return Image.fromarray(pixels)
