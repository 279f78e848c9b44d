"""Subtitles beside videos and in them: their words find the clip in which they are said."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from decoders import InProcess

from embedder.media import Draft, Kind, Limits, cut
from embedder.media.kinds import Cue, Track
from indexer import Library
from indexer.search.query import text_part
from indexer.types import Hit, IngestOptions, Query, Reason, Status

# Of two shots, the second of which begins after one second.
VIDEO = Path(__file__).parent / "media" / "av1.mp4"
SRT = """1
00:00:00,100 --> 00:00:00,600
<i>The salamander</i> is late

2
00:00:01,200 --> 00:00:01,900
{first} &amp; {second}
"""


def subtitles(first: str = "bring", second: str = "a toboggan") -> str:
    return SRT.replace("{first}", first).replace("{second}", second)


def with_tracks(path: Path, codec: str, *tracks: tuple[str, list[tuple[float, str]]]) -> Path:
    """Write the video with tracks of subtitles: their languages, and what is said when."""
    header = b"[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Text\n"
    with av.open(VIDEO) as source, av.open(path, "w") as target:
        video = target.add_stream_from_template(source.streams.video[0], opaque=True)
        packets: list[Any] = [one for one in source.demux(video=0) if one.dts is not None]
        for packet in packets:
            packet.stream = video
        for language, lines in tracks:
            stream: Any = target.add_stream(codec)
            stream.metadata["language"], stream.codec_context.subtitle_header = language, header
            for start, text in lines:
                data = text.encode()
                if codec == "mov_text":
                    data = len(data).to_bytes(2) + data
                packet = av.Packet(b"0,0,Default,,0,0,0,," + data if codec == "ass" else data)
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = round(start * 1000)
                packet.duration = 500
                packets.append(packet)
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            target.mux(packet)
    return path


class World:
    """A folder and a library of it, and the names of the files that were decoded."""

    def __init__(self, folder: Path) -> None:
        self.files, self.decoded = folder / "files", list[str]()
        self.files.mkdir()
        self.library = Library.open(folder / "library", model="toy", decoders=InProcess(self._cut))

    def _cut(self, path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        self.decoded.append(path.name)
        return cut(path, kind, limits)

    def video(self, name: str) -> Path:
        path = self.files / name
        path.write_bytes(VIDEO.read_bytes())
        return path

    def ingest(self) -> list[str]:
        self.decoded.clear()
        report = self.library.ingest([self.files], IngestOptions())
        assert not report.failures
        assert not report.skipped
        return sorted(self.decoded)

    def names(self) -> set[str]:
        return {item.name for item in self.library.catalog.items(status=Status.INDEXED)}

    def hits(self, text: str) -> list[Hit]:
        return [hit for hit in self.library.search(Query((text_part(text),))) if not hit.weak]

    def found(self, text: str) -> list[str]:
        return [f"{one.item.name} {one.segment.start:.0f}" for one in self.hits(text)]

    def tracks(self) -> tuple[Track, ...]:
        (item,) = self.library.catalog.items(status=Status.INDEXED)
        return self.library.catalog.details(item.id).tracks

    def facts(self) -> dict[str, str]:
        (item,) = self.library.catalog.items(status=Status.INDEXED)
        return dict(self.library.catalog.details(item.id).facts)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.library.close()


def test_words_of_subtitles_find_the_clip_in_which_they_are_said(world):
    world.video("Trip.MP4")
    (world.files / "trip.EN.srt").write_text(subtitles())
    assert world.ingest() == ["Trip.MP4"]
    assert world.names() == {"Trip.MP4"}
    assert world.found("salamander") == ["Trip.MP4 0"]
    assert world.found("toboggans") == ["Trip.MP4 1"]
    (hit,) = world.hits('"bring & a toboggan"')
    assert hit.why[0] is Reason.WORDS
    assert hit.segment.text == "bring & a toboggan"
    assert world.tracks() == (
        Track(
            "EN",
            (Cue(0.1, 0.6, "The salamander is late"), Cue(1.2, 1.9, "bring & a toboggan")),
        ),
    )
    assert world.ingest() == []


def test_changed_added_and_removed_subtitles_update_their_video_without_decoding_it(world):
    world.video("trip.mp4")
    assert world.ingest() == ["trip.mp4"]
    (world.files / "trip.srt").write_text(subtitles())
    assert world.ingest() == []
    assert world.found("salamander") == ["trip.mp4 0"]
    (world.files / "trip.srt").write_text(subtitles(second="a lighthouse"))
    assert world.ingest() == []
    assert world.found("toboggan") == []
    assert world.found("lighthouse") == ["trip.mp4 1"]
    (world.files / "trip.de.vtt").write_text("WEBVTT\n\n00:01.200 --> 00:01.900\nLeuchtturm\n")
    assert world.ingest() == []
    assert world.found("Leuchtturm") == world.found("lighthouse") == ["trip.mp4 1"]
    for name in ("trip.srt", "trip.de.vtt"):
        (world.files / name).unlink()
    assert world.ingest() == []
    assert world.found("salamander") == world.found("Leuchtturm") == []
    assert world.tracks() == ()


def test_subtitles_without_a_video_are_a_text_until_it_comes(world):
    for name in ("trip.srt", "trip.ssa"):
        (world.files / name).write_text(subtitles(second=name))
    (world.files / "notes.txt").write_text("lighthouse")
    assert world.ingest() == ["notes.txt", "trip.srt", "trip.ssa"]
    assert {hit.item.kind for hit in world.hits("salamander")} == {Kind.TEXT}
    world.video("trip.mp4")
    assert world.ingest() == ["trip.mp4"]
    assert world.names() == {"notes.txt", "trip.mp4"}
    assert world.found("salamander") == ["trip.mp4 0"]
    (world.files / "trip.mp4").unlink()
    world.ingest()
    assert world.names() == {"notes.txt", "trip.srt", "trip.ssa"}


def test_subtitles_are_of_the_video_with_the_longest_name(world):
    world.video("trip.mp4")
    (world.files / "trip.en.mkv").write_bytes(
        with_tracks(world.files.parent / "other.mkv", "ass").read_bytes()
    )
    (world.files / "trip.en.txt").write_text("salamander")
    (world.files / "trip.en.sdh.srt").write_text(subtitles())
    world.ingest()
    assert world.names() == {"trip.mp4", "trip.en.mkv", "trip.en.txt"}
    assert world.found("toboggan") == ["trip.en.mkv 1"]


def test_copies_of_a_video_share_its_words_while_one_has_the_subtitles(world):
    for name in ("one.mp4", "two.mp4"):
        world.video(name)
    (world.files / "two.srt").write_text(subtitles())
    world.ingest()
    assert len(world.hits("salamander")) == 1
    for path in (world.files / "two.mp4", world.files / "two.srt"):
        path.unlink()
    world.ingest()
    assert world.names() == {"one.mp4"}
    assert world.hits("salamander") == []


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "subrip"), ("b.mkv", "ass"), ("c.mp4", "mov_text"), ("d.webm", "webvtt")],
)
def test_tracks_in_a_video_are_read(world, name, codec):
    lines = [(0.1, "<i>The salamander</i> is late"), (1.2, "a toboggan")]
    with_tracks(world.files / name, codec, ("eng", lines), ("ger", [(1.2, "Rodelschlitten")]))
    world.ingest()
    assert world.found("salamander") == [f"{name} 0"]
    assert world.found("toboggan") == world.found("Rodelschlitten") == [f"{name} 1"]
    english, german = world.tracks()
    assert (english.name, german.name) == ("eng", "ger")
    assert [cue.text for cue in english.cues] == ["The salamander is late", "a toboggan"]
    (world.files / f"{Path(name).stem}.srt").write_text(subtitles(second="a lighthouse"))
    assert world.ingest() == []
    assert world.found("toboggan") == world.found("lighthouse") == [f"{name} 1"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(range(256)) * 100, "its bytes are not text"),
        (b"", "there are no subtitles in it"),
        (b"hello\n" * 1000, "there are no subtitles in it"),
        (b"x" * 10_000_001, "it is larger than the limit of 10 MB"),
        (
            b"00:00:00,100 --> 00:00:00,600\nendless\n\n" * 50_001,
            "they have more than 50,000 lines or 1,000,000 characters",
        ),
    ],
)
def test_what_is_wrong_with_subtitles_is_said_and_costs_the_video_nothing(world, data, reason):
    world.video("trip.mp4")
    (world.files / "trip.srt").write_bytes(data)
    assert world.ingest() == ["trip.mp4"]
    assert world.facts()["Subtitles"] == f"trip.srt is not read: {reason}"
    assert world.tracks() == ()
