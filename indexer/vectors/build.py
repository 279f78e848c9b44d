"""Building inverted lists beside the searches: training, filling, tuning, and merging."""

import ctypes
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors, normalised
from indexer.vectors.interface import Tuning
from indexer.vectors.ivf import MAX_CANDIDATES, Lists
from indexer.vectors.partition import IndexPolicy
from indexer.vectors.storage import Positions
from indexer.vectors.view import View, faiss

_log = logging.getLogger(__name__)

_CHUNK = 1 << 13
_SEED = 1


class Stopped(Exception):
    """Building was stopped."""


class Refused(Exception):
    """Inverted lists do not find enough of the nearest, or not soon enough."""


def _chunks(
    view: View, positions: Positions, stopped: Callable[[], bool]
) -> Iterator[tuple[Positions, Vectors]]:
    """Yield some thousands of positions at a time, with their rows as float32."""
    for start in range(0, len(positions), _CHUNK):
        if stopped():
            raise Stopped
        some = positions[start : start + _CHUNK]
        yield some, view.rows_at(some)


def build_or_extend(view: View, policy: IndexPolicy, stopped: Callable[[], bool]) -> Lists:
    """Return lists that cover a view: its own, extended, unless they are too small; see `build`."""
    lists = view.lists
    if lists is None or view.size > policy.growth * lists.trained:
        return build(view, policy, stopped)
    return extend(lists, view, stopped)


def extend(lists: Lists, view: View, stopped: Callable[[], bool]) -> Lists:
    """Return a copy of some lists that covers the other vectors of a view too; raises `Stopped`."""
    faiss.omp_set_num_threads(1)
    copy, late = lists.copy(len(view)), view.alive()
    assigner = _assigner(lists.centroids())
    for positions, rows in _chunks(view, late[late >= lists.covered], stopped):
        copy.add(rows, positions, assigner)
    return copy


def build(view: View, policy: IndexPolicy, stopped: Callable[[], bool]) -> Lists:
    """Train, fill and tune lists for the vectors of a view.

    Args:
        view: The vectors.
        policy: What is wanted.
        stopped: Called several times a second.

    Raises:
        Stopped: soon after `stopped` returns true.
        Refused: if comparing every vector is better.
    """
    faiss.omp_set_num_threads(policy.threads)
    if _gpu_memory():
        try:
            return _Builder(view, policy, stopped, on_gpu=True).build()
        except (Stopped, Refused):
            raise
        except Exception as error:
            _log.warning("lists are built without the GPU, which failed: %s", error)
    return _Builder(view, policy, stopped, on_gpu=False).build()


class _Builder:
    def __init__(
        self, view: View, policy: IndexPolicy, stopped: Callable[[], bool], on_gpu: bool
    ) -> None:
        self._view, self._policy, self._stopped = view, policy, stopped
        self._on_gpu = on_gpu
        self._positions = view.alive()
        self._count = len(self._positions)
        self._random = np.random.default_rng(_SEED)
        self._lists = policy.lists(self._count)

    def build(self) -> Lists:
        lists = Lists.around(self._centroids(), len(self._view), self._count)
        # By the centroids as they were rounded, which codes are relative to.
        assigner = _assigner(lists.centroids(), self._on_gpu)
        for positions, rows in _chunks(self._view, self._positions, self._stopped):
            lists.add(rows, positions, assigner)
        lists.tuning = _tuned(lists, self._questions(), self._view, self._policy, self._stopped)
        return lists

    def _drawn(self, count: int) -> NDArray[np.float16]:
        """Return a random sample of this size, or all vectors."""
        chosen = self._random.choice(self._count, min(count, self._count), replace=False)
        positions = self._positions[np.sort(chosen)]
        drawn = np.empty((len(positions), self._view.dim), dtype=np.float16)
        start = 0
        for some, rows in _chunks(self._view, positions, self._stopped):
            drawn[start : start + len(some)] = rows
            start += len(some)
        return drawn

    def _centroids(self) -> Vectors:
        """Return means of clusters by Lloyd's algorithm; an empty cluster starts afresh.

        Not by `faiss.Clustering`, of which one round can take minutes and cannot be stopped.
        """
        sample = self._drawn(self._policy.sample * self._lists)
        centroids = self._any_of(sample)
        for _ in range(self._policy.rounds):
            assigned = self._assigned(sample, _assigner(centroids, self._on_gpu))
            order = np.argsort(assigned, kind="stable")
            ends = np.cumsum(np.bincount(assigned, minlength=self._lists))
            centroids = self._any_of(sample)
            for cluster, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
                if end > start:
                    rows = sample[order[start:end]]
                    centroids[cluster] = rows.astype(np.float32).mean(axis=0)
        return centroids

    def _any_of(self, sample: NDArray[np.float16]) -> Vectors:
        chosen = self._random.choice(len(sample), self._lists, replace=False)
        return sample[chosen].astype(np.float32)

    def _assigned(self, sample: NDArray[np.float16], assigner: Any) -> NDArray[np.int64]:
        found = np.empty(len(sample), dtype=np.int64)
        for start in range(0, len(sample), _CHUNK):
            if self._stopped():
                raise Stopped
            rows = sample[start : start + _CHUNK].astype(np.float32)
            found[start : start + _CHUNK] = assigner.search(rows, 1)[1][:, 0]
        return found

    def _questions(self) -> Vectors:
        """Return vectors of the partition, half of them mixed in pairs.

        A mixture lies between clusters, as a query does that comes from another kind of media: it
        is harder to answer than a vector's own neighbourhood.
        """
        own = self._drawn(2 * self._policy.questions).astype(np.float32)
        self._random.shuffle(own)
        half = len(own) // 4
        mixed = own[half : 2 * half] + own[2 * half : 3 * half]
        return normalised(np.concatenate([own[:half], mixed]))


