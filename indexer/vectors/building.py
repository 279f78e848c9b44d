"""Makes inverted lists for a snapshot of vectors, and measures how much to look at."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors, normalised
from indexer.vectors.assigner import Assigner
from indexer.vectors.centroids import Centroids
from indexer.vectors.codes import Codes
from indexer.vectors.engine import faiss
from indexer.vectors.exact import Exact
from indexer.vectors.growth import Growth, Tuning
from indexer.vectors.inverted import Inverted
from indexer.vectors.partition import Partition, Snapshot
from indexer.vectors.places import Places
from indexer.vectors.rows import Scores

_log = logging.getLogger(__name__)

_CHUNK = 1 << 13
_SEED = 1
_DEPTHS = (10, 100)
_MOST_CANDIDATES = 2_000
_LEAST = (100, 200)
_CANDIDATE_MARGIN = 1.5
_CANDIDATES = (50, 100, 150, 200, 300, 400, 600, 800, 1_200, 1_600, _MOST_CANDIDATES)
_MOSTLY = 0.9
_FAR = 4
_ROUNDING = 1e-6
_ROW_COST = 50
"""Comparing a row exactly takes as long as so many codes; roughly, for the choice between them."""


class Stopped(Exception):
    """The building was stopped."""


class Unfit(Exception):
    """The vectors cannot be told apart by lists and codes well enough."""


def built(snapshot: Snapshot, dim: int, growth: Growth, stopped: Callable[[], bool]) -> Partition:
    """The index that so many vectors should have.

    Args:
        snapshot: The vectors.
        dim: Their length.
        growth: What is wanted.
        stopped: Asked several times a second.

    Raises:
        Stopped: once `stopped` says so.
        Unfit: if inverted lists do not reach the recall.
    """
    faiss().omp_set_num_threads(growth.threads)
    if len(snapshot.ids) * dim <= growth.exact_components:
        exact = Exact(dim)
        for start, rows in snapshot.rows.chunks():
            exact.adding(snapshot.ids[start : start + len(rows)], rows)()
        return exact
    return _Builder(snapshot, dim, growth, stopped).build()


@dataclass(frozen=True, slots=True)
class _Nearest:
    """So many vectors nearest to each question.

    Attributes:
        positions: Theirs, of shape (questions, many).
        lowest: What the score of a vector must be to be as near as the last of them.
        shared: Whether others are as near: those that are equal to each other, as empty pages are.
    """

    positions: NDArray[np.int64]
    lowest: Scores
    shared: NDArray[np.bool_]

    @classmethod
    def of(cls, positions: NDArray[np.int64], scores: Scores, many: int) -> Self:
        """From more, best first."""
        lowest = scores[:, many - 1] - _ROUNDING
        others = scores[:, many:].max(axis=1, initial=-np.inf)
        return cls(positions[:, :many], lowest, others >= lowest)


class _Builder:
    def __init__(
        self, snapshot: Snapshot, dim: int, growth: Growth, stopped: Callable[[], bool]
    ) -> None:
        self._ids, self._rows = snapshot.ids, snapshot.rows
        self._dim, self._growth, self._stopped = dim, growth, stopped
        self._random = np.random.default_rng(_SEED)
        self._lists = growth.lists(len(snapshot.ids))
        self._assigner = Assigner(self._lists, dim)

    def build(self) -> Inverted:
        """Learns the lists, fills them, measures."""
        sample = self._drawn(self._growth.sample * self._lists)
        # Rounded as they are saved, so that codes are relative to what is read.
        codes = Codes(Centroids(self._centroids(sample).astype(np.float16)))
        places = Places()
        self._assigner.hold(codes.centroids.rows.astype(np.float32))
        for start, rows in self._rows.chunks():
            lists = self._assigned(rows)
            ids = self._ids[start : start + len(rows)]
            codes.add(rows, places.append(ids, lists.astype(np.int32)), lists)
        untuned = Tuning(self._lists, (_MOST_CANDIDATES,) * 2, (0.0, 0.0))
        inverted = Inverted(codes, places, self._rows, untuned, len(self._ids), self._growth)
        inverted.tuning = self._tuned(inverted)
        return inverted

    def _check(self) -> None:
        if self._stopped():
            raise Stopped

    def _drawn(self, count: int) -> Vectors:
        """So many vectors at random, or all."""
        total = len(self._ids)
        chosen = np.sort(self._random.choice(total, min(count, total), replace=False))
        sample = np.empty((len(chosen), self._dim), dtype=np.float32)
        for start in range(0, len(chosen), _CHUNK):
            self._check()
            sample[start : start + _CHUNK] = self._rows.take(chosen[start : start + _CHUNK])
        return sample

    def _assigned(self, rows: Vectors) -> NDArray[np.int64]:
        """The list of each row, a few thousand at a time."""
        found = np.empty(len(rows), dtype=np.int64)
        for start in range(0, len(rows), _CHUNK):
            self._check()
            found[start : start + _CHUNK] = self._assigner.assigned(rows[start : start + _CHUNK])
        return found

    def _centroids(self, sample: Vectors) -> Vectors:
        """Means of clusters (Lloyd's algorithm); one that loses all its vectors starts afresh."""
        chosen = self._random.choice(len(sample), self._lists, replace=False)
        centroids = sample[chosen]
        for _ in range(self._growth.rounds):
            self._assigner.hold(centroids)
            assigned = self._assigned(sample)
            order = np.argsort(assigned, kind="stable")
            present, starts, counts = np.unique(
                assigned[order], return_index=True, return_counts=True
            )
            centroids = sample[self._random.choice(len(sample), self._lists, replace=False)]
            ends = np.append(starts[1:], len(order))
            for cluster, start, end, count in zip(present, starts, ends, counts, strict=True):
                centroids[cluster] = sample[order[start:end]].sum(axis=0) / count
        return centroids

    def _tuned(self, inverted: Inverted) -> Tuning:
        """The least work with which the recall is reached.

        For the 100 nearest, only so much more work is done than for the ten: where a cluster holds
        fewer, the others are all as far, and a search through everything would not be worth them.
        """
        questions = self._questions()
        truth = self._truth(questions)
        wanted = self._growth.recall
        fit: dict[float, Tuning] = {}
        best = reached = 0.0
        probes = 1
        while True:
            scanned = min(probes, self._lists) * len(self._ids) / self._lists
            if fit and (scanned > _FAR * min(fit) or (best and scanned >= best)):
                break
            tuning = self._measured(inverted, questions, truth, min(probes, self._lists))
            reached = max(reached, tuning.recall[0])
            cost = scanned + _ROW_COST * sum(tuning.candidates) / 2
            if tuning.recall[0] >= wanted:
                fit[cost] = tuning
                if tuning.recall[1] >= wanted and (not best or cost < best):
                    best = cost
            if probes >= self._lists:
                break
            probes = ceil(1.5 * probes)
        if not fit:
            raise Unfit(
                f"inverted lists find {reached:.3f} of the nearest {len(self._ids)} vectors, and "
                f"{wanted} is asked for"
            )
        chosen = fit[best or max(fit, key=lambda cost: (fit[cost].recall[1], -cost))]
        ten, hundred = (ceil(_CANDIDATE_MARGIN * count) for count in chosen.candidates)
        probes = min(self._lists, ceil(self._growth.margin * chosen.probes))
        return replace(chosen, probes=probes, candidates=(ten, hundred))

    def _measured(
        self,
        inverted: Inverted,
        questions: Vectors,
        truth: Sequence[_Nearest],
        probes: int,
    ) -> Tuning:
        """The fewest candidates that reach the recall with so many lists, or the most there are."""
        ranks = [np.full(near.positions.shape, _MOST_CANDIDATES) for near in truth]
        for number, question in enumerate(questions):
            self._check()
            row = question[None]
            # None, where the lists are empty: of equal centroids, one gets all vectors.
            found = inverted.candidates(row, _MOST_CANDIDATES, inverted.nearby(row, probes))
            for near, column in zip(truth, ranks, strict=True):
                hits = np.isin(found, near.positions[number])
                if near.shared[number]:
                    hits |= self._rows.scores(found, question) >= near.lowest[number]
                at = np.flatnonzero(hits)[: near.positions.shape[1]]
                column[number, : len(at)] = at
        candidates, recalls = [], []
        for column, least in zip(ranks, _LEAST, strict=True):
            shares = {
                count: float((column < count).mean()) for count in _CANDIDATES if count >= least
            }
            # Where so few lists do not hold what is wanted, most of what they do hold.
            held = shares[_MOST_CANDIDATES]
            aim = self._growth.recall if held >= self._growth.recall else _MOSTLY * held
            candidates.append(next(count for count, share in shares.items() if share >= aim))
            recalls.append(shares[candidates[-1]])
        return Tuning(probes, (candidates[0], candidates[1]), (recalls[0], recalls[1]))

    def _questions(self) -> Vectors:
        """Vectors of the partition, half of them mixed in pairs.

        A mixture lies between clusters, as a query does that comes from another kind of media: it
        is harder to answer than a vector's own neighbourhood.
        """
        own = self._drawn(2 * self._growth.questions)
        self._random.shuffle(own)
        half = len(own) // 4
        return normalised(
            np.concatenate([own[:half], own[half : 2 * half] + own[2 * half : 3 * half]])
        )

    def _truth(self, questions: Vectors) -> list[_Nearest]:
        """The nearest vectors of each question, for each depth."""
        depth = min(_DEPTHS[-1] + 1, len(self._ids))
        scores = np.full((len(questions), depth), -np.inf, dtype=np.float32)
        found = np.full((len(questions), depth), -1, dtype=np.int64)
        for start, rows in self._rows.chunks():
            self._check()
            near, at = faiss().knn(
                questions, rows, min(depth, len(rows)), metric=faiss().METRIC_INNER_PRODUCT
            )
            both = np.concatenate([scores, near], axis=1)
            ids = np.concatenate([found, at + start], axis=1)
            order = np.argsort(-both, axis=1, kind="stable")[:, :depth]
            scores = np.take_along_axis(both, order, axis=1)
            found = np.take_along_axis(ids, order, axis=1)
        return [_Nearest.of(found, scores, min(depth, len(self._ids))) for depth in _DEPTHS]
