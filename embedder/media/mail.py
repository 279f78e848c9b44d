"""Mail: the text of messages and mailboxes, without what is attached to them.

Sources: RFC 5322, RFC 2045 to 2047, RFC 2231, RFC 4155 (mbox).
"""

import re
from collections.abc import Iterator
from datetime import datetime
from email.errors import MessageError
from email.header import decode_header
from email.message import Message
from email.parser import BytesParser
from email.utils import getaddresses, parsedate_to_datetime
from os.path import splitext
from typing import BinaryIO, NamedTuple

from embedder.media.archive import chunks_of, too_much_text
from embedder.media.encodings import decode
from embedder.media.kinds import Limits, MediaError, report_progress
from embedder.media.metadata.properties import Properties
from embedder.media.text import html_to_text

_MAX_PARTS = 10_000
_MAX_MULTIPARTS = 200
_MAX_HEAD_BYTES = 500_000
_MAX_HEADER_CHARACTERS = 20_000
_MAX_LINE_BYTES = 1 << 20
_MAX_NAME_CHARACTERS = 60  # of four bytes at most
_MAX_SUFFIX_CHARACTERS = 20
_BODIES = {"text/plain": lambda text: text, "text/html": html_to_text}
_ADDRESSES = ("From", "To", "Cc")
# Parts that programs write for programs.
_NOT_ATTACHED = {
    *("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"),
    *("message/delivery-status", "message/disposition-notification", "text/rfc822-headers"),
    *("application/pgp-encrypted", "application/ms-tnef", "message/external-body"),
}
# Endings of attachments without a name. What the system knows differs between machines, and may not
# be read where files are decoded.
_SUFFIXES = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/csv": ".csv",
    "text/markdown": ".md",
    "text/calendar": ".ics",
    "text/vcard": ".vcf",
    "text/x-vcard": ".vcf",
    "text/rtf": ".rtf",
    "application/pdf": ".pdf",
    "application/rtf": ".rtf",
    "application/json": ".json",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/heic": ".heic",
    "image/tiff": ".tiff",
    "image/bmp": ".bmp",
    "image/avif": ".avif",
    "image/svg+xml": ".svg",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
}
_MULTIPART = re.compile(rb"multipart/", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_MIN_INLINE_BYTES = 10_000
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|\u202a-\u202e\u2066-\u2069]+')


class Attachment(NamedTuple):
    """A file that is attached to a mail; its name is safe, and unique in the mail."""

    name: str
    data: bytes


def read_mail(file: BinaryIO, limits: Limits) -> str:
    """Return the text of a mail: its subject, people and date, its body, and names of attachments.

    Of a body in several forms, the plain one is taken; mails within it are part of the text.

    Raises:
        MediaError: if it is over the limits.
    """
    return _text_of(parsed(b"".join(chunks_of(file, limits.file_bytes))))


def read_mail_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return who wrote a mail, to whom, about what and when."""
    mail, properties = parsed(b"".join(chunks_of(file, limits.file_bytes))), Properties()
    properties.add("Title", _header(mail, "Subject"))
    for name, label in zip(_ADDRESSES, ("Author", "People", "People"), strict=True):
        for person in _people(mail, name):
            properties.add(label, person)
    properties.written_at = _date(mail)
    return properties


def read_mailbox(file: BinaryIO, limits: Limits) -> str:
    """Return the text of the mails in a mailbox, with form feeds between them.

    Raises:
        MediaError: if it is over the limits.
    """
    left, texts = limits.file_bytes, []
    for _, message in messages(file, limits.file_bytes):
        text = _text_of(parsed(message)).replace("\f", "\n")
        left -= len(text)
        if left < 0:
            raise too_much_text(limits.file_bytes)
        texts.append(text)
        report_progress()
    return "\f".join(texts)


def attachments(data: bytes) -> Iterator[Attachment]:
    """Return the files that are attached to a mail, in order, but not small logos within the text.

    Raises:
        MediaError: if the mail has too many parts.
    """
    return _attached(parsed(data))


def _attached(mail: Message) -> Iterator[Attachment]:
    taken: set[str] = set()
    for part in _leaves(mail):
        if _is_body(part) or part.get_content_type() in _NOT_ATTACHED:
            continue
        data = _payload(part)
        if not _is_decoration(part, data):
            yield Attachment(unique_name(_file_name(part), taken), data)


def parsed(data: bytes) -> Message:
    """Return a mail in its parts.

    Raises:
        MediaError: if it has too many of them, or of headers, each of which takes memory.
    """
    if data.count(b"\n--") > _MAX_PARTS:
        raise MediaError(f"the mail has more than {_MAX_PARTS:,} parts: it is not read")
    if len(_MULTIPART.findall(data)) > _MAX_MULTIPARTS:  # each is looked for in all lines within
        raise MediaError(f"the mail has more than {_MAX_MULTIPARTS} parts of parts: it is not read")
    if _BLANK_LINE.search(data, 0, _MAX_HEAD_BYTES) is None and len(data) > _MAX_HEAD_BYTES:
        raise MediaError(f"the head of the mail is longer than {_MAX_HEAD_BYTES // 1000} kB")
    return BytesParser().parsebytes(data.removeprefix(b"\xef\xbb\xbf"))


def messages(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield the mails of a mailbox, in which a line with From begins each, and where they begin.

    Raises:
        MediaError: if one is larger than `max_bytes`.
    """
    start = position = file.tell()
    lines, size, after_blank = list[bytes](), 0, True
    while line := file.readline(_MAX_LINE_BYTES):
        if after_blank and line.startswith(b"From "):
            if lines:
                yield start, b"".join(lines)
            lines, size, start = [], 0, position
        else:
            lines.append(line[1:] if line.startswith(b">From ") else line)
            size += len(line)
        if size > max_bytes:
            limit = f"{max_bytes / 1e6:.0f} MB"
            raise MediaError(f"a mail in the mailbox is larger than the limit of {limit}")
        after_blank = not line.strip()
        position += len(line)
    if lines:
        yield start, b"".join(lines)


