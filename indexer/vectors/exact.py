"""Vectors that are all compared with a query."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.engine import bitmap, faiss
from indexer.vectors.files import checked, written
from indexer.vectors.partition import NOTHING, Found, Ids


class Exact:
    """`Partition` of which every search looks at every vector."""

    def __init__(self, dim: int) -> None:
        self._index = faiss().IndexIDMap2(faiss().IndexFlatIP(dim))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """See `Partition.add`."""
        known = ids[np.isin(ids, faiss().vector_to_array(self._index.id_map))]
        if known.size:
            self._index.remove_ids(known)
        self._index.add_with_ids(np.ascontiguousarray(vectors), ids)

    def remove(self, ids: Ids) -> int:
        """See `Partition.remove`."""
        return int(self._index.remove_ids(ids))

    def search(self, vector: NDArray[np.float32], k: int, only: Ids | None) -> Found:
        """See `Partition.search`."""
        most, params = min(k, len(self)), None
        if only is not None:
            params = faiss().SearchParameters(sel=faiss().IDSelectorBitmap(bitmap(only)))
            most = min(most, only.size)
        if not most:
            return NOTHING
        # One query has nothing to share out: waking other threads takes longer than searching
        # 5,000 vectors. The setting is of the calling thread.
        faiss().omp_set_num_threads(1)
        scores, ids = self._index.search(vector, most, params=params)
        found = ids[0] >= 0
        return scores[0][found], ids[0][found]

    def write(self, directory: Path, stem: str) -> dict[str, Any]:
        """See `Partition.write`."""

        def fill(write: Any) -> None:
            faiss().write_index(self._index, faiss().PyCallbackIOWriter(write))

        return written(directory / f"{stem}.faiss", fill) | {"vectors": len(self)}

    @classmethod
    def read(cls, directory: Path, saved: Mapping[str, Any], dim: int) -> Self:
        """What `write` wrote; `ValueError`, `OSError` or `RuntimeError` if it is not whole."""
        partition = cls(dim)
        with checked(directory, saved) as file:
            index = faiss().read_index(faiss().PyCallbackIOReader(file.read))
        if (index.d, index.ntotal) != (dim, saved["vectors"]):
            raise ValueError(f"{saved['file']} does not hold what it should")
        partition._index = index
        return partition
