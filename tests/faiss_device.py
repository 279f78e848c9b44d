"""FAISS's GPU for the tests: the one that is there, or a stand-in that is everywhere.

`Lists` behaves as `faiss.GpuIndexIVFScalarQuantizer` of faiss-gpu 1.15 does: it keeps float16 in
lists of which it looks into `nprobe`, answers at most 2,048 nearest, passes over selectors in
silence, removes nothing, must not be entered by two threads at once, and raises `RuntimeError` when
CUDA fails.
"""

import threading
import time
from types import SimpleNamespace

import faiss
import numpy as np

from indexer.vectors import gpu_memory


class Lists:
    """Lists on a GPU, without one."""

    def __init__(self, _resources, dim, lists, kind, metric, residual, _config) -> None:
        assert (kind, metric) == (faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        assert not residual
        self.cp = SimpleNamespace()
        self.nprobe = 1
        self._lists = lists
        self._rows = np.empty((0, dim), dtype=np.float16)
        self._trained = False

    def train(self, rows) -> None:
        assert len(rows) >= self._lists
        self._trained = True

    def add(self, rows) -> None:
        assert self._trained
        self._rows = np.concatenate([self._rows, rows.astype(np.float16)])

    def reclaimMemory(self) -> None:  # noqa: N802
        pass

    def search(self, vectors, k):
        if k > 2048:
            raise RuntimeError("k must be at most 2048")
        # Products of float16 are rounded before they are added up.
        scores = (vectors.astype(np.float16)[:, None] * self._rows).sum(axis=2)
        scores[:, np.arange(len(self._rows)) % self._lists >= self.nprobe] = -np.inf
        order = np.argsort(-scores, axis=1)[:, :k]
        order = np.pad(order, ((0, 0), (0, k - order.shape[1])), constant_values=-1)
        return np.take_along_axis(scores, order, axis=1), order


class Device:
    """The boundary to FAISS, and what a test wants to know of it."""

    def __init__(self, real: bool) -> None:
        self.free = gpu_memory() if real else 8 << 30
        self.searches = self.built = self.assigned = 0
        self.pause = 0.0
        self.broken: set[str] = set()
        device = self
        made = faiss.GpuIndexIVFScalarQuantizer if real else Lists

        class Resources:
            def setTempMemory(self, size: int) -> None:  # noqa: N802
                assert size < device.free

        class Watched:
            def __init__(self, *given) -> None:
                device.check("build")
                device.built += 1
                self.__dict__["index"] = made(*given)
                self.__dict__["entered"] = threading.Lock()

            def __getattr__(self, name):
                return getattr(self.index, name)

            def __setattr__(self, name, value) -> None:
                setattr(self.index, name, value)

            def add(self, rows) -> None:
                device.check("add")
                assert rows.dtype == np.float32
                self.index.add(rows)

            def search(self, vectors, k):
                assert self.entered.acquire(blocking=False), "two threads at once"
                try:
                    device.check("search")
                    device.searches += 1
                    time.sleep(device.pause)
                    return self.index.search(vectors, k)
                finally:
                    self.entered.release()

        class Nearest:
            def __init__(self, resources, dim) -> None:
                of = (resources, dim) if real else (dim,)
                self._index = (faiss.GpuIndexFlatL2 if real else faiss.IndexFlatL2)(*of)
                self.reset, self.add = self._index.reset, self._index.add

            def search(self, vectors, k):
                device.check("assign")
                device.assigned += len(vectors)
                return self._index.search(vectors, k)

        self.faiss = SimpleNamespace(
            GpuIndexIVFScalarQuantizer=Watched,
            GpuIndexFlatL2=Nearest,
            IndexFlatL2=faiss.IndexFlatL2,
            ScalarQuantizer=faiss.ScalarQuantizer,
            METRIC_INNER_PRODUCT=faiss.METRIC_INNER_PRODUCT,
            get_num_gpus=faiss.get_num_gpus,
            StandardGpuResources=faiss.StandardGpuResources if real else Resources,
            GpuIndexIVFScalarQuantizerConfig=(
                faiss.GpuIndexIVFScalarQuantizerConfig if real else SimpleNamespace
            ),
        )

    def check(self, what: str) -> None:
        if what in self.broken:
            raise RuntimeError(f"CUDA error while {what}")
