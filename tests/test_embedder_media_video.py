"""Videos and animated pictures: clips at shot changes, evenly spaced upright frames."""

import io
import itertools
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from scenes import busy, scene

from embedder.media import (
    Kind,
    Limits,
    MediaError,
    UnsupportedMedia,
    cut,
    read_clips,
    read_frames,
    sample_video,
)
from embedder.media.video import Clock

SMALL = Limits(frame_side=64)
MEDIA = Path(__file__).parent / "media"


def write_video(
    path: Path, frames: list[Image.Image], rate: float = 10, code: str = "mp4v"
) -> Path:
    import cv2

    fourcc = cv2.VideoWriter.fourcc(*code)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, rate, frames[0].size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(np.asarray(frame)[:, :, ::-1]))
    writer.release()
    return path


def write_packets(path: Path, codec: str, packets: list[bytes]) -> Path:
    """A file of one stream, at ten packets a second."""
    with av.open(path, "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            packet.pts = packet.dts = number
            container.mux(packet)
    return path


def copy_of_av1(path: Path, **tags: str) -> None:
    """Two shots of 1 and 1.5 seconds in the container that the name asks for."""
    with av.open(MEDIA / "av1.mp4") as source, av.open(path, "w") as target:
        target.metadata.update(tags)
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def jpeg(size: tuple[int, int]) -> bytes:
    data = io.BytesIO()
    scene(0, size).save(data, "JPEG")
    return data.getvalue()


def shots(seconds: list[float], rate: float = 10) -> list[Image.Image]:
    return [scene(n) for n, length in enumerate(seconds) for _ in range(round(length * rate))]


def like(frame: Image.Image, number: int) -> bool:
    wanted = np.asarray(scene(number, frame.size), int)
    return float(np.abs(np.asarray(frame, int) - wanted).mean()) < 12


def test_times_of_a_recording_that_is_cut_begin_at_zero() -> None:
    """Its first frames may be shown before the start that the file states."""
    track = SimpleNamespace(start_time=900, time_base=Fraction(1, 1000))
    clock = Clock(SimpleNamespace(rate=12.5, track=track))
    stamps = (820, 900, 980)
    times = [clock.time(n, SimpleNamespace(pts=one)) for n, one in enumerate(stamps)]
    assert times == pytest.approx([0, 0.08, 0.16])


def test_a_video_is_cut_where_the_shot_changes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", shots([2.0, 3.5, 1.5]))
    clips = list(read_clips(path, SMALL))
    assert [clip.start for clip in clips] == pytest.approx([0, 2.0, 5.5], abs=0.21)
    assert clips[-1].end == pytest.approx(7.0, abs=0.05)
    for before, after in itertools.pairwise(clips):
        assert before.end == after.start
    for clip in clips:
        assert clip.times[0] == 0, "they count from the start of the clip"
        assert clip.times[-1] <= clip.end - clip.start
    for number, clip in enumerate(clips):
        assert all(like(frame, number) for frame in clip.frames)


def test_a_shot_without_end_is_cut_by_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", shots([10.4]), code="MJPG")
    assert [clip.end for clip in read_clips(path, SMALL)] == pytest.approx([10.4], abs=0.05)
    limits = Limits(frame_side=64, clip_seconds=3)
    clips = list(read_clips(path, limits))
    assert [clip.start for clip in clips] == pytest.approx([0, 3, 6, 9], abs=0.05)
    assert clips[-1].end == pytest.approx(10.4, abs=0.05)


def test_clip_frames_are_evenly_spaced(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 48), (n, n, n)) for n in range(0, 210, 3)]  # 70 frames, 7 s
    path = write_video(tmp_path / "a.avi", frames, code="MJPG")
    for clip in (next(iter(read_clips(path, SMALL))), sample_video(path, SMALL)):
        values = [frame.getpixel((9, 9))[0] for frame in clip.frames]
        assert len(values) == 8
        assert values[0] == pytest.approx(0, abs=3)
        assert values[-1] == pytest.approx(207, abs=3)
        assert np.diff(values) == pytest.approx(207 / 7, abs=10)
        assert clip.content.times == pytest.approx([value / 30 for value in values], abs=0.15)


