"""The vector index: exact search, filters, ids, and anything that may happen to it in turn."""

from pathlib import Path

import numpy as np
import pytest
from clustered import DIM as CLUSTERED_DIM
from clustered import SMALL, clustered

from embedder.interface import normalised
from embedder.media.kinds import Kind
from indexer.vectors import SearchFilter
from indexer.vectors.faiss_index import FaissIndex
from indexer.vectors.view import floats

DIM = 16


def rows(count: int, seed: int = 0) -> np.ndarray:
    return normalised(np.random.default_rng(seed).normal(size=(count, DIM)))


@pytest.fixture
def index() -> FaissIndex:
    index = FaissIndex(DIM)
    index.add(Kind.IMAGE, np.arange(10, 110), rows(100))
    index.add(Kind.TEXT, np.arange(200, 220), rows(20, seed=1))
    return index


def test_search_finds_the_nearest_of_one_kind_in_order(index):
    scores, ids = index.search(rows(100)[7], 5, Kind.IMAGE)
    assert ids[0] == 17
    assert scores[0] == pytest.approx(1, abs=1e-3)  # Rows are kept as float16.
    expected = np.argsort(-(rows(100) @ rows(100)[7]))[:5] + 10
    assert ids.tolist() == expected.tolist()
    assert list(scores) == sorted(scores, reverse=True)
    assert set(index.search(rows(100)[7], 500, Kind.TEXT)[1]) == set(range(200, 220))


def test_search_among_ids_is_exact(index):
    only = np.array([90, 95, 4_000, 101])
    assert set(index.search(rows(100)[7], 50, Kind.IMAGE, ids=only)[1]) == {90, 95, 101}
    assert index.search(rows(100)[7], 50, Kind.IMAGE, ids=only[:0])[1].size == 0
    assert index.search(rows(100)[7], 50, Kind.IMAGE, ids=np.array([205]))[1].size == 0


def test_empty_kind_and_empty_index_find_nothing(index):
    assert index.search(rows(1)[0], 5, Kind.PDF)[1].size == 0
    assert FaissIndex(0).search(rows(1)[0], 5, Kind.IMAGE)[1].size == 0
    index.remove(np.arange(200, 220))
    for where, ids in ((None, None), (SearchFilter(), None), (None, np.array([201, 10]))):
        assert index.search(rows(1)[0], 5, Kind.TEXT, where, ids)[1].size == 0


def test_removed_vectors_are_not_found_and_others_keep_their_ids(index):
    assert index.remove(np.array([17, 201, 9_999])) == 2
    assert index.remove(np.array([17])) == 0
    assert len(index) == 118
    assert 17 not in index.search(rows(100)[7], 500, Kind.IMAGE)[1]
    assert index.search(rows(100)[8], 1, Kind.IMAGE)[1].tolist() == [18]


def test_adding_a_known_id_replaces_its_vector(index):
    index.add(Kind.IMAGE, np.array([10, 500]), rows(2, seed=9))
    assert len(index) == 121
    assert index.search(rows(2, seed=9)[0], 1, Kind.IMAGE)[1].tolist() == [10]


def test_rows_and_among_return_what_a_kind_has_in_order(index):
    index.add(Kind.IMAGE, np.array([50]), rows(1, seed=9))  # It has the last position now.
    asked = np.array([109, 50, 4_000, 205, 50, 10])
    assert index.among(asked, Kind.IMAGE).tolist() == [10, 50, 109]
    ids, found = index.rows(asked, Kind.IMAGE)
    assert ids.tolist() == [10, 50, 109]
    expected = np.concatenate([rows(100)[:1], rows(1, seed=9), rows(100)[99:]])
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert index.rows(asked, Kind.TEXT)[0].tolist() == [205]
    assert index.among(asked, Kind.TEXT).tolist() == [205]
    assert index.rows(asked, Kind.PDF)[1].shape == (0, DIM)
    assert index.rows(asked[:0], Kind.IMAGE)[1].shape == (0, DIM)
    index.remove(np.array([50]))
    assert index.among(asked, Kind.IMAGE).tolist() == [10, 109]


