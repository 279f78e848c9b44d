"""What a picture says about itself: EXIF, XMP, IPTC, and the text chunks of PNG, joined."""

import io
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import IO, Any

from PIL import Image
from PIL.ExifTags import IFD, Base

from embedder.media.kinds import Details
from embedder.media.metadata.exif import exif_details, exif_tags, later_date, raw_tags
from embedder.media.metadata.iptc import iptc_details
from embedder.media.metadata.values import decoded, labelled, mended, prompt, written_date
from embedder.media.metadata.xmp import xmp_details

_IPTC_RESOURCE, _XMP_RESOURCE = 0x0404, 0x0424
_IPTC_TAG, _XMP_TAG = 0x83BB, 0x02BC
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_WORDS = (b"IHDR", b"tEXt", b"zTXt", b"iTXt", b"eXIf")
_TURNED = (5, 6, 7, 8)
"""Orientations whose width is the height of what is stored."""
_SENTENCE = re.compile(r"[^\W\d_]{2}\W+[^\W\d_]{2}")
"""Parts of two words: comments without are mostly numbers of programs."""


Said = tuple[Details, datetime | None]
"""What a block of metadata says, and when the picture was scanned, made or last changed."""


def picture_details(image: Image.Image) -> Details:
    """Return what a picture says about itself, without decoding its pixels.

    Of several dates, that of the shutter is taken, else that of the picture in XMP or IPTC, else
    that of the scan or the last change.

    Args:
        image: Opened by Pillow.
    """
    if image.format == "PNG":
        with suppress(Exception):
            image = _without_pixels(image)
    details, later = Details(), Details()
    for read in (_exif, _xmp, _iptc, _texts):
        with suppress(Exception):  # of damaged blocks Pillow raises anything
            said, date = read(image)
            details, later = details.over(said), Details(captured_at=date).over(later)
    return details.over(later).over(Details(facts=(("Size", _size(image)),)))


def raw_details(file: IO[bytes]) -> Details:
    """Return what a camera raw file says about itself, without its picture.

    Args:
        file: Open for reading.
    """
    tags, gps = raw_tags(file)
    details = exif_details(tags, gps)
    if isinstance(packet := tags.get(_XMP_TAG), bytes):
        with suppress(ValueError):
            details = details.over(xmp_details(packet)[0])
    sides = (tags.get(Base.ExifImageWidth), tags.get(Base.ExifImageHeight))
    facts = (("Size", "{} × {} pixels".format(*sides)),) if all(sides) else ()
    return details.over(Details(captured_at=later_date(tags), facts=facts))


def _without_pixels(image: Image.Image) -> Image.Image:
    """Return a PNG with what is written behind its pixels, as ExifTool does, but without these."""
    file: IO[bytes] = image.fp  # type: ignore[attr-defined]
    before, parts = file.tell(), [_PNG_START]
    file.seek(len(_PNG_START))
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if name in _PNG_WORDS:
            parts.append(head + file.read(size + 4))
        else:
            file.seek(size + 4, io.SEEK_CUR)
    file.seek(before)
    return Image.open(io.BytesIO(b"".join([*parts, bytes(4), b"IDAT"])), formats=["PNG"])


def _exif(image: Image.Image) -> Said:
    exif = _pillow_exif(image)
    tags = exif_tags(exif)
    return exif_details(tags, exif.get_ifd(IFD.GPSInfo)), later_date(tags)


def _pillow_exif(image: Image.Image) -> Image.Exif:
    """Return EXIF as Pillow finds it, without the decoding for what may follow a PNG's pixels."""
    return Image.Image.getexif(image)


def _size(image: Image.Image) -> str:
    width, height = image.size
    with suppress(Exception):
        if _pillow_exif(image).get(Base.Orientation) in _TURNED:
            width, height = height, width
    return f"{width} × {height} pixels"


def _xmp(image: Image.Image) -> Said:
    packet = image.info.get("xmp") or _profile(image.info, "xmp")
    packet = packet or _resources(image).get(_XMP_RESOURCE, b"")
    return xmp_details(packet.encode() if isinstance(packet, str) else packet)


def _iptc(image: Image.Image) -> Said:
    blocks = image.info.get("photoshop") or _resources(image)
    block = blocks.get(_IPTC_RESOURCE)
    if block is None and (profile := _profile(image.info, "iptc")):
        block = profile[max(0, profile.find(b"\x1c")) :]  # within a block of Photoshop
    if block is None and hasattr(image, "tag_v2"):  # a TIFF's tag may have the type of integers
        block = image.tag_v2._tagdata.get(_IPTC_TAG)
    return iptc_details(block or b""), None


def _resources(image: Image.Image) -> dict[int, bytes]:
    """Return the blocks of metadata of a Photoshop file."""
    return {number: data for number, _, data in getattr(image, "resources", ())}


def _profile(info: Mapping[Any, Any], name: str) -> bytes | None:
    """Return what ImageMagick writes into a PNG: a name, a length and hexadecimal digits."""
    text = info.get(f"Raw profile type {name}")
    return bytes.fromhex("".join(text.split()[2:])) if isinstance(text, str) else None


def _texts(image: Image.Image) -> Said:
    """Return what the text chunks of a PNG, or the comment of a JPEG or GIF, say."""

    def texts(*names: str) -> list[str]:
        found = (image.info.get(name) for name in names)
        return [
            decoded(value) if isinstance(value, bytes) else mended(value)
            for value in found
            if isinstance(value, bytes | str)
        ]

    comments = [text for text in texts("comment") if _SENTENCE.search(text)]
    captions = [*map(prompt, texts("parameters", "prompt")), *texts("Description", "Comment")]
    dates = map(written_date, texts("Creation Time", "create-date"))
    details = Details(
        captured_at=next(filter(None, dates), None),
        words=labelled(
            ("Title", texts("Title")),
            ("Caption", [*captions, *comments]),
            ("Author", texts("Author", "Artist")),
        ),
        facts=labelled(("Copyright", texts("Copyright"))),
    )
    return details, None
