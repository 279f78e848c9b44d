"""From evidence to a probability that a segment is what a query asks for.

Pure functions of arrays: cosines go through the embedder's calibration for the two modalities
(Platt scaling); the parts of a mixed query are averaged as log-odds by weight; independent
evidence, likeness and words and file name, is combined as p = 1 − Π(1 − pₑ); what a hit should not
be like takes log-odds away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedder.content import Modality
from embedder.interface import Calibration, EmbedderInfo, Vectors

Probabilities = NDArray[np.float64]
"""Float64 array of shape (n,), each from 0 to 1."""

EVERY_WORD = 0.7
"""Least probability of a segment whose text has all words."""

_LOGIT_BOUND = 6.0
_COPY = 0.95  # cosine from which on a picture is taken for a copy, whatever others are like
_PENALTY = 2.0

# From a typical cosine to the midpoint. Tails are longer than normal ones: by `mini`, 49 to 60 % of
# pictures and clips without a match have one above 2.75 deviations among 200 to 250 others, 2 to
# 11 % one above 5, and 0 to 1 % one above 6. Of altered copies 50 to 76 % find the original there.
_DEVIATIONS = 5.5


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The embedded parts of a query that hits should be like, or those that they should not.

    Attributes:
        vectors: Unit rows, float32 (parts, dim), by the modality of the documents to find: the
            model's instruction may depend on it.
        modalities: The modality of each part.
        weights: Float32 (parts,), above 0.
        terms: Words to look up, from typed parts.
        typed: Which parts (parts,) are words to look up as well.
        quoted: Whether all that is asked for are quoted phrases.
    """

    vectors: Mapping[Modality, Vectors]
    modalities: tuple[Modality, ...]
    weights: NDArray[np.float32]
    terms: tuple[str, ...]
    typed: NDArray[np.bool_]
    quoted: bool = False


def log_odds(
    info: EmbedderInfo, side: Side, documents: Sequence[tuple[Modality, Vectors]]
) -> NDArray[np.float64]:
    """Return how likely each document is what each part asks for, by vectors alone.

    Args:
        info: About the model that made the vectors.
        side: The parts, at least one.
        documents: Float32 (n, dim) vectors by modality.

    Returns:
        Calibrated log-odds (parts, N), the N documents in the given order.
    """
    found = np.empty((len(side.modalities), sum(len(rows) for _, rows in documents)))
    end = 0
    for document, rows in documents:
        start, end = end, end + len(rows)
        cosines = side.vectors[document] @ rows.T
        for row, cosine, modality in zip(found, cosines, side.modalities, strict=True):
            row[start:end] = info.calibrated(modality, document).logit(cosine)
    return found


def fitted(cosines: NDArray[np.float32]) -> Calibration:
    """Fit a calibration to pairs of which most have nothing in common.

    Many may be related, as photos of one occasion are: the median and the median absolute deviation
    hardly change. A typical pair is as unlikely as evidence can make it.

    Args:
        cosines: Of the pairs (n,), at least one.
    """
    typical = float(np.median(cosines))
    deviation = 1.4826 * float(np.median(np.abs(cosines - typical)))
    distance = max(_DEVIATIONS * deviation, 0.01)
    return Calibration(min(typical + distance, _COPY), _LOGIT_BOUND / distance)


def likeness(
    side: Side, logits: NDArray[np.float64], keywords: Probabilities | None = None
) -> Probabilities:
    """Return how likely each document is what all parts together ask for.

    Words in a document count for typed parts only: they do not make up for a picture that it should
    be like as well.

    Args:
        side: The wanted parts, at least one.
        logits: Their `log_odds` (parts, n).
        keywords: Further evidence (n,) for typed parts, from words and names.
    """
    if keywords is not None:
        logits = np.where(side.typed[:, None], _combined(logits, keywords), logits)
    return _probability(side.weights @ _bounded(logits) / side.weights.sum())


def without(relevance: Probabilities, side: Side, logits: NDArray[np.float64]) -> Probabilities:
    """Return relevance reduced by what documents share with the unwanted parts.

    The penalty is the softplus of the log-odds, so documents clearly unlike them lose nothing.

    Args:
        relevance: Probability of each document (n,).
        side: The unwanted parts, at least one.
        logits: Their `log_odds` (parts, n).
    """
    penalty = side.weights @ np.logaddexp(0, _bounded(logits))
    odds = np.log(relevance + 1e-9) - np.log1p(1e-9 - relevance)
    return _probability(odds - _PENALTY * penalty)


def together(*evidence: Probabilities) -> Probabilities:
    """Combine independent evidence: p = 1 − Π(1 − pₑ)."""
    return np.asarray(1 - np.prod([1 - p for p in evidence], axis=0), dtype=np.float64)


def of_words(scores: NDArray[np.float64], every: NDArray[np.bool_]) -> Probabilities:
    """Return probabilities of segments whose texts have words of the query.

    All words are strong evidence, some of them weak evidence; within both, BM25 decides.

    Args:
        scores: BM25 scores (n,), higher is better.
        every: Which texts (n,) have every term.
    """
    found = np.empty(len(scores))
    for all_of_them, least, most in ((True, EVERY_WORD, 0.2), (False, 0.0, 0.3)):
        rows = every == all_of_them
        best = scores[rows].max(initial=0.0)
        found[rows] = least + most * (scores[rows] / best if best > 0 else 0.0)
    return found


def aligned(found: Mapping[int, float], ids: NDArray[np.int64]) -> Probabilities:
    """Return the values of a mapping in the order of `ids`, 0 where there is none."""
    if not found:
        return np.zeros(len(ids))
    return np.array([found.get(i, 0.0) for i in ids.tolist()], dtype=np.float64)


def _combined(logits: NDArray[np.float64], keywords: Probabilities) -> NDArray[np.float64]:
    """Return the log-odds of 1 − (1 − p)(1 − keywords), where p has the log-odds given."""
    doubt = np.log1p(-keywords) - np.logaddexp(0, np.clip(logits, -60, 60))
    return np.asarray(np.log(-np.expm1(doubt)) - doubt, dtype=np.float64)


def _bounded(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bound log-odds softly: no part drowns the others, and near-ties stay in order."""
    return np.asarray(_LOGIT_BOUND * np.tanh(logits / _LOGIT_BOUND), dtype=np.float64)


def _probability(logits: NDArray[np.floating]) -> Probabilities:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, dtype=np.float64))), dtype=np.float64)
