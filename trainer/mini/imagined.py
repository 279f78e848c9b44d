"""Features of photos that nobody took: the classes of ImageNet, without ImageNet.

There are few photos in Debian's packages, and of most things none. But the classifier knows where
its thousand classes lie. Were the features of every class a cloud of one shape (the assumption of
linear discriminants), its weights would be w = Σ⁻¹(μ_class − μ), and the way from any photo
towards the class Σ w. That overshoots: features became 22 long, where those of photos are 13 and
of clear photos of animals 11. The way Σ^½ w, between that and the shortest way w, gives 15, with
the highest logit at 8.0 where clear photos of animals have 7.0.
"""

import numpy as np

from embedder.interface import Vectors
from trainer.mini.features import Seen
from trainer.mini.space import last_layer

_LEAD = (0.0, 4.0)  # of the class over all others, in logits
_STEPS = 12


def imagined(photos: Seen, count: int, seed: int = 0) -> tuple[Seen, list[int]]:
    """Photos moved towards classes.

    Args:
        photos: Real ones, more than 1280 views.
        count: How many to imagine; each has a photo and a class of its own.
        seed: Of the choice of photos, classes and leads.

    Returns:
        Pooled features with the logits that the classifier gives them, under the names of the
        photos that they were made from; and their classes.
    """
    chance = np.random.default_rng(seed)
    weights = last_layer(photos.pooled, photos.logits).astype(np.float32)
    bias = (photos.logits - photos.pooled @ weights.T).mean(axis=0)
    centred = weights - weights.mean(axis=0)
    ways = centred @ _root(np.cov(photos.pooled.T))
    # One step of a way raises the logit of its class by 1.
    ways /= (ways * centred).sum(axis=1, keepdims=True)
    rows = chance.integers(len(photos.pooled), size=count)
    classes = chance.integers(len(weights), size=count)
    leads = chance.uniform(*_LEAD, size=count)
    pooled = photos.pooled[rows]
    for _ in range(_STEPS):  # Again and again, since features below 0 are cut off.
        logits = pooled @ weights.T + bias
        own = logits[np.arange(count), classes]
        logits[np.arange(count), classes] = -np.inf
        missing = np.maximum(logits.max(axis=1) + leads - own, 0).astype(np.float32)
        pooled = np.maximum(pooled + missing[:, None] * ways[classes], 0)
    logits = pooled @ weights.T + bias
    names = [photos.names[row] for row in rows]
    return Seen(names, _single(pooled), _single(logits)), classes.tolist()


def _root(covariance: np.ndarray) -> Vectors:
    """Σ^½."""
    values, vectors = np.linalg.eigh(covariance)
    return _single(vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)


def _single(rows: np.ndarray) -> Vectors:
    return np.asarray(rows, dtype=np.float32)
