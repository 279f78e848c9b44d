"""Features of pictures and texts, the space that joins both towers, and imagined photos.

Features are cached in a folder as float16: the towers' weights are float16 too, and heads are
trained on noisier inputs. A cached file is used only for the same tower and the same names.

The space (prototypes, whitening, and the text's predicted looks) was chosen on 298 captioned stamps
that are photos and on altered copies of 455 pictures among 1914, never on the photos that the
project is measured on. Of copies, those cut to 80 % came back first in 95 of 100 searches, a
quarter of the size in 87, JPEG at quality 30 in 99, recoloured in 100.

Imagined photos are features of photos that do not exist. There are few photos in Debian's
packages, and of most things none. But the classifier knows where its thousand classes lie. Were
the features of every class a cloud of one shape (the assumption of linear discriminants), its
weights would be w = Σ⁻¹(μ_class − μ), and the way from any photo towards the class Σ w. That
overshoots: features became 22 long, where those of photos are 13 and of clear photos of animals
11. The way Σ^½ w, between that and the shortest way w, gives 15, with the highest logit at 8.0
where clear photos of animals have 7.0.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from tqdm import tqdm

from embedder.interface import Vectors
from embedder.mini.embedder import CLS, SEP, Weights, pixels_of
from embedder.mini.sentences import DIM
from embedder.mini.text import WINDOW, SentenceEncoder
from trainer.mini.words import Synset
from trainer.output import atomic_file

_PICTURES_PER_BATCH = 32
_TEXTS_PER_BATCH = 2000
Matrix = NDArray[np.float64]
Floats = NDArray[np.floating]
TEMPERATURE = 2.0
TOP = 100
VISUAL = 256  # directions kept of 1280
SHRINKAGE = 0.05  # of the mean eigenvalue, added to each before whitening
RIDGE = 1.0  # per row of prototypes
# Squared length of the visual part. Looks distinguish pictures from each other; a text's looks are
# only predicted, so it relies on them less. Both together weigh looks by one third when a text is
# compared with a picture: √(0.2 · 0.5) against √(0.8 · 0.5).
PICTURE_SHARE = 0.5
TEXT_SHARE = 0.2
_LEAD = (0.0, 4.0)  # of the class over all others, in logits
_IMAGINING_STEPS = 12


@dataclass(frozen=True, slots=True)
class PictureFeatures:
    """The vision tower's outputs for pictures.

    Attributes:
        names: Of the pictures (n,); several views of one may share a name.
        pooled: Float32 (n, 1280).
        logits: Float32 (n, 1000).
    """

    names: list[str]
    pooled: Vectors
    logits: Vectors

    def __getitem__(self, rows: Any) -> "PictureFeatures":
        chosen = np.arange(len(self.names))[rows]
        names = [self.names[i] for i in chosen]
        return PictureFeatures(names, self.pooled[chosen], self.logits[chosen])


class Features:
    """Computes and caches the features of sets of pictures.

    Args:
        weights: Of `vision.onnx`.
        folder: The cache.
        threads: CPU threads; None leaves it to ONNX Runtime. How sums are split among threads
            changes last digits.
    """

    def __init__(self, weights: Weights, folder: Path, threads: int | None = None) -> None:
        self._weights = weights
        self._folder = folder
        self._threads = threads

    def of(
        self, kind: str, pictures: Iterable[tuple[str, Image.Image]], version: str
    ) -> PictureFeatures:
        """Return the features of a set of pictures.

        Args:
            kind: Name of the set, of letters, digits and hyphens.
            pictures: Names and RGB pictures; opened only if they are not cached.
            version: Of the pictures: another version than the cached one computes all again.
        """
        stated = f"{self._weights.files['vision.onnx']['sha256']} {version}"
        digest = hashlib.sha256(stated.encode()).hexdigest()[:16]
        path = self._folder / f"{kind}-{digest}.npz"
        if not path.exists():
            bar = tqdm(pictures, kind, unit=" pictures", disable=None)
            seen = see(self._weights, bar, self._threads)
            pooled, logits = (rows.astype(np.float16) for rows in (seen.pooled, seen.logits))
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as partial:
                np.savez(partial, names=np.array(seen.names), pooled=pooled, logits=logits)
        with np.load(path, allow_pickle=False) as arrays:
            wide = (arrays[name].astype(np.float32) for name in ("pooled", "logits"))
            return PictureFeatures(arrays["names"].tolist(), *wide)


def see(
    weights: Weights, pictures: Iterable[tuple[str, Image.Image]], threads: int | None = None
) -> PictureFeatures:
    """Compute the features of pictures.

    Args:
        weights: Of `vision.onnx`.
        pictures: Names and RGB pictures, at least one.
        threads: See `Features`.
    """
    session = _session(weights.read("vision.onnx"), threads)
    names: list[str] = []
    outputs: list[list[Vectors]] = []
    waiting = iter(pictures)
    while batch := list(itertools.islice(waiting, _PICTURES_PER_BATCH)):
        pixels = np.stack([pixels_of(image) for _, image in batch])
        outputs.append(session.run(None, {"pixels": pixels}))
        names += [name for name, _ in batch]
    pooled, logits = (np.concatenate(rows) for rows in zip(*outputs, strict=True))
    return PictureFeatures(names, pooled, logits)


def _session(model: bytes, threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class TextEncoder:
    """Encodes texts to unit rows (n, 384); of a long text the first 256 tokens."""

    def __init__(self, weights: Weights, threads: int | None = None) -> None:
        session = _session(weights.read("text.onnx"), threads)
        self._tokenizer = Tokenizer.from_str(weights.read("tokenizer.json").decode("utf-8"))
        self._tokenizer.enable_truncation(WINDOW)
        self._encoder = SentenceEncoder(session, self._tokenizer, (CLS, SEP), DIM)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Encode texts."""
        rows = []
        for start in range(0, len(texts), _TEXTS_PER_BATCH):
            encodings = self._tokenizer.encode_batch(list(texts[start : start + _TEXTS_PER_BATCH]))
            rows.append(self._encoder.run([encoding.ids for encoding in encodings]))
        return np.concatenate(rows)


