"""What a decoding process answers: messages of a JSON body and raw pixels.

A file may have taken over the decoder that reads it. So nothing of an answer is run, as unpickling
would, and nothing is believed: sizes are compared with the limits before memory is taken for them,
and each field is checked for its type and range.
"""

import json
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image

from embedder.content import Content
from embedder.media import (
    Kind,
    Limits,
    MediaError,
    detect,
    read_content,
    read_picture,
    read_text,
    render_page,
)
from embedder.media.pdf import Word
from indexer.decoding.segment import Draft, cut

HEAD = struct.Struct("<4sIQ")
"""A mark, the bytes of the body, and the bytes of the pixels that follow it."""

_MARK = b"RZD1"
_BODY_BYTES = 16 << 20
_LONGEST_SECONDS = 1e9
_MOST = 2**63


class Garbled(Exception):
    """An answer that no sound decoder gives."""


@dataclass(frozen=True, eq=False, slots=True)
class Message:
    """An answer: its body, and the pixels of the pictures that the body gives the sizes of."""

    body: Mapping[str, Any]
    pixels: memoryview = field(default_factory=lambda: memoryview(b""))


def packed(body: Mapping[str, Any], pixels: Sequence[bytes] = ()) -> list[bytes]:
    """A message as bytes, in parts to be written one after the other.

    Raises:
        MediaError: if the body is too large to be sent.
    """
    text = json.dumps(body, separators=(",", ":")).encode()
    if len(text) > _BODY_BYTES:
        raise MediaError("one page of it holds more text than can be taken in")
    return [HEAD.pack(_MARK, len(text), sum(map(len, pixels))), text, *pixels]


def sizes(head: bytes | memoryview, limits: Limits) -> tuple[int, int]:
    """The bytes of the body and of the pixels that follow a head.

    Raises:
        Garbled: if it is no head, or more is to follow than the limits allow.
    """
    mark, body, pixels = HEAD.unpack(head)
    if mark != _MARK:
        raise Garbled("not a message")
    if body > _BODY_BYTES or pixels > _most_pixel_bytes(limits):
        raise Garbled(f"{body} + {pixels} bytes")
    return body, pixels


def message(content: memoryview, body_bytes: int) -> Message:
    """The message of which a body and pixels were received.

    Raises:
        Garbled: if the body is not a JSON object.
    """
    try:
        body = json.loads(bytes(content[:body_bytes]))
    except (ValueError, RecursionError) as error:
        raise Garbled("not JSON") from error
    if not isinstance(body, dict):
        raise Garbled("not an object")
    return Message(body, content[body_bytes:])


def draft_parts(draft: Draft) -> list[bytes]:
    """A draft as the parts of a message; documents have no instruction of their own."""
    pictures = list(draft.content.frames)
    if draft.thumbnail is not None:
        pictures.append(draft.thumbnail)
    body = {
        "draft": {
            "text": draft.content.text,
            "modality": draft.content.modality,
            "sizes": [picture.size for picture in pictures],
            "thumbnail": draft.thumbnail is not None,
            "page": draft.page,
            "start": draft.start,
            "end": draft.end,
            "span": draft.span,
            "words": [(one.text, one.left, one.top, one.right, one.bottom) for one in draft.words],
            "picture_hash": draft.picture_hash,
        }
    }
    return packed(body, [picture.tobytes() for picture in pictures])


def draft_of(received: Message, limits: Limits) -> Draft:
    """The draft that a message holds.

    Raises:
        Garbled: if it is none, or goes beyond the limits.
    """
    try:
        return _draft(received.body["draft"], received.pixels, limits)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise Garbled(f"no draft: {error!r:.200}") from error


def _draft(body: Mapping[str, Any], pixels: memoryview, limits: Limits) -> Draft:
    pictures = _pictures(body["sizes"], pixels)
    small = pictures.pop() if body["thumbnail"] is True else None
    if len(pictures) > max(1, limits.clip_frames):
        raise ValueError(f"{len(pictures)} frames")
    if any(max(frame.size) > limits.frame_side for frame in pictures):
        raise ValueError("a frame is too large")
    if small is not None and max(small.size) > limits.thumbnail_side:
        raise ValueError("the thumbnail is too large")
    return Draft(
        Content(_text(body["text"]), pictures, _text(body["modality"])),
        small,
        page=None if body["page"] is None else _whole(body["page"], 1),
        start=None if body["start"] is None else _number(body["start"], _LONGEST_SECONDS),
        end=None if body["end"] is None else _number(body["end"], _LONGEST_SECONDS),
        span=None if body["span"] is None else _span(*body["span"]),
        words=tuple(_word(*word) for word in body["words"]),
        picture_hash=None if body["picture_hash"] is None else _whole(body["picture_hash"], -_MOST),
    )


