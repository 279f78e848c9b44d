"""Relevance feedback: what yes and no to some documents say about the others.

Bayesian logistic regression with the search's own log-odds as offset: the log-odds of a document
with vector x become

    l(x) + b + v · (x − μ) / |x − μ|,    b ~ N(0, 1), v ~ N(0, 9 I),

with the b and v that are most probable after the answers, and μ the mean of the vectors that are
compared. Few answers move little; many move what is like them by several units, the rest by b.

Sources: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 3.4: the
same in its dual form, of which the cost depends on the number of answers, not on the dimensions.
Böhning, "Multinomial logistic regression algorithm", 1992: with its bound of the curvature, each
step leads upwards, where one of Newton's method may not.
"""

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors

LogOdds = NDArray[np.float64]
"""Float64 array of shape (n,)."""

_OFFSET_VARIANCE = 1.0
_SLOPE_VARIANCE = 9.0
_CURVATURE = 0.25  # The most that the curvature of a logistic likelihood can be.
_STEPS = 200
_SHORTEST = 1e-3  # Shorter differences are of rounding.


def adjusted(
    log_odds: LogOdds, vectors: Vectors, rows: NDArray[np.intp], answers: NDArray[np.bool_]
) -> LogOdds:
    """Return the log-odds of documents after some of them were answered.

    Args:
        log_odds: By the search (n,).
        vectors: `centred` (n, dim).
        rows: The documents that were answered (m,).
        answers: Whether each of them is what is searched for (m,).
    """
    if not len(rows):
        return log_odds
    near = _OFFSET_VARIANCE + _SLOPE_VARIANCE * (vectors @ vectors[rows].T).astype(np.float64)
    among, shift = near[rows], np.zeros(len(rows))
    step = np.linalg.solve(np.eye(len(rows)) + _CURVATURE * among, among)
    for _ in range(_STEPS):
        surprise = answers - _probability(log_odds[rows] + shift)
        shift = step @ (_CURVATURE * shift + surprise)
    return log_odds + near @ (answers - _probability(log_odds[rows] + shift))


def centred(vectors: Vectors) -> Vectors:
    """Return unit vectors (n, dim) of the differences from their mean; zeros for no difference.

    Vectors of a model lie in a narrow cone: only without what they share do they differ in sign.
    """
    apart = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    return np.asarray(apart / np.maximum(lengths, _SHORTEST), dtype=np.float32)


def log_odds_of(probability: NDArray[np.float64]) -> LogOdds:
    """Return the log-odds of probabilities (n,), none of them beyond ±6."""
    return np.asarray(np.clip(np.log(probability / (1 - probability)), -6, 6), dtype=np.float64)


def _probability(log_odds: LogOdds) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)