def _assigner(centroids: Vectors, on_gpu: bool = False) -> Any:
    """Return a FAISS index that finds the nearest of some centroids (n, dim)."""
    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    if on_gpu and 2 * centroids.nbytes + _GPU_LEFT_BYTES < _gpu_memory():
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(_GPU_SCRATCH_BYTES)
        return faiss.index_cpu_to_gpu(resources, 0, index)
    return index


_GPU_SCRATCH_BYTES = 64 << 20
_GPU_LEFT_BYTES = _GPU_SCRATCH_BYTES + (1 << 30)
"""Left free: FAISS ends the process where a GPU is so full that CUDA cannot begin."""


def _gpu_memory() -> int:
    """Return the free bytes on the GPU that FAISS can use; 0 where there is none.

    CUDA, which faiss-gpu has loaded for all to see, is asked before FAISS: some versions end the
    process where faiss-gpu is installed and no driver is.
    """
    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    count, free, total = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
    try:
        cuda = ctypes.CDLL(None)
        if cuda.cudaGetDeviceCount(ctypes.byref(count)) or faiss.get_num_gpus() < 1:
            return 0
        failed = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    except (AttributeError, OSError, TypeError):
        return 0
    return 0 if failed else free.value


_DEPTHS = (10, 100)
_MIN_CANDIDATES = (100, 200)
_CANDIDATE_COUNTS = (50, 100, 150, 200, 300, 400, 600, 800, 1_200, 1_600, MAX_CANDIDATES)
_CANDIDATE_MARGIN = 1.5
_NEARLY_ALL = 0.9
_MAX_COST = 4
"""More lists are tried up to this multiple of the lowest cost that reaches the recall."""
_ROUNDING = 1e-6
_ROW_COST = 50
"""Codes that are scanned in the time of comparing one row; a rough figure suffices here."""
_TIMED = 24


