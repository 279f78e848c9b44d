"""Inverted lists: searching them, and their file.

A search scans the lists nearest to its query by codes of one bit for each dimension (RaBitQ: Gao &
Long, SIGMOD 2024). Their estimates pick candidates, which the caller compares exactly. FAISS keeps
lists and codes (`IndexIVFRaBitQ`), in one file, which is mapped where the system lets it.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.interface import Tuning
from indexer.vectors.storage import Positions, StoredFile, probed, write_file
from indexer.vectors.view import faiss

_QUERY_BITS = 6  # Two more find no other candidates, and take an eighth more time.
MAX_CANDIDATES = 2_000
"""Candidates that lists return for each question while they are tuned."""


class Lists:
    """The codes and positions of vectors in inverted lists.

    Attributes:
        covered: All vectors at positions below this one are in lists, but for those that were
            removed before.
        trained: How many vectors the lists were trained for.
        tuning: How much to look at.
        stored: Its file; None while there is none.
    """

    def __init__(self, index: Any, covered: int, trained: int, tuning: Tuning) -> None:
        """Take over a FAISS index with as many positions as are covered."""
        self._index = index
        self.covered, self.trained, self.tuning = covered, trained, tuning
        self.stored: StoredFile | None = None

    def __len__(self) -> int:
        """Return the number of lists."""
        return int(self._index.nlist)

    @classmethod
    def around(cls, centroids: Vectors, covered: int, trained: int) -> Self:
        """Return empty lists around centroids (n, dim), in which a search looks at everything.

        Centroids are rounded to float16, so that a query has half the memory to run through.
        """
        count, dim = centroids.shape
        half = faiss.ScalarQuantizer.QT_fp16
        quantizer = faiss.IndexScalarQuantizer(dim, half, faiss.METRIC_L2)
        quantizer.add(centroids)
        index = faiss.IndexIVFRaBitQ(quantizer, dim, count, faiss.METRIC_L2)
        index.is_trained = True
        return cls(index, covered, trained, Tuning(count, (MAX_CANDIDATES,) * 2, (0.0, 0.0)))

    @property
    def bytes(self) -> int:
        """Bytes of the codes, positions and centroids."""
        index = self._index
        return int(index.ntotal * (index.code_size + 8) + len(self) * index.d * 2)

    def candidates(
        self, vector: NDArray[np.float32], count: int, probes: int, selector: Any = None
    ) -> Positions:
        """Return the positions of the vectors that are nearest by their codes.

        Args:
            vector: A query (1, dim).
            count: Most positions.
            probes: Lists to look into, the nearest ones.
            selector: A FAISS selector of positions; None for all.

        Returns:
            Positions (n,), nearest first. Those that a damaged file makes up are within `covered`.
        """
        params = faiss.IVFRaBitQSearchParameters(
            nprobe=min(probes, len(self)), qb=_QUERY_BITS, sel=selector
        )
        found = self._index.search(vector, count, params=params)[1][0]
        positions: Positions = found[(found >= 0) & (found < self.covered)]
        return positions

    def copy(self, covered: int) -> Self:
        """Return a copy in memory; a mapped index cannot be changed: FAISS ends the process."""
        index = faiss.deserialize_index(faiss.serialize_index(self._index))
        return type(self)(index, covered, self.trained, self.tuning)

    def written(self, directory: Path, name: str) -> "Lists":
        """Write the lists, unless their file is there; return them mapped."""
        if self.stored is not None and self.stored.is_in(directory):
            return self

        def fill(write: Any) -> None:
            faiss.write_index(self._index, faiss.PyCallbackIOWriter(write))

        stored, dim = write_file(directory / name, fill), int(self._index.d)
        return self.load(directory, stored, dim, self.covered, self.trained, self.tuning)

    @classmethod
    def load(
        cls,
        directory: Path,
        stored: StoredFile,
        dim: int,
        covered: int,
        trained: int,
        tuning: Tuning,
    ) -> Self:
        """Map the lists in a file.

        Args:
            directory: Where it is.
            stored: The file.
            dim: Length of the vectors.
            covered: See `Lists`.
            trained: See `Lists`.
            tuning: See `Lists`.

        Raises:
            OSError: if it is missing.
            ValueError, RuntimeError: if it is damaged or holds something else.
        """
        index = _read_index(probed(directory, stored))
        if not isinstance(index, faiss.IndexIVFRaBitQ) or index.d != dim:
            raise ValueError(f"{stored.name} does not hold what it should")
        lists = cls(index, covered, trained, tuning)
        lists.stored = stored
        return lists

    def add(self, rows: Vectors, positions: Positions, assigner: Any) -> None:
        """Add rows (n, dim) at some positions to the lists that an index of centroids finds."""
        lists = np.ascontiguousarray(assigner.search(rows, 1)[1][:, 0])
        pointer = faiss.swig_ptr
        self._index.add_core(len(rows), pointer(rows), pointer(positions), pointer(lists), None)

    def centroids(self) -> Vectors:
        """Return the centroids of the lists (n, dim)."""
        quantizer = faiss.downcast_index(self._index.quantizer)
        centroids: Vectors = quantizer.reconstruct_n(0, len(self))
        return centroids


def _read_index(path: Path) -> Any:
    """Map an index, or read it where the system or the name of the file does not let FAISS map."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, UnicodeEncodeError, TypeError):
        with path.open("rb") as file:
            return faiss.read_index(faiss.PyCallbackIOReader(file.read))
