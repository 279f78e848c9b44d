"""Building lists with the help of a GPU, by a stand-in for faiss-gpu, and by one where it is."""

import ctypes
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from clustered import IDS, ROWS, filled, index_of, recall

from indexer.vectors import build

THERE = pytest.mark.skipif(not build._gpu_memory(), reason="FAISS sees no GPU here")


class Device:
    """An index that FAISS has copied to a GPU, and what a test wants to know of it."""

    def __init__(self) -> None:
        self.free, self.searched, self.broken = 8 << 30, 0, ""
        device = self

        class Copy:
            def __init__(self, index: faiss.Index) -> None:
                device.check("copy")
                self.index = index

            def search(self, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
                device.check("search")
                device.searched += len(rows)
                return self.index.search(rows, k)

        self.copy = Copy

    def check(self, what: str) -> None:
        if self.broken == what:
            raise RuntimeError(f"CUDA error in {what}")


@pytest.fixture
def device(monkeypatch) -> Device:
    made = Device()
    resources = SimpleNamespace(setTempMemory=lambda size: None)
    monkeypatch.setattr(build, "_gpu_memory", lambda: made.free)
    monkeypatch.setattr(faiss, "StandardGpuResources", lambda: resources, raising=False)
    monkeypatch.setattr(
        faiss, "index_cpu_to_gpu", lambda _, number, index: made.copy(index), raising=False
    )
    return made


def check_lists() -> None:
    one = filled()
    assert one.settle()
    assert index_of(one) == "inverted"
    assert recall(one, ROWS, IDS) >= 0.98


def test_lists_are_built_with_the_gpu(device):
    check_lists()
    assert device.searched > len(ROWS)


@pytest.mark.parametrize("broken", ["copy", "search"])
def test_lists_are_built_without_a_gpu_that_fails(device, caplog, broken):
    device.broken = broken
    check_lists()
    assert "without the GPU" in caplog.text


def test_a_gpu_that_is_nearly_full_is_left_alone(device):
    device.free = build._GPU_LEFT_BYTES
    check_lists()
    assert device.searched == 0


@THERE
def test_lists_are_built_on_the_gpu_that_is_there():
    check_lists()


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
def test_cuda_is_asked_before_faiss_looks_for_a_gpu(monkeypatch, error, gpus, free):
    def count() -> int:
        assert error == 0, "some versions would end the process"
        return gpus

    stand_in = SimpleNamespace(StandardGpuResources=object, get_num_gpus=count)
    monkeypatch.setattr(build, "faiss", stand_in)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Cuda(error))
    assert build._gpu_memory() == free


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="this is faiss-gpu")
def test_without_faiss_gpu_there_is_no_gpu():
    assert build._gpu_memory() == 0
