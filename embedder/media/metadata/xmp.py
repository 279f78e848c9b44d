"""XMP, embedded in pictures or in files beside them."""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache, partial
from xml.etree import ElementTree as ET

from embedder.media.kinds import Details, Labelled
from embedder.media.metadata.exif import camera
from embedder.media.metadata.values import address, labelled, parsed_date, place

MAX_PACKET_BYTES = 4 << 20

_NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "acdsee": "http://ns.acdsee.com/iptc/1.0/",
}
_PREFIXES = {uri: prefix for prefix, uri in _NAMESPACES.items()}
_PLACES = "Iptc4xmpCore:Location photoshop:City photoshop:State photoshop:Country".split()
_STRUCTURED_PLACES = ("Sublocation", "City", "ProvinceState", "CountryName")
_ITEM = "rdf:li"

_Found = dict[str, list[str]]


def xmp_details(packet: bytes) -> tuple[Details, datetime | None]:
    """Return what an XMP packet says, and when the file, rather than the picture, was made.

    Source: ISO 16684-1 (XMP); IPTC Photo Metadata; MWG guidelines 2.0 for regions.

    Raises:
        ValueError: If it is no XMP, or too large.
    """
    root = _parsed(packet)
    found = _properties(root)
    texts = partial(_texts, found)
    dates = ("exif:DateTimeOriginal", "photoshop:DateCreated", "xmp:CreateDate")
    taken, created, made = (next(map(parsed_date, texts(name)), None) for name in dates)
    located = _place(texts("exif:GPSLatitude"), texts("exif:GPSLongitude"))
    details = Details(
        captured_at=taken or created,
        latitude=located and located[0],
        longitude=located and located[1],
        words=_words(found, root),
        facts=labelled(
            ("Camera", [camera(*("".join(texts(f"tiff:{name}")) for name in ("Make", "Model")))]),
            ("Lens", texts("exifEX:LensModel", "aux:Lens")[:1]),
            ("Rating", map(_rating, texts("xmp:Rating"))),
            ("Copyright", texts("dc:rights")),
        ),
    )
    return details, made


def _parsed(packet: bytes) -> ET.Element:
    """Parse a packet; one that declares entities, which XMP never does, is refused."""
    if len(packet) > MAX_PACKET_BYTES:
        raise ValueError("the XMP is too large")
    codec = "utf-16" if packet[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = packet.decode(codec, errors="replace").strip("\0 \t\r\n")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("the XMP declares entities")
    text = re.sub(r"\A<\?xml [^>]*\?>", "", text)  # its encoding no longer holds
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise ValueError("the XMP is damaged") from error


def _properties(root: ET.Element) -> _Found:
    """Return the texts of all known properties, those of nested structures included."""
    found: _Found = {}
    for element in root.iter():
        for name, text in element.attrib.items():
            found.setdefault(_short(name), []).append(text)
        items = [item.text for array in element for item in array if _short(item.tag) == _ITEM]
        texts = [text for text in items or [element.text] if text and not text.isspace()]
        if texts:
            found.setdefault(_short(element.tag), []).extend(texts)
    found.pop("", None)
    return found


def _texts(found: _Found, *names: str) -> list[str]:
    return [text for name in names for text in found.get(name, ())]


@lru_cache(maxsize=1_000)
def _short(name: str) -> str:
    """Return a name with the usual prefix of its namespace; nothing for names that are not read."""
    uri, _, local = name[1:].partition("}")
    prefix = _PREFIXES.get(uri)
    return f"{prefix}:{local}" if prefix else ""


def _words(found: _Found, root: ET.Element) -> Labelled:
    texts = partial(_texts, found)
    tags = texts("lr:hierarchicalSubject", "digiKam:TagsList", "MicrosoftPhoto:LastKeywordXMP")
    keywords = [part for tag in tags for part in re.split(r"[|/]", tag)]
    described = ("dc:description", "acdsee:caption", "tiff:ImageDescription", "exif:UserComment")
    accessible = ("Iptc4xmpCore:AltTextAccessibility", "Iptc4xmpCore:ExtDescrAccessibility")
    people = texts("Iptc4xmpExt:PersonInImage", "MPReg:PersonDisplayName")
    if "mwg-rs:Name" in found:
        people += _faces(root)
    structured = texts(*(f"Iptc4xmpExt:{name}" for name in _STRUCTURED_PLACES))
    return labelled(
        ("Title", texts("dc:title", "photoshop:Headline")),
        ("Caption", texts(*described, *accessible, "Iptc4xmpExt:Event")),
        ("Keywords", [*texts("dc:subject"), *keywords]),
        ("People", people),
        ("Place", [address(texts(*_PLACES)), address(structured)]),
        ("Author", texts("dc:creator")),
    )


def _faces(root: ET.Element) -> Iterator[str]:
    """Yield the names of regions that are faces, not points of focus or bar codes."""
    for element in root.iter():
        fields = {_short(child.tag): child.text for child in element}
        fields |= {_short(name): text for name, text in element.attrib.items()}
        name, kind = fields.get("mwg-rs:Name"), fields.get("mwg-rs:Type")
        if name and kind in (None, "Face", "Pet"):
            yield name


def _rating(text: str) -> str:
    """Return stars; -1 means rejected, and 0 not rated."""
    try:
        stars = round(float(text))
    except (ValueError, OverflowError):
        return ""
    return f"{stars} of 5" if 1 <= stars <= 5 else ""


def _place(latitudes: list[str], longitudes: list[str]) -> tuple[float, float] | None:
    if not latitudes or not longitudes:
        return None
    latitude, longitude = _degrees(latitudes[0]), _degrees(longitudes[0])
    return place(latitude, longitude)


def _degrees(text: str) -> float:
    """Parse 48,12.492N or 48,12,29.5N, or plain degrees, which some programs write."""
    direction = text.strip()[-1:].upper()
    try:
        parts = [float(part) for part in text.strip().rstrip("NSEWnsew").split(",")[:3]]
    except ValueError:
        return float("nan")
    degrees = sum(part / 60.0**power for power, part in enumerate(parts))
    return -degrees if direction in ("S", "W") else degrees
