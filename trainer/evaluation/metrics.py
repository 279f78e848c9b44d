"""Ranking metrics: hit@k, NDCG@k, recall@k and MRR, and their means over queries.

Each metric is a function of *ranked relevance*: the grades of all candidates of a query, best
first, 0 for the irrelevant. `ranked_grades` computes it from scores.

Source:
    The definitions of MMEB-V2 (arXiv 2507.04590) and its evaluation code: hit@1 for image and video
    sets, NDCG@5 with linear gain for documents, the overall score is the mean over datasets.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Grades = NDArray[np.float64]
"""Float64 array of shape (candidates,): grades from 0 on, in the order of a ranking."""

Category = Literal["image", "video", "document"]
CATEGORIES: tuple[Category, ...] = get_args(Category)


def ranked_grades(scores: ArrayLike, grades: ArrayLike) -> Grades:
    """Return the grades in the order of a ranking by score, highest first.

    Of candidates with the same score the less relevant comes first: a model that gives everything
    the same vector gets the worst value, not the one that the order of the file happens to give.

    Args:
        scores: Of shape (candidates,), finite.
        grades: Of the same candidates, from 0 on; at least one above 0.

    Returns:
        The grades, ranked.

    Raises:
        ValueError: the shapes differ, a score is not finite, a grade is negative or not finite, or
            nothing is relevant, where no metric has a meaning.
    """
    marks = np.asarray(scores, dtype=np.float64)
    relevance = np.asarray(grades, dtype=np.float64)
    if marks.shape != relevance.shape or marks.ndim != 1:
        raise ValueError(f"scores {marks.shape} and grades {relevance.shape} are not of one length")
    if not np.isfinite(marks).all():
        raise ValueError("a score is not a finite number")
    if not np.isfinite(relevance).all() or (relevance < 0).any():
        raise ValueError("a grade is negative or not a finite number")
    if not (relevance > 0).any():
        raise ValueError("none of the candidates is relevant")
    return relevance[np.lexsort((relevance, -marks))]


def hit(grades: Grades, k: int) -> float:
    """Return 1 if something relevant is among the first k, else 0."""
    return float((grades[:k] > 0).any())


def recall(grades: Grades, k: int) -> float:
    """Return the share of all relevant candidates that is among the first k."""
    return float((grades[:k] > 0).sum() / (grades > 0).sum())


def reciprocal_rank(grades: Grades) -> float:
    """Return 1 / rank of the first relevant candidate; its mean is MRR."""
    return 1.0 / (1 + int(np.argmax(grades > 0)))


def ndcg(grades: Grades, k: int) -> float:
    """Return the discounted cumulative gain of the first k over that of the best order.

    DCG@k = Σᵢ gradeᵢ / log₂(i + 1), i from 1. The gain is linear, the grade itself, as MMEB uses
    for documents; the other custom, 2^grade − 1, agrees with it for grades of 0 and 1 only.

    Source:
        Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.
    """
    best = np.sort(grades)[::-1]
    return _gain(grades[:k]) / _gain(best[:k])


def _gain(grades: Grades) -> float:
    return float((grades / np.log2(np.arange(2, len(grades) + 2))).sum())


METRICS: Mapping[str, Callable[[Grades], float]] = MappingProxyType(
    {f"hit@{k}": lambda grades, k=k: hit(grades, k) for k in (1, 5, 10)}
    | {f"ndcg_linear@{k}": lambda grades, k=k: ndcg(grades, k) for k in (5, 10)}
    | {f"recall@{k}": lambda grades, k=k: recall(grades, k) for k in (1, 5, 10)}
    | {"mrr": reciprocal_rank}
)
"""What is computed of every query, under the names that MMEB's score files use."""

MAIN_METRIC: Mapping[Category, str] = MappingProxyType(
    {"image": "hit@1", "video": "hit@1", "document": "ndcg_linear@5"}
)
"""The one number of a dataset, by category."""


def all_metrics(grades: Grades) -> dict[str, float]:
    """Return all metrics of one ranking, by name."""
    return {name: metric(grades) for name, metric in METRICS.items()}


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over the queries of a dataset, by metric.

    Raises:
        ValueError: there is no query.
    """
    if not rows:
        raise ValueError("there is no query to take the mean of")
    return {name: fmean(row[name] for row in rows) for name in METRICS}
