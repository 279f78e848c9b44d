"""What the store asks of the vectors of one kind, however they are indexed."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors

Ids = NDArray[np.int64]
Found = tuple[NDArray[np.float32], Ids]
"""Scores and ids, best first."""

NOTHING: Found = (np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64))


class Partition(Protocol):
    """Vectors by id. Searches may run side by side; the store lets nothing else run meanwhile."""

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Adds vectors of shape (len(ids), dim); known ids are replaced."""
        ...

    def remove(self, ids: Ids) -> int:
        """Removes vectors; returns how many."""
        ...

    def search(self, vector: NDArray[np.float32], k: int, only: Ids | None) -> Found:
        """The k nearest of a row of shape (1, dim), or of those that are in `only`; k ≥ 1."""
        ...

    def write(self, directory: Path, stem: str) -> dict[str, Any]:
        """Writes files whose names start with the stem; returns what `read` needs."""
        ...
