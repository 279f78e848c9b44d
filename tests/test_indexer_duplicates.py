"""Grouping pictures that look the same, compared with trying every pair."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import Library
from indexer.catalog.listing import MAX_HASH_DISTANCE, MAX_TINT_DISTANCE, near_groups


def by_every_pair(hashes: np.ndarray, tints: np.ndarray) -> list[list[int]]:
    groups = [{i} for i in range(len(hashes))]
    for i in range(len(hashes)):
        for j in range(i):
            bits = bin((int(hashes[i]) ^ int(hashes[j])) & (2**64 - 1)).count("1")
            tint = np.abs(tints[i].astype(int) - tints[j].astype(int)).max()
            if (
                bits <= MAX_HASH_DISTANCE
                and tint <= MAX_TINT_DISTANCE
                and groups[i] is not groups[j]
            ):
                groups[i] |= groups[j]
                for member in groups[i]:
                    groups[member] = groups[i]
    return sorted({tuple(sorted(group)) for group in groups if len(group) > 1})


@pytest.mark.parametrize("seed", range(4))
def test_groups_are_those_of_trying_every_pair(seed):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(-(2**63), 2**63 - 1, 40, dtype=np.int64)
    hashes = np.concatenate([hashes, hashes[:20]])
    tints = rng.integers(0, 256, (40, 48)).astype(np.uint8)
    tints = np.concatenate([tints, tints[:20]])
    for number in range(60):
        for _ in range(rng.integers(0, 5)):
            flip = np.uint64(1) << np.uint64(rng.integers(64))
            hashes.view(np.uint64)[number] ^= flip
        if rng.random() < 0.3:
            tints[number] = rng.integers(0, 256, 48)
    groups = [tuple(group.tolist()) for group in near_groups(hashes, tints)]
    assert groups == by_every_pair(hashes, tints)
    assert groups


def test_plain_pictures_of_different_colours_are_not_alike():
    tints = np.array([[0] * 48, [255] * 48, [10] * 48], dtype=np.uint8)
    (group,) = near_groups(np.zeros(3, dtype=np.int64), tints)
    assert group.tolist() == [0, 2]


def test_no_pictures_give_no_groups():
    assert near_groups(np.empty(0, dtype=np.int64), np.empty((0, 48), dtype=np.uint8)) == []


def test_ten_thousand_equal_pictures_are_one_group_at_once():
    groups = near_groups(np.zeros(10_000, dtype=np.int64), np.zeros((10_000, 48), dtype=np.uint8))
    assert [len(group) for group in groups] == [10_000]


def test_groups_are_counted_again_once_enough_pictures_have_come_or_gone(tmp_path, monkeypatch):
    monkeypatch.setattr("indexer.catalog.writer._PICTURES_PER_CHANGE", 4)
    rng = np.random.default_rng(1)
    folder = tmp_path / "media"
    folder.mkdir()

    def photo(number: int) -> Path:
        return folder / f"{number}.png"

    def small(number: int) -> Path:
        return folder / f"small {number}.jpg"

    for number in range(8):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((240, 180), Image.Resampling.BICUBIC).save(photo(number))
    with Library.open(tmp_path / "library", model="toy") as library:

        def groups_with(*added: int) -> int:
            for number in added:
                Image.open(photo(number)).resize((120, 90)).save(small(number), quality=80)
            return library.ingest([folder]).near_duplicates

        def groups_without(*removed: int) -> int:
            for number in removed:
                small(number).unlink()
            return library.ingest([folder]).near_duplicates

        assert groups_with() == 0
        assert groups_with(0) == 0
        assert len(library.catalog.duplicates().near) == 1
        assert groups_with(1, 2) == 3
        assert groups_without(0) == 3
        assert groups_without(1, 2) == 0
