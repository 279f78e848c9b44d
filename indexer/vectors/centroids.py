"""The points that inverted lists lie around."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.engine import faiss
from indexer.vectors.rows import Halves

_FEW = 16

Nearby = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Squared distances to centroids and the numbers of their lists, nearest first."""


class Centroids:
    """A centroid for each list, in float16: a query has half the memory to run through.

    Attributes:
        quantizer: The FAISS index that holds them.
    """

    def __init__(self, rows: Halves) -> None:
        half = faiss().ScalarQuantizer.QT_fp16
        self.quantizer = faiss().IndexScalarQuantizer(rows.shape[1], half, faiss().METRIC_L2)
        codes = np.ascontiguousarray(rows).view(np.uint8).ravel()
        faiss().copy_array_to_vector(codes, self.quantizer.codes)
        self.quantizer.ntotal = len(rows)
        self._whole: Any = None  # In float32, for many vectors at once.

    def __len__(self) -> int:
        return int(self.quantizer.ntotal)

    @property
    def dim(self) -> int:
        """Length of a centroid."""
        return int(self.quantizer.d)

    @property
    def rows(self) -> Halves:
        """The centroids, of shape (lists, dim)."""
        codes = faiss().vector_to_array(self.quantizer.codes)
        rows: Halves = codes.view(np.float16).reshape(-1, self.dim)
        return rows

    @property
    def memory(self) -> int:
        """Bytes they take."""
        return len(self) * self.dim * (2 if self._whole is None else 6)

    def nearby(self, vector: NDArray[np.float32], count: int) -> Nearby:
        """The lists nearest to a row of shape (1, dim)."""
        distances, lists = self.quantizer.search(vector, count)
        return distances, lists

    def assigned(self, vectors: Vectors) -> NDArray[np.int64]:
        """The list of each vector."""
        index = self.quantizer
        if len(vectors) > _FEW:
            if self._whole is None:
                whole = faiss().IndexFlatL2(self.dim)
                whole.add(self.quantizer.reconstruct_n(0, len(self)))
                self._whole = whole
            index = self._whole
        lists: NDArray[np.int64] = index.search(vectors, 1)[1][:, 0]
        return lists
