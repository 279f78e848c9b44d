"""What the store asks of the vectors of one kind, however they are indexed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.growth import Description, Growth
from indexer.vectors.rows import Rows

Ids = NDArray[np.int64]
Found = tuple[NDArray[np.float32], Ids]
"""Scores and ids, best first."""

NOTHING: Found = (np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64))


def is_ascending(numbers: NDArray[np.int64]) -> bool:
    """Whether each is greater than the one before."""
    return bool((numbers[1:] > numbers[:-1]).all())


def each_once(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers ascending and each once, as they mostly are."""
    return numbers if is_ascending(numbers) else np.unique(numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The vectors of a partition at one moment: row i is that of id i."""

    ids: Ids
    rows: Rows


class Partition(Protocol):
    """Vectors by id.

    Searches may run side by side; nothing else may run while they do, apart from `adding`,
    `snapshot`, `describe` and `write`.
    """

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    def adding(self, ids: Ids, vectors: Vectors) -> Callable[[], None]:
        """Prepares the addition of vectors of shape (len(ids), dim); known ids are replaced.

        Returns:
            What adds them, in short time.
        """
        ...

    def remove(self, ids: Ids) -> int:
        """Removes vectors; returns how many."""
        ...

    def search(self, vector: NDArray[np.float32], k: int, only: Ids | None) -> Found:
        """The k nearest of a row of shape (1, dim), or of those that are in `only`; k ≥ 1."""
        ...

    def among(self, ids: Ids) -> Ids:
        """See `VectorIndex.among`."""
        ...

    def rows(self, ids: Ids) -> tuple[Ids, Vectors]:
        """See `VectorIndex.rows`."""
        ...

    def due(self, growth: Growth) -> bool:
        """Whether these vectors should have another index by now."""
        ...

    def snapshot(self) -> Snapshot:
        """The vectors there are, unaffected by what happens to the partition."""
        ...

    def describe(self) -> Description:
        """How they are searched."""
        ...

    def write(self, directory: Path, stem: str) -> dict[str, Any]:
        """Writes files whose names start with the stem.

        Returns:
            What `read` needs; "files" are the names of all that it needs, older ones included.
        """
        ...
