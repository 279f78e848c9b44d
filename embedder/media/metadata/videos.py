"""What the container of a video or sound says about it."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from embedder.media.kinds import Details
from embedder.media.metadata.exif import camera
from embedder.media.metadata.values import labelled, parsed_date, place

_CODECS = {
    "h264": "H.264",
    "hevc": "H.265",
    "libdav1d": "AV1",
    "mpeg1video": "MPEG-1",
    "mpeg2video": "MPEG-2",
    "mpeg4": "MPEG-4",
    "mjpeg": "Motion JPEG",
    "prores": "ProRes",
    "theora": "Theora",
    "dvvideo": "DV",
}
_LOCATION = re.compile(r"([+-]\d+(?:\.\d+)?)([+-]\d+(?:\.\d+)?)")


def video_details(container: Any, track: Any, rotation: float = 0) -> Details:
    """Return what the container of a video says about it.

    Args:
        container: Opened by PyAV.
        track: The one of its video streams that players show.
        rotation: By how many degrees they turn it.
    """
    tags = _tags(track.metadata) | _tags(container.metadata)

    def texts(*names: str) -> list[str]:
        return [tags[name] for name in names if name in tags]

    located = _place(texts("location.iso6709", "location", "location-eng", "xyz"))
    return Details(
        captured_at=_date(tags),
        latitude=located and located[0],
        longitude=located and located[1],
        words=labelled(
            ("Title", texts("title", "displayname")),
            ("Caption", texts("description", "comment", "synopsis", "information")),
            ("Keywords", [word for text in texts("keywords") for word in re.split("[,;]", text)]),
            ("Author", texts("artist", "author", "director")),
        ),
        facts=labelled(
            ("Camera", [camera(*("".join(texts(name)) for name in ("make", "model")))]),
            ("Duration", [_duration(container.duration)]),
            ("Size", [_size(track, rotation)]),
            ("Encoding", [_encoding(track)]),
            ("Copyright", texts("copyright")),
        ),
    )


def audio_details(container: Any, track: Any) -> Details:
    """Return what the tags of a sound say.

    Args:
        container: Opened by PyAV.
        track: The one of its streams that is heard, which has the tags of Ogg.
    """
    tags = _tags(track.metadata) | _tags(container.metadata)

    def texts(*names: str) -> list[str]:
        return [tags[name] for name in names if name in tags]

    years = [text[:4] for text in texts("date", "year", "originaldate") if text[:4].isdecimal()]
    return Details(
        captured_at=_date(tags),
        words=labelled(
            ("Title", texts("title")),
            ("Artist", texts("artist", "album_artist", "composer", "performer")),
            ("Album", texts("album")),
            ("Genre", texts("genre")),
            ("Year", years),
            ("Caption", texts("comment", "description", "synopsis")),
            ("Lyrics", texts("lyrics", "unsyncedlyrics", "lyrics-eng", "lyrics-xxx")),
        ),
        facts=labelled(
            ("Duration", [_duration(container.duration)]),
            ("Encoding", [_sound(track)]),
            ("Copyright", texts("copyright")),
        ),
    )


def _sound(track: Any) -> str:
    """Return the codec and how many samples a second there are."""
    parameters = track.codec_context
    if parameters is None:
        return ""
    name = {"mp3float": "MP3", "vorbis": "Vorbis", "opus": "Opus"}.get(
        parameters.name, parameters.name.upper()
    )
    rate = parameters.sample_rate
    return f"{name}, {rate / 1000:.4g} kHz" if rate else name


def _tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return tags by their names in lower case, those of QuickTime without their prefix."""
    names = ((name.lower().removeprefix("com.apple.quicktime."), name) for name in metadata)
    return {short: metadata[name] for short, name in names}


def _date(tags: Mapping[str, str]) -> datetime | None:
    """Return when a video was taken; the container's own time is UTC, others name their zone."""
    local = parsed_date(tags.get("creationdate") or tags.get("date_recorded", ""))
    released = parsed_date(tags.get("date", ""))
    for date in (local, released):
        if date is not None and date.tzinfo is not None:
            return date
    return parsed_date(tags.get("creation_time", "")) or local or released


def _place(texts: list[str]) -> tuple[float, float] | None:
    """Parse +48.2082+016.3738+180.000/ of ISO 6709."""
    found = _LOCATION.match(texts[0]) if texts else None
    return place(float(found[1]), float(found[2])) if found else None


def _duration(microseconds: int | None) -> str:
    if microseconds is None or microseconds <= 0:
        return ""
    minutes, seconds = divmod(max(1, round(microseconds / 1_000_000)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _size(track: Any, rotation: float) -> str:
    width, height = track.width, track.height
    if round(rotation / 90) % 2:
        width, height = height, width
    return f"{width} × {height} pixels" if width and height else ""


def _encoding(track: Any) -> str:
    name = track.codec_context.name
    codec, rate = _CODECS.get(name, name.upper()), float(track.average_rate or 0)
    return f"{codec}, {rate:.4g} frames a second" if 0.1 <= rate <= 1000 else codec
