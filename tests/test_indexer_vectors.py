"""The vector store: exact, filtered inside the search, whole on disk or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from embedder.interface import normalised
from embedder.media.kinds import Kind
from indexer.vectors import STATE_FILE, FaissIndex, damaged, saved_generation
from indexer.vectors.exact import Exact
from indexer.vectors.files import put_state, state_of

DIM = 16


def rows(count: int, seed: int = 0) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(count, DIM)))


@pytest.fixture
def store() -> FaissIndex:
    store = FaissIndex(DIM)
    store.add(Kind.IMAGE, np.arange(10, 110), rows(100))
    store.add(Kind.TEXT, np.arange(200, 220), rows(20, seed=1))
    return store


def test_a_search_finds_the_nearest_of_one_partition_in_order(store):
    scores, ids = store.search(rows(100)[7], 5, Kind.IMAGE)
    assert ids[0] == 17
    assert scores[0] == pytest.approx(1, abs=1e-3)  # Rows are kept as float16.
    expected = np.argsort(-(rows(100) @ rows(100)[7]))[:5] + 10
    assert ids.tolist() == expected.tolist()
    assert list(scores) == sorted(scores, reverse=True)
    assert set(store.search(rows(100)[7], 500, Kind.TEXT)[1]) == set(range(200, 220))


def test_a_filter_is_exact_whatever_else_is_nearer(store):
    only = np.array([90, 95, 4_000, 101])
    assert set(store.search(rows(100)[7], 50, Kind.IMAGE, only)[1]) == {90, 95, 101}
    assert store.search(rows(100)[7], 50, Kind.IMAGE, np.empty(0, dtype=np.int64))[1].size == 0
    assert store.search(rows(100)[7], 50, Kind.IMAGE, np.array([205]))[1].size == 0


def test_an_empty_partition_and_an_empty_store_find_nothing(store):
    assert store.search(rows(1)[0], 5, Kind.PDF)[1].size == 0
    assert FaissIndex(0).search(rows(1)[0], 5, Kind.IMAGE)[1].size == 0


def test_removed_vectors_are_not_found_and_others_keep_their_ids(store):
    assert store.remove(np.array([17, 201, 9_999])) == 2
    assert len(store) == 118
    assert 17 not in store.search(rows(100)[7], 500, Kind.IMAGE)[1]
    assert store.search(rows(100)[8], 1, Kind.IMAGE)[1].tolist() == [18]


def test_adding_a_known_id_replaces_its_vector(store):
    store.add(Kind.IMAGE, np.array([10, 500]), rows(2, seed=9))
    assert len(store) == 121
    assert store.search(rows(2, seed=9)[0], 1, Kind.IMAGE)[1].tolist() == [10]


def test_the_vectors_of_ids_come_in_their_order_for_those_that_a_partition_has(store):
    store.add(Kind.IMAGE, np.array([50]), rows(1, seed=9))  # It has the last place now.
    asked = np.array([109, 50, 4_000, 205, 50, 10])
    assert store.among(asked, Kind.IMAGE).tolist() == [10, 50, 109]
    ids, found = store.rows(asked, Kind.IMAGE)
    assert ids.tolist() == [10, 50, 109]
    expected = np.concatenate([rows(100)[:1], rows(1, seed=9), rows(100)[99:]])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (
        store.rows(asked, Kind.TEXT)[0].tolist() == store.among(asked, Kind.TEXT).tolist() == [205]
    )
    assert store.rows(asked, Kind.PDF)[1].shape == (0, DIM)
    assert store.rows(asked[:0], Kind.IMAGE)[1].shape == (0, DIM)
    store.remove(np.array([50]))
    assert store.among(asked, Kind.IMAGE).tolist() == [10, 109]


def test_vectors_of_another_length_are_refused(store):
    with pytest.raises(ValueError, match="expected shape"):
        store.add(Kind.IMAGE, np.array([1]), np.ones((1, DIM + 1), dtype=np.float32))


def test_what_is_saved_is_loaded_and_unchanged_partitions_are_not_written_again(store, tmp_path):
    store.save(tmp_path, "me", 3)
    image = next(tmp_path.glob("image-*"))
    written = image.stat().st_mtime_ns
    store.remove(np.array([201]))
    store.save(tmp_path, "me", 4)
    assert image.stat().st_mtime_ns == written
    assert [path.name.rpartition("-")[0] for path in sorted(tmp_path.glob("*.faiss"))] == [
        "image-3",
        "text-4",
    ]
    assert len(list(tmp_path.iterdir())) == 3
    loaded = FaissIndex.load(tmp_path, "me", DIM)
    assert loaded is not None
    assert loaded[1] == saved_generation(tmp_path, "me") == 4
    assert len(loaded[0]) == 119
    for seed in range(5):
        vector = rows(1, seed=seed)[0]
        assert loaded[0].search(vector, 9, Kind.IMAGE)[1].tolist() == (
            store.search(vector, 9, Kind.IMAGE)[1].tolist()
        )
    loaded[0].remove(np.array([10]))
    assert len(loaded[0]) == 118


def _truncate(folder: Path) -> None:
    path = next(folder.glob("image-*"))
    path.write_bytes(path.read_bytes()[:-9])


def _flip(folder: Path) -> None:
    path = next(folder.glob("image-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _state(folder: Path, **changes: object) -> None:
    put_state(folder, state_of(folder) | changes)


def _flip_state(folder: Path) -> None:
    path = folder / STATE_FILE
    path.write_text(path.read_text().replace('"generation": 3', '"generation": 2'))


def _forget_fingerprint(folder: Path) -> None:
    state = state_of(folder)
    del state["fingerprint"]
    put_state(folder, state)


def _name_a_number(folder: Path) -> None:
    state = state_of(folder)
    state["partitions"]["image"]["files"] = [3]
    put_state(folder, state)


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        _truncate,
        _flip,
        lambda folder: next(folder.glob("text-*")).unlink(),
        lambda folder: (folder / STATE_FILE).write_text("{"),
        _flip_state,
        lambda folder: (folder / STATE_FILE).write_text("[]"),
        lambda folder: _state(folder, owner="another"),
        lambda folder: _state(folder, dim=DIM + 1),
        lambda folder: _state(folder, format=99),
        lambda folder: _state(folder, partitions={"image": {"description": {"index": "exact"}}}),
        lambda folder: _state(folder, generation=float("inf")),
        lambda folder: (folder / STATE_FILE).write_text("[" * 100_000),
        _forget_fingerprint,
        _name_a_number,
        lambda folder: _state(folder, partitions={"image": {"file": "../x", "bytes": 1}}),
    ],
)
def test_what_is_missing_damaged_or_foreign_is_not_loaded(store, tmp_path, damage):
    store.save(tmp_path / "vectors", "me", 3)
    damage(tmp_path / "vectors")
    assert FaissIndex.load(tmp_path / "vectors", "me", DIM) is None
    assert saved_generation(tmp_path / "vectors", "me") in (None, 3)


def test_the_partitions_are_the_kinds_that_there_are_vectors_of(store):
    assert Kind.PDF not in store.partitions
    before = store.partitions
    store.add(Kind.PDF, np.array([900]), np.eye(1, store.dim, dtype=np.float32))
    assert store.partitions == before | {Kind.PDF}
    store.remove(np.array([900]))
    assert store.partitions == before


def test_damage_is_told_by_the_names_of_the_files(store, tmp_path):
    store.save(tmp_path, "me", 3)
    assert damaged(tmp_path) == []
    _flip(tmp_path)
    next(tmp_path.glob("text-*")).unlink()
    assert sorted(name.partition("-")[0] for name in damaged(tmp_path)) == ["image", "text"]


def test_what_another_process_replaces_while_it_is_loaded_is_loaded_as_it_is_now(
    store, tmp_path, monkeypatch
):
    store.save(tmp_path, "me", 3)
    read = Exact.read

    def overtaken(*arguments):
        if state_of(tmp_path)["generation"] == 3:
            store.remove(np.array([10, 200]))
            store.save(tmp_path, "me", 4)
        return read(*arguments)

    monkeypatch.setattr(Exact, "read", overtaken)
    loaded = FaissIndex.load(tmp_path, "me", DIM)
    assert loaded is not None
    assert (loaded[1], len(loaded[0])) == (4, 118)
