"""What partitions are made of: rows, places, positions that are gone."""

import numpy as np
import pytest
from clustered import DIM, ROWS

from indexer.vectors.gone import Gone
from indexer.vectors.places import Places
from indexer.vectors.rows import Rows, floats


def test_rows_are_read_over_several_blocks_and_a_frozen_copy_does_not_grow(tmp_path):
    rows = Rows(DIM)
    for start in (0, 1_000, 1_500):
        rows.append(ROWS[start : start + (1_000 if start == 0 else 500)])
        if start < 1_500:
            parts = rows.write(tmp_path, f"part-{start}")
    frozen = rows.frozen()
    rows.append(ROWS[2_000:2_010])
    frozen.append(ROWS[3_000:3_005])
    assert (len(rows), len(frozen)) == (2_010, 2_005)
    chosen = np.array([1_999, 3, 1_200, 2_004, 1_000, 0])
    assert (rows.take(chosen) == ROWS[chosen]).all()
    assert (frozen.take(np.array([2_004])) == ROWS[3_004]).all()
    assert (np.concatenate([chunk for _, chunk in rows.chunks()]) == ROWS[:2_010]).all()
    assert len(Rows.read(tmp_path, parts, DIM)) == 1_500
    some = rows.chosen(chosen)
    rows.append(ROWS[:1])
    some.append(ROWS[5:7])
    assert (some.take(np.arange(8)) == np.concatenate([rows.take(chosen), ROWS[5:7]])).all()
    (_, every), *_ = Rows.read(tmp_path, some.write(tmp_path, "some"), DIM).chunks()
    assert (every == some.take(np.arange(8))).all()


@pytest.mark.parametrize("count", [0, 2, 3])
def test_places_are_found_in_whatever_order_ids_came_and_however_many_are_in_the_file(
    tmp_path, count
):
    places, ids = Places(), np.array([5, 9, 7])
    places.append(ids[:count], np.zeros(count, dtype=np.int32))
    stored = places.write(tmp_path / "table")
    assert (places.start, places.mapped) == (count, stored.bytes)
    places.append(ids[count:], np.ones(3 - count, dtype=np.int32))
    assert places.find(np.array([7, 5, 8, 99, 0])).tolist() == [0, 2]
    places.gone.add(np.array([0]))
    assert places.find(np.array([5, 9])).tolist() == [1]
    places.append(np.array([5]), np.zeros(1, dtype=np.int32))
    for one in (places, Places.read(tmp_path, places.write(tmp_path / "all"), 4, places.gone)):
        assert one.find(np.array([5, 9])).tolist() == [1, 3]
        assert one.ids_at(np.array([2, 3])).tolist() == [7, 5]
        assert one.lists_at(np.arange(4)).tolist() == [0] * count + [1] * (3 - count) + [0]
        assert (one.start, one.gone.count) == (4, 1)


def test_positions_that_are_gone_are_known_however_far_they_lie():
    gone = Gone()
    assert not gone.among(np.array([0, 7])).any()
    assert gone.others() is None
    gone.add(np.array([3, 8, 9]))
    gone.add(np.array([100]))
    again = Gone.unpacked(gone.packed())
    asked = np.array([-1, -100, 0, 3, 7, 8, 9, 10, 99, 100, 101, 10**12])
    assert gone.among(asked).tolist() == again.among(asked).tolist()
    assert asked[again.among(asked)].tolist() == [3, 8, 9, 100]
    assert again.count == 4
    assert [bool(again.others().is_member(int(one))) for one in asked] == (
        ~again.among(asked)
    ).tolist()


def test_every_half_is_read_as_the_number_it_is():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    finite = np.isfinite(halves)
    read = floats(halves)
    np.testing.assert_array_equal(read[finite], halves[finite].astype(np.float32))
    assert (np.abs(read[~finite]) > np.finfo(np.float16).max).all()
    assert np.signbit(read[0x80, 0]), "minus zero"
