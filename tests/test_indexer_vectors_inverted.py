"""Inverted lists: what they find, what filters and removals do, building beside the search."""

import threading
from collections.abc import Callable
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
    index_of,
    kept,
    loaded,
    recall,
)

from embedder.media.kinds import Kind
from indexer.vectors import FaissIndex, Growth, building, store
from indexer.vectors.assigner import Assigner
from indexer.vectors.growth import Tuning
from indexer.vectors.partition import Snapshot
from indexer.vectors.rows import Rows


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return kept(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def inverted(saved) -> FaissIndex:
    return loaded(saved)


def test_a_partition_is_exact_while_small_and_inverted_beyond_and_says_so():
    one = filled(count=1_000)
    assert one.settle()
    assert index_of(one) == "exact"
    one.add(Kind.IMAGE, IDS[1_000:], ROWS[1_000:])
    assert index_of(one) == "exact"
    assert one.settle()
    said = one.describe()[Kind.IMAGE]
    assert (said.index, said.vectors) == ("inverted", COUNT)
    assert said.tuning is not None
    assert min(said.tuning.recall) >= SMALL.recall
    assert 0 < said.tuning.probes < said.lists


def test_it_finds_the_nearest_with_exact_scores(inverted):
    assert recall(inverted, ROWS, IDS) >= FOUND
    assert recall(inverted, ROWS, IDS, k=60) >= FOUND
    scores, ids = inverted.search(QUERIES[0], 10, Kind.IMAGE)
    assert scores == pytest.approx(ROWS[(ids - 10) // 2] @ QUERIES[0], abs=1e-5)
    assert list(scores) == sorted(scores, reverse=True)


def test_the_vectors_of_ids_come_in_their_order_from_files_and_from_memory(saved):
    inverted = loaded(saved)
    again = IDS[[5, 900]]
    inverted.add(Kind.IMAGE, again, ROWS[[7, 8]])
    inverted.remove(IDS[[6]])
    asked = np.concatenate([IDS[[901, 6]], again, [1, 10**9]])
    expected = [5, 900, 901]
    assert inverted.among(asked, Kind.IMAGE).tolist() == IDS[expected].tolist()
    ids, found = inverted.rows(asked, Kind.IMAGE)
    assert ids.tolist() == IDS[expected].tolist()
    np.testing.assert_allclose(found, ROWS[[7, 8, 901]], atol=1e-3)


def test_codes_alone_would_not_find_them(inverted):
    """So that the test of recall does measure what re-ranking does."""
    partition = inverted._partitions[Kind.IMAGE]
    shares = []
    for query in QUERIES:
        near = partition.nearby(query[None], partition.tuning.probes)
        found = IDS[partition.candidates(query[None], 10, near)]
        shares.append(np.isin(IDS[np.argsort(-(ROWS @ query))[:10]], found).mean())
    assert np.mean(shares) < 0.9


def test_as_many_are_found_as_were_asked_for(inverted):
    assert len(inverted.search(QUERIES[0], 4_000, Kind.IMAGE)[1]) == 4_000
    assert len(inverted.search(QUERIES[0], 2 * COUNT, Kind.IMAGE)[1]) == COUNT
    partition = inverted._partitions[Kind.IMAGE]
    partition.tuning = replace(partition.tuning, probes=1)  # One list holds far too few.
    assert len(inverted.search(QUERIES[0], 100, Kind.IMAGE)[1]) == 100


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.9])
def test_the_recall_holds_whatever_share_a_filter_keeps(inverted, share):
    only = np.sort(np.random.default_rng(3).choice(IDS, int(share * COUNT), replace=False))
    assert recall(inverted, ROWS, IDS, np.append(only, 10**6)) >= FOUND


def test_a_filter_that_keeps_only_what_is_far_empties_no_list(inverted):
    for query in QUERIES[:20]:
        order = np.argsort(ROWS @ query)[:600]  # The farthest tenth: in no list near the query.
        only = np.sort(IDS[order])
        _, ids = inverted.search(query, 50, Kind.IMAGE, only)
        assert len(ids) == 50
        assert np.isin(ids, only).all()
    shares = []
    for query in QUERIES:
        order = np.argsort(ROWS @ query)[:600]
        ids = inverted.search(query, 10, Kind.IMAGE, np.sort(IDS[order]))[1]
        shares.append(np.isin(IDS[order[-10:]], ids).mean())
    assert np.mean(shares) >= 0.9  # At worst: codes of 32 bits tell least of what is far.


def test_the_more_a_filter_keeps_the_more_of_it_is_compared_exactly(inverted):
    """A filter that keeps what is far, for which what is measured for the nearest is too little."""
    partition = inverted._partitions[Kind.IMAGE]
    partition.tuning = replace(partition.tuning, candidates=(10, 10))
    partition._growth = replace(partition._growth, sifted=COUNT)
    shares = []
    for query in QUERIES:
        far = np.argsort(ROWS @ query)[: COUNT // 2]
        ids = inverted.search(query, 10, Kind.IMAGE, np.sort(IDS[far]))[1]
        shares.append(np.isin(IDS[far[-10:]], ids).mean())
    assert np.mean(shares) >= 0.5  # Codes of 32 bits tell little of what is far: 0.1 without.


def test_removed_ones_are_gone_at_once_and_can_come_back_as_others(inverted):
    query = QUERIES[0]
    near = inverted.search(query, 30, Kind.IMAGE)[1]
    assert inverted.remove(np.append(near, 10**6)) == 30
    assert len(inverted) == COUNT - 30
    assert not np.isin(near, inverted.search(query, 500, Kind.IMAGE)[1]).any()
    assert not inverted.search(query, 5, Kind.IMAGE, near)[1].size
    inverted.add(Kind.IMAGE, near[:1], query[None])
    assert inverted.search(query, 1, Kind.IMAGE)[1].tolist() == near[:1].tolist()
    assert inverted.search(query, 5, Kind.IMAGE, near)[1].tolist() == near[:1].tolist()
    left = ~np.isin(IDS, near)
    assert recall(inverted, ROWS[left], IDS[left]) >= FOUND - 0.01  # One is of another vector.


def test_added_ones_are_found_at_once_and_known_ids_are_replaced(inverted):
    more, ids = clustered(500, seed=8), np.arange(20_000, 20_500)
    inverted.add(Kind.IMAGE, ids, more)
    inverted.add(Kind.IMAGE, IDS[:2], QUERIES[:2])
    assert len(inverted) == COUNT + 500
    rows = np.concatenate([QUERIES[:2], ROWS[2:], more])
    assert recall(inverted, rows, np.concatenate([IDS, ids])) >= FOUND
    for number, query in enumerate(QUERIES[:2]):
        assert inverted.search(query, 1, Kind.IMAGE)[1].tolist() == [IDS[number]]


def test_lists_are_made_anew_when_there_is_far_more_or_far_less(saved):
    one = loaded(saved)
    lists = one.describe()[Kind.IMAGE].lists
    more = clustered(2 * COUNT, seed=11)
    one.add(Kind.IMAGE, np.arange(50_000, 50_000 + 2 * COUNT), more)
    assert one.settle()
    assert one.describe()[Kind.IMAGE].lists > lists
    assert recall(one, np.concatenate([ROWS, more]), _with(50_000, 2 * COUNT)) >= FOUND
    one.remove(np.arange(50_000, 50_000 + 2 * COUNT))
    assert one._partitions[Kind.IMAGE]._places.gone.count == 2 * COUNT
    assert one.settle()
    assert one._partitions[Kind.IMAGE]._places.gone.count == 0
    assert recall(one, ROWS, IDS) >= FOUND
    one.remove(IDS[200:])
    assert one.settle()
    assert index_of(one) == "exact"
    assert sorted(one.search(QUERIES[0], 999, Kind.IMAGE)[1]) == IDS[:200].tolist()


def _with(start: int, count: int) -> np.ndarray:
    return np.concatenate([IDS, np.arange(start, start + count)])


def test_vectors_that_lists_do_not_suit_stay_exact_and_are_not_tried_again_and_again(caplog):
    one = filled(Growth(exact_components=1_000, recall=1.1, rounds=1, questions=8))
    assert one.settle()
    assert index_of(one) == "exact"
    assert "stay as they are" in caplog.text
    tried = len(caplog.records)
    assert one.settle()
    assert len(caplog.records) == tried


@pytest.fixture
def held(monkeypatch) -> tuple[threading.Event, threading.Event]:
    """Builds wait between being finished and taking over: (finished, go on)."""
    finished, go = threading.Event(), threading.Event()
    build: Callable = store.built

    def waiting(*arguments):
        made = build(*arguments)
        finished.set()
        assert go.wait(60)
        return made

    monkeypatch.setattr(store, "built", waiting)
    return finished, go


def test_searches_additions_and_removals_go_on_while_an_index_is_built(held):
    finished, go = held
    one = filled()
    one.tend()
    failures, done = [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            for query in QUERIES[:8]:
                _, ids = one.search(query, 10, Kind.IMAGE)
                if len(ids) != 10 or len(set(ids.tolist())) != 10:
                    failures.append(ids)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    one.add(Kind.IMAGE, IDS[-1:] + 1, QUERIES[:1])
    assert finished.wait(60)
    assert index_of(one) == "exact"
    one.remove(IDS[:100])
    one.add(Kind.IMAGE, np.arange(40_000, 40_300), clustered(300, seed=4))
    one.add(Kind.IMAGE, IDS[200:201], QUERIES[1:2])
    one.remove(np.arange(40_000, 40_100))
    go.set()
    assert one.settle()
    done.set()
    for asker in askers:
        asker.join()
    assert not failures
    assert index_of(one) == "inverted"
    assert len(one) == COUNT + 1 - 100 + 200
    assert one.search(QUERIES[0], 1, Kind.IMAGE)[1].tolist() == [IDS[-1] + 1]
    assert one.search(QUERIES[1], 1, Kind.IMAGE)[1].tolist() == [IDS[200]]
    everything = set(one.search(QUERIES[2], 2 * COUNT, Kind.IMAGE)[1].tolist())
    assert everything == (set(IDS[100:].tolist()) | {int(IDS[-1]) + 1} | set(range(40_100, 40_300)))


def test_what_is_saved_while_an_index_is_built_is_whole(held, tmp_path):
    finished, go = held
    one = filled()
    one.tend()
    assert finished.wait(60)
    one.save(tmp_path, "me", 1)
    assert index_of(loaded(tmp_path)) == "exact"
    go.set()
    assert one.settle()
    one.save(tmp_path, "me", 1)
    assert index_of(loaded(tmp_path)) == "inverted"


def test_closing_stops_what_is_being_built(monkeypatch):
    started = threading.Event()

    def forever(snapshot, dim, growth, stopped):
        started.set()
        while not stopped():
            threading.Event().wait(0.01)
        return building.built(snapshot, dim, growth, stopped)

    monkeypatch.setattr(store, "built", forever)
    one = filled()
    one.tend()
    assert started.wait(60)
    one.close()
    assert not one._builder.busy
    assert index_of(one) == "exact"
    one.tend()
    assert not one._builder.busy
    assert not one.settle()


def test_a_failure_to_build_costs_nothing_but_a_line_in_the_log(monkeypatch, caplog):
    def broken(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(store, "built", broken)
    one = filled()
    assert one.settle()
    assert "could not be built" in caplog.text
    assert recall(one, ROWS, IDS) == 1
    one.add(Kind.IMAGE, np.array([3]), ROWS[:1])
    assert len(one) == COUNT + 1


def test_lists_may_be_empty_also_those_nearest_to_what_is_asked(monkeypatch):
    def first(self: Assigner, vectors: np.ndarray) -> np.ndarray:
        return np.zeros(len(vectors), dtype=np.int64)

    monkeypatch.setattr(Assigner, "assigned", first)
    one = filled()
    assert one.settle()
    assert index_of(one) == "inverted"
    assert recall(one, ROWS, IDS) >= FOUND


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_equal_vectors_as_those_of_empty_pages_keep_no_index_away(share):
    rows = ROWS.copy()
    rows[np.random.default_rng(1).choice(COUNT, int(share * COUNT), replace=False)] = ROWS[0]
    one = FaissIndex(DIM, growth=SMALL)
    one.add(Kind.IMAGE, IDS, rows)
    assert one.settle()
    assert index_of(one) == "inverted"
    queries = (*QUERIES, rows[0])
    lowest = [np.sort(rows @ query)[-10] - 1e-5 for query in queries]
    scores = [one.search(query, 10, Kind.IMAGE)[0] for query in queries]
    found = [(own >= least).mean() for own, least in zip(scores, lowest, strict=True)]
    assert np.mean(found) >= FOUND  # Of equals, any will do.


def test_building_looks_often_whether_it_is_to_stop():
    asked = []
    with pytest.raises(building.Stopped):
        building.built(
            Snapshot(IDS, Rows(DIM, ROWS.astype(np.float16))),
            DIM,
            SMALL,
            lambda: len(asked) > 5 or bool(asked.append(1)),
        )


@pytest.mark.parametrize(
    "stated",
    [
        {"probes": 0},
        {"probes": -1},
        {"probes": "8"},
        {"probes": float("inf")},
        {"candidates": [10]},
        {"candidates": [10, 0]},
        {"candidates": [10, 1e30]},
        {"candidates": None},
    ],
    ids=str,
)
def test_a_tuning_that_no_measurement_gives_is_refused(stated):
    sound = {"probes": 8, "candidates": [10, 100], "recall": [1.0, 0.99]}
    assert Tuning.of(sound) == Tuning(8, (10, 100), (1.0, 0.99))
    with pytest.raises((ValueError, TypeError)):
        Tuning.of(sound | stated)