def _pictures(given: Sequence[Sequence[int]], pixels: memoryview) -> list[Image.Image]:
    pictures, used = [], 0
    for width, height in given:
        end = used + 3 * _whole(width, 1) * _whole(height, 1)
        if end > len(pixels):
            raise ValueError("fewer pixels than announced")
        # frombytes takes any buffer, and the copy into the picture is the only one.
        data: Any = pixels[used:end]
        pictures.append(Image.frombytes("RGB", (width, height), data))
        used = end
    if used != len(pixels):
        raise ValueError("more pixels than announced")
    return pictures


def _text(value: object) -> str | None:
    """A text without lone surrogates, which no database takes."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value.encode(errors="replace").decode()


def _whole(value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MOST:
        raise ValueError(f"not a whole number from {least}: {value!r:.40}")
    return value


def _number(value: object, most: float) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= most:
        raise ValueError(f"not a number from 0 to {most}: {value!r:.40}")
    return float(value)


def _span(start: object, end: object) -> tuple[int, int]:
    return _whole(start, 0), _whole(end, 0)


def _word(text: object, *box: object) -> Word:
    left, top, right, bottom = (_number(edge, 1.0) for edge in box)
    return Word(_text(text) or "", left, top, right, bottom)


def _most_pixel_bytes(limits: Limits) -> int:
    frames = max(limits.frame_side**2, max(1, limits.clip_frames) * limits.clip_side**2)
    return 3 * (frames + limits.thumbnail_side**2)


_MOST_CHARACTERS = 200_000


@dataclass(frozen=True, slots=True)
class Cut:
    """Into the segments that can be found."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Read:
    """As a whole, to search with: one draft, of text no more than any model reads.

    Attributes:
        page: Of a PDF, from 1; None for the first.
        expected: The kind that it must be of, or None.
    """

    page: int | None = None
    expected: Kind | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """A page of a PDF or, without a page, a picture, with a longest side of `frame_side`."""

    page: int | None = None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of a text file with what stands around it.

    One draft, whose span holds where its text begins in the file, and how long the file's is.

    Attributes:
        start: First character of the stretch.
        end: One past its last.
        around: Characters wanted before and after it.
    """

    start: int
    end: int
    around: int


Task: TypeAlias = Cut | Read | Draw | Excerpt
_TASKS: Mapping[str, type[Task]] = {one.__name__: one for one in (Cut, Read, Draw, Excerpt)}


def written(task: Task) -> dict[str, Any]:
    """A task as JSON values."""
    return {"name": type(task).__name__, **asdict(task)}


def understood(values: Mapping[str, Any]) -> Task:
    """The task that was written."""
    given = dict(values)
    task = _TASKS[given.pop("name")]
    for name in ("kind", "expected"):
        if given.get(name) is not None:
            given[name] = Kind(given[name])
    return task(**given)


def perform(path: Path, task: Task, limits: Limits) -> Iterator[Draft]:
    """Does a task.

    Raises:
        MediaError: if the file cannot be used.
    """
    match task:
        case Cut(kind):
            yield from cut(path, kind, limits)
        case Read(page, expected):
            yield _read(path, page, expected, limits)
        case Draw(page):
            yield Draft(Content(frames=[_drawn(path, page, limits)]))
        case Excerpt(start, end, around):
            yield _excerpt(read_text(path, limits), start, end, around)


def _read(path: Path, page: int | None, expected: Kind | None, limits: Limits) -> Draft:
    if expected and (kind := detect(path)) is not expected:
        raise MediaError(f"it is of the kind {kind}, not {expected}")
    content = read_content(path, limits, page)
    if content.text is None or len(content.text) <= _MOST_CHARACTERS:
        return Draft(content)
    text = content.text[:_MOST_CHARACTERS]
    return Draft(Content(text, content.frames, content.modality))


def _drawn(path: Path, page: int | None, limits: Limits) -> Image.Image:
    if page is None:
        return read_picture(path, limits)
    return render_page(path, page, limits.frame_side)


def _excerpt(text: str, start: int, end: int, around: int) -> Draft:
    first = max(0, start - around)
    shown = text[first : end + around]
    if not shown.strip():
        raise MediaError("the text has changed since it was taken in")
    return Draft(Content(text=shown), span=(first, len(text)))
