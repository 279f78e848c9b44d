"""Where `mini` places pictures and texts: one space from a classifier and a sentence encoder.

ConSE (Norouzi et al. 2013, https://arxiv.org/abs/1312.5650): a picture lies at the average of the
text vectors of its likely classes, weighted by their probabilities. Beside that stand its
whitened features; for a text, a ridge regression guesses them from its vector. Computed by
trainer/mini/space.py.
"""

import io
from dataclasses import dataclass

import numpy as np

from embedder.interface import Vectors, normalised


@dataclass(frozen=True, slots=True)
class Space:
    """What maps both towers into one space.

    A vector is [text space (384) | visual (v)], each part of fixed length, so that a plain dot
    product compares everything with everything.

    Attributes:
        prototypes: Float32 (1000, 384): the unit text vector that stands for each class.
        mean: Float32 (1280,): subtracted from pooled features.
        projection: Float32 (1280, v): whitens them and keeps their strongest directions.
        text_projection: Float32 (385, v): a text vector, with a 1 appended, to the visual part.
        picture_shares: Float32 (2,): lengths of the text-space part and of the visual part of a
            picture; their squares add up to 1.
        text_shares: The same for a text.
        temperature: Divides the logits before the softmax.
        top: How many classes take part.
    """

    prototypes: Vectors
    mean: Vectors
    projection: Vectors
    text_projection: Vectors
    picture_shares: Vectors
    text_shares: Vectors
    temperature: float
    top: int

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.prototypes.shape[1] + self.projection.shape[1])

    @classmethod
    def read(cls, content: bytes) -> "Space":
        """From the bytes of an npz file, in which nothing may be pickled."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            wide = {name: np.asarray(arrays[name], dtype=np.float32) for name in arrays.files}
        temperature, top = wide.pop("temperature").item(), round(wide.pop("top").item())
        return cls(**wide, temperature=temperature, top=top)

    def pictures(self, pooled: Vectors, logits: Vectors) -> Vectors:
        """Pooled features (n, 1280) and logits (n, 1000) to unit rows (n, dim)."""
        scaled = logits / self.temperature
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True)).astype(np.float32)
        least = np.partition(weights, -self.top, axis=1)[:, -self.top, None]
        meaning = np.where(weights >= least, weights, np.float32(0)) @ self.prototypes
        looks = np.asarray((pooled - self.mean) @ self.projection, dtype=np.float32)
        return _join(meaning, looks, self.picture_shares)

    def texts(self, vectors: Vectors) -> Vectors:
        """Text vectors (n, 384) to unit rows (n, dim)."""
        looks = vectors @ self.text_projection[:-1] + self.text_projection[-1]
        return _join(vectors, looks, self.text_shares)


def _join(meaning: Vectors, looks: Vectors, shares: Vectors) -> Vectors:
    return normalised(np.hstack([shares[0] * normalised(meaning), shares[1] * normalised(looks)]))
