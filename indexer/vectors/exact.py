"""Vectors that are all compared with a query."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.engine import bitmap, faiss
from indexer.vectors.files import as_saved, by_role, checked, written
from indexer.vectors.growth import Description, Growth
from indexer.vectors.partition import NOTHING, Found, Ids, Snapshot, each_once
from indexer.vectors.rows import Halves, Rows, floats


class Exact:
    """`Partition` of which every search looks at every vector.

    They are float16 as in the database: that takes half the memory, and a search of one thread,
    which waits for memory more than it computes, half the time.
    """

    kind = "exact"

    def __init__(self, dim: int) -> None:
        half = faiss().ScalarQuantizer.QT_fp16
        flat = faiss().IndexScalarQuantizer(dim, half, faiss().METRIC_INNER_PRODUCT)
        self._index = faiss().IndexIDMap2(flat)
        self._sorted: tuple[Ids, NDArray[np.int64]] | None = None  # Ids, where; once asked for.
        self._highest = -1

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def adding(self, ids: Ids, vectors: Vectors) -> Callable[[], None]:
        """See `Partition.adding`."""
        # Ids mostly ascend: then none of them is looked for among millions.
        known = ids[:0] if ids.min() > self._highest else ids[np.isin(ids, self._ids())]

        def add() -> None:
            self._highest = max(self._highest, int(ids.max()))
            if known.size:
                self._index.remove_ids(known)
            self._sorted = None
            self._index.add_with_ids(np.ascontiguousarray(vectors, dtype=np.float32), ids)

        return add

    def remove(self, ids: Ids) -> int:
        """See `Partition.remove`."""
        self._sorted = None
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

    def among(self, ids: Ids) -> Ids:
        """See `Partition.among`."""
        return self._known(ids)[0]

    def rows(self, ids: Ids) -> tuple[Ids, Vectors]:
        """See `Partition.rows`."""
        known, positions = self._known(ids)
        return known, floats(self._halves()[positions])

    def due(self, growth: Growth) -> bool:
        """See `Partition.due`."""
        return len(self) * int(self._index.d) > growth.exact_components

    def snapshot(self) -> Snapshot:
        """See `Partition.snapshot`."""
        return Snapshot(self._ids(), Rows(self._index.d, self._halves().copy()))

    def describe(self) -> Description:
        """See `Partition.describe`."""
        return Description(self.kind, len(self), len(self) * (2 * self._index.d + 8))

    def write(self, directory: Path, stem: str) -> dict[str, Any]:
        """See `Partition.write`."""

        def fill(write: Any) -> None:
            faiss().write_index(self._index, faiss().PyCallbackIOWriter(write))

        files = as_saved({"vectors": [written(directory / f"{stem}.faiss", fill)]})
        return {"description": asdict(self.describe()), "files": files}

    @classmethod
    def read(cls, directory: Path, saved: Mapping[str, Any], dim: int) -> Self:
        """What `write` wrote; `ValueError`, `OSError` or `RuntimeError` if it is not whole."""
        partition = cls(dim)
        (stored,) = by_role(saved)["vectors"]
        with checked(directory, stored) as file:
            index = faiss().read_index(faiss().PyCallbackIOReader(file.read))
        if (index.d, index.ntotal) != (dim, saved["description"]["vectors"]):
            raise ValueError(f"{stored.name} does not hold what it should")
        partition._index = index
        partition._highest = int(partition._ids().max(initial=-1))
        return partition

    def _known(self, ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
        """Those of some ids that are here, ascending and each once, and their positions."""
        found = self._sorted
        if found is None:
            every = self._ids()
            order = np.argsort(every, kind="stable")
            self._sorted = found = every[order], order
        own, order = found
        if not own.size:
            return ids[:0], order
        at = np.minimum(np.searchsorted(own, ids), len(own) - 1)
        at = each_once(at[own[at] == ids])
        return own[at], order[at]

    def _halves(self) -> Halves:
        """The vectors by position, where FAISS has them; until the next change."""
        codes = faiss().downcast_index(self._index.index).codes
        flat = faiss().rev_swig_ptr(codes.data(), codes.size()) if len(self) else np.empty(0, "u1")
        return flat.view(np.float16).reshape(len(self), int(self._index.d))

    def _ids(self) -> Ids:
        ids: Ids = faiss().vector_to_array(self._index.id_map)
        return ids
