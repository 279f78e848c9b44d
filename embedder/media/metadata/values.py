"""Values in metadata: texts that a person wrote, dates that can be true, places on Earth."""

import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from itertools import islice

from embedder.media.encodings import decode
from embedder.media.kinds import SEPARATOR, Labelled

_MAX_VALUES = 200  # of a label
_FIRST_PHOTOGRAPH = 1826
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]+")
_WRITTEN = {"Title", "Caption", "Subject", "Author"}
# What cameras, phones and programs write where the person has written nothing.
_FILLER_FORMS = (
    r"(?:the )?(?:default(?: title)?|untitled(?:[ -]?\d+)?|unbenannt|sans titre|unknown)",
    r"none|null|n/?a|test|image|picture|photo|photograph|title|caption|camera|x-default",
    r"author|administrator|admin|user|owner|anonymous|applemark|my beautiful picture",
    r"exif[_ ]jpeg(?:[_ ]picture)?|binary comment|user comments?|charset=ascii\W*",
    # OLYMPUS DIGITAL CAMERA, SONY DSC, <SAMSUNG DIGITAL CAMERA>, <Digimax S600 / …>
    r"<?[a-z -]{0,30}\b(?:digital (?:still )?camera|digital image|dsc)>?\W*",
    r"<.{0,40}(?:digimax|kenox).{0,40}>|dcim\\.*|dcf \d.*|oplus_\d+",
    r"cof|dav|edf|fbt|hdr|hdrpl|mde|norm|ptr|rbt|rhdr|sdr|soc|trb",
    r"[<{](?s:.*)[>}]",  # XML and JSON of microscopes and phones
    r"(?:image )?(?:created|edited|compressed|processed|file written|optimi[sz]ed|generated) "
    r"(?:with|by|in) .*",
    r"cmp3\..*|creator: gd-jpeg.*|lead technologies.*|\w{0,20}jpeg encoder.*",
    r"handmade software.*",
)
_FILLERS = re.compile("|".join(_FILLER_FORMS), re.IGNORECASE)
_DATE = re.compile(
    r"""(?P<year>\d{4})
        (?:[:/.-]\s?(?P<month>\d\d?)
            (?:[:/.-]\s?(?P<day>\d\d?)
                (?:[T\s/]+(?P<hour>\d\d?):\s?(?P<minute>\d\d?)
                    (?::\s?(?P<second>\d\d?)(?:[.,](?P<fraction>\d+))?)?
                    \s*(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?
                )?
            )?
        )?[\s:]*""",  # blanks stand for what is not known
    re.VERBOSE | re.IGNORECASE,
)
_JOINED_DAY = re.compile(r"^(\d{4})(\d\d)(\d\d)(?=T|$)")
_JOINED_CLOCK = re.compile(r"T(\d\d)(\d\d)(\d\d)")
_UNSET_CLOCKS = {1904, 1970, 1980}
"""Years at whose beginning the clocks of containers, Unix and DOS start."""


def clean(text: str) -> str:
    """Return a text without control characters; an empty one if it is binary data."""
    if text.isprintable():
        return text.strip()
    text = text.split("\0\0\0\0", 1)[0].strip("\0 \t\r\n")
    controls = sum(len(run) for run in _CONTROLS.findall(text))
    if controls * 10 > len(text):
        return ""
    text = _CONTROLS.sub(" ", text).strip()
    return text.encode(errors="replace").decode()  # lone surrogates have no UTF-8


def decoded(data: bytes) -> str:
    """Decode bytes of which nothing says the encoding."""
    return decode(data.rstrip(b"\0")).text


def mended(text: str) -> str:
    """Return a text that was decoded as Latin-1, as standards say and few programs keep to."""
    try:
        return decoded(text.encode("latin-1"))
    except UnicodeEncodeError:
        return text


