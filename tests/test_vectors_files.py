"""The files of the vector index: opening, small and large changes, damage, several processes."""

import shutil
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
    loaded,
    recall,
    save_with_lists,
)

from embedder.media.kinds import Kind
from indexer.errors import LibraryError
from indexer.vectors import SearchFilter, storage, view
from indexer.vectors.faiss_index import FaissIndex
from indexer.vectors.partition import Partition
from indexer.vectors.storage import STATE_FILE, damaged_files, put_state, state_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_with_lists(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A folder of the test with an index that has lists."""
    return Path(shutil.copytree(saved, tmp_path / "vectors"))


def small() -> FaissIndex:
    one = FaissIndex(DIM)
    one.add(Kind.IMAGE, IDS[:100], ROWS[:100])
    one.add(Kind.TEXT, np.arange(20), clustered(20, seed=1))
    return one


def same_hits(one: FaissIndex, other: FaissIndex, k: int = 20) -> bool:
    return all(
        one.search(query, k, Kind.IMAGE)[1].tolist()
        == other.search(query, k, Kind.IMAGE)[1].tolist()
        for query in QUERIES
    )


def test_only_what_has_changed_is_written(tmp_path):
    one = small()
    one.save(tmp_path, "me", 3)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("image-*")}
    one.remove(np.array([7]), Kind.TEXT)
    one.save(tmp_path, "me", 4)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("image-*")} == before
    roles = [path.suffix for path in sorted(tmp_path.glob("text-*"))]
    assert sorted(roles) == [".gone", ".holders", ".ids", ".rows"]
    opened = FaissIndex.load(tmp_path, "me", DIM)
    assert opened is not None
    assert opened[1] == 4
    assert len(opened[0]) == len(one) == 119
    assert same_hits(one, opened[0], 9)


def test_one_more_vector_is_appended_to_the_files(folder):
    one = loaded(folder)
    for generation in range(2, 9):
        before = {path.name: path.stat().st_size for path in folder.iterdir()}
        one.add(Kind.IMAGE, np.array([100_000 + generation]), QUERIES[generation : generation + 1])
        holder = np.array([generation], dtype=np.int32), np.array([5])
        one.set_holders(Kind.IMAGE, np.array([100_000 + generation]), *holder)
        one.save(folder, "me", generation)
        grown = {path.name: path.stat().st_size - before[path.name] for path in folder.iterdir()}
        del grown[STATE_FILE]
        assert sorted(grown.values()) == [0, 0, 8, 24, 2 * DIM]  # Gaps, lists, id, holder, row.
        again = loaded(folder)
        assert again.search(QUERIES[generation], 1, Kind.IMAGE)[1].tolist() == [
            100_000 + generation
        ]
        assert same_hits(one, again)
        where = SearchFilter(frozenset({generation}))
        assert again.search(ROWS[0], 9, Kind.IMAGE, where)[1].tolist() == [100_000 + generation]
    assert damaged_files(folder) == []


def test_opening_reads_nothing_wholly_that_grows_with_the_vectors(folder):
    said = loaded(folder).describe()[Kind.IMAGE]
    assert said.memory < 2 * COUNT
    assert said.mapped > COUNT * (8 + DIM // 8 + 8 + 8)  # Ids and lists.


def test_lists_are_read_into_memory_where_they_cannot_be_mapped(folder, monkeypatch):
    import faiss

    mapped, read_index = loaded(folder), faiss.read_index

    def read(source, flags=0):
        if flags:
            raise RuntimeError("not implemented")
        return read_index(source)

    monkeypatch.setattr(faiss, "read_index", read)
    assert same_hits(mapped, loaded(folder))


def test_lists_of_another_version_of_faiss_are_built_again(folder):
    state = state_of(folder)
    state["partitions"]["image"]["faiss"] = "0.1"
    put_state(folder, state)
    one = loaded(folder)
    assert one.describe()[Kind.IMAGE].index == "exact"
    assert recall(one, ROWS, IDS) == 1
    assert one.settle()
    assert one.describe()[Kind.IMAGE].index == "inverted"


def test_a_save_that_fails_halfway_is_made_good_by_the_next(folder, monkeypatch):
    one = loaded(folder)
    one.add(Kind.IMAGE, np.arange(100_000, 100_100), clustered(100, seed=7))
    append = view.append_to_file

    def full(directory, stored, data):
        if stored.name.endswith("rows"):
            raise LibraryError("the disk is full")
        return append(directory, stored, data)

    with monkeypatch.context() as broken:
        broken.setattr(view, "append_to_file", full)
        with pytest.raises(LibraryError):
            one.save(folder, "me", 2)
    assert len(loaded(folder)) == COUNT  # The file of ids is longer than the state says.
    one.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    one.save(folder, "me", 3)
    again = loaded(folder)
    assert len(again) == COUNT + 101
    assert same_hits(one, again)
    assert again.search(QUERIES[0], 1, Kind.IMAGE)[1].tolist() == [3]


def test_what_was_appended_and_never_finished_is_not_built_upon(folder):
    rows = next(folder.glob("*.rows"))
    with rows.open("ab") as file:
        file.write(b"\x01" * 2 * DIM)
    one = loaded(folder)
    assert recall(one, ROWS, IDS) >= FOUND
    one.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    one.save(folder, "me", 2)
    assert not rows.exists()
    assert loaded(folder).search(QUERIES[0], 1, Kind.IMAGE)[1].tolist() == [3]
    assert damaged_files(folder) == []


def test_two_processes_that_save_in_turn_do_not_write_over_each_other(folder):
    one, other = loaded(folder), loaded(folder)
    for number, (index, query) in enumerate(((one, 0), (other, 1), (one, 2), (other, 3))):
        ids = np.arange(200_000 + number, 200_002 + number)
        index.add(Kind.IMAGE, ids, QUERIES[[query, 10 + query]])
        index.save(folder, "me", 2 + number)
        again = loaded(folder)
        assert len(again) == len(index)
        assert same_hits(index, again)
        assert same_hits(one, one)
        assert damaged_files(folder) == []
        assert recall(other, ROWS, IDS) >= FOUND - 0.05  # Its files are gone, but still mapped.


def test_files_that_another_process_deleted_are_written_again(folder):
    one = loaded(folder)
    for suffix in ("rows", "faiss"):
        next(folder.glob(f"*.{suffix}")).unlink()
    one.save(folder, "me", 2)
    assert recall(loaded(folder), ROWS, IDS) >= FOUND


def test_what_another_process_replaces_during_loading_is_loaded_as_it_is_then(
    tmp_path, monkeypatch
):
    one = small()
    one.save(tmp_path, "me", 3)
    load = Partition.load

    def overtaken(*arguments):
        if state_of(tmp_path)["generation"] == 3:
            one.remove(np.array([5, 30]))
            one.save(tmp_path, "me", 4)
            for path in tmp_path.glob("image-3-*"):
                path.unlink()
            one.save(tmp_path, "me", 5)
        return load(*arguments)

    monkeypatch.setattr(Partition, "load", overtaken)
    opened = FaissIndex.load(tmp_path, "me", DIM)
    assert opened is not None
    assert (opened[1], len(opened[0])) == (5, 118)


def test_searches_go_on_while_the_index_changes_and_is_saved(folder):
    one = loaded(folder, replace(SMALL, merge_components=DIM * 10))
    done, failures = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            for query in QUERIES[:8]:
                for only in (None, IDS[:400]):
                    ids = one.search(query, 10, Kind.IMAGE, ids=only)[1]
                    if len(set(ids.tolist())) != 10 or (only is not None and ids.max() > IDS[399]):
                        failures.append(ids)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for generation in range(1, 12):
        one.save(folder, "me", generation)
        ids = np.arange(100_000 * generation, 100_000 * generation + 11)
        one.add(Kind.IMAGE, ids, clustered(11, seed=generation))
        one.remove(np.append(ids[:3], IDS[400 + 300 * generation : 700 + 300 * generation]))
        assert one.settle()
    done.set()
    for asker in askers:
        asker.join()
    assert not failures


def _flip_state(folder: Path) -> None:
    path = folder / STATE_FILE
    path.write_text(path.read_text().replace('"generation": 3', '"generation": 2'))


def _change_state(folder: Path, **changes: object) -> None:
    put_state(folder, state_of(folder) | changes)


def _change_image(folder: Path, **changes: object) -> None:
    state = state_of(folder)
    state["partitions"]["image"] |= changes
    put_state(folder, state)


def _forget_fingerprint(folder: Path) -> None:
    state = state_of(folder)
    del state["fingerprint"]
    put_state(folder, state)


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda folder: (folder / STATE_FILE).write_text("{"),
        _flip_state,
        lambda folder: (folder / STATE_FILE).write_text("[]"),
        lambda folder: (folder / STATE_FILE).write_text("[" * 100_000),
        lambda folder: _change_state(folder, owner="another"),
        lambda folder: _change_state(folder, dim=DIM + 1),
        lambda folder: _change_state(folder, format=99),
        lambda folder: _change_state(folder, generation=float("inf")),
        lambda folder: _change_state(folder, partitions={"image": {"file": "../x", "bytes": 1}}),
        _forget_fingerprint,
        lambda folder: _change_image(folder, files=[3]),
        lambda folder: _change_image(folder, ascending=101),
        lambda folder: _change_image(folder, description={"index": "exact"}),
    ],
)
def test_a_state_that_is_missing_damaged_or_foreign_is_not_loaded(tmp_path, damage):
    small().save(tmp_path / "vectors", "me", 3)
    damage(tmp_path / "vectors")
    assert FaissIndex.load(tmp_path / "vectors", "me", DIM) is None


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-64])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("role", ["ids", "rows", "holders", "gone", "faiss"])
@pytest.mark.parametrize("damage", [Path.unlink, _shorten, _flip])
def test_files_that_are_missing_or_damaged_are_not_loaded(folder, role, damage):
    one = loaded(folder)
    one.remove(IDS[::5])
    one.set_holders(Kind.IMAGE, IDS[[1, 1]], np.array([1, 2], dtype=np.int32), np.array([5, 6]))
    one.save(folder, "me", 3)
    assert damaged_files(folder) == []
    path = next(folder.glob(f"*.{role}"))
    damage(path)
    assert damaged_files(folder) == [path.name]
    assert FaissIndex.load(folder, "me", DIM, policy=SMALL) is None


@pytest.mark.parametrize("role", ["ids", "rows", "holders", "faiss"])
@pytest.mark.parametrize("byte", [0, 0x7F, 0xFF])
def test_damage_that_opening_does_not_see_breaks_no_search(folder, monkeypatch, role, byte):
    monkeypatch.setattr(storage, "_PROBES", 2)  # The files of this test are small.
    one = loaded(save_with_lists(folder))
    one.set_holders(Kind.IMAGE, IDS, np.arange(COUNT, dtype=np.int32) % 3 + 1, IDS)
    one.save(folder, "me", 3)
    path = next(folder.glob(f"*.{role}"))
    whole = path.read_bytes()
    edge = 40_000 if role == "faiss" else 4096  # Behind centroids and sizes of lists.
    path.write_bytes(whole[:edge] + bytes([byte]) * (len(whole) - edge - 4096) + whole[-4096:])
    assert damaged_files(folder) == [path.name]
    hurt = loaded(folder)
    for query in QUERIES[:15]:
        for k, ids in ((10, None), (500, None), (10, IDS[::3]), (10, IDS[:50])):
            for where in (None, SearchFilter(frozenset({1}))):
                scores, found = hurt.search(query, k, Kind.IMAGE, where, ids)
                assert len(scores) == len(found) <= k
                if role != "ids":
                    assert len(set(found.tolist())) == len(found)
    hurt.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    hurt.remove(IDS[:100])
    hurt.search(QUERIES[0], 10, Kind.IMAGE)
    hurt.save(folder, "me", 4)
    found = loaded(folder).search(QUERIES[0], 10, Kind.IMAGE)[1]
    assert role == "ids" or np.isin(found, [3, *IDS]).all()