def test_sample_is_spread_over_what_a_kind_has(index):
    index.remove(np.arange(10, 60))
    left = rows(100)[50:]
    assert index.sample(Kind.IMAGE, 500) == pytest.approx(left, abs=1e-3)
    some = index.sample(Kind.IMAGE, 40)
    assert 10 <= len(some) <= 40
    assert np.array_equal(some, index.sample(Kind.IMAGE, 40))
    assert (np.abs((some @ left.T).max(axis=1) - 1) < 1e-2).all()
    assert (
        index.sample(Kind.PDF, 9).shape == FaissIndex(DIM).sample(Kind.IMAGE, 9).shape == (0, DIM)
    )


def test_vectors_of_another_length_are_refused(index):
    with pytest.raises(ValueError, match="expected vectors of shape"):
        index.add(Kind.IMAGE, np.array([1]), np.ones((1, DIM + 1), dtype=np.float32))


def test_kinds_are_those_that_there_are_vectors_of(index):
    before = index.kinds
    assert before == {Kind.IMAGE, Kind.TEXT}
    index.add(Kind.PDF, np.array([900]), np.eye(1, index.dim, dtype=np.float32))
    assert index.kinds == before | {Kind.PDF}
    index.remove(np.array([900]))
    assert index.kinds == before


def holders(index: FaissIndex, kind: Kind, *files: tuple[int, int, int]) -> None:
    ids, folders, mtimes = np.array(files).T
    index.set_holders(kind, ids, folders.astype(np.int32), mtimes)


def found(index: FaissIndex, where: SearchFilter, ids: np.ndarray | None = None) -> list[int]:
    return sorted(index.search(rows(100)[7], 500, Kind.IMAGE, where, ids)[1].tolist())


def test_filters_by_folder_and_date(index):
    assert found(index, SearchFilter(before_ns=1 << 60)) == []  # While no file is known.
    holders(index, Kind.IMAGE, *((10 + i, 1 + i % 4, 1_000 * i) for i in range(100)))
    assert found(index, SearchFilter(frozenset({2, 77}))) == list(range(11, 110, 4))
    assert found(index, SearchFilter(frozenset())) == []
    assert found(index, SearchFilter(after_ns=95_000)) == [105, 106, 107, 108, 109]
    assert found(index, SearchFilter(before_ns=2_000)) == [10, 11]
    assert found(index, SearchFilter(frozenset({1}), 4_000, 9_000)) == [14, 18]
    assert found(index, SearchFilter(frozenset({1})), np.array([14, 15, 3_000])) == [14]
    assert found(index, SearchFilter()) == list(range(10, 110))
    index.add(Kind.IMAGE, np.array([14]), rows(1, seed=3))
    assert found(index, SearchFilter(frozenset({1}), 4_000, 9_000)) == [18]


def test_filters_let_pass_what_any_of_several_files_lets_pass(index):
    holders(index, Kind.IMAGE, (10, 1, 50), (11, 2, 60), (10, 3, 70), (9_999, 1, 50))
    ids = np.array([10, 11, 12, 9_999])
    for folders, after, expected in (
        ({1}, None, [10]),
        ({3}, None, [10]),
        ({2, 3}, None, [10, 11]),
        ({1}, 60, []),  # No one file is in that folder and as new.
        ({3}, 60, [10]),
    ):
        where = SearchFilter(frozenset(folders), after)
        assert found(index, where) == expected
        assert ids[index.matching(ids, Kind.IMAGE, where)].tolist() == expected
    holders(index, Kind.IMAGE, (10, 4, 50))
    assert found(index, SearchFilter(frozenset({1, 3}))) == []
    assert found(index, SearchFilter(frozenset({4}))) == [10]
    assert not index.matching(ids, Kind.PDF, SearchFilter()).any()


def test_every_half_is_read_as_the_number_it_is():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    finite = np.isfinite(halves)
    read = floats(halves)
    np.testing.assert_array_equal(read[finite], halves[finite].astype(np.float32))
    assert (np.abs(read[~finite]) > np.finfo(np.float16).max).all()
    assert np.signbit(read[0x80, 0]), "minus zero"


