"""Searching on a GPU, where one is, and through a stand-in everywhere."""

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from clustered import COUNT, DIM, IDS, QUERIES, ROWS, SMALL, clustered, filled, recall
from faiss_device import Device

from embedder.media.kinds import Kind
from indexer.vectors import FaissIndex, assigner, copies, gpu, gpu_memory, store
from indexer.vectors.inverted import Inverted

THERE = pytest.mark.skipif(not gpu_memory(), reason="FAISS sees no GPU here")


@pytest.fixture(params=["a stand-in", pytest.param("a GPU", marks=THERE)])
def device(request, monkeypatch) -> Device:
    """A GPU that is the quicker one."""
    made = Device(request.param == "a GPU")
    for module in (assigner, copies, gpu):
        monkeypatch.setattr(module, "faiss", lambda: made.faiss)
    for module in (gpu, store):
        monkeypatch.setattr(module, "gpu_memory", lambda: made.free)
    monkeypatch.setattr(copies, "_PAUSE", 0)
    monkeypatch.setattr(store, "race", lambda *_: True)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("saved")
    one = filled()
    assert one.settle()
    one.save(made, "me", 1)
    return made


@pytest.fixture
def one(folder, device) -> FaissIndex:
    """A store whose lists would find little by themselves."""
    found = FaissIndex.load(folder, "me", DIM, growth=replace(SMALL, compared=1_000))
    assert found is not None
    partition = found[0]._partitions[Kind.IMAGE]
    partition.tuning = replace(partition.tuning, probes=1, candidates=(10, 200))
    assert recall(found[0], ROWS, IDS) < 0.9
    assert found[0].settle()
    return found[0]


