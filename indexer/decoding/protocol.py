"""What a decoder process is asked and what it answers, as JSON and raw pixels.

A file may have taken over the decoder that reads it, so nothing in an answer is executed, as
unpickling would, and nothing is trusted: sizes are compared with the limits before memory is
allocated for them, and each field is checked for its type and range.

A request is the open file itself, with a byte (except on Windows), and then a message,
`{"path": …, "task": …, "arguments": {…}, "limits": {…}}`. Answers have these keys, of which
`drafts` and what follows it may be in one message:

    {"ready": true, …}     the process has started; `confined` lists what confines it
    {"alive": true}        decoding makes progress
    {"drafts": [{…}, …]}   results of a task; at most one has pictures
    {"end": true}          the task is done
    {"error": {…}}         the task has failed

The RGB bytes of pictures follow it as messages, one for each.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from PIL import Image

from embedder.content import Content
from embedder.media import Draft
from embedder.media.kinds import (
    Cue,
    Details,
    Labelled,
    Limits,
    MediaError,
    Track,
    UnsupportedMedia,
    Word,
)
from embedder.media.subtitles import MAX_CHARACTERS, MAX_CUES, MAX_TRACKS

_log = logging.getLogger(__name__)

MAX_JSON_BYTES = 16 << 20
_MAX_BESIDE_BYTES = 1 << 18  # other drafts and the ending in the same message
_MAX_MESSAGE_CHARACTERS = 500
_MAX_SECONDS = 1e9
_MAX_DETAILS = 100
_MAX_DETAIL_CHARACTERS = 20_000
_MAX_INTEGER = 2**63

Size: TypeAlias = tuple[int, int]


class DecoderError(MediaError):
    """A decoder hung, crashed or sent an invalid answer: its process must not be used again."""


class DecoderKilled(DecoderError):
    """A decoder was killed from outside, which need not be the fault of its file."""


def invalid_answer(reason: str) -> DecoderError:
    """Return the error for an answer that no working decoder sends."""
    return DecoderError(
        f"the decoder sent an invalid answer ({reason}); the file may be corrupt or malicious"
    )


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with a file: a function of `indexer.decoding.worker`, and its arguments."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as JSON."""
    return json.dumps(message, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Parse a message.

    Raises:
        DecoderError: If it is not a JSON object.
    """
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise invalid_answer("not JSON") from error
    if not isinstance(message, dict):
        raise invalid_answer("not an object")
    return message


def encode_draft(draft: Draft) -> tuple[bytes, list[Image.Image]]:
    """Return a draft as JSON, and the pictures whose pixels follow it.

    Raises:
        MediaError: If it is too large to send.
    """
    pictures = list(draft.content.frames)
    if draft.thumbnail is not None:
        pictures.append(draft.thumbnail)
    fields = {
        "text": draft.content.text,
        "modality": draft.content.modality,
        "times": draft.content.times,
        "sizes": [picture.size for picture in pictures],
        "thumbnail": draft.thumbnail is not None,
        "page": draft.page,
        "start": draft.start,
        "end": draft.end,
        "span": draft.span,
        "words": [(one.text, one.left, one.top, one.right, one.bottom) for one in draft.words],
        "picture_hash": draft.picture_hash,
        "details": draft.details and _encoded_details(draft.details),
    }
    data = encode(fields)
    if len(data) > MAX_JSON_BYTES - _MAX_BESIDE_BYTES:
        raise MediaError("one page of it holds more text than can be indexed")
    return data, pictures


def encode_drafts(drafts: Sequence[bytes], ending: Mapping[str, Any]) -> bytes:
    """Return a message of encoded drafts, and of what else there is to say."""
    return b'{"drafts":[' + b",".join(drafts) + (b"]," if ending else b"]") + encode(ending)[1:]


def decode_drafts(
    values: object, receive_pixels: Callable[[int], bytes], limits: Limits
) -> list[Draft]:
    """Build the drafts of a message.

    Args:
        values: What the message has as `drafts`.
        receive_pixels: Return the next message, which must be as many bytes long.
        limits: What the drafts may hold.

    Raises:
        DecoderError: If it is no list of drafts, or exceeds the limits.
    """
    if not isinstance(values, list):
        raise invalid_answer("no list of drafts")
    try:
        if len(values) > 1 and any(fields["sizes"] for fields in values):
            raise ValueError("pictures in a batch of drafts")  # many times the memory of one
        return [_draft(fields, receive_pixels, limits) for fields in values]
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise invalid_answer(f"no draft: {error!r:.200}") from error


def encode_error(error: Exception) -> dict[str, Any]:
    """Return an exception as JSON values."""
    text, number = str(error), None
    if isinstance(error, MediaError):
        kind = "unsupported" if isinstance(error, UnsupportedMedia) else "media"
    elif isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, OSError) and error.errno is not None:
        kind, text, number = "os", str(error.strerror), error.errno
    else:
        kind, text = "other", repr(error)
    return {"type": kind, "message": text[:_MAX_MESSAGE_CHARACTERS], "errno": number}


def decode_error(values: object) -> Exception:
    """Return the exception that was encoded, or one that is like it."""
    fields = values if isinstance(values, Mapping) else {}
    kind, number = fields.get("type"), fields.get("errno")
    text = " ".join(str(fields.get("message")).split())[:_MAX_MESSAGE_CHARACTERS]
    if kind == "unsupported":
        return UnsupportedMedia(text)
    if kind == "media":
        return MediaError(text)
    if kind == "memory":
        return MemoryError()
    if kind == "os" and isinstance(number, int):
        return OSError(number, text)
    _log.error("unexpected error in a decoder: %s", text)
    return MediaError(f"it cannot be decoded: {text}")


def _draft(
    fields: Mapping[str, Any], receive_pixels: Callable[[int], bytes], limits: Limits
) -> Draft:
    has_thumbnail = fields["thumbnail"] is True
    sizes = _checked_sizes(fields["sizes"], has_thumbnail, limits)
    values = {
        "page": _optional(fields["page"], lambda page: _integer(page, 1)),
        "start": _optional(fields["start"], lambda start: _number(start, _MAX_SECONDS)),
        "end": _optional(fields["end"], lambda end: _number(end, _MAX_SECONDS)),
        "span": _optional(fields["span"], lambda span: _span(*span)),
        "words": tuple(_word(*word) for word in fields["words"]),
        "picture_hash": _optional(
            fields["picture_hash"], lambda value: _integer(value, -_MAX_INTEGER)
        ),
        "details": _optional(fields["details"], _details),
    }
    text, modality = _text(fields["text"]), _text(fields["modality"])
    times = [_number(time, _MAX_SECONDS) for time in fields["times"]]
    pictures = [_picture(size, receive_pixels) for size in sizes]
    thumbnail = pictures.pop() if has_thumbnail else None
    return Draft(Content(text, pictures, modality, times=times), thumbnail, **values)


def _encoded_details(details: Details) -> dict[str, Any]:
    return {
        "captured_at": details.captured_at and details.captured_at.isoformat(),
        "place": None if details.latitude is None else [details.latitude, details.longitude],
        "words": _shortened(details.words),
        "facts": _shortened(details.facts),
        "tracks": [
            [one.name, [(cue.start, cue.end, cue.text) for cue in one.cues]]
            for one in details.tracks
        ],
    }


def _shortened(pairs: Labelled) -> list[list[str]]:
    return [
        [label, value[:_MAX_DETAIL_CHARACTERS]] for label, value in pairs[:_MAX_DETAILS] if value
    ]


def _details(fields: Mapping[str, Any]) -> Details:
    place = _optional(fields["place"], lambda place: _place(*place))
    latitude, longitude = place or (None, None)
    return Details(
        captured_at=_optional(fields["captured_at"], datetime.fromisoformat),
        latitude=latitude,
        longitude=longitude,
        words=_labelled(fields["words"]),
        facts=_labelled(fields["facts"]),
        tracks=_tracks(fields["tracks"]),
    )


def _place(latitude: object, longitude: object) -> tuple[float, float]:
    return _number(latitude, 90.0, least=-90.0), _number(longitude, 180.0, least=-180.0)


def _labelled(pairs: Sequence[Any]) -> Labelled:
    if len(pairs) > _MAX_DETAILS:
        raise ValueError(f"{len(pairs)} details")
    checked = tuple((_text(label) or "", _text(value) or "") for label, value in pairs)
    if any(len(text) > _MAX_DETAIL_CHARACTERS for pair in checked for text in pair):
        raise ValueError("a detail is too long")
    return checked


def _tracks(tracks: Sequence[Any]) -> tuple[Track, ...]:
    if len(tracks) > MAX_TRACKS or sum(len(cues) for _, cues in tracks) > MAX_CUES:
        raise ValueError("too many tracks or cues")
    found = tuple(
        Track(_text(name) or "", tuple(_cue(*cue) for cue in cues)) for name, cues in tracks
    )
    if sum(len(cue.text) for one in found for cue in one.cues) > MAX_CHARACTERS:
        raise ValueError("the tracks are too long")
    return found


def _cue(start: object, end: object, text: object) -> Cue:
    return Cue(_number(start, _MAX_SECONDS), _number(end, _MAX_SECONDS), _text(text) or "")


def _checked_sizes(sizes: Sequence[Any], has_thumbnail: bool, limits: Limits) -> list[Size]:
    """Compare the sizes of a draft's pictures with the limits before any pixel is received."""
    checked = [(_integer(width, 1), _integer(height, 1)) for width, height in sizes]
    frames = checked[:-1] if has_thumbnail else checked
    if len(frames) > max(1, limits.clip_frames):
        raise ValueError(f"{len(frames)} frames")
    if any(max(size) > limits.frame_side for size in frames):
        raise ValueError("a frame is too large")
    if has_thumbnail and max(checked[-1]) > limits.thumbnail_side:
        raise ValueError("the thumbnail is too large")
    most = max(limits.frame_side**2, max(1, limits.clip_frames) * limits.clip_side**2)
    if sum(width * height for width, height in frames) > most:
        raise ValueError("too many pixels")
    return checked


def _picture(size: Size, receive_pixels: Callable[[int], bytes]) -> Image.Image:
    count = 3 * size[0] * size[1]
    pixels = receive_pixels(count)
    if len(pixels) != count:
        raise ValueError(f"{len(pixels)} bytes of pixels, not {count}")
    return Image.frombytes("RGB", size, pixels)


def _optional(value: Any, check: Callable[[Any], Any]) -> Any:
    return None if value is None else check(value)


def _text(value: object) -> str | None:
    """Return a text without lone surrogates, which no database accepts."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value.encode(errors="replace").decode()


def _integer(value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < _MAX_INTEGER:
        raise ValueError(f"not an integer from {least}: {value!r:.40}")
    return value


def _number(value: object, most: float, *, least: float = 0.0) -> float:
    if isinstance(value, int | float) and math.isfinite(value) and least <= value <= most:
        return float(value)
    raise ValueError(f"not a number from {least} to {most}: {value!r:.40}")


def _span(start: object, end: object) -> tuple[int, int]:
    return _integer(start, 0), _integer(end, 0)


def _word(text: object, *box: object) -> Word:
    left, top, right, bottom = (_number(edge, 1.0) for edge in box)
    return Word(_text(text) or "", left, top, right, bottom)
