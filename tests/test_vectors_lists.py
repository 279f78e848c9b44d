"""Inverted lists: what they find, with filters too, when they are built, and when they are not."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    loaded,
    recall,
    save_with_lists,
)

from embedder.interface import normalised
from embedder.media.kinds import Kind
from indexer.vectors import SearchFilter, Tuning
from indexer.vectors import build as engine
from indexer.vectors.build import Stopped
from indexer.vectors.faiss_index import FaissIndex
from indexer.vectors.ivf import Lists
from indexer.vectors.partition import IndexPolicy, Partition


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return save_with_lists(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def inverted(saved) -> FaissIndex:
    return loaded(saved)


def image_partition(index: FaissIndex) -> Partition:
    return index._partitions[Kind.IMAGE]


def lists_of(index: FaissIndex) -> Lists:
    lists = image_partition(index).view.lists
    assert lists is not None
    return lists


def retune(index: FaissIndex, **changes: Any) -> None:
    lists = lists_of(index)
    lists.tuning = replace(lists.tuning, **changes)


def test_a_kind_is_exact_while_small_and_inverted_beyond():
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


def test_the_nearest_are_found_with_exact_scores(inverted):
    assert recall(inverted, ROWS, IDS) >= FOUND
    assert recall(inverted, ROWS, IDS, k=60) >= FOUND
    scores, ids = inverted.search(QUERIES[0], 10, Kind.IMAGE)
    assert scores == pytest.approx(ROWS[(ids - 10) // 2] @ QUERIES[0], abs=1e-5)
    assert list(scores) == sorted(scores, reverse=True)


def test_rows_come_from_files_and_from_memory(inverted):
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
    """So that the test of recall does measure what exact ranking does."""
    lists, shares = lists_of(inverted), []
    for query in QUERIES:
        found = IDS[lists.candidates(query[None], 10, lists.tuning.probes)]
        shares.append(np.isin(IDS[np.argsort(-(ROWS @ query))[:10]], found).mean())
    assert np.mean(shares) < 0.9


def test_as_many_are_found_as_were_asked_for(inverted):
    assert len(inverted.search(QUERIES[0], 4_000, Kind.IMAGE)[1]) == 4_000
    assert len(inverted.search(QUERIES[0], 2 * COUNT, Kind.IMAGE)[1]) == COUNT
    retune(inverted, probes=1)  # One list holds far too few.
    assert len(inverted.search(QUERIES[0], 100, Kind.IMAGE)[1]) == 100


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.9])
def test_the_recall_holds_whatever_share_a_filter_keeps(inverted, share):
    only = np.sort(np.random.default_rng(3).choice(IDS, int(share * COUNT), replace=False))
    assert recall(inverted, ROWS, IDS, np.append(only, 10**6)) >= FOUND
    folders = np.isin(IDS, only).astype(np.int32) + 1
    inverted.set_holders(Kind.IMAGE, IDS, folders, IDS)
    for query in QUERIES[:20]:
        where = inverted.search(query, 10, Kind.IMAGE, SearchFilter(frozenset({2})))[1]
        assert where.tolist() == inverted.search(query, 10, Kind.IMAGE, ids=only)[1].tolist()


@pytest.mark.parametrize(("share", "least"), [(0.1, 0.9), (0.5, 0.5)])
def test_filters_that_keep_only_what_is_far_are_searched_well(inverted, share, least):
    shares = []
    for query in QUERIES:
        far = np.argsort(ROWS @ query)[: int(share * COUNT)]  # In no list near the query.
        ids = inverted.search(query, 50, Kind.IMAGE, ids=np.sort(IDS[far]))[1]
        assert len(ids) == 50
        assert np.isin(ids, IDS[far]).all()
        ids = inverted.search(query, 10, Kind.IMAGE, ids=np.sort(IDS[far]))[1]
        shares.append(np.isin(IDS[far[-10:]], ids).mean())
    assert np.mean(shares) >= least  # Codes of 32 bits tell little of what is far.


def test_removed_vectors_are_gone_at_once_and_can_come_back_as_others(inverted):
    query = QUERIES[0]
    near = inverted.search(query, 30, Kind.IMAGE)[1]
    assert inverted.remove(np.append(near, 10**6)) == 30
    assert len(inverted) == COUNT - 30
    assert not np.isin(near, inverted.search(query, 500, Kind.IMAGE)[1]).any()
    assert not inverted.search(query, 5, Kind.IMAGE, ids=near)[1].size
    inverted.add(Kind.IMAGE, near[:1], query[None])
    assert inverted.search(query, 1, Kind.IMAGE)[1].tolist() == near[:1].tolist()
    assert inverted.search(query, 5, Kind.IMAGE, ids=near)[1].tolist() == near[:1].tolist()
    left = ~np.isin(IDS, near)
    assert recall(inverted, ROWS[left], IDS[left]) >= FOUND - 0.01  # One is of another vector.


def test_added_vectors_are_found_at_once_and_merged_into_the_lists_later(inverted):
    more, ids = clustered(500, seed=8), np.arange(20_000, 20_500)
    inverted.add(Kind.IMAGE, ids, more)
    inverted.add(Kind.IMAGE, IDS[:2], QUERIES[:2])
    assert len(inverted) == COUNT + 500
    rows, trained = np.concatenate([QUERIES[:2], ROWS[2:], more]), lists_of(inverted).trained
    for _ in range(2):
        assert recall(inverted, rows, np.concatenate([IDS, ids])) >= FOUND
        for number, query in enumerate(QUERIES[:2]):
            assert inverted.search(query, 1, Kind.IMAGE)[1].tolist() == [IDS[number]]
        assert inverted.settle()
    lists = lists_of(inverted)
    assert (lists.covered, lists.trained) == (COUNT + 502, trained)


def test_lists_are_trained_again_for_far_more_and_serve_for_far_less(saved, tmp_path):
    one = loaded(saved)
    before = len(lists_of(one))
    more = clustered(2 * COUNT, seed=11)
    one.add(Kind.IMAGE, np.arange(50_000, 50_000 + 2 * COUNT), more)
    assert one.settle()
    assert len(lists_of(one)) > before
    every = np.concatenate([IDS, np.arange(50_000, 50_000 + 2 * COUNT)])
    assert recall(one, np.concatenate([ROWS, more]), every) >= FOUND
    one.remove(np.arange(50_000, 50_000 + 2 * COUNT))
    one.remove(IDS[3_000:])
    assert one.settle()
    assert recall(one, ROWS[:3_000], IDS[:3_000]) >= FOUND
    one.remove(IDS[200:])
    assert sorted(one.search(QUERIES[0], 999, Kind.IMAGE)[1]) == IDS[:200].tolist()
    one.save(tmp_path, "me", 1)
    assert sorted(loaded(tmp_path).search(QUERIES[0], 999, Kind.IMAGE)[1]) == IDS[:200].tolist()


@pytest.mark.parametrize("policy", [{"recall": 1.1}, {"speed": 0.0}], ids=str)
def test_lists_that_miss_too_much_or_save_no_time_are_refused_until_there_is_more(
    tmp_path, caplog, policy
):
    caplog.set_level("INFO")
    one = filled(replace(SMALL, questions=8, rounds=1, **policy))
    one.after_building(lambda: one.save(tmp_path, "me", 1))
    assert one.settle()
    assert index_of(one) == "exact"
    assert caplog.text.count("every vector is compared") == 1
    again = loaded(tmp_path, one._policy)
    for index in (one, again):
        assert index.settle()
    assert caplog.text.count("every vector is compared") == 1
    again.add(Kind.IMAGE, np.arange(50_000, 50_000 + 2 * COUNT), clustered(2 * COUNT, seed=3))
    assert again.settle()
    assert caplog.text.count("every vector is compared") == 2


def test_hardly_clustered_vectors_stay_exact_because_lists_would_be_slower():
    rows = normalised(np.random.default_rng(0).standard_normal((8_000, 64), dtype=np.float32))
    one = FaissIndex(64, policy=replace(SMALL, exact_components=1_000, speed=IndexPolicy.speed))
    one.add(Kind.IMAGE, np.arange(len(rows)), rows)
    assert one.settle()
    assert index_of(one) == "exact"


@pytest.fixture
def held(monkeypatch) -> tuple[threading.Event, threading.Event]:
    """Builds wait between being finished and taking over: (finished, go on)."""
    finished, go = threading.Event(), threading.Event()
    finish = engine.build

    def waiting(*arguments):
        made = finish(*arguments)
        finished.set()
        assert go.wait(60)
        return made

    monkeypatch.setattr(engine, "build", waiting)
    return finished, go


def test_searches_and_changes_go_on_while_lists_are_built(held):
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


def test_what_is_saved_while_lists_are_built_is_whole(held, tmp_path):
    finished, go = held
    one = filled()
    one.tend()
    assert finished.wait(60)
    one.remove(IDS[::2])
    one.save(tmp_path, "me", 1)
    assert index_of(loaded(tmp_path)) == "exact"
    go.set()
    assert one.settle()
    for generation in (2, 3):
        assert recall(one, ROWS[1::2], IDS[1::2]) >= FOUND
        one.save(tmp_path, "me", generation)
        assert index_of(loaded(tmp_path)) == "inverted"
        assert recall(loaded(tmp_path), ROWS[1::2], IDS[1::2]) >= FOUND


def test_closing_stops_what_is_being_built(monkeypatch):
    started, build = threading.Event(), engine.build

    def forever(view, policy, stopped):
        started.set()
        while not stopped():
            threading.Event().wait(0.01)
        return build(view, policy, stopped)

    monkeypatch.setattr(engine, "build", forever)
    one = filled()
    one.tend()
    assert started.wait(60)
    one.close()
    assert not one._worker.busy
    assert index_of(one) == "exact"
    one.tend()
    assert not one._worker.busy
    assert not one.settle()


def test_building_checks_often_whether_it_has_to_stop():
    view, asked = image_partition(filled()).view, iter(range(10**6))
    engine.build(view, SMALL, lambda: next(asked) < 0)
    total = next(asked)
    assert total > 100
    for limit in (0, total // 2, total - 1):
        calls = iter(range(10**6))
        with pytest.raises(Stopped):
            engine.build(view, SMALL, lambda calls=calls, limit=limit: next(calls) >= limit)


def test_a_failure_to_build_costs_only_a_line_in_the_log(saved, monkeypatch, caplog):
    def broken(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(engine, "build", broken)
    one = filled()
    assert one.settle()
    assert "could not be built" in caplog.text
    assert recall(one, ROWS, IDS) == 1
    one.add(Kind.IMAGE, np.array([3]), ROWS[:1])
    assert len(one) == COUNT + 1
    monkeypatch.setattr(engine, "extend", broken)
    with_lists = loaded(saved)
    with_lists.add(Kind.IMAGE, np.arange(20_000, 20_600), clustered(600, seed=8))
    assert with_lists.settle()
    assert index_of(with_lists) == "inverted"


def test_lists_may_be_empty_also_those_nearest_to_a_query(monkeypatch):
    class First:
        def search(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            zeros = np.zeros((len(rows), k), dtype=np.int64)
            return zeros.astype(np.float32), zeros

    monkeypatch.setattr(engine, "_assigner", lambda *_: First())
    one = filled()
    assert one.settle()
    assert index_of(one) == "inverted"
    assert recall(one, ROWS, IDS) >= FOUND


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_equal_vectors_as_those_of_empty_pages_are_indexed(share):
    rows = ROWS.copy()
    rows[np.random.default_rng(1).choice(COUNT, int(share * COUNT), replace=False)] = ROWS[0]
    one = FaissIndex(DIM, policy=SMALL)
    one.add(Kind.IMAGE, IDS, rows)
    assert one.settle()
    assert index_of(one) == "inverted"
    queries = (*QUERIES, rows[0])
    lowest = [np.sort(rows @ query)[-10] - 1e-5 for query in queries]
    scores = [one.search(query, 10, Kind.IMAGE)[0] for query in queries]
    found = [(own >= least).mean() for own, least in zip(scores, lowest, strict=True)]
    assert np.mean(found) >= FOUND  # Of equals, any will do.


@pytest.mark.parametrize(
    "saved_tuning",
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
def test_a_tuning_that_no_measurement_gives_is_refused(saved_tuning):
    sound = {"probes": 8, "candidates": [10, 100], "recall": [1.0, 0.99]}
    assert Tuning.of(sound) == Tuning(8, (10, 100), (1.0, 0.99))
    with pytest.raises((ValueError, TypeError)):
        Tuning.of(sound | saved_tuning)
