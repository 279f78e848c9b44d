"""Inverted lists on disk: opening, small and large changes, damage."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clustered import (
    COUNT,
    DIM,
    FOUND,
    IDS,
    QUERIES,
    ROWS,
    SMALL,
    clustered,
    filled,
    kept,
    loaded,
    recall,
)

from embedder.media.kinds import Kind
from indexer.errors import LibraryError
from indexer.vectors import FaissIndex, codes, damaged, files, listfile
from indexer.vectors import inverted as partitions
from indexer.vectors.listfile import POSITION_BYTES
from indexer.vectors.places import Places


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return kept(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def inverted(saved) -> FaissIndex:
    return loaded(saved)


def test_what_is_added_is_saved_beside_what_is_saved_already(tmp_path):
    one = filled()
    one.settle()
    one.save(tmp_path, "me", 1)
    (before,) = tmp_path.glob("*.rows")
    for generation in range(2, 14):
        ids = np.arange(100_000 * generation, 100_000 * generation + 5)
        one.add(Kind.IMAGE, ids, clustered(5, seed=generation))
        one.remove(IDS[generation : generation + 1])
        one.save(tmp_path, "me", generation)
        if generation == 2:
            assert before.is_file()
            assert len(list(tmp_path.glob("*.rows"))) == 2
    assert len(list(tmp_path.glob("*.rows"))) <= 8
    again = loaded(tmp_path)
    assert len(again) == len(one) == COUNT + 12 * 5 - 12
    for query in QUERIES:
        assert again.search(query, 20, Kind.IMAGE)[1].tolist() == (
            one.search(query, 20, Kind.IMAGE)[1].tolist()
        )
    assert again.describe()[Kind.IMAGE].tuning == one.describe()[Kind.IMAGE].tuning


def test_a_small_change_writes_little_and_a_large_one_the_lists_anew(tmp_path):
    growth = replace(SMALL, beside=100)
    one = filled(growth)
    one.settle()
    one.save(tmp_path, "me", 1)
    whole = sum(path.stat().st_size for path in tmp_path.iterdir())
    lists = {path.name for path in tmp_path.glob("*.codes")}
    before = {path.name for path in tmp_path.iterdir()}
    one.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    one.remove(IDS[:1])
    one.save(tmp_path, "me", 2)
    new = [path for path in tmp_path.iterdir() if path.name not in before]
    assert 0 < sum(path.stat().st_size for path in new) < whole / 100
    assert {path.name for path in tmp_path.glob("*.codes")} == lists
    one.add(Kind.IMAGE, np.arange(100_000, 100_100), clustered(100, seed=7))
    one.save(tmp_path, "me", 3)
    assert {path.name for path in tmp_path.glob("*.codes")}.isdisjoint(lists)
    assert not list(tmp_path.glob("*.fresh"))
    (written,) = tmp_path.glob("*.codes")
    assert written.stat().st_size == len(one) * (DIM // 8 + 8 + POSITION_BYTES)  # No gaps.
    again = loaded(tmp_path, growth)
    assert (len(again), again.describe()[Kind.IMAGE].vectors) == (COUNT + 100, COUNT + 100)
    for either in (one, again):
        assert either.search(QUERIES[0], 1, Kind.IMAGE)[1].tolist() == [3]
        assert not either.search(ROWS[0], 9, Kind.IMAGE, IDS[:1])[1].size
        everything = either.search(QUERIES[1], 2 * COUNT, Kind.IMAGE)[1]
        assert sorted(everything) == [3, *IDS[1:], *range(100_000, 100_100)]


def test_opening_reads_nothing_wholly_that_grows_with_the_vectors(inverted, tmp_path, monkeypatch):
    inverted.save(tmp_path, "me", 2)
    inverted.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    inverted.save(tmp_path, "me", 3)
    read = []

    def noting(directory: Path, stored: files.Stored):
        read.append(Path(stored.name).suffix)
        return checked(directory, stored)

    checked = files.checked
    monkeypatch.setattr(codes, "checked", noting)
    monkeypatch.setattr(partitions, "checked", noting)
    again = loaded(tmp_path)
    assert sorted(read) == [".fresh", ".lists"]
    said = again.describe()[Kind.IMAGE]
    assert said.mapped == sum((tmp_path / name).stat().st_size for name in _large(tmp_path))
    assert said.memory < said.lists * DIM * 2 + 1_000


def _large(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix in (".codes", ".places")]


def test_lists_are_read_into_memory_where_they_cannot_be_mapped(saved, monkeypatch):
    mapped = loaded(saved)
    monkeypatch.setattr(listfile, "_can_map", lambda path: False)
    read = loaded(saved)
    for query in QUERIES:
        found = read.search(query, 20, Kind.IMAGE)[1]
        assert found.tolist() == mapped.search(query, 20, Kind.IMAGE)[1].tolist()


def test_a_save_that_fails_halfway_is_made_good_by_the_next(tmp_path, monkeypatch):
    growth = replace(SMALL, beside=10)
    one = filled(growth)
    one.settle()
    one.save(tmp_path, "me", 1)
    one.add(Kind.IMAGE, np.arange(100_000, 100_100), clustered(100, seed=7))

    def full(*_):
        raise LibraryError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Places, "write", full)
        with pytest.raises(LibraryError):
            one.save(tmp_path, "me", 2)
    assert len(loaded(tmp_path, growth)) == COUNT
    one.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    assert one.search(QUERIES[0], 1, Kind.IMAGE)[1].tolist() == [3]
    one.save(tmp_path, "me", 3)
    again = loaded(tmp_path, growth)
    assert len(again) == COUNT + 101
    assert again.search(QUERIES[0], 1, Kind.IMAGE)[1].tolist() == [3]
    assert sorted(again.search(QUERIES[1], 2 * COUNT, Kind.IMAGE)[1]) == (
        [3, *IDS, *range(100_000, 100_100)]
    )


def test_searches_go_on_while_lists_are_written_anew_again_and_again(tmp_path):
    one = filled(replace(SMALL, beside=10))
    one.settle()
    done, failures = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            for query in QUERIES[:8]:
                for only in (None, IDS[:400]):
                    ids = one.search(query, 10, Kind.IMAGE, only)[1]
                    if len(set(ids.tolist())) != 10 or (only is not None and ids.max() > IDS[399]):
                        failures.append(ids)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for generation in range(1, 12):
        one.save(tmp_path, "me", generation)
        ids = np.arange(100_000 * generation, 100_000 * generation + 11)
        one.add(Kind.IMAGE, ids, clustered(11, seed=generation))
        one.remove(ids[:3])
    done.set()
    for asker in askers:
        asker.join()
    assert not failures


def test_a_file_that_another_process_tidied_away_is_written_again(tmp_path):
    one = filled()
    one.settle()
    one.save(tmp_path, "me", 1)
    next(tmp_path.glob("*.rows")).unlink()
    one.save(tmp_path, "me", 2)
    assert recall(loaded(tmp_path), ROWS, IDS) >= FOUND


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def _last_flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("*.rows", Path.unlink),
        ("*.rows", _shorter),
        ("*.rows", _last_flipped),
        ("*.places", Path.unlink),
        ("*.places", _shorter),
        ("*.places", _last_flipped),
        ("*.codes", Path.unlink),
        ("*.codes", _shorter),
        ("*.codes", _last_flipped),
        ("*.lists", _shorter),
        ("*.lists", _flipped),
        ("*.fresh", Path.unlink),
        ("*.fresh", _flipped),
        ("*.gone", Path.unlink),
        ("*.gone", _flipped),
    ],
)
def test_what_is_missing_or_damaged_is_not_loaded(inverted, tmp_path, pattern, damage):
    inverted.save(tmp_path, "me", 2)
    inverted.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    inverted.remove(IDS[:9])
    inverted.save(tmp_path, "me", 3)
    assert len(loaded(tmp_path)) == COUNT - 8
    path = next(tmp_path.glob(pattern))
    damage(path)
    assert path.name in damaged(tmp_path)
    assert FaissIndex.load(tmp_path, "me", DIM, growth=SMALL) is None


@pytest.mark.parametrize("pattern", ["*.rows", "*.places", "*.codes"])
@pytest.mark.parametrize("byte", [0, 0x7F, 0xFF])
def test_damage_where_nobody_looked_breaks_no_search_and_finds_nothing_else(
    inverted, tmp_path, monkeypatch, pattern, byte
):
    monkeypatch.setattr(files, "_PROBES", 2)  # The files of this test are small.
    inverted._saved.clear()
    inverted.save(tmp_path, "me", 3)
    path = next(tmp_path.glob(pattern))
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes([byte]) * (len(whole) - 8192) + whole[-4096:])
    assert damaged(tmp_path) == [path.name]
    hurt = loaded(tmp_path)
    for query in QUERIES[:15]:
        for k, only in ((10, None), (500, None), (10, IDS[::3]), (10, IDS[:50])):
            scores, ids = hurt.search(query, k, Kind.IMAGE, only)
            assert len(scores) == len(ids) == len(set(ids.tolist())) <= k
    hurt.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    hurt.remove(IDS[:100])
    hurt.search(QUERIES[0], 10, Kind.IMAGE)
    hurt._partitions[Kind.IMAGE]._base = {}  # So that the lists are written anew.
    hurt.save(tmp_path, "me", 4)
    assert np.isin(loaded(tmp_path).search(QUERIES[0], 10, Kind.IMAGE)[1], [3, *IDS]).all()
