"""Videos and animated pictures: clips at shot changes, evenly spaced upright frames."""

import itertools
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.media import Limits, MediaError, read_clips, sample_video
from embedder.media.shots import (
    Clip,
    Sample,
    cut_clips,
    gather,
    is_shot_change,
    signature,
    spread,
)

COLORS = [(200, 30, 30), (30, 160, 40), (40, 60, 210), (220, 210, 60), (120, 120, 120)]
SMALL = Limits(frame_side=64)


def scene(number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A coarse pattern in one colour, different for every number."""
    rng = np.random.default_rng(number)
    noise = rng.integers(-40, 41, (4, 6, 3)) + np.array(COLORS[number % len(COLORS)])
    coarse = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


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


def shots(seconds: list[float], rate: float = 10) -> list[Image.Image]:
    return [scene(n) for n, length in enumerate(seconds) for _ in range(round(length * rate))]


def like(frame: Image.Image, number: int) -> bool:
    wanted = np.asarray(scene(number, frame.size), int)
    return float(np.abs(np.asarray(frame, int) - wanted).mean()) < 12


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


def test_long_videos_are_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("embedder.media.video._video_samples")
    frames = [Image.new("RGB", (32, 24), (n, n, n)) for n in range(0, 240, 2)]
    path = write_video(tmp_path / "a.avi", frames, rate=1, code="MJPG")  # two minutes
    clip = sample_video(path, SMALL)
    values = [frame.getpixel((9, 9))[0] for frame in clip.frames]
    assert np.diff(values) == pytest.approx([34] * 7, abs=6)
    assert (clip.start, clip.end) == (0.0, pytest.approx(120, abs=1.5))


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
        with pytest.raises(MediaError, match=r"codec \(MAGY\) that is not supported"):
            read(path, SMALL)


@pytest.mark.parametrize("code", ["MJPG", "mp4v", "VP80", "VP90", "FFV1", "HFYU", "WMV2", "FLV1"])
def test_codecs_that_people_have_are_decoded(tmp_path: Path, code: str) -> None:
    path = write_video(tmp_path / "a.mkv", shots([2.0]), code=code)
    assert len(sample_video(path, SMALL).frames) == SMALL.clip_frames


def test_videos_over_limits_are_refused_before_decoding(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", shots([4.0]), code="MJPG")
    with pytest.raises(MediaError, match="longer than the limit"):
        next(iter(read_clips(path, Limits(seconds=3))))
    with pytest.raises(MediaError, match="96 × 64"):
        sample_video(path, Limits(pixels=6000))


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


# Shots, without any file.


def samples(count: int, step: float = 0.2, frame: Image.Image | None = None) -> list[Sample]:
    frame = frame or scene(0, (32, 18))
    return [Sample(n * step, (n + 1) * step, frame) for n in range(count)]


def test_a_flash_does_not_make_a_clip() -> None:
    stream = samples(30)
    stream[2] = Sample(0.4, 0.6, scene(1, (32, 18)))
    stream[29] = Sample(5.8, 6.0, scene(1, (32, 18)))
    clips = list(cut_clips(stream, Limits()))
    assert [(clip.start, clip.end) for clip in clips] == [(0.0, 6.0)]


def busy(number: int, size: tuple[int, int]) -> Image.Image:
    """A picture with much structure; the colours of one are like those of another."""
    noise = np.random.default_rng(number).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_shot_change_in_the_same_colours() -> None:
    assert is_shot_change(signature(scene(0)), signature(scene(3)))
    assert is_shot_change(signature(busy(1, (96, 64))), signature(busy(2, (96, 64))))


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


def test_camera_movement_and_light_are_no_shot_change() -> None:
    wide = busy(1, (480, 160))
    views = [signature(wide.crop((x, 0, x + 240, 160))) for x in range(0, 240, 24)]
    assert not any(is_shot_change(a, b) for a, b in itertools.pairwise(views))
    assert is_shot_change(views[0], views[-1])
    lit = wide.point(lambda value: min(255, value + 25))
    assert not is_shot_change(signature(wide), signature(lit))
    assert not is_shot_change(views[0], views[0])


def test_spread_includes_first_and_last() -> None:
    chosen = spread(samples(50), 8)
    assert [chosen[0].time, chosen[-1].time] == [0.0, pytest.approx(9.8)]
    assert np.diff([sample.time for sample in chosen]) == pytest.approx([1.4] * 7, abs=0.21)
    assert len(spread(samples(3), 8)) == 3
    for count in (8, 9, 11, 17):
        uneven = [*samples(count - 1), Sample(0.2 * (count - 2) + 0.01, 9, scene(0, (32, 18)))]
        times = [sample.time for sample in spread(uneven, 8)]
        assert len(set(times)) == 8
        assert [times[0], times[-1]] == [0.0, uneven[-1].time]


def test_no_clip_has_fewer_frames_than_it_could() -> None:
    for clip in cut_clips(samples(300), Limits(clip_seconds=4)):
        assert len(clip.frames) == 8


def held_at_most(make: object) -> int:
    """How many frames are alive at most while a stream of 500 is consumed."""
    import weakref

    alive: set[int] = set()
    most = 0

    def stream() -> object:
        nonlocal most
        for n in range(500):
            frame = Image.new("RGB", (8, 8))
            alive.add(n)
            weakref.finalize(frame, alive.discard, n)
            most = max(most, len(alive))
            yield Sample(n / 5, (n + 1) / 5, frame)

    result = make(stream())  # type: ignore[operator]
    if not isinstance(result, Clip):
        for _ in result:
            pass
    return most


def test_memory_is_bounded_for_long_videos() -> None:
    limits = Limits()
    assert held_at_most(lambda stream: cut_clips(stream, limits)) < 80
    assert held_at_most(lambda stream: gather(stream, limits)) < 60


def test_gathered_frames_are_even_over_any_length() -> None:
    for count in (9, 33, 65, 1000):
        clip = gather(iter(samples(count)), Limits())
        assert clip is not None
        assert len(clip.frames) == 8
        assert clip.end == pytest.approx(count * 0.2)
    assert gather(iter(()), Limits()) is None