def _tuned(
    lists: Lists,
    questions: Vectors,
    view: View,
    policy: IndexPolicy,
    stopped: Callable[[], bool],
) -> Tuning:
    """Return the least work with which the recall is reached, if comparing everything is more.

    For the 100 nearest, only so much more work is done than for the ten: where a cluster holds
    fewer, the others are all as far, and a search through everything would not be worth them.
    """
    trial = _Trial(lists, questions, view, stopped)
    fit: dict[float, Tuning] = {}
    best = reached = 0.0
    probes = 1
    while True:
        scanned = min(probes, len(lists)) * lists.trained / len(lists)
        if fit and (scanned > _MAX_COST * min(fit) or (best and scanned >= best)):
            break
        tuning = trial.measured(min(probes, len(lists)), policy.recall)
        reached = max(reached, tuning.recall[0])
        cost = scanned + _ROW_COST * sum(tuning.candidates) / 2
        if tuning.recall[0] >= policy.recall:
            fit[cost] = tuning
            if tuning.recall[1] >= policy.recall and (not best or cost < best):
                best = cost
        if probes >= len(lists):
            break
        probes = ceil(1.5 * probes)
    if not fit:
        raise Refused(
            f"inverted lists find {reached:.3f} of the nearest {lists.trained} vectors, less than "
            f"{policy.recall}"
        )
    chosen = fit[best or max(fit, key=lambda cost: (fit[cost].recall[1], -cost))]
    ten, hundred = (ceil(_CANDIDATE_MARGIN * count) for count in chosen.candidates)
    probes = min(len(lists), ceil(policy.margin * chosen.probes))
    tuning = replace(chosen, probes=probes, candidates=(ten, hundred))
    share = trial.share_of_time(tuning)
    if share >= policy.speed:
        raise Refused(
            f"inverted lists would take {share:.2f} of the time of comparing all {lists.trained} "
            "vectors"
        )
    return tuning


class _Trial:
    """Lists beside a comparison with every vector, on the same questions."""

    def __init__(
        self, lists: Lists, questions: Vectors, view: View, stopped: Callable[[], bool]
    ) -> None:
        self._lists, self._view, self._stopped = lists, view, stopped
        self._questions = [question[None] for question in questions]
        self._lowest = [self._lowest_scores(question) for question in self._questions]

    def _lowest_scores(self, question: NDArray[np.float32]) -> list[float]:
        """Return the score of the last of the nearest vectors, for each depth.

        What is as near counts as found, whichever of equal vectors it is.
        """
        self._check()
        scores, _ = self._view.scanned(question, _DEPTHS[-1])
        return [float(scores[:depth][-1]) - _ROUNDING for depth in _DEPTHS]

    def _check(self) -> None:
        if self._stopped():
            raise Stopped

    def measured(self, probes: int, wanted: float) -> Tuning:
        """Return the fewest candidates that reach the recall with these probes, or the most."""
        ranks = [np.full((len(self._questions), depth), MAX_CANDIDATES) for depth in _DEPTHS]
        for number, (question, lowest) in enumerate(
            zip(self._questions, self._lowest, strict=True)
        ):
            self._check()
            found = self._lists.candidates(question, MAX_CANDIDATES, probes)
            scores = self._view.scores(found, question[0])
            for column, least in zip(ranks, lowest, strict=True):
                at = np.flatnonzero(scores >= least)[: column.shape[1]]
                column[number, : len(at)] = at
        candidates, recalls = [], []
        for column, depth, least in zip(ranks, _DEPTHS, _MIN_CANDIDATES, strict=True):
            there = min(depth, self._lists.trained)
            shares = {
                count: float((column[:, :there] < count).mean())
                for count in _CANDIDATE_COUNTS
                if count >= least
            }
            # Where so few lists do not hold what is wanted, most of what they do hold.
            held = shares[MAX_CANDIDATES]
            aim = wanted if held >= wanted else _NEARLY_ALL * held
            candidates.append(next(count for count, share in shares.items() if share >= aim))
            recalls.append(shares[candidates[-1]])
        return Tuning(probes, (candidates[0], candidates[1]), (recalls[0], recalls[1]))

    def share_of_time(self, tuning: Tuning) -> float:
        """Return how long a search by the lists takes, 1 being a comparison with everything."""
        faiss.omp_set_num_threads(1)
        k = _DEPTHS[0]
        taken: tuple[list[float], list[float]] = [], []
        for question in self._questions[:_TIMED]:
            self._check()
            # In turns, so that whatever else the machine does befalls both.
            start = perf_counter()
            found = self._lists.candidates(question, tuning.candidates_for(k), tuning.probes)
            self._view.ranked(question, k, found)
            between = perf_counter()
            self._view.scanned(question, k)
            taken[0].append(between - start)
            taken[1].append(perf_counter() - between)
        by_lists, by_all = map(median, taken)
        _log.info("a search takes %.2f ms by lists, %.2f ms by all", 1e3 * by_lists, 1e3 * by_all)
        return by_lists / by_all
