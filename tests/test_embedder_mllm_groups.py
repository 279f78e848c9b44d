import numpy as np
import pytest
from PIL import Image

from embedder.mllm.embedder import groups_of, schedule
from embedder.mllm.pictures import Picture, planned
from embedder.mllm.template import TokenSequence


def sequence(length: int, *pictures: Image.Image, first: int = 0) -> TokenSequence:
    ids = np.arange(first, first + length)
    planned_ones = tuple(
        Picture((one,), planned(one.size, (4, 16), patch_side=14)) for one in pictures
    )
    return TokenSequence(ids, planned_ones, tuple(range(len(pictures))))


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (40, 40), colour)


def almost_red() -> Image.Image:
    picture = plain("red")
    picture.putpixel((1, 1), (254, 0, 0))
    return picture


@pytest.mark.parametrize("budget", [1, 50, 400, 10**6])
def test_groups_hold_every_sequence_within_budget(budget: int):
    lengths = np.random.default_rng(1).integers(5, 300, 80).tolist()
    groups = groups_of(lengths, budget)
    assert sorted(index for group in groups for index in group) == list(range(80))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or len(group) * longest <= budget


def test_little_of_a_group_is_padding():
    lengths = np.random.default_rng(1).integers(5, 1400, 400).tolist()
    groups = groups_of(lengths, 16_000)
    padded = sum(len(group) * max(lengths[i] for i in group) for group in groups)
    assert sum(lengths) / padded > 0.85
    assert len(groups) < 80


def test_the_longest_come_first():
    groups = groups_of([5, 900, 30, 31], 1000)
    assert groups[0] == [1]
    assert groups[-1] == [0]


def test_repeated_sequence_is_computed_once():
    groups = schedule([sequence(9), sequence(9, first=3), sequence(9)], 1000)
    positions = [member.positions for group in groups for member in group.members]
    assert sorted(positions) == [[0, 2], [1]]


def test_repeated_frame_is_kept_while_needed():
    red, blue = plain("red"), plain("blue")
    groups = schedule([sequence(500, red, blue, plain("red")), sequence(20, plain("red"))], 600)
    first, second = groups
    assert [picture.frames[0].getpixel((0, 0)) for picture in first.fresh.values()] == [
        red.getpixel((0, 0)),
        blue.getpixel((0, 0)),
    ]
    assert not second.fresh
    assert len(first.last) == 1
    assert second.last == second.members[0].pictures


def test_one_pixel_distinguishes_pictures():
    groups = schedule([sequence(9, plain("red")), sequence(9, almost_red())], 1000)
    assert sum(len(group.fresh) for group in groups) == 2
