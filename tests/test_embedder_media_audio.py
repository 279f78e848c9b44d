"""Sound recordings: tags, duration and cover of all formats, and what is damaged."""

import io
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from embedder.media import Kind, Limits, MediaError, cut, detect, read_content

TAGS = {
    "title": "Salamander Waltz",
    "artist": "The Newts",
    "album": "Wet Meadows",
    "genre": "Folk",
    "date": "1999",
}
WORDS = (
    ("Title", "Salamander Waltz"),
    ("Artist", "The Newts"),
    ("Album", "Wet Meadows"),
    ("Genre", "Folk"),
    ("Year", "1999"),
)
TEXT = "Salamander Waltz\nThe Newts\nWet Meadows\nFolk\n1999"
CODECS = {
    ".mp3": "libmp3lame",
    ".m4a": "aac",
    ".ogg": "libopus",
    ".opus": "libopus",
    ".flac": "flac",
    ".wav": "pcm_s16le",
}


def write_sound(path: Path, tags: dict[str, str], seconds: float = 2.0, pitch: int = 440) -> Path:
    """Write a tone in the format that the name asks for."""
    times = np.arange(int(48_000 * seconds)) / 48_000
    samples = (8_000 * np.sin(2 * np.pi * pitch * times)).astype(np.int16)[None]
    with av.open(path, "w") as container:
        container.metadata.update(tags)
        stream: Any = container.add_stream(CODECS[path.suffix], rate=48_000, layout="mono")
        stream.metadata.update(tags if path.suffix in (".ogg", ".opus") else {})
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 48_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def with_cover(path: Path, colour: tuple[int, int, int]) -> Path:
    """Write an MP3 with a picture in front of it, as ID3v2.3 has it."""
    write_sound(path, {})
    data = io.BytesIO()
    Image.new("RGB", (500, 500), colour).save(data, "JPEG")
    body = b"\0image/jpeg\0\3\0" + data.getvalue()
    frame = b"APIC" + len(body).to_bytes(4) + b"\0\0" + body
    size = len(frame)
    packed = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + packed + frame + path.read_bytes())
    return path


@pytest.mark.parametrize("suffix", CODECS)
def test_tags_and_duration_of_all_formats(tmp_path, suffix):
    path = write_sound(tmp_path / f"track{suffix}", TAGS)
    assert detect(path) is Kind.AUDIO
    (draft,) = cut(path, Kind.AUDIO)
    found = dict(draft.details.words)
    expected = [pair for pair in WORDS if suffix != ".wav" or pair[0] in found]
    assert draft.details.words == tuple(expected)
    assert found["Title"] == "Salamander Waltz"
    assert draft.content.text == "\n".join(found.values())
    assert draft.start == 0
    assert draft.end == pytest.approx(2, abs=0.1)
    assert dict(draft.details.facts)["Duration"] == "0:02"
    assert max(draft.thumbnail.size) == Limits().thumbnail_side
    assert read_content(path).text == draft.content.text


def test_without_tags_the_name_is_what_is_found(tmp_path):
    path = tmp_path / "2024_harbour-at_dawn.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16_000))
    (draft,) = cut(path, Kind.AUDIO)
    assert draft.content.text == "2024 harbour at dawn"
    assert draft.end == pytest.approx(1)


def test_cover_is_the_thumbnail(tmp_path):
    (draft,) = cut(with_cover(tmp_path / "a.mp3", (200, 30, 30)), Kind.AUDIO)
    assert draft.thumbnail.size == (384, 384)
    red, green, blue = draft.thumbnail.getpixel((100, 100))
    assert red > 180
    assert max(green, blue) < 60


def test_damaged_cover_costs_the_file_nothing(tmp_path):
    path = with_cover(tmp_path / "a.mp3", (200, 30, 30))
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xd8")
    data[at + 2 : at + 400] = bytes(398)
    path.write_bytes(data)
    (draft,) = cut(path, Kind.AUDIO)
    assert draft.thumbnail.size == (384, 288)


def test_mp3_without_tags_is_known_by_its_name(tmp_path):
    path = write_sound(tmp_path / "a.mp3", {})
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\xff\xfb") :])
    assert detect(path) is Kind.AUDIO
    (draft,) = cut(path, Kind.AUDIO)
    assert draft.content.text == "a"


@pytest.mark.parametrize(
    "head", [b"fLaC\0\0\0\x22", b"RIFF\x24\0\0\0WAVEfmt ", b"ID3\4" + bytes(99)]
)
def test_damaged_sound_says_so(tmp_path, head):
    path = tmp_path / "a.flac"
    path.write_bytes(head)
    with pytest.raises(MediaError, match=r"damaged or truncated|no sound in it"):
        list(cut(path, Kind.AUDIO))