def _text_of(mail: Message) -> str:
    head = [_header(mail, "Subject")]
    head += [
        f"{name}: {', '.join(people)}" for name in _ADDRESSES if (people := _people(mail, name))
    ]
    if date := _date(mail):
        head.append(f"Date: {date:%Y-%m-%d %H:%M}")
    texts = ["\n".join(filter(None, head)), *_bodies(mail)]
    if names := [name for name, _ in _attached(mail)]:
        texts.append(f"Attachments: {', '.join(names)}")
    return "\n\n".join(text for text in texts if text.strip())


def _bodies(part: Message) -> Iterator[str]:
    """Yield the texts that a reader of a mail sees."""
    if part.get_content_type() == "multipart/alternative" and part.is_multipart():
        yield from _best(part)
    elif part.get_content_maintype() == "message" and part.is_multipart():
        yield from map(_text_of, _inner(part))
    elif part.is_multipart():
        for inner in _inner(part):
            yield from _bodies(inner)
    elif _is_body(part):
        text = decode(_payload(part), _charset(part)).text
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
        yield _BODIES[part.get_content_type()](text).strip()


def _best(part: Message) -> list[str]:
    """Return the texts of the plain one of several forms, or of the last that has any."""
    forms = [(one.get_content_type(), list(_bodies(one))) for one in _inner(part)]
    full = [(kind, texts) for kind, texts in forms if any(map(str.strip, texts))]
    plain = [texts for kind, texts in full if kind == "text/plain"]
    return plain[0] if plain else full[-1][1] if full else []


def _inner(part: Message) -> list[Message]:
    parts = part.get_payload()
    return [one for one in parts if isinstance(one, Message)] if isinstance(parts, list) else []


def _leaves(part: Message) -> Iterator[Message]:
    return (one for one in part.walk() if not one.is_multipart())


def _is_body(part: Message) -> bool:
    """Whether a part is text to be read in the mail, not a file."""
    attached = part.get_content_disposition() == "attachment"
    return part.get_content_type() in _BODIES and not attached and not _file_name(part, default="")


def _is_decoration(part: Message, data: bytes) -> bool:
    """Whether a part is a small picture that the text shows, such as the logo of a signature."""
    inline = part.get_content_disposition() != "attachment"
    return inline and part.get_content_maintype() == "image" and len(data) < _MIN_INLINE_BYTES


def _payload(part: Message) -> bytes:
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else b""


def _charset(part: Message) -> str | None:
    try:
        return part.get_content_charset()
    except (LookupError, ValueError, TypeError):  # of malformed parameters
        return None


def _file_name(part: Message, default: str | None = None) -> str:
    """Return the name of an attachment, without what may not be in the name of a file."""
    named = Message()  # with the bytes beyond ASCII decoded, which the parser would replace
    for header in ("Content-Disposition", "Content-Type"):
        if raw := _raw_header(part, header):
            named[header] = raw
    try:
        name = _words(named.get_filename() or "")
    except (LookupError, ValueError, TypeError):  # of malformed parameters
        name = ""
    name = _UNSAFE.sub("_", name).strip(" .")
    if not name and default is None:
        name = "attachment" + _SUFFIXES.get(part.get_content_type(), "")
    stem, suffix = splitext(name)
    if len(suffix) > _MAX_SUFFIX_CHARACTERS:
        stem, suffix = name, ""
    return (stem[: _MAX_NAME_CHARACTERS - len(suffix)] + suffix).strip(" .")


def unique_name(name: str, taken: set[str]) -> str:
    """Take a name, with a number if it is taken: scan.pdf, scan (2).pdf."""
    (stem, suffix), number, unique = splitext(name), 1, name
    while unique.casefold() in taken:
        number += 1
        unique = f"{stem} ({number}){suffix}"
    taken.add(unique.casefold())
    return unique


def _raw_header(mail: Message, name: str) -> str:
    """Return a header as it is written, with bytes beyond ASCII decoded as the body is."""
    for key, value in mail.raw_items():
        if key.lower() == name.lower():
            raw = str(value)[:_MAX_HEADER_CHARACTERS]
            data = raw.encode("utf-8", "surrogateescape")
            return raw if raw.isascii() else decode(data, _charset(mail)).text
    return ""


def _header(mail: Message, name: str) -> str:
    return _words(_raw_header(mail, name))


def _words(raw: str) -> str:
    """Decode the encoded words of a header, such as =?utf-8?Q?Gr=C3=BC=C3=9Fe?=."""
    try:
        chunks = decode_header(raw)
    except (MessageError, ValueError):
        chunks = [(raw, None)]
    text = "".join(
        chunk
        if isinstance(chunk, str)
        else decode(chunk, charset).text
        if charset
        else chunk.decode("raw-unicode-escape", "replace")
        for chunk, charset in chunks
    )
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _people(mail: Message, name: str) -> list[str]:
    """Return the names and addresses in a header."""
    raw = _raw_header(mail, name)
    people = [
        f"{_words(who)} <{address}>" if who else address
        for who, address in getaddresses([raw])
        if who or address
    ]
    return people or list(filter(None, [_words(raw)]))


def _date(mail: Message) -> datetime | None:
    """Return when a mail was written."""
    try:
        date = parsedate_to_datetime(_raw_header(mail, "Date"))
        return date if 1970 <= date.year <= 9998 else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