def test_frames_are_rgb_within_the_side(tmp_path: Path) -> None:
    red = Image.new("RGB", (320, 160), (230, 20, 20))
    clip = sample_video(write_video(tmp_path / "a.mp4", [red] * 12), Limits(frame_side=100))
    for frame in clip.frames:
        assert (frame.mode, frame.size) == ("RGB", (100, 50))
        assert frame.getpixel((50, 25))[0] > 200 > 60 > frame.getpixel((50, 25))[2]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_short_video_gives_every_frame(tmp_path: Path, count: int) -> None:
    path = write_video(tmp_path / "a.avi", shots([0.1] * count), code="MJPG")
    clips = list(read_clips(path, SMALL))
    assert len(clips) == 1
    assert len(clips[0].frames) == len(sample_video(path, SMALL).frames) == count
    assert clips[0].end == pytest.approx(count / 10, abs=0.01)


def test_a_rotated_recording_is_shown_upright(tmp_path: Path) -> None:
    wide = Image.new("RGB", (96, 64), "blue")
    wide.paste((255, 0, 0), (0, 0, 48, 64))
    path = write_video(tmp_path / "a.mp4", [wide] * 5)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the track's matrix: a quarter turn clockwise
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frame = sample_video(path, SMALL).frames[0]
    assert frame.size == (43, 64)
    assert frame.getpixel((21, 8))[0] > 180, "left came to the top"
    assert frame.getpixel((21, 56))[2] > 180
    (draft,) = cut(path, Kind.VIDEO, SMALL)
    assert draft.details is not None
    assert ("Size", "64 \u00d7 96 pixels") in draft.details.facts


def test_long_videos_are_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("embedder.media.video._video_samples")
    frames = [Image.new("RGB", (32, 24), (n, n, n)) for n in range(0, 240, 2)]
    path = write_video(tmp_path / "a.avi", frames, rate=1, code="MJPG")  # two minutes
    clip = sample_video(path, SMALL)
    values = [frame.getpixel((9, 9))[0] for frame in clip.frames]
    assert np.diff(values) == pytest.approx([34] * 7, abs=6)
    assert (clip.start, clip.end) == (0.0, pytest.approx(120, abs=1.5))


