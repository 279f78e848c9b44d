"""The nearest centroid of each of very many vectors, most of the work when lists are built."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.engine import faiss
from indexer.vectors.gpu import has_room, resources

_log = logging.getLogger(__name__)


class Assigner:
    """Finds them on a GPU, or on the CPU where there is none, or after it has failed.

    Args:
        count: Centroids that it holds at most.
        dim: Their length.
    """

    def __init__(self, count: int, dim: int) -> None:
        self._on_cpu = faiss().IndexFlatL2(dim)
        self._on_gpu: Any = None
        if has_room(4 * dim * count):
            try:
                self._resources = resources()
                self._on_gpu = faiss().GpuIndexFlatL2(self._resources, dim)
            except Exception as error:
                self._fails(error)

    def hold(self, centroids: Vectors) -> None:
        """Takes others, float32 of shape (count, dim)."""
        self._on_cpu.reset()
        self._on_cpu.add(centroids)
        if self._on_gpu is not None:
            try:
                self._on_gpu.reset()
                self._on_gpu.add(centroids)
            except Exception as error:
                self._fails(error)

    def assigned(self, vectors: Vectors) -> NDArray[np.int64]:
        """The number of the centroid nearest to each vector."""
        if self._on_gpu is not None:
            try:
                return self._nearest(self._on_gpu, vectors)
            except Exception as error:
                self._fails(error)
        return self._nearest(self._on_cpu, vectors)

    def _nearest(self, index: Any, vectors: Vectors) -> NDArray[np.int64]:
        numbers: NDArray[np.int64] = index.search(vectors, 1)[1][:, 0]
        return numbers

    def _fails(self, error: Exception) -> None:
        _log.warning("the GPU fails, and lists are made without it: %s", error)
        self._on_gpu = None
