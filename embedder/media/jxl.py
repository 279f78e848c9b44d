"""JPEG XL, by a plug-in for Pillow that decodes a file as soon as it is opened.

The plug-in is under the GPL, so it is installed on request only.
"""

import struct
from contextlib import suppress
from functools import cache
from typing import IO

from embedder.media.kinds import UnsupportedMedia, first_bytes
from embedder.media.pixels import check_size

JXL_SIGNATURE = rb"\0\0\0\x0cJXL \r\n\x87\n"
WEAK_JXL_SIGNATURE = rb"\xff\x0a"
_JXL = first_bytes(JXL_SIGNATURE, WEAK_JXL_SIGNATURE)
_CODESTREAM = b"\xff\x0a"
_SIZE_BYTES = 16
_MAX_BOXES = 1_000
_LENGTHS = (9, 13, 18, 30)
"""Bits of a side, by the selector before it."""
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height, by the number that stands for it, from 1."""


@cache
def register_jxl() -> bool:
    """Register JPEG XL with Pillow; return whether it is installed."""
    with suppress(ImportError):
        from pillow_jxl import JpegXLImagePlugin

        JpegXLImagePlugin.DECODE_THREADS = 0  # files are decoded in parallel already
        return True
    return False


def check_jxl(file: IO[bytes], allowed: int) -> None:
    """Check the size of a JPEG XL before it is decoded; ignore files of other formats.

    Raises:
        UnsupportedMedia: if the plug-in is not installed.
        MediaError: if it has too many pixels.
    """
    head = file.read(_SIZE_BYTES)
    if _JXL.match(head):
        if not register_jxl():
            raise UnsupportedMedia("JPEG XL is not supported: install rzen-search[jxl]")
        if not head.startswith(_CODESTREAM):
            head = _codestream(file)
        check_size(*_size(head), allowed)
    file.seek(0)


def _codestream(file: IO[bytes]) -> bytes:
    """Return the beginning of the codestream in a container of boxes."""
    file.seek(0)
    for _ in range(_MAX_BOXES):
        start, head = file.tell(), file.read(8)
        if len(head) < 8:
            break
        length, name = struct.unpack(">I4s", head)
        if length == 1:
            length = int.from_bytes(file.read(8))
        if name in (b"jxlc", b"jxlp"):
            file.seek(4 if name == b"jxlp" else 0, 1)  # the number of the part
            return file.read(_SIZE_BYTES)
        if length < 8:  # the last box
            break
        file.seek(start + length)
    return b""


def _size(codestream: bytes) -> tuple[int, int]:
    """Return width and height by the first bytes of a codestream.

    Source: ISO/IEC 18181-1, size header.
    """
    bits = int.from_bytes(codestream[2:], "little")

    def taken(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    small = taken(1)

    def side() -> int:
        return 8 * (taken(5) + 1) if small else taken(_LENGTHS[taken(2)]) + 1

    height = side()
    ratio = taken(3)
    if ratio == 0:
        return side(), height
    over, under = _RATIOS[ratio - 1]
    return height * over // under, height
