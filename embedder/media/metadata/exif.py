"""EXIF: when and where a picture was taken, with which camera, and what was written about it."""

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from embedder.media.kinds import Details, Labelled
from embedder.media.metadata.values import (
    clean,
    decoded,
    labelled,
    mended,
    parsed_date,
    place,
    prompt,
)

Tags = Mapping[int, Any]

_RAW_HEAD_BYTES = 1 << 20

_COMPANY = re.compile(
    r"[ ,]+(?:corporation|corp|company|co|ltd|inc|imaging|computer|optical|electric|electronics"
    r"|techwin)\b.*",
    re.IGNORECASE,
)


def exif_tags(exif: Image.Exif) -> dict[int, Any]:
    """Return the tags of a picture and of its camera in one table."""
    return {**dict(exif), **exif.get_ifd(IFD.Exif)}


def raw_tags(file: IO[bytes]) -> tuple[Tags, Tags]:
    """Return the tags of a camera raw file, and those of its GPS directory, as far as it has any.

    Most are TIFF by their structure, whatever their first bytes; a CR3 has a box for each
    directory; others begin with a preview or a block that has EXIF.
    """
    file.seek(0)
    head = file.read(_RAW_HEAD_BYTES)
    if head[4:12] == b"ftypcrx ":
        main, camera_tags, gps = (_block(head, name) for name in (b"CMT1", b"CMT2", b"CMT4"))
        return {**main, **camera_tags}, dict(gps)
    if head[:2] in (b"II", b"MM") and b"HEAPCCDR" not in head[:16]:
        exif, is_little = Image.Exif(), head[:2] == b"II"
        exif.endian = "<" if is_little else ">"
        exif.load_from_fp(file, int.from_bytes(head[4:8], "little" if is_little else "big"))
    else:
        exif = _block(head, b"Exif\0\0" if b"Exif\0\0" in head else b"\0TTW")
    return exif_tags(exif), exif.get_ifd(IFD.GPSInfo)


def _block(head: bytes, name: bytes) -> Image.Exif:
    """Load the TIFF that follows a name and, in a MRW, its length."""
    exif, start = Image.Exif(), head.find(name)
    after = len(name) + 4 * (name == b"\0TTW")
    exif.load(head[start + after :] if start >= 0 else b"")
    return exif


def exif_details(tags: Tags, gps: Tags) -> Details:
    """Return what EXIF says, with the date only if it is that of the shutter.

    Args:
        tags: As `exif_tags` gives them.
        gps: The tags of the GPS directory.
    """
    located = _place(gps)
    return Details(
        captured_at=_date(tags, Base.DateTimeOriginal, Base.OffsetTimeOriginal, 0x9291),
        latitude=located and located[0],
        longitude=located and located[1],
        words=_words(tags),
        facts=_facts(tags, gps),
    )


def later_date(tags: Tags) -> datetime | None:
    """Return when a picture was scanned or, failing that, last changed."""
    return _date(tags, Base.DateTimeDigitized, Base.OffsetTimeDigitized, 0x9292) or _date(
        tags, Base.DateTime, Base.OffsetTime, 0x9290
    )


def _date(tags: Tags, tag: int, zone: int, fraction: int) -> datetime | None:
    return parsed_date(_text(tags, tag), _text(tags, zone), _text(tags, fraction))


def _words(tags: Tags) -> Labelled:
    return labelled(
        ("Title", [_utf16(tags, Base.XPTitle)]),
        (
            "Caption",
            [
                _text(tags, Base.ImageDescription),
                prompt(_comment(tags.get(Base.UserComment))),
                _utf16(tags, Base.XPComment),
                _utf16(tags, Base.XPSubject),
            ],
        ),
        ("Keywords", _utf16(tags, Base.XPKeywords).split(";")),
        ("Author", [_text(tags, Base.Artist), *_utf16(tags, Base.XPAuthor).split(";")]),
    )


def _facts(tags: Tags, gps: Tags) -> Labelled:
    return labelled(
        ("Camera", [camera(_text(tags, Base.Make), _text(tags, Base.Model))]),
        ("Lens", [_text(tags, Base.LensModel)]),
        ("Exposure", [_exposure(tags)]),
        ("Altitude", [_altitude(gps)]),
        ("Copyright", [_text(tags, Base.Copyright)]),
    )