def test_long_videos_without_an_index_are_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("embedder.media.video._video_samples")
    path = tmp_path / "a.ts"
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=5, options={"g": "40"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        noise = Image.effect_noise((96, 64), 200).convert("RGB")  # as large as films are
        for number in range(240):  # 48 seconds, with a key frame every eight
            picture = noise.rotate(number)
            picture.paste((number, number, number), (0, 0, 32, 32))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    values = [frame.getpixel((9, 9))[0] for frame in sample_video(path, SMALL).frames]
    assert np.diff(values) == pytest.approx([34] * 7, abs=5)


@pytest.mark.parametrize(("name", "code"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.gif", "")])
def test_frames_are_read_from_a_moment_on(tmp_path: Path, name: str, code: str) -> None:
    frames = [Image.new("RGB", (48, 48), (n, n, n)) for n in range(0, 240, 2)]  # 12 seconds
    if code:
        write_video(tmp_path / name, frames, code=code)
    else:
        frames[0].save(
            tmp_path / name, save_all=True, append_images=frames[1:], duration=100, loop=0
        )

    def read(start: float) -> list[int]:
        limits = Limits(frame_side=32, clip_frames=4)
        found = read_frames(tmp_path / name, start, 0.5, limits)
        assert {frame.size for frame in found} == {(32, 32)}
        return [frame.getpixel((9, 9))[0] for frame in found]

    assert read(0.0) == pytest.approx([0, 10, 20, 30], abs=6)
    assert read(7.05) == pytest.approx([140, 150, 160, 170], abs=6)
    assert read(11.2) == pytest.approx([224, 234, 238], abs=6)
    assert read(99.0)[-1] == pytest.approx(238, abs=6)


def test_truncated_video_is_read_as_far_as_possible(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.avi", shots([4.0]), code="MJPG")
    data = whole.read_bytes()
    broken = tmp_path / "b.avi"
    broken.write_bytes(data[: len(data) // 2])
    clips = list(read_clips(broken, SMALL))
    assert clips
    assert 1 < clips[-1].end < 3.5
    assert sample_video(broken, SMALL).frames


def test_video_without_frames_is_refused(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.mp4", shots([2.0])).read_bytes()
    no_index = tmp_path / "b.mp4"
    no_index.write_bytes(data[: data.index(b"moov") - 8])
    empty = tmp_path / "c.avi"
    empty.write_bytes(b"RIFF\x24\0\0\0AVI LIST" + bytes(200))
    for path in (no_index, empty, tmp_path / "nowhere.mp4"):
        for read in (sample_video, lambda path, limits: list(read_clips(path, limits))):
            with pytest.raises(MediaError, match=r"cannot be opened|no frame|does not exist"):
                read(path, SMALL)


@pytest.mark.parametrize("name", ["magic.avi", "magic.mkv"])
def test_a_codec_that_is_not_supported_is_never_decoded(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, shots([2.0]), code="M8RG")
    for read in (sample_video, lambda path, limits: list(read_clips(path, limits))):
        with pytest.raises(MediaError, match=r"codec \(magicyuv\) that is not supported"):
            read(path, SMALL)


@pytest.mark.parametrize("code", ["MJPG", "mp4v", "VP80", "VP90", "FFV1", "HFYU", "WMV2", "FLV1"])
def test_codecs_that_people_have_are_decoded(tmp_path: Path, code: str) -> None:
    path = write_video(tmp_path / "a.mkv", shots([2.0]), code=code)
    assert len(sample_video(path, SMALL).frames) == SMALL.clip_frames


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_av1_is_decoded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    copy_of_av1(path)
    first, second = read_clips(path, SMALL)
    assert (first.start, first.end) == pytest.approx((0, 1.0), abs=0.11)
    assert second.end == pytest.approx(2.5, abs=0.05)
    assert like(first.frames[3], 0)
    assert like(second.frames[3], 1)


def test_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", shots([0.5]), code="MJPG")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"XYZW"))
    with pytest.raises(MediaError, match="a codec that is not supported: convert it"):
        sample_video(path)


def test_protected_videos_say_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", shots([0.5]))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"mp4v", b"encv"))
    with pytest.raises(MediaError, match="protected against copying"):
        sample_video(path)


@pytest.mark.parametrize("rest", [b"", bytes(300)])
def test_type_that_is_not_known_is_no_damaged_video(rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\0\0\0\x18ftypqqzz\0\0\0\1qqzzisom" + rest)
    with pytest.raises(MediaError, match=r"type that is not known \(ftyp brand 'qqzz'\)"):
        list(read_clips(path))
    path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\1isommp41" + rest)
    with pytest.raises(MediaError, match="the video cannot be opened: it is damaged"):
        list(read_clips(path))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm"])
def test_sound_without_picture_is_skipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(path, "w") as container:
        stream: Any = container.add_stream("libopus", rate=48_000)
        silence = av.AudioFrame(format="s16", layout="stereo", samples=960)
        silence.sample_rate = 48_000
        container.mux([*stream.encode(silence), *stream.encode()])
    with pytest.raises(UnsupportedMedia, match="has sound but no picture"):
        sample_video(path)


def test_frames_that_grow_over_the_limit_are_left_out(tmp_path: Path) -> None:
    frames = [jpeg((96, 64))] * 5 + [jpeg((960, 640))] + [jpeg((96, 64))] * 5
    path = write_packets(tmp_path / "a.mkv", "mjpeg", frames)
    assert len(sample_video(path, Limits(clip_frames=20)).frames) == 11
    assert len(sample_video(path, Limits(clip_frames=20, pixels=10_000)).frames) == 10


def test_titles_in_any_encoding_are_no_obstacle(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", shots([0.5]), code="MJPG")
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"\xe9\xff\xe9\xff"))
    assert sample_video(path, SMALL).frames


def test_videos_over_limits_are_refused_before_decoding(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", shots([4.0]), code="MJPG")
    with pytest.raises(MediaError, match="longer than the limit"):
        next(iter(read_clips(path, Limits(seconds=3))))
    with pytest.raises(MediaError, match="96 × 64"):
        sample_video(path, Limits(pixels=6000))
    assert sample_video(path, Limits(pixels=sys.maxsize)).frames, "as files are embedded again"


def test_a_name_is_no_pattern_for_other_files(tmp_path: Path) -> None:
    scene(0).save(tmp_path / "film0.jpg")
    path = tmp_path / "film%d.jpg"
    path.write_bytes(bytes(range(1, 200)))
    with pytest.raises(MediaError, match="cannot be opened"):
        sample_video(path)


@pytest.mark.parametrize("start", ["#EXTM3U\n#EXTINF:2,\n", "ffconcat version 1.0\nfile "])
def test_a_play_list_does_not_lead_to_other_files(tmp_path: Path, start: str) -> None:
    write_video(tmp_path / "private.mp4", shots([1.0]))
    path = tmp_path / "list.mp4"
    path.write_text(f"{start}private.mp4\n")
    with pytest.raises(MediaError, match="cannot be opened"):
        sample_video(path)


@pytest.mark.parametrize("name", ["per%03dcent.avi", "line\nbreak.avi", "latin\udce9.avi", "ü.avi"])
def test_odd_names_are_opened(tmp_path: Path, name: str) -> None:
    plain = write_video(tmp_path / "a.avi", shots([0.5]), code="MJPG")
    odd = plain.rename(tmp_path / name)
    assert sample_video(odd, SMALL).frames


def test_damaged_videos_print_nothing(tmp_path: Path) -> None:
    data = bytearray(write_video(tmp_path / "a.mp4", shots([3.0])).read_bytes())
    start = data.index(b"mdat")
    for at in range(start + 60, min(start + 3000, len(data)), 7):
        data[at] ^= 0xFF
    (tmp_path / "b.mp4").write_bytes(data)
    (tmp_path / "c.mp4").write_bytes(data[:4000])
    program = (
        "import sys\n"
        "from embedder.media import MediaError, sample_video\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        sample_video(path)\n"
        "    except MediaError:\n        pass\n"
    )
    paths = [str(tmp_path / name) for name in ("b.mp4", "c.mp4")]
    done = subprocess.run(
        [sys.executable, "-c", program, *paths],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_a_video_says_about_itself_comes_with_its_first_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    copy_of_av1(path, title="Toboggan race")
    first, *others = cut(path, Kind.VIDEO, SMALL)
    assert first.details is not None
    assert first.details.words == (("Title", "Toboggan race"),)
    assert ("Duration", "0:02") in first.details.facts
    assert all(draft.details is None for draft in others)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
def test_animated_pictures_are_clips(tmp_path: Path, suffix: str) -> None:
    frames = [scene(n // 15) for n in range(45)]
    for n, frame in enumerate(frames):
        frame.putpixel((0, 0), (n, n, n))  # equal neighbours would be merged
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    clips = list(read_clips(path, SMALL))
    assert [clip.start for clip in clips] == pytest.approx([0, 1.5, 3.0], abs=0.21)
    assert clips[-1].end == pytest.approx(4.5, abs=0.11)
    for number, clip in enumerate(clips):
        assert like(clip.frames[0], number)
        assert like(clip.frames[-1], number)
    assert len(sample_video(path, SMALL).frames) == 8


def test_the_last_frame_of_an_animation_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 24), (4 * n, 90, 200)) for n in range(45)]
    path = tmp_path / "a.gif"
    for count in (44, 45):
        frames[0].save(path, save_all=True, append_images=frames[1:count], duration=100)
        (clip,) = read_clips(path, SMALL)
        assert clip.frames[-1].getpixel((9, 9))[0] == pytest.approx(4 * (count - 1), abs=1)


def test_an_animation_of_two_frames_gives_both(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    scene(0).save(path, save_all=True, append_images=[scene(1)], duration=0)
    clip = sample_video(path, SMALL)
    assert [like(clip.frames[0], 0), like(clip.frames[1], 1)] == [True, True]
    assert clip.end == pytest.approx(0.2), "no duration means a tenth of a second, as in browsers"


def test_truncated_animation_is_read_as_far_as_possible(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.effect_noise((64, 48), 90).convert("RGB") for _ in range(20)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0.5 < list(read_clips(path, SMALL))[-1].end < 1.5
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(MediaError, match="truncated"):
        list(read_clips(path, SMALL))


def test_a_long_animation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [scene(n) for n in range(4)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=9000)
    with pytest.raises(MediaError, match="longer than the limit of 20 seconds"):
        list(read_clips(path, Limits(seconds=20)))


def test_shot_changes_are_independent_of_frame_side(
    tmp_path: Path,
) -> None:
    first, second = busy(1, (320, 180)), busy(2, (320, 180))
    steps = [0.0, 0.3, 0.45, 0.9, 0.2, 0.6, 0.05, 0.7]
    frames = [Image.blend(first, second, share) for share in steps for _ in range(12)]
    path = write_video(tmp_path / "a.mp4", frames)
    cuts = [
        [(clip.start, clip.end) for clip in read_clips(path, Limits(frame_side=side))]
        for side in (8, 64, 1024)
    ]
    assert len(cuts[0]) > 1
    assert cuts[0] == cuts[1] == cuts[2]
