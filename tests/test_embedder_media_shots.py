"""Shots, without any file: where they change, and which frames are taken of them."""

import itertools

import numpy as np
import pytest
from PIL import Image
from scenes import busy, scene

from embedder.media import Limits
from embedder.media.shots import (
    Clip,
    Sample,
    cut_clips,
    gather,
    is_shot_change,
    signature,
    spread,
)


def samples(count: int, step: float = 0.2, frame: Image.Image | None = None) -> list[Sample]:
    frame = frame or scene(0, (32, 18))
    return [Sample(n * step, (n + 1) * step, frame) for n in range(count)]


def test_a_flash_does_not_make_a_clip() -> None:
    stream = samples(30)
    stream[2] = Sample(0.4, 0.6, scene(1, (32, 18)))
    stream[29] = Sample(5.8, 6.0, scene(1, (32, 18)))
    clips = list(cut_clips(stream, Limits()))
    assert [(clip.start, clip.end) for clip in clips] == [(0.0, 6.0)]


def test_shot_change_in_the_same_colours() -> None:
    assert is_shot_change(signature(scene(0)), signature(scene(3)))
    assert is_shot_change(signature(busy(1, (96, 64))), signature(busy(2, (96, 64))))


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
