"""What the rest of a library knows of its vector store."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kinds import Kind
from indexer.vectors.growth import Description
from indexer.vectors.partition import Found, Ids


class VectorIndex(Protocol):
    """Vectors by id in partitions that are searched apart, one for each kind of media.

    Guarantees: scores are exact for what was added and not removed, and nothing else is found;
    where not every vector is looked at, the share of the nearest that is found was measured; a
    search finds k of them if there are so many, whatever the filter; an id is found in one
    partition only; any method may be called from any thread; a search sees all of an `add` or
    nothing of it, and does not wait while an index is built.
    """

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """Of the model whose vectors these are; None where no model is known."""
        ...

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    @property
    def partitions(self) -> frozenset[Kind]:
        """The kinds that there are vectors of."""
        ...

    def add(self, partition: Kind, ids: Ids, vectors: Vectors) -> None:
        """Adds vectors of shape (len(ids), dim); known ids are replaced."""
        ...

    def remove(self, ids: Ids, partition: Kind | None = None) -> int:
        """Removes vectors, from one partition or wherever they are; returns how many."""
        ...

    def search(
        self, vector: NDArray[np.float32], k: int, partition: Kind, only: Ids | None = None
    ) -> Found:
        """The k nearest vectors of a partition by inner product, best first.

        Args:
            vector: Shape (dim,).
            k: Most results.
            partition: Where to look.
            only: Consider these ids and no others.

        Returns:
            Scores and ids, both of the same length of at most k.
        """
        ...

    def among(self, ids: Ids, partition: Kind) -> Ids:
        """Those of some ids that are in a partition, ascending and each once."""
        ...

    def rows(self, ids: Ids, partition: Kind) -> tuple[Ids, Vectors]:
        """Those of some ids that are in a partition, ascending and each once, with their vectors.

        Returns:
            Ids (n,) and float32 (n, dim), as they were stored: float16.
        """
        ...

    def tend(self) -> None:
        """Starts in the background whatever has become due as the store grew or shrank."""
        ...

    def describe(self) -> Mapping[Kind, Description]:
        """How each partition is searched."""
        ...

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """Writes everything so that it is loaded whole or not at all, under owner and number."""
        ...

    def close(self) -> None:
        """Stops what goes on in the background; nothing is lost by it but time."""
        ...