def camera(make: str, model: str) -> str:
    """Join maker and model, of which the model often begins with the maker."""
    make, model = clean(make), clean(model)
    first = model.split(" ")[0].casefold()
    if first in make.casefold().split(" "):
        return model
    return f"{_COMPANY.sub('', make)} {model}"


def _exposure(tags: Tags) -> str:
    seconds, aperture = _number(tags, Base.ExposureTime), _number(tags, Base.FNumber)
    speed, focal = _number(tags, Base.ISOSpeedRatings), _number(tags, Base.FocalLength)
    full_frame = _number(tags, Base.FocalLengthIn35mmFilm)
    parts = []
    if seconds:
        parts.append(f"1/{1 / seconds:.0f} s" if seconds <= 0.4 else f"{seconds:.1f} s")
    if aperture:
        parts.append(f"f/{aperture:.2g}" if aperture < 10 else f"f/{aperture:.0f}")
    if speed:
        parts.append(f"ISO {speed:.0f}")
    if focal:
        parts.append(f"{focal:.3g} mm" if focal < 1000 else f"{focal:.0f} mm")
    if 0 < full_frame < 5_000 and round(full_frame) != round(focal):
        parts.append(f"as {full_frame:.0f} mm on 35 mm film")
    return ", ".join(parts)


def _place(gps: Tags) -> tuple[float, float] | None:
    latitude = _degrees(gps.get(GPS.GPSLatitude), _text(gps, GPS.GPSLatitudeRef), "NS")
    longitude = _degrees(gps.get(GPS.GPSLongitude), _text(gps, GPS.GPSLongitudeRef), "EW")
    return place(latitude, longitude)


def _degrees(values: Any, reference: str, directions: str) -> float:
    """Return degrees from degrees, minutes and seconds; NaN where they are incomplete."""
    direction = clean(reference)[:1].upper()
    if not isinstance(values, tuple) or not direction or direction not in directions:
        return math.nan
    degrees = sum(_float(value) / 60.0**power for power, value in enumerate(values[:3]))
    return -degrees if direction == directions[1] else degrees


def _altitude(gps: Tags) -> str:
    metres = _float(gps.get(GPS.GPSAltitude))
    if not 0 < metres < 20_000:
        return ""
    below = gps.get(GPS.GPSAltitudeRef) in (b"\1", 1)
    return f"{'-' if below else ''}{metres:.0f} m"


def _number(tags: Tags, tag: int) -> float:
    """Return a positive number; 0 if there is none."""
    value = tags.get(tag)
    number = _float(value[0] if isinstance(value, tuple) and value else value)
    return number if 1e-6 < number < 1e6 else 0.0


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan


def _text(tags: Tags, tag: int) -> str:
    value = tags.get(tag)
    if isinstance(value, bytes):
        return decoded(value)
    return mended(value) if isinstance(value, str) else ""


def _utf16(tags: Tags, tag: int) -> str:
    """Return the text of a tag that Windows writes."""
    value = tags.get(tag)
    if isinstance(value, tuple) and all(isinstance(byte, int) for byte in value):
        value = bytes(byte & 0xFF for byte in value)
    return value.decode("utf-16-le", errors="ignore") if isinstance(value, bytes) else ""


def _comment(value: Any) -> str:
    """Return a user comment, whose first eight bytes name its encoding."""
    if not isinstance(value, bytes):
        return mended(value) if isinstance(value, str) else ""
    charset, data = value[:8].rstrip(b"\0 ").upper(), value[8:]
    match charset:
        case b"UNICODE":
            # Of either byte order: letters of one script share their high bytes.
            little = len(set(data[1::2])) <= len(set(data[::2]))
            return data.decode("utf-16-le" if little else "utf-16-be", errors="replace")
        case b"JIS":
            return data.decode("iso2022_jp", errors="replace")
        case b"ASCII" | b"":
            return decoded(data)
    return decoded(value)  # without the encoding, which programs forget
