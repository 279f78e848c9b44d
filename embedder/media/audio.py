"""Sound recordings: what their tags say, their duration, and their cover; sound is not decoded."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from embedder.content import Content, Modality
from embedder.media.kinds import (
    Details,
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    first_bytes,
    open_media,
    suffixes,
    translated_os_errors,
)
from embedder.media.metadata import audio_details
from embedder.media.picture import read_picture
from embedder.media.pixels import thumbnail

_FORMATS = "mp3,mov,ogg,wav,flac"
_OPTIONS = {
    "format_whitelist": _FORMATS,
    "codec_whitelist": "none",  # sound is not decoded, and covers by Pillow
    "protocol_whitelist": "none",  # the file is open, and names no others
}
_MAX_COVER_BYTES = 20_000_000
_MAX_COVER_PACKETS = 50
_DRAWN_SIZE, _DRAWN_GROUND, _DRAWN_INK = (384, 288), (74, 78, 128), (236, 236, 248)
# As the words of a search are, so that names without a tag are found by meaning.
_SEPARATORS = re.compile(r"[\s_.-]+")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; yield PyAV's container and its first stream of sound."""
    import av

    with translated_os_errors():
        opened = open_media(path)
    with opened as file:
        try:
            with av.open(file, options=_OPTIONS, metadata_errors="replace") as container:
                if not container.streams.audio:
                    raise MediaError("there is no sound in it")
                yield container, container.streams.audio[0]
        except MediaError:
            raise
        except Exception as error:  # av.FFmpegError, and what broken headers cause
            raise MediaError("the sound cannot be read: it is damaged or truncated") from error


def _seconds(container: Any) -> float:
    return max(0.0, (container.duration or 0) / 1_000_000)


def _text(path: Path, details: Details) -> str:
    """Return what is embedded: a line for each tag; the words of the name where there is none."""
    return "\n".join(value for _, value in details.words) or _SEPARATORS.sub(" ", path.stem)


def _cover(container: Any, limits: Limits) -> Image.Image | None:
    """Return the first picture in the tags that can be read."""
    covers = container.streams.video
    packets = container.demux(*covers) if covers else ()
    for _, packet in zip(range(_MAX_COVER_PACKETS), packets, strict=False):
        if 0 < packet.size <= _MAX_COVER_BYTES:
            with suppress(MediaError):
                return read_picture(bytes(packet), limits)
    return None


def _symbol() -> Image.Image:
    """Draw a note, for what has no cover."""
    picture = Image.new("RGB", _DRAWN_SIZE, _DRAWN_GROUND)
    draw = ImageDraw.Draw(picture)
    for x in (132, 212):
        draw.ellipse((x, 140, x + 46, 176), fill=_DRAWN_INK)
        draw.rectangle((x + 36, 48, x + 46, 158), fill=_DRAWN_INK)
    draw.rectangle((168, 48, 258, 70), fill=_DRAWN_INK)
    return picture


def _read(path: Path, limits: Limits, _page: int | None) -> Content:
    return Content(text=_text(path, _details(path, limits)))


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    with _opened(path) as (container, stream):
        details, seconds = audio_details(container, stream), _seconds(container)
        cover = _cover(container, limits) or _symbol()
    text = _text(path, details)
    yield Draft(Content(text=text), thumbnail(cover, limits), start=0.0, end=seconds)


def _details(path: Path, _limits: Limits) -> Details:
    with _opened(path) as (container, stream):
        return audio_details(container, stream)


AUDIO = MediaKind(
    kind=Kind.AUDIO,
    noun="sound",
    unit="recording",
    modality=Modality.TEXT,
    has_text=True,
    has_picture=True,
    suffixes=suffixes("mp3 m4a m4b ogg oga opus wav flac"),
    media_types={
        ".mp3": "audio/mpeg",
        ".m4a": "audio/mp4",
        ".m4b": "audio/mp4",
        ".ogg": "audio/ogg",
        ".oga": "audio/ogg",
        ".opus": "audio/ogg",
        ".wav": "audio/wav",
        ".flac": "audio/flac",
    },
    signature=first_bytes(
        *(rb"OggS(?!.{0,502}theora)", rb"fLaC", rb"ID3[\x02-\x04]", rb"RIFF.{4}WAVE"),
        rb".{4}ftypM4[ABP] ",
    ),
    named_signature=first_bytes(rb"\xff[\xe2-\xff]", rb".{4}ftyp"),
    read=_read,
    cut=_cut,
    details=_details,
)
