"""The vector store: partitions of vectors that are searched apart and kept on disk."""

import logging
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kind import Kind
from indexer.vectors.exact import Exact
from indexer.vectors.files import STATE_FILE, put_state, state_of
from indexer.vectors.partition import NOTHING, Found, Ids, Partition

_log = logging.getLogger(__name__)

_FORMAT = 2


class VectorStore(Protocol):
    """Vectors by id in partitions that are searched apart, one for each kind of media.

    Guarantees: results are exact for what was added and not removed; an id is found in one
    partition only; any method may be called from any thread; a search sees all of an `add` or
    nothing of it.
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

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """Writes everything so that it is loaded whole or not at all, under owner and number."""
        ...


class FaissStore:
    """`VectorStore` with a FAISS index for each partition."""

    def __init__(self, dim: int, fingerprint: str | None = None) -> None:
        self._dim = dim
        self._fingerprint = fingerprint
        self._lock = RLock()
        self._partitions: dict[Kind, Partition] = {}
        self._saved: dict[Kind, dict[str, Any]] = {}

    @property
    def dim(self) -> int:
        """See `VectorStore.dim`."""
        return self._dim

    @property
    def fingerprint(self) -> str | None:
        """See `VectorStore.fingerprint`."""
        return self._fingerprint

    def __len__(self) -> int:
        with self._lock:
            return sum(map(len, self._partitions.values()))

    @property
    def partitions(self) -> frozenset[Kind]:
        """See `VectorStore.partitions`."""
        with self._lock:
            return frozenset(kind for kind, one in self._partitions.items() if len(one))

    def add(self, partition: Kind, ids: Ids, vectors: Vectors) -> None:
        """See `VectorStore.add`."""
        if not len(ids):
            return
        if vectors.shape != (len(ids), self._dim):
            raise ValueError(f"expected shape {(len(ids), self._dim)}, not {vectors.shape}")
        with self._lock:
            if partition not in self._partitions:
                self._partitions[partition] = Exact(self._dim)
            self._partitions[partition].add(ids, vectors)
            self._saved.pop(partition, None)

    def remove(self, ids: Ids, partition: Kind | None = None) -> int:
        """See `VectorStore.remove`."""
        removed = 0
        with self._lock:
            for kind in [partition] if partition else list(self._partitions):
                one = self._partitions.get(kind)
                if one is not None and len(ids) and (count := one.remove(ids)):
                    removed += count
                    self._saved.pop(kind, None)
        return removed

    def search(
        self, vector: NDArray[np.float32], k: int, partition: Kind, only: Ids | None = None
    ) -> Found:
        """See `VectorStore.search`."""
        with self._lock:
            one = self._partitions.get(partition)
            if one is None or not len(one) or k < 1 or (only is not None and not only.size):
                return NOTHING
            row = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, self._dim)
            return one.search(row, k, only)

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """See `VectorStore.save`. Partitions that have not changed are not written again."""
        with self._lock:
            directory.mkdir(parents=True, exist_ok=True)
            for kind, one in self._partitions.items():
                if kind not in self._saved:
                    self._saved[kind] = one.write(directory, f"{kind}-{generation}")
            put_state(
                directory,
                {
                    "format": _FORMAT,
                    "owner": owner,
                    "generation": generation,
                    "dim": self._dim,
                    "fingerprint": self._fingerprint,
                    "partitions": {kind.value: saved for kind, saved in self._saved.items()},
                },
            )
            kept = {saved["file"] for saved in self._saved.values()} | {STATE_FILE}
            for path in directory.iterdir():
                if path.name not in kept:
                    path.unlink(missing_ok=True)

    @classmethod
    def load(
        cls, directory: Path, owner: str, dim: int, fingerprint: str | None = None
    ) -> tuple["FaissStore", int] | None:
        """What `save` wrote, and its generation.

        Returns:
            None if there is nothing, or it is truncated, damaged or of another library or model.
        """
        try:
            state = state_of(directory)
            if (state["format"], state["owner"], state["dim"], state.get("fingerprint")) != (
                _FORMAT,
                owner,
                dim,
                fingerprint,
            ):
                _log.info("the vectors in %s are not of this library and model", directory)
                return None
            store = cls(dim, fingerprint)
            for name, saved in state["partitions"].items():
                store._partitions[Kind(name)] = Exact.read(directory, saved, dim)
                store._saved[Kind(name)] = saved
            return store, int(state["generation"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            _log.warning("the vectors in %s are made anew: %s", directory, error)
            return None
