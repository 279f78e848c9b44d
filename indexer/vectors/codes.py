"""Codes of one bit for each dimension (RaBitQ), by list."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.centroids import Centroids, Nearby
from indexer.vectors.engine import faiss
from indexer.vectors.files import Stored, checked, written
from indexer.vectors.gone import Gone, Positions
from indexer.vectors.listfile import POSITION_BYTES, Entries, ListFile, put, write_lists

_QUERY_BITS = 8


class Codes:
    """The codes and positions of vectors in inverted lists.

    All but the latest are mapped from a file once they were written. Reading may go on meanwhile.

    Attributes:
        centroids: Of the lists.
    """

    def __init__(self, centroids: Centroids) -> None:
        self.centroids = centroids
        self._file: ListFile | None = None
        self._indexes = self._index(), self._index()  # Over the file, and of the latest.

    @property
    def size(self) -> int:
        """Bytes of a code."""
        return int(self._indexes[1].code_size)

    @property
    def fresh(self) -> int:
        """How many are not in the file."""
        return int(self._indexes[1].ntotal)

    @property
    def mapped(self) -> int:
        """Bytes of the file."""
        return 0 if self._file is None else self._file.bytes

    @property
    def memory(self) -> int:
        """Bytes of what is not mapped."""
        return self.centroids.memory + self.fresh * (self.size + POSITION_BYTES)

    def add(self, vectors: Vectors, positions: Positions, lists: NDArray[np.int64]) -> None:
        """Takes in vectors of shape (n, dim)."""
        pointer = faiss().swig_ptr
        self._indexes[1].add_core(
            len(vectors), pointer(vectors), pointer(positions), pointer(lists), None
        )

    def nearest(
        self, vector: NDArray[np.float32], count: int, nearby: Nearby, selector: Any
    ) -> Positions:
        """The positions of the vectors in some lists that are nearest by their codes, in order.

        Where the file is damaged, they may be any numbers from 0 on.
        """
        distances, lists = (np.ascontiguousarray(part) for part in nearby)
        params = faiss().IVFRaBitQSearchParameters()
        params.nprobe, params.qb, params.sel = lists.size, _QUERY_BITS, selector
        indexes = [index for index in self._indexes if index.ntotal]
        scores = np.empty((len(indexes), count), np.float32)
        found = np.empty((len(indexes), count), np.int64)
        p = faiss().swig_ptr
        for index, score, at in zip(indexes, scores, found, strict=True):
            index.search_preassigned_c(
                1, p(vector), count, p(lists), p(distances), p(score), p(at), False, params, None
            )
        positions = found.ravel()
        if len(indexes) > 1:
            positions = positions[np.argsort(scores.ravel(), kind="stable")]
        return positions[positions >= 0][:count]

    def latest(self, start: int) -> NDArray[np.uint8]:
        """The codes that are not in the file, by position from `start` on."""
        codes = np.zeros((self.fresh, self.size), dtype=np.uint8)
        for number in range(len(self.centroids)):
            some, positions = self._latest(number)
            codes[positions - start] = some
        return codes

    def restore(self, codes: NDArray[np.uint8], lists: NDArray[np.int32], start: int) -> None:
        """Takes in what `latest` gave, and their lists."""
        index = self._indexes[1]
        order = np.argsort(lists, kind="stable")
        numbers, starts = np.unique(lists[order], return_index=True)
        for number, some in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
            put(index, number, np.ascontiguousarray(codes[some]), some + start)
        index.ntotal = len(lists)

    def write(self, directory: Path, stem: str, gone: Gone, count: int) -> dict[str, Stored]:
        """Writes everything but what is gone, and maps it.

        Args:
            directory: Where to.
            stem: How the names of files start.
            gone: Positions to leave out.
            count: How many positions there are.
        """
        lists = self._remaining(gone, count)
        stored, sizes = write_lists(directory / f"{stem}.codes", lists)
        head = sizes.tobytes() + self.centroids.rows.tobytes()
        saved = {
            "codes": stored,
            "lists": written(directory / f"{stem}.lists", lambda write: write(head)),
        }
        self._map(directory, stored, sizes)
        return saved

    @classmethod
    def read(cls, directory: Path, files: Mapping[str, Stored], dim: int) -> "Codes":
        """Maps what `write` wrote; centroids and lengths are read and checked wholly.

        Raises:
            OSError: it is not there.
            ValueError: it is not whole.
        """
        with checked(directory, files["lists"]) as file:
            head = file.read()
        lists, left = divmod(len(head), 8 + 2 * dim)
        if left:
            raise ValueError(f"{files['lists'].name} does not hold what it should")
        sizes = np.frombuffer(head, dtype=np.uint64, count=lists)
        rows = np.frombuffer(head, dtype=np.float16, offset=8 * lists).reshape(lists, dim)
        codes = cls(Centroids(rows))
        codes._map(directory, files["codes"], sizes)
        return codes

    def _index(self) -> Any:
        quantizer = self.centroids.quantizer
        index = faiss().IndexIVFRaBitQ(
            quantizer, self.centroids.dim, len(self.centroids), faiss().METRIC_L2
        )
        index.is_trained = True
        return index

    def _map(self, directory: Path, stored: Stored, sizes: NDArray[np.uint64]) -> None:
        index = self._index()
        self._file = ListFile(directory, stored, sizes, self.size)
        self._file.put_into(index)
        self._indexes = index, self._index()

    def _latest(self, number: int) -> Entries:
        held = self._indexes[1].invlists
        count = held.list_size(number)
        if not count:
            return np.empty((0, self.size), dtype=np.uint8), np.empty(0, dtype=np.int64)
        codes = faiss().rev_swig_ptr(held.get_codes(number), count * self.size)
        positions = faiss().rev_swig_ptr(held.get_ids(number), count)
        return codes.reshape(count, self.size), positions

    def _remaining(self, gone: Gone, count: int) -> Iterator[Entries]:
        for number in range(len(self.centroids)):
            codes, positions = self._latest(number)
            if self._file is not None:
                before = self._file.entries(number)
                codes = np.concatenate([before[0], codes])
                positions = np.concatenate([before[1], positions])
            # Where the file is damaged, positions may be any numbers.
            there = (positions >= 0) & (positions < count) & ~gone.among(positions)
            yield codes[there], positions[there]
