"""Inverted lists: training and filling them beside the searches, tuning them, searching them.

A search scans the lists nearest to its query by codes of one bit for each dimension (RaBitQ: Gao &
Long, SIGMOD 2024). Their estimates pick candidates, which the caller compares exactly. FAISS keeps
lists and codes (`IndexIVFRaBitQ`), in a file of its own that is mapped where the system lets it.
"""

import ctypes
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, sqrt
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors, normalised
from indexer.vectors.interface import Tuning
from indexer.vectors.storage import Positions, StoredFile, probed, write_file

if TYPE_CHECKING:
    from indexer.vectors.view import View

_log = logging.getLogger(__name__)

_CHUNK = 1 << 13
_SEED = 1
_QUERY_BITS = 8

Scores = NDArray[np.float32]


def faiss() -> Any:
    """Return FAISS, imported when it is first needed; its stubs do not know its Python layer."""
    import faiss

    return faiss


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """When vectors of a kind get inverted lists, and what those have to achieve.

    Attributes:
        exact_components: Up to so many numbers (vectors × dimensions) every vector is compared:
            that takes a few milliseconds.
        recall: Share of the nearest vectors that a search must find, measured while building.
        speed: Lists are used only where they take less than this share of the time that comparing
            every vector takes.
        growth: Lists are trained again when there are so many times the vectors that they were
            trained for, and refused ones are tried again.
        merge_components: Numbers of the vectors beside the lists, all of which every search
            compares, from which on they are added to the lists.
        max_gaps: Share of removed vectors from which on files are written without them.
        sample: Vectors for each list that the lists are learned from.
        rounds: Of learning.
        questions: Vectors that the recall is measured with.
        margin: Lists that are looked into, as a multiple of those with which the recall was
            measured. Queries come from elsewhere than the vectors do and are harder: among
            WordNet's definitions, single words need more than twice the lists that the definitions
            and their mixtures do.
        gathered: A filter that keeps no more vectors than this has their rows gathered.
        scanned: One that keeps no more than this has all of them compared; beyond, the lists are
            searched with it.
        threads: That build.
    """

    exact_components: int = 20_000_000
    recall: float = 0.99
    speed: float = 0.7
    growth: float = 2.5
    merge_components: int = 6_000_000
    max_gaps: float = 0.3
    sample: int = 48
    rounds: int = 8
    questions: int = 128
    margin: float = 3.0
    gathered: int = 1_000
    scanned: int = 20_000
    threads: int = 1

    def lists(self, vectors: int) -> int:
        """Return how many lists so many vectors are spread over."""
        return max(1, min(round(4 * sqrt(vectors)), vectors // 8))


class Stopped(Exception):
    """Building was stopped."""


class Refused(Exception):
    """Inverted lists do not find enough of the nearest, or not soon enough."""


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
        self._index = index
        self.covered, self.trained, self.tuning = covered, trained, tuning
        self.stored: StoredFile | None = None

    def __len__(self) -> int:
        """Return the number of lists."""
        return int(self._index.nlist)

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
        params = faiss().IVFRaBitQSearchParameters(
            nprobe=min(probes, len(self)), qb=_QUERY_BITS, sel=selector
        )
        found = self._index.search(vector, count, params=params)[1][0]
        positions: Positions = found[(found >= 0) & (found < self.covered)]
        return positions

    def extended(self, view: "View", stopped: Callable[[], bool]) -> Self:
        """Return a copy that covers the other vectors of a view too; raises `Stopped`."""
        faiss().omp_set_num_threads(1)
        copy = self._copy(len(view))
        quantizer = faiss().downcast_index(copy._index.quantizer)
        assigner = faiss().IndexFlatL2(quantizer.d)
        assigner.add(quantizer.reconstruct_n(0, len(self)))
        late = view.alive()
        for positions, rows in _chunks(view, late[late >= self.covered], stopped):
            _add(copy._index, rows, positions, assigner)
        return copy

    def renumbered(self, kept: Positions) -> Self:
        """Return a copy for rows of which only those at some positions remain, in their order."""
        copy = self._copy(int(np.searchsorted(kept, self.covered)))
        numbers = np.full(self.covered, -1, dtype=np.int64)
        numbers[kept[: copy.covered]] = np.arange(copy.covered)
        bits = np.packbits(numbers >= 0, bitorder="little")
        copy._index.remove_ids(faiss().IDSelectorNot(faiss().IDSelectorBitmap(bits)))
        lists = copy._index.invlists
        for number in range(len(copy)):
            if size := lists.list_size(number):
                ids = faiss().rev_swig_ptr(lists.get_ids(number), size)
                ids[:] = numbers[ids]
        return copy

    def _copy(self, covered: int) -> Self:
        """Return a copy in memory; a mapped index cannot be changed, FAISS ends the process."""
        index = faiss().deserialize_index(faiss().serialize_index(self._index))
        return type(self)(index, covered, self.trained, self.tuning)

    def saved(self, directory: Path, name: str) -> tuple["Lists", StoredFile]:
        """Write the lists, unless their file is there; return them mapped from it, and the file."""
        if self.stored is not None and self.stored.is_in(directory):
            return self, self.stored

        def fill(write: Any) -> None:
            faiss().write_index(self._index, faiss().PyCallbackIOWriter(write))

        stored = write_file(directory / name, fill)
        shape = int(self._index.d), self.size
        lists = self.load(directory, stored, shape, self.covered, self.trained, self.tuning)
        return lists, stored

    @classmethod
    def load(
        cls,
        directory: Path,
        stored: StoredFile,
        shape: tuple[int, int],
        covered: int,
        trained: int,
        tuning: Tuning,
    ) -> Self:
        """Map the lists in a file.

        Args:
            directory: Where it is.
            stored: The file.
            shape: Dimensions and number of vectors that it holds.
            covered: See `Lists`.
            trained: See `Lists`.
            tuning: See `Lists`.

        Raises:
            OSError: if it is missing.
            ValueError, RuntimeError: if it is damaged or holds something else.
        """
        index = _read_index(probed(directory, stored))
        if not isinstance(index, faiss().IndexIVFRaBitQ) or (index.d, index.ntotal) != shape:
            raise ValueError(f"{stored.name} does not hold what it should")
        lists = cls(index, covered, trained, tuning)
        lists.stored = stored
        return lists

    @property
    def size(self) -> int:
        """How many vectors are in lists, removed ones included."""
        return int(self._index.ntotal)


def _read_index(path: Path) -> Any:
    """Map an index, or read it where the system or the name of the file does not let FAISS map."""
    try:
        return faiss().read_index(str(path), faiss().IO_FLAG_MMAP_IFC)
    except (RuntimeError, UnicodeEncodeError, TypeError):
        with path.open("rb") as file:
            return faiss().read_index(faiss().PyCallbackIOReader(file.read))


def _add(index: Any, rows: Vectors, positions: Positions, assigner: Any) -> None:
    lists = np.ascontiguousarray(assigner.search(rows, 1)[1][:, 0])
    pointer = faiss().swig_ptr
    index.add_core(len(rows), pointer(rows), pointer(positions), pointer(lists), None)


def _chunks(
    view: "View", positions: Positions, stopped: Callable[[], bool]
) -> Iterator[tuple[Positions, Vectors]]:
    """Yield some thousands of positions at a time, with their rows as float32."""
    for start in range(0, len(positions), _CHUNK):
        if stopped():
            raise Stopped
        some = positions[start : start + _CHUNK]
        yield some, view.rows_at(some)


def build(view: "View", policy: IndexPolicy, stopped: Callable[[], bool]) -> Lists:
    """Train, fill and tune lists for the vectors of a view.

    Args:
        view: The vectors.
        policy: What is wanted.
        stopped: Called several times a second.

    Raises:
        Stopped: soon after `stopped` returns true.
        Refused: if comparing every vector is better.
    """
    faiss().omp_set_num_threads(policy.threads)
    return _Builder(view, policy, stopped).build()


class _Builder:
    def __init__(self, view: "View", policy: IndexPolicy, stopped: Callable[[], bool]) -> None:
        self._view, self._policy, self._stopped = view, policy, stopped
        self._positions = view.alive()
        self._count = len(self._positions)
        self._random = np.random.default_rng(_SEED)
        self._lists = policy.lists(self._count)

    def build(self) -> Lists:
        # Rounded as they are kept, so that codes are relative to what is read.
        centroids = self._centroids().astype(np.float16).astype(np.float32)
        half = faiss().ScalarQuantizer.QT_fp16
        quantizer = faiss().IndexScalarQuantizer(self._view.dim, half, faiss().METRIC_L2)
        quantizer.add(centroids)
        index = faiss().IndexIVFRaBitQ(quantizer, self._view.dim, self._lists, faiss().METRIC_L2)
        index.is_trained = True
        assigner = _Assigner(centroids)
        for positions, rows in _chunks(self._view, self._positions, self._stopped):
            _add(index, rows, positions, assigner)
        everything = Tuning(self._lists, (_MAX_CANDIDATES,) * 2, (0.0, 0.0))
        lists = Lists(index, len(self._view), self._count, everything)
        lists.tuning = _tuned(lists, self._questions(), self._view, self._policy, self._stopped)
        return lists

    def _drawn(self, count: int) -> NDArray[np.float16]:
        """Return so many vectors at random, or all."""
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
            assigned = self._assigned(sample, _Assigner(centroids))
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

    def _assigned(self, sample: NDArray[np.float16], assigner: "_Assigner") -> NDArray[np.int64]:
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


class _Assigner:
    """The nearest of some centroids, found on a GPU where FAISS has one that works."""

    def __init__(self, centroids: Vectors) -> None:
        self._index = faiss().IndexFlatL2(centroids.shape[1])
        self._index.add(centroids)
        self._on_gpu: Any = None
        if 2 * centroids.nbytes + _GPU_LEFT_BYTES < _gpu_memory():
            try:
                self._resources = faiss().StandardGpuResources()
                self._resources.setTempMemory(_GPU_SCRATCH_BYTES)
                self._on_gpu = faiss().index_cpu_to_gpu(self._resources, 0, self._index)
            except Exception as error:
                _log.warning("lists are built without the GPU, which failed: %s", error)

    def search(self, rows: Vectors, k: int) -> tuple[Scores, NDArray[np.int64]]:
        """Return squared distances and numbers (n, k) of the nearest centroids."""
        if self._on_gpu is not None:
            try:
                found: tuple[Scores, NDArray[np.int64]] = self._on_gpu.search(rows, k)
                return found
            except Exception as error:
                _log.warning("lists are built without the GPU, which failed: %s", error)
                self._on_gpu = None
        nearest: tuple[Scores, NDArray[np.int64]] = self._index.search(rows, k)
        return nearest


_GPU_SCRATCH_BYTES = 64 << 20
_GPU_LEFT_BYTES = _GPU_SCRATCH_BYTES + (1 << 30)
"""Left free: FAISS ends the process where a GPU is so full that CUDA cannot begin."""


def _gpu_memory() -> int:
    """Return the free bytes on the GPU that FAISS can use; 0 where there is none.

    CUDA, which faiss-gpu has loaded for all to see, is asked before FAISS: some versions end the
    process where faiss-gpu is installed and no driver is.
    """
    if not hasattr(faiss(), "StandardGpuResources"):
        return 0
    count, free, total = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
    try:
        cuda = ctypes.CDLL(None)
        if cuda.cudaGetDeviceCount(ctypes.byref(count)) or faiss().get_num_gpus() < 1:
            return 0
        failed = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    except (AttributeError, OSError, TypeError):
        return 0
    return 0 if failed else free.value


_DEPTHS = (10, 100)
_MAX_CANDIDATES = 2_000
_MIN_CANDIDATES = (100, 200)
_CANDIDATE_COUNTS = (50, 100, 150, 200, 300, 400, 600, 800, 1_200, 1_600, _MAX_CANDIDATES)
_CANDIDATE_MARGIN = 1.5
_NEARLY_ALL = 0.9
_MAX_COST = 4
"""More lists are tried up to so many times the cost of the cheapest that reach the recall."""
_ROUNDING = 1e-6
_ROW_COST = 50
"""Comparing a row exactly takes as long as so many codes; roughly, for the choice between them."""
_TIMED = 24


def _tuned(
    lists: Lists,
    questions: Vectors,
    view: "View",
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
        self, lists: Lists, questions: Vectors, view: "View", stopped: Callable[[], bool]
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
        """Return the fewest candidates that reach the recall with so many lists, or the most."""
        ranks = [np.full((len(self._questions), depth), _MAX_CANDIDATES) for depth in _DEPTHS]
        for number, (question, lowest) in enumerate(
            zip(self._questions, self._lowest, strict=True)
        ):
            self._check()
            found = self._lists.candidates(question, _MAX_CANDIDATES, probes)
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
            held = shares[_MAX_CANDIDATES]
            aim = wanted if held >= wanted else _NEARLY_ALL * held
            candidates.append(next(count for count, share in shares.items() if share >= aim))
            recalls.append(shares[candidates[-1]])
        return Tuning(probes, (candidates[0], candidates[1]), (recalls[0], recalls[1]))

    def share_of_time(self, tuning: Tuning) -> float:
        """Return how long a search by the lists takes, 1 being a comparison with everything."""
        faiss().omp_set_num_threads(1)
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