def test_a_large_partition_is_searched_exactly_on_the_gpu_and_says_so(one, device):
    assert one.describe()[Kind.IMAGE].gpu == 2 * DIM * COUNT
    assert recall(one, ROWS, IDS) == 1
    assert device.searches == len(QUERIES)
    scores, ids = one.search(QUERIES[0], 10, Kind.IMAGE)
    assert scores == pytest.approx(ROWS[(ids - 10) // 2] @ QUERIES[0], abs=1e-5)


def test_a_small_partition_stays_with_the_cpu(device):
    small = filled(count=500)
    assert small.settle()
    assert (device.built, small.describe()[Kind.IMAGE].gpu) == (0, 0)


def test_filters_and_very_long_lists_of_hits_are_left_to_the_cpu(one, device):
    only = IDS[::2]
    assert np.isin(one.search(QUERIES[0], 10, Kind.IMAGE, only)[1], only).all()
    assert len(one.search(QUERIES[0], 3_000, Kind.IMAGE)[1]) == 3_000
    assert device.searches == 0


def test_what_comes_and_goes_is_followed_before_it_is_copied(one, device):
    near = one.search(QUERIES[0], 30, Kind.IMAGE)[1]
    one.remove(near[:20])
    one.add(Kind.IMAGE, np.array([3]), QUERIES[:1])
    one.add(Kind.IMAGE, near[25:26], -QUERIES[:1])
    expected = [3, *near[20:25], *near[26:]]
    assert one.search(QUERIES[0], len(expected), Kind.IMAGE)[1].tolist() == expected
    assert (device.searches, device.built) == (2, 1)
    more = np.arange(50_000, 50_600)
    one.add(Kind.IMAGE, more, clustered(600, seed=3))
    one.search(QUERIES[0], 10, Kind.IMAGE)
    assert device.searches == 2
    assert one.settle()
    assert device.built == 2
    left = ~np.isin(IDS, near[[*range(20), 25]])
    rows = np.concatenate([ROWS[left], clustered(600, seed=3), QUERIES[:1], -QUERIES[:1]])
    assert recall(one, rows, np.concatenate([IDS[left], more, [3], near[25:26]])) == 1


@pytest.mark.parametrize("what", ["build", "add", "search"])
def test_an_error_of_the_gpu_is_told_once_and_costs_no_search(folder, device, caplog, what):
    device.broken.add(what)
    found = FaissIndex.load(folder, "me", DIM, growth=SMALL)
    assert found is not None
    assert found[0].settle()
    assert recall(found[0], ROWS, IDS) >= 0.98
    assert found[0].settle()
    assert recall(found[0], ROWS, IDS) >= 0.98
    assert len([record for record in caplog.records if "the GPU" in record.message]) == 1
    assert found[0].describe()[Kind.IMAGE].gpu == 0
    assert device.built == (what != "build")


def test_a_partition_that_leaves_no_room_for_cuda_itself_is_not_copied(folder, device):
    device.free = 2 * 2 * DIM * COUNT + gpu.SCRATCH_BYTES + gpu.LEFT_BYTES
    found = FaissIndex.load(folder, "me", DIM, growth=SMALL)
    assert found is not None
    assert found[0].settle()
    assert (device.built, found[0].describe()[Kind.IMAGE].gpu) == (0, 0)


def loaded_with(monkeypatch, folder) -> FaissIndex:
    """The store, which asks who answers sooner."""
    monkeypatch.setattr(store, "race", copies.race)
    found = FaissIndex.load(folder, "me", DIM, growth=SMALL)
    assert found is not None
    assert found[0].settle()
    return found[0]


def test_a_copy_that_answers_later_is_not_kept_until_there_are_many_more(
    folder, device, monkeypatch
):
    device.pause = 0.02
    one = loaded_with(monkeypatch, folder)
    assert device.searches > 0
    assert (device.built, one.describe()[Kind.IMAGE].gpu) == (1, 0)
    device.pause = 0.0
    monkeypatch.setattr(store, "race", lambda *_: True)
    assert one.settle()
    assert device.built == 1
    one.add(Kind.IMAGE, np.arange(50_000, 50_000 + COUNT), clustered(COUNT, seed=8))
    assert one.settle()
    assert (device.built, one.describe()[Kind.IMAGE].gpu) == (2, 2 * DIM * 2 * COUNT)


def test_a_copy_that_answers_sooner_is_kept(folder, device, monkeypatch):
    search = Inverted.search

    def slow(self, vector, k, only):
        time.sleep(0.02 if only is None else 0)
        return search(self, vector, k, only)

    monkeypatch.setattr(Inverted, "search", slow)
    assert loaded_with(monkeypatch, folder).describe()[Kind.IMAGE].gpu == 2 * DIM * COUNT


def test_a_copy_that_fails_in_the_race_is_not_tried_again(folder, device, monkeypatch, caplog):
    device.broken.add("search")
    one = loaded_with(monkeypatch, folder)
    one.add(Kind.IMAGE, np.arange(50_000, 50_000 + COUNT), clustered(COUNT, seed=8))
    assert one.settle()
    assert (device.built, one.describe()[Kind.IMAGE].gpu) == (1, 0)
    assert len([record for record in caplog.records if "the GPU fails" in record.message]) == 1


def test_lists_are_made_on_the_gpu_and_find_as_much(device):
    made = filled()
    assert made.settle()
    assert device.assigned > COUNT
    assert made.describe()[Kind.IMAGE].index == "inverted"
    assert recall(made, ROWS, IDS) >= 0.98


def test_lists_are_made_without_a_gpu_that_fails(device, caplog):
    device.broken.add("assign")
    made = filled()
    assert made.settle()
    assert recall(made, ROWS, IDS) >= 0.98
    assert caplog.text.count("lists are made without it") == 1


def test_searches_side_by_side_do_not_enter_the_gpu_together(one, device):
    failures: list[Exception] = []

    def ask() -> None:
        try:
            for query in QUERIES[:30]:
                assert len(one.search(query, 10, Kind.IMAGE)[1]) == 10
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert one.describe()[Kind.IMAGE].gpu


@contextmanager
def full() -> Iterator[None]:
    """A GPU that somebody else has filled, but for a few megabytes."""
    cuda, held, free = ctypes.CDLL(None), ctypes.c_void_p(), gpu_memory()
    assert cuda.cudaMalloc(ctypes.byref(held), ctypes.c_size_t(free - (16 << 20))) == 0
    try:
        assert gpu_memory() < 32 << 20
        yield
    finally:
        assert cuda.cudaFree(held) == 0


@THERE
def test_a_gpu_that_somebody_else_has_filled_is_not_used(folder):
    with full():
        found = FaissIndex.load(folder, "me", DIM, growth=SMALL)
        assert found is not None
        assert found[0].settle()
        assert recall(found[0], ROWS, IDS) >= 0.98
        assert found[0].describe()[Kind.IMAGE].gpu == 0


@THERE
def test_a_gpu_that_somebody_else_fills_later_goes_on_answering(one, device):
    with full():
        assert recall(one, ROWS, IDS) == 1
        assert one.describe()[Kind.IMAGE].gpu


class Cuda:
    """CUDA's runtime as `ctypes` shows it."""

    def __init__(self, error: int) -> None:
        self._error = error

    def cudaGetDeviceCount(self, count) -> int:  # noqa: N802
        return self._error

    def cudaMemGetInfo(self, free, total) -> int:  # noqa: N802
        free._obj.value, total._obj.value = 5, 9
        return self._error


@pytest.mark.parametrize(("error", "gpus", "free"), [(0, 1, 5), (0, 0, 0), (35, 1, 0)])
def test_memory_is_asked_of_cuda_before_faiss_looks_for_a_gpu(monkeypatch, error, gpus, free):
    def count() -> int:
        assert error == 0, "some versions would end the process"
        return gpus

    stand_in = SimpleNamespace(StandardGpuResources=object, get_num_gpus=count)
    monkeypatch.setattr(gpu, "faiss", lambda: stand_in)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Cuda(error))
    assert gpu_memory() == free


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this is faiss-gpu")
def test_without_faiss_gpu_there_is_no_gpu():
    assert gpu_memory() == 0
