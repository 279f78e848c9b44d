"""Finding the nearest vectors; the only module that knows FAISS."""

import json
import logging
import os
import zlib
from pathlib import Path
from threading import RLock
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kind import Kind

_log = logging.getLogger(__name__)

Ids = NDArray[np.int64]

STATE_FILE = "state.json"
_FORMAT = 2
_CHECKED_BYTES = 1 << 22


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
    ) -> tuple[NDArray[np.float32], Ids]:
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
    """`VectorStore` with an exact FAISS index for each partition."""

    def __init__(self, dim: int, fingerprint: str | None = None) -> None:
        self._dim = dim
        self._fingerprint = fingerprint
        self._lock = RLock()
        self._indexes: dict[Kind, Any] = {}
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
            return sum(index.ntotal for index in self._indexes.values())

    @property
    def partitions(self) -> frozenset[Kind]:
        """See `VectorStore.partitions`."""
        with self._lock:
            return frozenset(kind for kind, index in self._indexes.items() if index.ntotal)

    def add(self, partition: Kind, ids: Ids, vectors: Vectors) -> None:
        """See `VectorStore.add`."""
        if not len(ids):
            return
        if vectors.shape != (len(ids), self._dim):
            raise ValueError(f"expected shape {(len(ids), self._dim)}, not {vectors.shape}")
        faiss = _faiss()
        with self._lock:
            index = self._indexes.get(partition)
            if index is None:
                index = faiss.IndexIDMap2(faiss.IndexFlatIP(self._dim))
                self._indexes[partition] = index
            known = ids[np.isin(ids, faiss.vector_to_array(index.id_map))]
            if known.size:
                index.remove_ids(known)
            index.add_with_ids(np.ascontiguousarray(vectors), ids)
            self._saved.pop(partition, None)

    def remove(self, ids: Ids, partition: Kind | None = None) -> int:
        """See `VectorStore.remove`."""
        removed = 0
        with self._lock:
            for kind in [partition] if partition else list(self._indexes):
                index = self._indexes.get(kind)
                if index is not None and len(ids) and (count := index.remove_ids(ids)):
                    removed += count
                    self._saved.pop(kind, None)
        return removed

    def search(
        self, vector: NDArray[np.float32], k: int, partition: Kind, only: Ids | None = None
    ) -> tuple[NDArray[np.float32], Ids]:
        """See `VectorStore.search`."""
        with self._lock:
            index = self._indexes.get(partition)
            most = min(k, index.ntotal) if index is not None else 0
            if index is None or most < 1 or (only is not None and not only.size):
                return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
            row = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, self._dim)
            faiss, params = _faiss(), None
            if only is not None:
                params = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(_bitmap(only)))
                most = min(most, only.size)
            # One query has nothing to share out: waking other threads takes longer than searching
            # 5,000 vectors. The setting is of the calling thread.
            faiss.omp_set_num_threads(1)
            scores, ids = index.search(row, most, params=params)
        found = ids[0] >= 0
        return scores[0][found], ids[0][found]

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """See `VectorStore.save`. Partitions that have not changed are not written again."""
        with self._lock:
            directory.mkdir(parents=True, exist_ok=True)
            for kind, index in self._indexes.items():
                if kind not in self._saved:
                    self._saved[kind] = _write(index, directory / f"{kind}-{generation}.faiss")
            state = {
                "format": _FORMAT,
                "owner": owner,
                "generation": generation,
                "dim": self._dim,
                "fingerprint": self._fingerprint,
                "partitions": {kind.value: saved for kind, saved in self._saved.items()},
            }
            _replace(directory / STATE_FILE, json.dumps(state, indent=1).encode())
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
            state = json.loads((directory / STATE_FILE).read_bytes())
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
                store._indexes[Kind(name)] = _read(directory, saved, dim)
                store._saved[Kind(name)] = saved
            return store, int(state["generation"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            _log.warning("the vectors in %s are made anew: %s", directory, error)
            return None


def saved_generation(directory: Path, owner: str, fingerprint: str | None = None) -> int | None:
    """The generation that `FaissStore.load` would find, told without loading FAISS."""
    try:
        state = json.loads((directory / STATE_FILE).read_bytes())
        same = (state["owner"], state["fingerprint"]) == (owner, fingerprint)
        return int(state["generation"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _faiss() -> Any:
    """The library, imported when it is first needed; its stubs do not know its Python layer."""
    import faiss

    return faiss


def _bitmap(ids: Ids) -> NDArray[np.uint8]:
    """A bit for each id from 0 to the highest, as FAISS tests them without hashing."""
    bits = np.zeros(int(ids.max()) + 1, dtype=np.bool_)
    bits[ids] = True
    return np.packbits(bits, bitorder="little")


def _write(index: Any, path: Path) -> dict[str, Any]:
    faiss = _faiss()
    temporary = path.with_name(path.name + ".part")
    size = checksum = 0
    with temporary.open("wb") as file:

        def write(data: bytes) -> int:
            nonlocal size, checksum
            size, checksum = size + len(data), zlib.crc32(data, checksum)
            return file.write(data)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return {"file": path.name, "bytes": size, "crc32": checksum, "vectors": int(index.ntotal)}


def _read(directory: Path, saved: dict[str, Any], dim: int) -> Any:
    faiss = _faiss()
    path = directory / Path(saved["file"]).name
    if path.stat().st_size != saved["bytes"]:
        raise ValueError(f"{path.name} is not {saved['bytes']} bytes long")
    with path.open("rb") as file:
        checksum = 0
        while chunk := file.read(_CHECKED_BYTES):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != saved["crc32"]:
            raise ValueError(f"{path.name} is damaged")
        file.seek(0)
        index = faiss.read_index(faiss.PyCallbackIOReader(file.read))
    if (index.d, index.ntotal) != (dim, saved["vectors"]):
        raise ValueError(f"{path.name} does not hold what it should")
    return index


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
