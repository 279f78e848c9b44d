"""Computes what maps both towers into one space: prototypes, whitening, and the text's guess.

Chosen on 298 captioned stamps that are photos and on altered copies of 455 pictures among 1914,
never on the photos that the project is measured on. Of copies, those cut to 80 % came back first in
95 of 100 searches, a quarter of the size in 87, JPEG at quality 30 in 99, recoloured in 100.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.mini.wordnet import Synset

Matrix = NDArray[np.float64]
Floats = NDArray[np.floating]

TEMPERATURE = 2.0
TOP = 100
VISUAL = 256  # directions kept of 1280
SHRINKAGE = 0.05  # of the mean eigenvalue, added to each before whitening
RIDGE = 1.0  # per row of prototypes
# Squared length of the visual part. Pictures among themselves are told apart by looks; a text
# only guesses at looks, so it relies on them less. Both together weigh looks by one third when a
# text is compared with a picture: √(0.2 · 0.5) against √(0.8 · 0.5).
PICTURE_SHARE = 0.5
TEXT_SHARE = 0.2


def unit(rows: Floats) -> Matrix:
    """Rows scaled to unit length, in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def class_texts(classes: Sequence[Synset]) -> dict[str, list[str]]:
    """Ways to say each class: its name, its name and gloss, its gloss, all its names."""
    return {
        "name": [c.names[0] for c in classes],
        "name and gloss": [f"{c.names[0]}: {c.gloss}" for c in classes],
        "gloss": [c.gloss for c in classes],
        "names": [", ".join(c.names) for c in classes],
    }


def build_space(
    classes: Sequence[Synset],
    read: Callable[[list[str]], Floats],
    pooled: Floats,
    classifier: Floats,
) -> dict[str, NDArray[np.generic]]:
    """The arrays of space.npz.

    A prototype is the text vector of the class name plus that of "name: gloss", normalised. The
    visual part is z = Sᵀ(x − μ) with S = U (Λ + ε)^-½ of the features' covariance U Λ Uᵀ. For a
    class with classifier weights w, x·w = z·w' + constant with w' = (Λ + ε)^½ Uᵀ w, so w' is what
    a text that names the class should look like; ridge regression from text vectors learns it.

    Args:
        classes: In the order of the classifier.
        read: Texts to unit vectors (n, 384).
        pooled: Features of many pictures (m, 1280).
        classifier: Weights (1000, 1280).
    """
    said = {kind: read(texts) for kind, texts in class_texts(classes).items()}
    prototypes = unit(said["name"] + said["name and gloss"])
    mean, directions, scale = _whitening(pooled)
    looks = unit((classifier - classifier.mean(axis=0)) @ directions * scale)
    inputs = np.vstack([said["name"], said["gloss"], said["names"], prototypes])
    targets = np.tile(looks, (len(inputs) // len(looks), 1))
    return {
        "prototypes": prototypes.astype(np.float16),
        "mean": mean.astype(np.float32),
        "projection": (directions / scale).astype(np.float16),
        "text_projection": _ridge(inputs, targets).astype(np.float16),
        "picture_shares": _shares(PICTURE_SHARE),
        "text_shares": _shares(TEXT_SHARE),
        "temperature": np.array(TEMPERATURE, dtype=np.float32),
        "top": np.array(TOP),
    }


def last_layer(pooled: Floats, logits: Floats) -> Matrix:
    """The classifier's weights (1000, 1280), solved from what it answers.

    Logits are linear in pooled features, so with more pictures than features least squares gives
    the layer itself, up to the rounding of both; the packaged checkpoint is not needed.

    Args:
        pooled: Features of more than 1280 pictures (m, 1280).
        logits: Of the same (m, 1000).
    """
    extended = np.hstack([pooled, np.ones((len(pooled), 1))]).astype(np.float64)
    solved = np.linalg.lstsq(extended, logits.astype(np.float64), rcond=None)[0]
    return np.asarray(solved[:-1].T)


def _whitening(pooled: Floats) -> tuple[Matrix, Matrix, Matrix]:
    """Mean (1280,), strongest directions (1280, v) and their shrunken deviations (v,)."""
    mean = pooled.mean(axis=0, dtype=np.float64)
    centred = pooled - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    strongest = slice(None, -VISUAL - 1, -1)
    scale = np.sqrt(values[strongest] + SHRINKAGE * values.mean())
    return mean, vectors[:, strongest], scale


def _ridge(inputs: Matrix, targets: Matrix) -> Matrix:
    """argmin over R of Σ‖[x 1] R − y‖² + λ‖R‖², with λ = RIDGE · rows / 1000."""
    extended = np.hstack([inputs, np.ones((len(inputs), 1))])
    penalty = RIDGE * len(inputs) / 1000 * np.eye(extended.shape[1])
    return np.asarray(np.linalg.solve(extended.T @ extended + penalty, extended.T @ targets))


def _shares(visual: float) -> NDArray[np.float32]:
    """Lengths of the text-space part and the visual part."""
    return np.sqrt(np.array([1 - visual, visual])).astype(np.float32)
