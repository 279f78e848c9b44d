"""Copies of partitions on a GPU, which compares every vector with a query.

What FAISS 1.15 has there: a flat index answers one query by a single block of threads, which takes
longer than inverted lists on a CPU do; lists are looked through side by side. So the rows lie in
lists, in float16, and a query looks into all of them. The index names the nearest, 2,048 at most.
It can remove nothing, passes over selectors in silence (unless it is built with cuVS), and must not
be searched by two threads at once. So a copy only names candidates: the partition itself compares
them exactly, and knows what has gone meanwhile. What came meanwhile is compared with them. Whatever
the copy cannot do, the partition does alone, and that includes every search with a filter and every
one after an error that FAISS raises. A copy that answers later than its partition is not kept.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import inf
from statistics import median
from threading import Lock
from time import monotonic, perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.media.kinds import Kind
from indexer.vectors.engine import faiss
from indexer.vectors.gpu import has_room, resources
from indexer.vectors.partition import Found, Ids, Partition, Snapshot

_log = logging.getLogger(__name__)

_LISTS = 512  # Some for each multiprocessor; FAISS looks into 2,048 at most.
_LEARNT = 64  # Vectors that a list is learnt from.
_ROUNDS = 4
_MORE = 32  # Products of float16 are rounded: the k nearest lie among somewhat more.
_MOST = 2048
_MISSED = 256
_PAUSE = 20
"""A copy is made anew after so many times the time that the last one took, at the earliest."""
_GROWN = 2
"""A partition that is searched sooner without the GPU is tried again at so many times the size."""
_QUESTIONS = 32
_ASKED = 100


class GpuCopies:
    """The copies of a store's partitions."""

    def __init__(self) -> None:
        self._copies: dict[Kind, GpuCopy] = {}
        self._given_up: set[Kind] = set()
        self._slower: dict[Kind, int] = {}
        self._not_before: dict[Kind, float] = {}

    def search(
        self, kind: Kind, partition: Partition, vector: NDArray[np.float32], k: int
    ) -> Found | None:
        """The k nearest of a partition; None where it has to be asked by itself."""
        copy = self._copies.get(kind)
        return copy.search(partition, vector, k) if copy else None

    def added(self, kind: Kind, ids: Ids) -> None:
        """Notes what a partition has now, or has otherwise."""
        if copy := self._copies.get(kind):
            copy.added(ids)

    def removed(self, kind: Kind, count: int) -> None:
        """Notes how much a partition has no longer."""
        if copy := self._copies.get(kind):
            copy.removed(count)

    def bytes(self, kind: Kind) -> int:
        """What the copy of a partition takes; 0 if there is none."""
        copy = self._copies.get(kind)
        return copy.bytes if copy and not copy.stale else 0

    def wanted(self, kind: Kind, count: int) -> bool:
        """Whether a partition of so many vectors should be copied, if the GPU has room for it."""
        if kind in self._given_up or monotonic() < self._not_before.get(kind, 0):
            return False
        if count < _GROWN * self._slower.get(kind, 0):
            return False
        copy = self._copies.get(kind)
        return copy is None or copy.stale

    def copied(
        self, kind: Kind, snapshot: Snapshot, compared: int, stopped: Callable[[], bool]
    ) -> "GpuCopy | None":
        """Copies a partition; None if that cannot be done, and then it is not wanted any more."""
        former = self._copies.pop(kind, None)
        if (former and former.failed) or not has_room(_bytes(snapshot)):
            self._given_up.add(kind)
            return None
        del former  # Which makes room.
        start = monotonic()
        try:
            copy = GpuCopy(snapshot, compared, stopped)
        except Exception as error:
            _log.warning("the GPU cannot take the vectors of %s: %s", kind, error)
            self._given_up.add(kind)
            return None
        self._not_before[kind] = monotonic() + _PAUSE * (monotonic() - start)
        return copy

    def put(self, kind: Kind, copy: "GpuCopy") -> None:
        """Lets searches use a copy."""
        self._slower.pop(kind, None)
        self._copies[kind] = copy

    def refuse(self, kind: Kind, copy: "GpuCopy") -> None:
        """Does without a copy until there are many more vectors; if it has failed, for good."""
        if copy.failed:
            self._given_up.add(kind)
        self._slower[kind] = len(copy)


