"""Vectors in lists around centroids: a search looks into the nearest lists only.

1. The lists nearest to the query are scanned by codes of one bit for each dimension (RaBitQ:
   Gao & Long, SIGMOD 2024), whose estimates order the vectors well enough to pick candidates.
2. The candidates are compared exactly, by their rows.

A filter takes part in both: lists are visited, nearest first, until as many vectors that it keeps
have been seen as a search without it sees. Those may lie anywhere; they are found all the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.engine import bitmap, faiss
from indexer.vectors.files import checked, written
from indexer.vectors.growth import Description, Growth, Tuning
from indexer.vectors.partition import NOTHING, Found, Ids, Snapshot
from indexer.vectors.places import Places
from indexer.vectors.rows import Rows

_QUERY_BITS = 8
_PLACES = np.dtype([("id", "<i8"), ("list", "<i4"), ("gone", "?")])
_SHRUNK = 4
_MORE = 2  # What a filter keeps may lie far from the query, where centroids tell less of it.
_MOST = 8

Lists = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Squared distances to centroids and the numbers of their lists, nearest first."""


class Inverted:
    """`Partition` in inverted lists with codes, re-ranked exactly.

    Removed vectors leave the lists at once; their rows stay as gaps until the lists are made anew.
    """

    kind = "inverted"

    def __init__(
        self, index: Any, places: Places, rows: Rows, tuning: Tuning, trained: int, compared: int
    ) -> None:
        """Takes over an index whose ids are positions.

        Args:
            index: A trained `IndexIVFRaBitQ` of squared distances, with a flat quantizer.
            places: The id and list of each position.
            rows: The row of each position.
            tuning: How much to look at.
            trained: How many vectors the lists were made for.
            compared: A filter that keeps no more than this is searched exactly.
        """
        self._index, self._places, self._rows = index, places, rows
        self.tuning, self._trained, self._compared = tuning, trained, compared
        self._dim, self._lists = int(index.d), int(index.nlist)
        self._quantizer = faiss().downcast_index(index.quantizer)
        # For single queries: half the memory to run through. Batches are faster with the other.
        half = faiss().ScalarQuantizer.QT_fp16
        self._centroids = faiss().IndexScalarQuantizer(self._dim, half, faiss().METRIC_L2)
        self._centroids.add(self._quantizer.reconstruct_n(0, self._lists))

    def __len__(self) -> int:
        return len(self._places) - self._places.empty

    def adding(self, ids: Ids, vectors: Vectors) -> Callable[[], None]:
        """See `Partition.adding`."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        _, lists = self._quantizer.search(vectors, 1)
        lists = np.ascontiguousarray(lists[:, 0])

        def add() -> None:
            self.remove(ids)
            positions = self._places.append(ids, lists.astype(np.int32))
            self._rows.append(vectors)
            pointer = faiss().swig_ptr
            self._index.add_core(
                len(ids), pointer(vectors), pointer(positions), pointer(lists), None
            )

        return add

    def remove(self, ids: Ids) -> int:
        """See `Partition.remove`."""
        positions = self._places.find(ids)
        if len(positions):
            self._index.remove_ids(faiss().IDSelectorBitmap(bitmap(positions)))
            self._places.drop(positions)
        return len(positions)

    def search(self, vector: NDArray[np.float32], k: int, only: Ids | None) -> Found:
        """See `Partition.search`."""
        faiss().omp_set_num_threads(1)  # See `Exact.search`.
        k = min(k, len(self))
        if only is None:
            return self._searched(vector, k) if k else NOTHING
        kept = self._places.find(only)
        if len(kept) <= max(self._compared, 2 * k):
            return self._ranked(vector, k, kept) if len(kept) else NOTHING
        return self._filtered(vector, k, kept)

    def _searched(self, vector: NDArray[np.float32], k: int) -> Found:
        probes = self.tuning.probes_for(k)
        while True:
            nearby = self.nearby(vector, min(probes, self._lists))
            found = self.candidates(vector, self.tuning.candidates_for(k), nearby)
            if len(found) >= k or probes >= self._lists:
                return self._ranked(vector, k, found)
            probes *= 2

    def _filtered(self, vector: NDArray[np.float32], k: int, kept: NDArray[np.int64]) -> Found:
        distances, lists = self.nearby(vector, self._lists)
        counts = np.bincount(self._places.lists[kept], minlength=self._lists)[lists[0]]
        seen = np.cumsum(counts)
        wanted = max(_MORE * self.tuning.probes_for(k) * len(self) // self._lists, 2 * k)
        visited = (counts > 0) & (seen - counts < wanted)
        nearby = distances[:, visited], lists[:, visited]
        selector = faiss().IDSelectorBitmap(bitmap(kept))
        count = self.tuning.candidates_for(k)
        found = self.candidates(vector, min(_MOST * count, len(kept)), nearby, selector)
        # The farther all that is kept lies, the less its codes tell it apart: rows are compared
        # until as many as always have changed nothing.
        scores, best = self._best(vector, k, found[:count])
        for start in range(count, len(found), count):
            before, batch = best, found[start : start + count]
            scores, best = self._best(vector, k, np.concatenate([best, batch]))
            if np.array_equal(before, best):
                break
        return scores, self._places.ids[best]

    def nearby(self, vector: NDArray[np.float32], count: int) -> Lists:
        """The lists nearest to a row of shape (1, dim)."""
        distances, lists = self._centroids.search(vector, count)
        return distances, lists

    def candidates(
        self, vector: NDArray[np.float32], count: int, nearby: Lists, selector: Any = None
    ) -> NDArray[np.int64]:
        """Positions of the vectors in some lists that are nearest by their codes, in order."""
        distances, lists = (np.ascontiguousarray(part) for part in nearby)
        params = faiss().IVFRaBitQSearchParameters()
        params.nprobe, params.qb, params.sel = lists.size, _QUERY_BITS, selector
        scores, found = np.empty((1, count), np.float32), np.empty((1, count), np.int64)
        p = faiss().swig_ptr
        self._index.search_preassigned_c(
            1, p(vector), count, p(lists), p(distances), p(scores), p(found), False, params, None
        )
        positions: NDArray[np.int64] = found[0]
        return positions[positions >= 0]

    def _ranked(self, vector: NDArray[np.float32], k: int, positions: NDArray[np.int64]) -> Found:
        """The k nearest of some positions, exactly."""
        scores, best = self._best(vector, k, positions)
        return scores, self._places.ids[best]

    def _best(
        self, vector: NDArray[np.float32], k: int, positions: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and positions of the k nearest of some, best first."""
        scores = self._rows.scores(positions, vector[0])
        if k < len(scores):
            best = np.argpartition(-scores, k)[:k]
            positions, scores = positions[best], scores[best]
        order = np.argsort(-scores, kind="stable")
        return scores[order], positions[order]

    def among(self, ids: Ids) -> Ids:
        """See `Partition.among`."""
        return self._places.ids[self._places.find(ids)]

    def rows(self, ids: Ids) -> Vectors:
        """See `Partition.rows`."""
        return self._rows.take(self._places.find(ids))

    def due(self, growth: Growth) -> bool:
        """See `Partition.due`."""
        return (
            len(self) > growth.grown * self._trained
            or self._places.empty > growth.emptied * len(self._places)
            or _SHRUNK * len(self) * self._dim < growth.exact_components
        )

    def snapshot(self) -> Snapshot:
        """See `Partition.snapshot`."""
        there = np.flatnonzero(~self._places.gone)
        ids = self._places.ids[there]
        if not self._places.empty:
            return Snapshot(ids, self._rows.frozen())
        rows = Rows(self._dim)
        for start in range(0, len(there), 1 << 14):
            rows.append(self._rows.take(there[start : start + (1 << 14)]))
        return Snapshot(ids, rows)

    def describe(self) -> Description:
        """See `Partition.describe`."""
        codes = (int(self._index.code_size) + 8) * len(self)
        centroids = self._lists * self._dim * (4 + 2)
        memory = codes + centroids + self._places.memory + self._rows.memory
        return Description(self.kind, len(self), memory, self._lists, self.tuning)

    def write(self, directory: Path, stem: str) -> dict[str, Any]:
        """See `Partition.write`."""

        def fill(write: Any) -> None:
            faiss().write_index(self._index, faiss().PyCallbackIOWriter(write))

        table = np.empty(len(self._places), dtype=_PLACES)
        table["id"], table["list"] = self._places.ids, self._places.lists
        table["gone"] = self._places.gone
        rows = self._rows.write(directory, stem)
        lists = written(directory / f"{stem}.faiss", fill)
        places = written(directory / f"{stem}.places", lambda write: write(table.tobytes()))
        return {
            "index": self.kind,
            "files": [saved["file"] for saved in (lists, places, *rows)],
            "vectors": len(self),
            "trained": self._trained,
            "tuning": asdict(self.tuning),
            "lists": lists,
            "places": places,
            "rows": rows,
        }

    @classmethod
    def read(cls, directory: Path, saved: Mapping[str, Any], dim: int, compared: int) -> Self:
        """What `write` wrote; `ValueError`, `OSError` or `RuntimeError` if it is not whole.

        Lists and ids are read and checked wholly, rows as `Rows.read` does: a row that was damaged
        elsewhere can cost a candidate its place, and no more, since hits are judged by the
        database's vectors.
        """
        with checked(directory, saved["lists"]) as file:
            index = faiss().read_index(faiss().PyCallbackIOReader(file.read))
        with checked(directory, saved["places"]) as file:
            table = np.frombuffer(file.read(), dtype=_PLACES)
        rows = Rows.read(directory, saved["rows"], dim)
        columns = (np.ascontiguousarray(table[name]) for name in ("id", "list", "gone"))
        places = Places(*columns)
        there = len(places) - places.empty
        if (index.d, index.ntotal, there) != (dim, saved["vectors"], saved["vectors"]) or (
            len(rows) != len(places)
        ):
            raise ValueError(f"{saved['lists']['file']} does not hold what it should")
        tuning = saved["tuning"]
        chosen = Tuning(tuning["probes"], tuple(tuning["candidates"]), tuple(tuning["recall"]))
        return cls(index, places, rows, chosen, int(saved["trained"]), compared)
