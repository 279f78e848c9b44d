"""Subtitles: what is said in a video and when, from files beside it and from its own tracks."""

import html
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from embedder.media.encodings import decode, looks_binary
from embedder.media.kinds import (
    Cue,
    MediaError,
    Track,
    open_media,
    report_progress,
    suffixes,
    translated_os_errors,
)

SUFFIXES = suffixes("srt vtt ass ssa")
"""Endings of the files that are read."""

SUBTITLES = "Subtitles"
"""The label of `Details` under which it says that some are not read."""

MAX_CUES = 50_000
"""Most cues of all tracks of a file; a film has some 1,500 in each language."""

MAX_CHARACTERS = 1_000_000
"""Most characters of all tracks of a file."""

MAX_TRACKS = 12
"""Most tracks of a video that are read, from the first on."""

_MAX_FILE_BYTES = 10_000_000
_MAX_LINE_CHARACTERS = 2_000  # The parser takes quadratic time for lines.
_MAX_SECONDS = 1_000_000.0
_MAX_NAME_CHARACTERS = 100
_LANGUAGE = re.compile(
    r"\.([a-z]{2,3}(?:[-_][a-z]{2,4})?)(?:\.(?:sdh|cc|hi|forced|default|full))*$", re.IGNORECASE
)
_OVERRIDES = re.compile(r"\{\\[^{}]*\}")
_BREAKS = re.compile(r"\\[Nnh]")
_MARKUP = re.compile(r"</?[a-zA-Z0-9][^<>]{0,200}>")
# FFmpeg's names of codecs whose packets are text. Those of pictures, as of Blu-rays, are not read.
_TEXT_CODECS = frozenset({"subrip", "srt", "text", "webvtt", "mov_text", "ass", "ssa"})
_FIELDS_BEFORE_TEXT = 8  # in a packet of SubStation Alpha


def read_subtitles(path: Path) -> Track:
    """Read a file of subtitles in SubRip, WebVTT or SubStation Alpha.

    Args:
        path: The file; its encoding is found as that of any text.

    Returns:
        Its cues by their times, without mark-up; named after the language in its name.

    Raises:
        MediaError: if it cannot be read, is too large, or has no subtitles.
    """
    with translated_os_errors(), open_media(path) as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise MediaError(f"it is larger than the limit of {_MAX_FILE_BYTES / 1e6:.0f} MB")
    if looks_binary(data[:65536]):
        raise MediaError("its bytes are not text")
    cues = _checked(_parsed(decode(data).text))
    if not cues:
        raise MediaError("there are no subtitles in it")
    language = _LANGUAGE.search(path.stem)
    return Track(language[1] if language else "", cues)


def _parsed(text: str) -> Iterator[Cue]:
    """Yield the cues of a file in its order."""
    import pysubs2

    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = "\n".join(line[:_MAX_LINE_CHARACTERS] for line in text.split("\n"))
    report_progress()
    try:
        events = pysubs2.SSAFile.from_string(text, format_=_format(text[:_MAX_LINE_CHARACTERS]))
    except Exception as error:  # parsers raise anything from ValueError to IndexError
        raise MediaError("it is damaged") from error
    for event in events:
        report_progress()
        if not event.is_comment and not event.is_drawing:
            yield Cue(event.start / 1000, event.end / 1000, plain(event.text))


def _format(head: str) -> str:
    """Return the parser's name of a format, by its beginning: the ending may be another's."""
    if head.lstrip("\ufeff \n\t").startswith("WEBVTT"):
        return "vtt"
    return "ass" if "[script info]" in head.lower() else "srt"


def plain(text: str) -> str:
    """Return the words of a cue on one line, without mark-up."""
    text = _MARKUP.sub("", _BREAKS.sub(" ", _OVERRIDES.sub("", text)))
    return " ".join(html.unescape(text).split())


def embedded_tracks(container: Any, origin: float) -> Iterator[Track]:
    """Yield the tracks of text in a video, in their order.

    The packets are read without FFmpeg's decoders: they are texts with little around them.

    Args:
        container: Opened by PyAV, at its beginning.
        origin: The time stamp with which the video begins, in seconds.

    Raises:
        MediaError: if they have too many cues.
    """
    texts = (one for one in container.streams.subtitles if _codec(one) in _TEXT_CODECS)
    streams = list(islice(texts, MAX_TRACKS))
    if not streams:
        return
    found: dict[int, list[Cue]] = {one.index: [] for one in streams}
    import av

    cues = _limited(_packets(container, streams, origin))
    with suppress(av.FFmpegError):  # as far as the file can be read
        for index, cue in cues:
            found[index].append(cue)
    for one in streams:
        if ordered := _checked(found[one.index]):
            yield Track(_name(one), ordered)


def _packets(container: Any, streams: list[Any], origin: float) -> Iterator[tuple[int, Cue]]:
    for packet in container.demux(streams):
        report_progress()
        if packet.pts is None or not packet.size:
            continue
        start = max(0.0, float(packet.pts * packet.time_base) - origin)
        end = start + float((packet.duration or 0) * packet.time_base)
        text = plain(_text(_codec(packet.stream), bytes(packet)))
        yield packet.stream.index, Cue(start, end, text)


def _text(codec: str, data: bytes) -> str:
    """Return the text of a packet."""
    if codec == "mov_text":  # behind its length, before boxes with styles
        data = data[2 : 2 + int.from_bytes(data[:2])]
    text = data.decode(errors="replace")
    if codec in ("ass", "ssa"):
        text = text.split(",", _FIELDS_BEFORE_TEXT)[-1]
    return text


def _codec(stream: Any) -> str:
    return stream.codec_context.name if stream.codec_context else ""


def _name(stream: Any) -> str:
    """Return what a track is called: its title, else its language."""
    language = stream.language if stream.language not in (None, "und") else ""
    return (stream.metadata.get("title") or language)[:_MAX_NAME_CHARACTERS]


def _limited(cues: Iterable[tuple[int, Cue]]) -> Iterator[tuple[int, Cue]]:
    characters = 0
    for count, (index, cue) in enumerate(cues, 1):
        characters += len(cue.text)
        if count > MAX_CUES or characters > MAX_CHARACTERS:
            raise MediaError(
                f"they have more than {MAX_CUES:,} lines or {MAX_CHARACTERS:,} characters"
            )
        yield index, cue


def _checked(cues: Iterable[Cue]) -> tuple[Cue, ...]:
    """Return the cues that say something at a time that can be, in order of their times."""
    sound = [
        Cue(cue.start, max(cue.start, min(cue.end, _MAX_SECONDS)), cue.text)
        for _, cue in _limited((0, one) for one in cues)
        if cue.text and 0 <= cue.start <= _MAX_SECONDS
    ]
    return tuple(sorted(sound, key=lambda cue: (cue.start, cue.end)))