def unit(rows: Floats) -> Matrix:
    """Scale rows to unit length, in float64."""
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def class_texts(classes: Sequence[Synset]) -> dict[str, list[str]]:
    """Return ways to say each class: name, name and gloss, gloss, all names."""
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
    """Compute the arrays of space.npz.

    A prototype is the text vector of the class name plus that of "name: gloss", normalised. The
    visual part is z = Sᵀ(x − μ) with S = U (Λ + ε)^-½ of the features' covariance U Λ Uᵀ. For a
    class with classifier weights w, x·w = z·w' + constant with w' = (Λ + ε)^½ Uᵀ w, so w' is what
    a text that names the class should look like; ridge regression from text vectors learns it.

    Args:
        classes: In the order of the classifier.
        read: Maps texts to unit vectors (n, 384).
        pooled: Features of many pictures (m, 1280).
        classifier: Weights (1000, 1280).
    """
    vectors = {kind: read(texts) for kind, texts in class_texts(classes).items()}
    prototypes = unit(vectors["name"] + vectors["name and gloss"])
    mean, directions, scale = _whitening(pooled)
    looks = unit((classifier - classifier.mean(axis=0)) @ directions * scale)
    inputs = np.vstack([vectors["name"], vectors["gloss"], vectors["names"], prototypes])
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
    """Solve for the classifier's weights (1000, 1280) from its logits.

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
    """Return mean (1280,), strongest directions (1280, v), shrunken deviations (v,)."""
    mean = pooled.mean(axis=0, dtype=np.float64)
    centred = pooled - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    strongest = slice(None, -VISUAL - 1, -1)
    scale = np.sqrt(values[strongest] + SHRINKAGE * values.mean())
    return mean, vectors[:, strongest], scale


def _ridge(inputs: Matrix, targets: Matrix) -> Matrix:
    """Return argmin over R of Σ‖[x 1] R − y‖² + λ‖R‖², λ = RIDGE · rows / 1000."""
    extended = np.hstack([inputs, np.ones((len(inputs), 1))])
    penalty = RIDGE * len(inputs) / 1000 * np.eye(extended.shape[1])
    return np.asarray(np.linalg.solve(extended.T @ extended + penalty, extended.T @ targets))


def _shares(visual: float) -> NDArray[np.float32]:
    """Return the lengths of the text-space part and the visual part."""
    return np.sqrt(np.array([1 - visual, visual])).astype(np.float32)


def imagined(
    photos: PictureFeatures, count: int, seed: int = 0
) -> tuple[PictureFeatures, list[int]]:
    """Move photos towards classes.

    Args:
        photos: Real ones, more than 1280 views.
        count: How many to imagine, each from a random photo and class.
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
    for _ in range(_IMAGINING_STEPS):  # Repeated, since features below 0 are clipped.
        logits = pooled @ weights.T + bias
        own = logits[np.arange(count), classes]
        logits[np.arange(count), classes] = -np.inf
        missing = np.maximum(logits.max(axis=1) + leads - own, 0).astype(np.float32)
        pooled = np.maximum(pooled + missing[:, None] * ways[classes], 0)
    logits = pooled @ weights.T + bias
    names = [photos.names[row] for row in rows]
    return PictureFeatures(names, _single(pooled), _single(logits)), classes.tolist()


def _root(covariance: np.ndarray) -> Vectors:
    """Return Σ^½."""
    values, vectors = np.linalg.eigh(covariance)
    return _single(vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)


def _single(rows: np.ndarray) -> Vectors:
    return np.asarray(rows, dtype=np.float32)