class GpuCopy:
    """The vectors of a partition at one moment, on the GPU, and what has changed since then.

    Attributes:
        bytes: What it takes there.
        failed: The GPU has raised an error.
    """

    def __init__(self, snapshot: Snapshot, compared: int, stopped: Callable[[], bool]) -> None:
        """Copies them.

        Args:
            snapshot: The vectors.
            compared: How many of them the partition compares exactly, if it is told which.
            stopped: Asked several times a second; what is copied then is of no use.

        Raises:
            RuntimeError: the GPU fails.
        """
        self._resources = resources()
        self._index = self._empty(snapshot)
        for _, rows in snapshot.rows.chunks():
            if stopped():
                break
            self._index.add(rows)
        self._index.reclaimMemory()
        self._ids = snapshot.ids
        self._lock = Lock()
        self._since = np.empty(0, dtype=np.int64)
        self._missed = 0
        self._compared = compared
        self.failed = False
        self.bytes = _bytes(snapshot)

    def _empty(self, snapshot: Snapshot) -> Any:
        """An index of the lists, with nothing in them."""
        count, dim = len(snapshot.ids), snapshot.rows.dim
        lists = min(_LISTS, -(-count // _LEARNT))
        half, product = faiss().ScalarQuantizer.QT_fp16, faiss().METRIC_INNER_PRODUCT
        config = faiss().GpuIndexIVFScalarQuantizerConfig()
        index = faiss().GpuIndexIVFScalarQuantizer(
            self._resources, dim, lists, half, product, False, config
        )
        index.nprobe = lists
        index.cp.niter = _ROUNDS
        index.cp.min_points_per_centroid = 1
        index.train(snapshot.rows.take(_some(count, _LEARNT * lists)))
        return index

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def stale(self) -> bool:
        """Whether so much has changed, or the GPU has failed, that it is of no more use."""
        return self.failed or self._missed > _MISSED

    def added(self, ids: Ids) -> None:
        """Notes what the partition has now, or has otherwise."""
        self.removed(len(ids))
        if not self.stale:
            self._since = np.union1d(self._since, ids)

    def removed(self, count: int) -> None:
        """Notes how much the partition has no longer."""
        self._missed += count

    def search(self, partition: Partition, vector: NDArray[np.float32], k: int) -> Found | None:
        """The k nearest of a partition; None where it has to be asked by itself."""
        depth = min(k + self._missed + _MORE, len(self._ids))
        if self.stale or depth > _MOST or depth + len(self._since) > self._compared:
            return None
        if not self._lock.acquire(blocking=False):
            return None  # It is busy, and the CPU is not.
        try:
            found = self._index.search(vector, depth)[1][0]
        except Exception as error:
            _log.warning("the GPU fails, and searches go on without it: %s", error)
            self.failed = True
            return None
        finally:
            self._lock.release()
        near = np.union1d(self._ids[found[found >= 0]], self._since)
        scores, ids = partition.search(vector, k, near)
        return (scores, ids) if len(ids) == min(k, len(partition)) else None


def race(
    copy: GpuCopy, snapshot: Snapshot, held: Callable[[], AbstractContextManager[Partition]]
) -> bool:
    """Whether a copy answers sooner than its partition.

    Args:
        copy: The copy.
        snapshot: What it was made of; some of these vectors are asked for.
        held: The partition as it is now, which does not change within the context.
    """
    taken: tuple[list[float], list[float]] = [], []
    for vector in snapshot.rows.take(_some(len(copy), _QUESTIONS)):
        with held() as partition:
            start = perf_counter()
            found = copy.search(partition, vector[None], _ASKED)
            between = perf_counter()
            partition.search(vector[None], _ASKED, None)
            taken[0].append(inf if found is None else between - start)
            taken[1].append(perf_counter() - between)
    on_gpu, on_cpu = map(median, taken)
    said = "a search takes %.2f ms on the GPU and %.2f ms without it"
    _log.info(said, 1000 * on_gpu, 1000 * on_cpu)
    return on_gpu < on_cpu


def _bytes(snapshot: Snapshot) -> int:
    return 2 * snapshot.rows.dim * len(snapshot.ids)


def _some(count: int, most: int) -> NDArray[np.int64]:
    """Positions at random, in order."""
    return np.sort(np.random.default_rng(0).choice(count, min(most, count), replace=False))
