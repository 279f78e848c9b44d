"""Contacts and calendars: the text of vCard and iCalendar files.

Sources: RFC 6350 and vCard 2.1, RFC 5545.
"""

import quopri
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from embedder.media.archive import chunks_of
from embedder.media.encodings import decode, looks_utf16
from embedder.media.kinds import Limits
from embedder.media.metadata.properties import Properties
from embedder.media.metadata.values import parsed_date

_LINE = re.compile(r'(?:[\w-]+\.)?([\w-]+)((?:;(?:"[^"]*"|[^":;])*)*):(.*)', re.DOTALL)
_QUOTED = re.compile("QUOTED-PRINTABLE", re.IGNORECASE)
_BASE64 = re.compile(r"ENCODING=\"?B(?:ASE64)?\b|;BASE64\b", re.IGNORECASE)
_CHARSET = re.compile(r"CHARSET=\"?([\w-]+)", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CARD_LABELS = {
    "FN": "",
    "NICKNAME": "Nickname",
    "ORG": "Organisation",
    "TITLE": "Title",
    "ROLE": "Role",
    "EMAIL": "Mail",
    "TEL": "Phone",
    "ADR": "Address",
    "IMPP": "Messenger",
    "URL": "Web",
    "BDAY": "Birthday",
    "ANNIVERSARY": "Anniversary",
    "RELATED": "Related",
    "CATEGORIES": "Categories",
    "NOTE": "Note",
}
_EVENT_LABELS = {
    "SUMMARY": "",
    "DTSTART": "From",
    "DTEND": "To",
    "DUE": "Due",
    "LOCATION": "Place",
    "ORGANIZER": "Organiser",
    "ATTENDEE": "With",
    "CONTACT": "Contact",
    "URL": "Web",
    "CATEGORIES": "Categories",
    "COMMENT": "Comment",
    "DESCRIPTION": "",
}
_EVENTS = {"VEVENT", "VTODO", "VJOURNAL"}
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)?(Z?))?")
_DATES = {"DTSTART", "DTEND", "DUE", "BDAY", "ANNIVERSARY"}


class _Field(NamedTuple):
    name: str
    parameters: str
    value: str


def read_cards(file: BinaryIO, limits: Limits) -> str:
    """Return the text of contacts, with form feeds between them; pictures and keys are left out.

    Raises:
        MediaError: if the file is over the limits.
    """
    return "\f".join(_written(card, _CARD_LABELS) for card in _components(file, limits, {"VCARD"}))


def read_cards_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return the name of the contact, if the file is that of one."""
    properties, cards = Properties(), list(_components(file, limits, {"VCARD"}))
    if len(cards) == 1:
        properties.add("People", _first(cards[0], "FN") or None)
    else:
        properties.add_count("Contacts", len(cards))
    return properties


def read_calendar(file: BinaryIO, limits: Limits) -> str:
    """Return the text of events and tasks, with form feeds between them.

    Raises:
        MediaError: if the file is over the limits.
    """
    return "\f".join(_written(one, _EVENT_LABELS) for one in _components(file, limits, _EVENTS))


def read_calendar_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return title, date and place of the event, if the file is that of one."""
    properties, events = Properties(), list(_components(file, limits, _EVENTS))
    if len(events) == 1:
        properties.add("Title", _first(events[0], "SUMMARY"))
        starts = [field.value for field in events[0] if field.name == "DTSTART"]
        properties.written_at = parsed_date("".join(starts[:1]))
    else:
        properties.add_count("Events", len(events))
    return properties


def _components(file: BinaryIO, limits: Limits, kinds: set[str]) -> Iterator[list[_Field]]:
    """Yield the fields of each contact or event, without those of reminders within it."""
    data = b"".join(chunks_of(file, limits.file_bytes))
    fields: list[_Field] = []
    inner: list[str] = []
    for field in _fields(data):
        kind = field.value.strip().upper()
        if field.name == "BEGIN":
            inner.append(kind)
            if kind in kinds:
                fields = []
        elif field.name == "END":
            if kind in inner:
                del inner[inner.index(kind) :]
            if kind in kinds:
                yield fields
        elif inner and inner[-1] in kinds:
            fields.append(field)
    if inner and inner[-1] in kinds:  # the file is cut off
        yield fields


def _fields(data: bytes) -> Iterator[_Field]:
    """Yield the fields of a file, without pictures, sounds and keys."""
    for line in decode(b"\n".join(_unfolded(data))).text.split("\n"):
        found = _LINE.fullmatch(line.rstrip("\r"))
        if found is None or _BASE64.search(found[2]):
            continue
        value = found[3]
        if _QUOTED.search(found[2]):
            charset = _CHARSET.search(found[2])
            value = decode(quopri.decodestring(value), charset[1] if charset else None).text
        yield _Field(found[1].upper(), found[2], value)


def _unfolded(data: bytes) -> Iterator[bytes]:
    """Yield lines, each joined with those that it is folded into."""
    if looks_utf16(data[:4096]) or data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        data = decode(data).text.encode()
    parts: list[bytes] = []
    quoted = False
    for line in data.replace(b"\r\n", b"\n").split(b"\n"):
        if quoted and parts[-1].endswith(b"="):
            parts[-1] = parts[-1][:-1]
            parts.append(line)
        elif parts and line[:1] in (b" ", b"\t"):
            parts.append(line[1:])
        else:
            yield b"".join(parts)
            parts = [line]
            quoted = b"QUOTED-PRINTABLE" in line.partition(b":")[0].upper()
    yield b"".join(parts)


def _written(fields: list[_Field], labels: dict[str, str]) -> str:
    """Return fields in the order of their labels, one a line."""
    values: dict[str, dict[str, None]] = {}
    for field in fields:
        text = _text(field)
        if text and not text.lower().startswith("data:"):
            values.setdefault(field.name, {})[text] = None
    if "FN" not in values:
        values["FN"] = values.get("N", {})
    return "\n".join(
        f"{label}: {text}" if label else text
        for name, label in labels.items()
        for text in values.get(name, {})
    ).replace("\f", "\n")


def _text(field: _Field) -> str:
    """Return the value of a field as people write it."""
    value = field.value.strip()
    if field.name in ("ORGANIZER", "ATTENDEE"):
        common = re.search(r'CN=("[^"]*"|[^;]*)', field.parameters, re.IGNORECASE)
        address = re.sub("^mailto:", "", value, flags=re.IGNORECASE)
        return f"{common[1].strip(chr(34))} <{address}>" if common else address
    if field.name in _DATES:
        return _date(value)
    if field.name in ("N", "ADR", "ORG"):
        parts = [_unescaped(part).strip() for part in re.split(r"(?<!\\);", value)]
        if field.name == "N":  # the family's name stands first
            parts = parts[1:3] + parts[:1]
        return (" " if field.name == "N" else ", ").join(filter(None, parts))
    return _unescaped(value)


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)


def _date(value: str) -> str:
    """Return 20250301T093000 as 2025-03-01 09:30; others as they are."""
    found = _TIME.match(value)
    if found is None:
        return value
    year, month, day, hour, minute = found.groups()[:5]
    return f"{year}-{month}-{day}" + (f" {hour}:{minute}" if hour else "")


def _first(fields: list[_Field], name: str) -> str:
    return next((_text(field) for field in fields if field.name == name), "")