class Everything:
    """What an index should hold, compared with what it finds."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.index = FaissIndex(CLUSTERED_DIM, policy=SMALL)
        self.vectors: dict[int, np.ndarray] = {}
        self.holders: dict[int, list[tuple[int, int]]] = {}
        self.generation = self.tested = 0
        self.shares: list[float] = []
        self.add(2_500)

    def some(self, count: int) -> np.ndarray:
        return self.random.choice(list(self.vectors), count, replace=False)

    def put(self, ids: np.ndarray) -> None:
        vectors = clustered(len(ids), seed=int(self.random.integers(1 << 30)))
        self.index.add(Kind.IMAGE, ids, vectors)
        self.vectors |= dict(zip(ids.tolist(), vectors, strict=True))
        self.holders |= {one: [] for one in ids.tolist()}
        self.hold(ids)

    def add(self, count: int | None = None) -> None:
        highest = max(self.vectors, default=0)
        count = int(self.random.integers(1, 90)) if count is None else count
        self.put(np.arange(highest + 1, highest + 1 + count))

    def replace(self) -> None:
        self.put(self.some(5))

    def remove(self, count: int | None = None) -> None:
        ids = self.some(int(self.random.integers(1, 90)) if count is None else count)
        assert self.index.remove(ids) == len(ids)
        for one in ids.tolist():
            del self.vectors[one], self.holders[one]

    def hold(self, ids: np.ndarray | None = None) -> None:
        files = []
        for one in (self.some(20) if ids is None else ids).tolist():
            count = 1 if self.random.random() < 0.9 else int(self.random.integers(2, 4))
            self.holders[one] = [
                (int(self.random.integers(1, 20)), int(self.random.integers(1_000)))
                for _ in range(count)
            ]
            files += [(one, *file) for file in self.holders[one]]
        holders(self.index, Kind.IMAGE, *files)

    def save(self) -> None:
        self.generation += 1
        self.index.save(self.folder, "me", self.generation)

    def reopen(self) -> None:
        self.save()
        self.index.close()
        opened = FaissIndex.load(self.folder, "me", CLUSTERED_DIM, policy=SMALL)
        assert opened is not None
        assert opened[1] == self.generation
        self.index = opened[0]

    def where(self) -> SearchFilter:
        folders = self.random.integers(1, 20, size=self.random.integers(1, 9)).tolist()
        after, before = self.random.integers(1_000, size=2).tolist()
        return SearchFilter(
            frozenset(folders) if self.random.random() < 0.7 else None,
            after if self.random.random() < 0.4 else None,
            before if self.random.random() < 0.4 else None,
        )

    def check(self) -> None:
        ids = np.array(sorted(self.vectors))
        rows = np.stack([self.vectors[one] for one in ids.tolist()])
        assert len(self.index) == len(ids)
        where = self.where() if self.random.random() < 0.6 else None
        only = self.random.choice(ids, 300) if self.random.random() < 0.3 else None
        kept = np.ones(len(ids), dtype=bool) if only is None else np.isin(ids, only)
        if where is not None:
            passes = [any(_passes(where, *file) for file in self.holders[one]) for one in ids]
            assert self.index.matching(ids, Kind.IMAGE, where).tolist() == passes
            kept &= passes
        query, k = clustered(1, seed=int(self.random.integers(1 << 30)))[0], 10
        scores, found = self.index.search(query, k, Kind.IMAGE, where, only)
        assert len(found) == min(k, kept.sum())
        assert np.isin(found, ids[kept]).all()
        assert scores == pytest.approx(rows[np.searchsorted(ids, found)] @ query, abs=1e-4)
        if len(found):
            truth = ids[kept][np.argsort(-(rows[kept] @ query))[:k]]
            self.shares.append(float(np.isin(truth, found).mean()))


def _passes(where: SearchFilter, folder: int, mtime: int) -> bool:
    return (
        (where.folders is None or folder in where.folders)
        and (where.after_ns is None or mtime >= where.after_ns)
        and (where.before_ns is None or mtime < where.before_ns)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_an_index_holds_what_it_should_whatever_happens_to_it(tmp_path, seed):
    one = Everything(seed, tmp_path)
    events = [one.add, one.add, one.replace, one.remove, one.hold, one.save, one.reopen]
    for number in range(150):
        events[one.random.integers(len(events))]()
        if number % 50 == 20:
            assert one.index.settle()
        if number == 90:
            one.remove(1_500)
        one.check()
    assert one.index.fragmented
    assert np.mean(one.shares) >= 0.98
    ids, rows = one.index.rows(np.array(list(one.vectors)), Kind.IMAGE)
    assert ids.tolist() == sorted(one.vectors)
    np.testing.assert_allclose(rows, [one.vectors[each] for each in ids.tolist()], atol=1e-3)
