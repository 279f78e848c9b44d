"""The vector store: partitions of vectors that are searched apart and kept on disk."""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.media.kinds import Kind
from indexer.vectors.builder import Builder
from indexer.vectors.building import Stopped, Unfit, built
from indexer.vectors.copies import GpuCopies, race
from indexer.vectors.exact import Exact
from indexer.vectors.files import STATE_FILE, files_of, put_state, state_of
from indexer.vectors.gate import Gate
from indexer.vectors.gpu import gpu_memory
from indexer.vectors.growth import Description, Growth
from indexer.vectors.inverted import Inverted
from indexer.vectors.partition import NOTHING, Found, Ids, Partition

_log = logging.getLogger(__name__)

_FORMAT = 4
_ROUNDS = 3
_WAIT_SECONDS = 0.1
_ATTEMPTS = 3
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(OverflowError, RuntimeError),
)

_Change = tuple[Ids, NDArray[np.float16] | None]
"""Ids with their new vectors, or with None if they are removed."""


class FaissIndex:
    """`VectorIndex` with a FAISS index for each partition, chosen by its size; see `Growth`."""

    def __init__(
        self, dim: int, fingerprint: str | None = None, growth: Growth | None = None
    ) -> None:
        self._dim = dim
        self._fingerprint = fingerprint
        self._growth = growth or Growth()
        self._changing = RLock()  # For whoever changes partitions or saves them.
        self._gate = Gate()  # Searches go through it; shut only for the moment of a change.
        self._partitions: dict[Kind, Partition] = {}
        self._saved: dict[Kind, dict[str, Any]] = {}
        self._builder = Builder()
        self._copies = GpuCopies()
        self._missed: dict[Kind, list[_Change]] = {}  # Changes while a partition is built.
        self._unfit: dict[Kind, int] = {}
        self._after_building: Callable[[], None] | None = None

    @property
    def dim(self) -> int:
        """See `VectorIndex.dim`."""
        return self._dim

    @property
    def fingerprint(self) -> str | None:
        """See `VectorIndex.fingerprint`."""
        return self._fingerprint

    def __len__(self) -> int:
        with self._gate.reading():
            return sum(map(len, self._partitions.values()))

    @property
    def partitions(self) -> frozenset[Kind]:
        """See `VectorIndex.partitions`."""
        with self._gate.reading():
            return frozenset(kind for kind, one in self._partitions.items() if len(one))

    def describe(self) -> dict[Kind, Description]:
        """See `VectorIndex.describe`."""
        with self._gate.reading():
            return {
                kind: replace(one.describe(), gpu=self._copies.bytes(kind))
                for kind, one in self._partitions.items()
                if len(one)
            }

    def add(self, partition: Kind, ids: Ids, vectors: Vectors) -> None:
        """See `VectorIndex.add`."""
        if not len(ids):
            return
        if vectors.shape != (len(ids), self._dim):
            raise ValueError(f"expected shape {(len(ids), self._dim)}, not {vectors.shape}")
        with self._changing:
            one = self._partitions.get(partition) or Exact(self._dim)
            add = one.adding(ids, vectors)
            with self._gate.writing():
                self._partitions[partition] = one
                add()
                self._copies.added(partition, ids)
            self._changed(partition, (ids, vectors.astype(np.float16)))

    def remove(self, ids: Ids, partition: Kind | None = None) -> int:
        """See `VectorIndex.remove`."""
        removed = 0
        with self._changing:
            for kind in [partition] if partition else list(self._partitions):
                one = self._partitions.get(kind)
                if one is None or not len(ids):
                    continue
                with self._gate.writing():
                    count = one.remove(ids)
                    self._copies.removed(kind, count)
                if count:
                    removed += count
                    self._changed(kind, (ids, None))
        return removed

    def search(
        self, vector: NDArray[np.float32], k: int, partition: Kind, only: Ids | None = None
    ) -> Found:
        """See `VectorIndex.search`."""
        with self._gate.reading():
            one = self._partitions.get(partition)
            if one is None or not len(one) or k < 1 or (only is not None and not only.size):
                return NOTHING
            row = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, self._dim)
            found = self._copies.search(partition, one, row, k) if only is None else None
            return one.search(row, k, only) if found is None else found

    def among(self, ids: Ids, partition: Kind) -> Ids:
        """See `VectorIndex.among`."""
        with self._gate.reading():
            one = self._partitions.get(partition)
            return ids[:0] if one is None or not ids.size else one.among(ids)

    def rows(self, ids: Ids, partition: Kind) -> tuple[Ids, Vectors]:
        """See `VectorIndex.rows`."""
        with self._gate.reading():
            one = self._partitions.get(partition)
            if one is None or not ids.size:
                return ids[:0], np.empty((0, self._dim), dtype=np.float32)
            return one.rows(ids)

    def tend(self) -> None:
        """See `VectorIndex.tend`."""
        # Whoever searches asks for this and must not wait: the next search asks again.
        if self._changing.acquire(blocking=False):
            try:
                if (due := self._due()) is not None:
                    self._builder.start(*due)
            finally:
                self._changing.release()

    def settle(self, stop: Event | None = None) -> bool:
        """Waits until all partitions have the index that they should have.

        Args:
            stop: Set it to stop waiting; the building goes on.

        Returns:
            Whether they have.
        """
        while not self._builder.stopped() and not (stop is not None and stop.is_set()):
            with self._changing:
                self.tend()
                if not self._builder.busy:
                    return True
            self._builder.wait(_WAIT_SECONDS)
        return False

    def after_building(self, call: Callable[[], None]) -> None:
        """Calls this in the background whenever another index has taken over."""
        self._after_building = call

    @property
    def unsaved(self) -> bool:
        """Whether there is anything that `save` would write."""
        with self._changing:
            return self._partitions.keys() != self._saved.keys()

    def save(self, directory: Path, owner: str, generation: int) -> None:
        """See `VectorIndex.save`. Partitions that have not changed are not written again."""
        with self._changing:
            directory.mkdir(parents=True, exist_ok=True)
            # Another process may write of the same generation, in another order.
            stem = f"{generation}-{secrets.token_hex(4)}"
            for kind, one in self._partitions.items():
                saved = self._saved.get(kind)
                if not saved or not all(f.path(directory).is_file() for f in files_of(saved)):
                    self._saved[kind] = one.write(directory, f"{kind}-{stem}")
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
            kept = {stored.name for saved in self._saved.values() for stored in files_of(saved)}
            for path in directory.iterdir():
                if path.name not in kept | {STATE_FILE}:
                    _discard(path)

    @classmethod
    def load(
        cls,
        directory: Path,
        owner: str,
        dim: int,
        fingerprint: str | None = None,
        growth: Growth | None = None,
    ) -> tuple["FaissIndex", int] | None:
        """What `save` wrote, and its generation.

        Returns:
            None if there is nothing, or it is truncated, damaged or of another library or model.
        """
        same = {"format": _FORMAT, "owner": owner, "dim": dim, "fingerprint": fingerprint}
        reasons: list[Exception] = []
        while len(reasons) < _ATTEMPTS and (directory / STATE_FILE).is_file():
            try:
                state = state_of(directory)
                if any(state[name] != value for name, value in same.items()):
                    _log.info("the vectors in %s are not of this library and model", directory)
                    return None
                store = cls(dim, fingerprint, growth)
                for name, saved in state["partitions"].items():
                    store._partitions[Kind(name)] = store._read(directory, saved)
                    store._saved[Kind(name)] = saved
                return store, state["generation"]
            except FileNotFoundError as error:
                reasons.append(error)  # Another process may just have saved, and tidied up.
            except _DAMAGE as error:
                reasons += [error] * _ATTEMPTS
        if reasons:
            _log.warning("the vectors in %s are made anew: %s", directory, reasons[-1])
        return None

    def close(self) -> None:
        """See `VectorIndex.close`."""
        self._builder.stop()

    def abandon(self) -> None:
        """Like `close`, without waiting."""
        self._builder.abandon()

    def _read(self, directory: Path, saved: Mapping[str, Any]) -> Partition:
        if saved["description"]["index"] == Exact.kind:
            return Exact.read(directory, saved, self._dim)
        return Inverted.read(directory, saved, self._dim, self._growth)

    def _changed(self, kind: Kind, change: _Change) -> None:
        self._saved.pop(kind, None)
        if kind in self._missed:
            self._missed[kind].append(change)

    def _due(self) -> tuple[Callable[[Kind], None], Kind] | None:
        for kind, one in self._partitions.items():
            tried = self._unfit.get(kind, 0)
            if one.due(self._growth) and not len(one) <= self._growth.grown * tried:
                return self._build, kind
        for kind, one in self._partitions.items():
            if isinstance(one, Inverted) and self._copies.wanted(kind, len(one)) and gpu_memory():
                return self._copy, kind
        return None

    def _copy(self, kind: Kind) -> None:
        """Copies a partition onto the GPU, if that answers sooner."""
        with self._changing:
            snapshot = self._partitions[kind].snapshot()
            self._missed[kind] = []
        try:
            copy = self._copies.copied(kind, snapshot, self._growth.compared, self._builder.stopped)
            if copy is None or self._builder.stopped():
                return
            if not race(copy, snapshot, partial(self._held, kind)):
                self._copies.refuse(kind, copy)
                return
            with self._changing:
                for ids, vectors in self._missed[kind]:
                    copy.removed(len(ids)) if vectors is None else copy.added(ids)
                self._copies.put(kind, copy)
            _log.info("the vectors of %s are searched on a GPU", kind)
        finally:
            with self._changing:
                del self._missed[kind]

    @contextmanager
    def _held(self, kind: Kind) -> Iterator[Partition]:
        with self._gate.reading():
            yield self._partitions[kind]

    def _build(self, kind: Kind) -> None:
        """Builds the partition anew from a snapshot, adds what it missed, and switches."""
        with self._changing:
            snapshot = self._partitions[kind].snapshot()
            self._missed[kind] = []
        try:
            new = built(snapshot, self._dim, self._growth, self._builder.stopped)
            for _ in range(_ROUNDS):
                with self._changing:
                    missed, self._missed[kind] = self._missed[kind], []
                _apply(new, missed)
            with self._changing:
                _apply(new, self._missed[kind])
                with self._gate.writing():
                    self._partitions[kind] = new
                self._saved.pop(kind, None)
                self._unfit.pop(kind, None)
            _log.info("the vectors of %s are searched otherwise: %s", kind, new.describe())
        except Stopped:
            _log.info("the index of %s was not finished", kind)
        except Unfit as error:
            _log.warning("the vectors of %s stay as they are: %s", kind, error)
            self._unfit[kind] = len(snapshot.ids)
        except BaseException:
            self._unfit[kind] = len(snapshot.ids)  # Not again and again.
            raise
        finally:
            with self._changing:
                del self._missed[kind]
        if kind not in self._unfit and self._after_building and not self._builder.stopped():
            self._after_building()


def _apply(partition: Partition, changes: list[_Change]) -> None:
    for ids, vectors in changes:
        if vectors is None:
            partition.remove(ids)
        else:
            partition.adding(ids, vectors.astype(np.float32))()


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # Windows does not delete what another process has mapped.
        _log.info("%s stays for now: %s", path, error)