def labelled(*found: tuple[str, Iterable[str]]) -> Labelled:
    """Return each label with its values, joined, without repetitions and fillers."""
    pairs = []
    for label, values in found:
        kept: dict[str, str] = {}
        for value in map(clean, islice(values, _MAX_VALUES)):
            written = not (label in _WRITTEN and _FILLERS.fullmatch(value))
            if written and any(map(str.isalnum, value)):
                kept.setdefault(" ".join(value.casefold().split()), value)
        if kept:
            pairs.append((label, SEPARATOR.join(kept.values())))
    return tuple(pairs)


def prompt(text: str) -> str:
    """Return what a generator of pictures was asked for, without what it should avoid.

    Source: "parameters" of AUTOMATIC1111's web UI; "prompt", a graph of nodes, of ComfyUI.
    """
    if not text.lstrip().startswith("{"):
        return re.split(r"^(?:Negative prompt|Steps): ", text, maxsplit=1, flags=re.MULTILINE)[0]
    try:
        inputs = {number: node["inputs"] for number, node in json.loads(text).items()}
        wanted = [given["positive"][0] for given in inputs.values() if "positive" in given]
        asked = [inputs[str(number)].get("text") for number in wanted]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return "\n".join(one for one in asked if isinstance(one, str))


def address(parts: Iterable[str]) -> str:
    """Join the parts of an address, from the smallest to the country."""
    return ", ".join(filter(None, map(clean, parts)))


def parsed_date(text: str, zone: str = "", fraction: str = "") -> datetime | None:
    """Parse a date as EXIF, XMP, IPTC and containers write it; None if it cannot be true.

    Args:
        text: "2009:05:06 12:30:00" or ISO 8601; a year or a month stands for its first day, also
            where zeros or blanks stand for the rest.
        zone: "+02:00", where it stands apart.
        fraction: Digits of a fraction of a second, where they stand apart.
    """
    text = _JOINED_CLOCK.sub(r"T\1:\2:\3", _JOINED_DAY.sub(r"\1-\2-\3", clean(text)))
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (
        int(found[name] or 0) or default
        for name, default in zip(
            ("year", "month", "day", "hour", "minute", "second"), (0, 1, 1, 0, 0, 0), strict=True
        )
    )
    digits = (found["fraction"] or clean(fraction))[:6]
    microsecond = int(digits.ljust(6, "0")) if digits.isdecimal() else 0
    try:
        moment = datetime(
            *(year, month, day, hour, minute, second, microsecond),
            tzinfo=_zone(found["zone"] or clean(zone)),
        )
    except ValueError:
        return None
    if found["hour"] and year in _UNSET_CLOCKS and _starts_year(moment):
        return None
    return plausible(moment)


def written_date(text: str) -> datetime | None:
    """Parse a date as `parsed_date` does, or in the form of mail, as PNG and old pages have it."""
    from email.utils import parsedate_to_datetime  # brings much, and is rarely needed

    try:
        return parsed_date(text) or plausible(parsedate_to_datetime(text))
    except ValueError:
        return None


def plausible(moment: datetime) -> datetime | None:
    """Return a date that is neither before photography nor in the future; None for others."""
    now = datetime.now(UTC if moment.tzinfo else None) + timedelta(days=1)
    return moment if moment.year >= _FIRST_PHOTOGRAPH and moment <= now else None


def place(latitude: float, longitude: float) -> tuple[float, float] | None:
    """Return degrees north and east; None if they are none, or 0, 0, which means no fix."""
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):  # nor NaN
        return None
    if math.hypot(latitude, longitude) < 1e-4:
        return None
    return round(latitude, 6), round(longitude, 6)


def _starts_year(moment: datetime) -> bool:
    return (moment.month, moment.day) == (1, 1) and moment.time() == time()


def _zone(text: str) -> tzinfo | None:
    if text.upper() in ("Z", "UTC", "GMT"):
        return UTC
    found = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", text)
    if found is None:
        return None
    offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
    if offset >= timedelta(days=1):
        return None
    return timezone(-offset if found[1] == "-" else offset)
