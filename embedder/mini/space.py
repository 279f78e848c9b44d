"""The space of `mini`: pictures and texts from a classifier and a sentence encoder.

ConSE (Norouzi et al. 2013, https://arxiv.org/abs/1312.5650): a picture lies at the average of the
text vectors of its likely classes, weighted by their probabilities. Beside that stand its
whitened features; for a text, a linear map predicts them from its vector. A head, where there is
one, then moves the picture in the text space. Computed by trainer/mini/features.py.
"""

import io
from dataclasses import dataclass

import numpy as np

from embedder.interface import Vectors, normalised


@dataclass(frozen=True, slots=True)
class Head:
    """A residual network with one hidden layer.

    Attributes:
        inner: Float32 (v + 384 + 1, h): [visual part, text-space part, 1] to the hidden layer.
        outer: Float32 (h + 1, 384): [hidden layer, 1] to what is added.
        text_projection: Float32 (385, v): a text vector, with a 1 appended, to the visual part;
            trained together with the rest, so it replaces the space's own.
    """

    inner: Vectors
    outer: Vectors
    text_projection: Vectors

    @classmethod
    def read(cls, content: bytes) -> "Head":
        """Read the bytes of an npz file; pickled arrays are refused."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{name: np.asarray(arrays[name], np.float32) for name in arrays.files})

    def __call__(self, meaning: Vectors, looks: Vectors) -> Vectors:
        """Move pictures in the text space.

        Args:
            meaning: Their text-space parts, unit rows (n, 384).
            looks: Their visual parts, unit rows (n, v).

        Returns:
            Unit rows (n, 384).
        """
        hidden = np.hstack([looks, meaning]) @ self.inner[:-1] + self.inner[-1]
        added = np.maximum(hidden, 0) @ self.outer[:-1] + self.outer[-1]
        return normalised(meaning + added)


@dataclass(frozen=True, slots=True)
class Space:
    """Maps both towers into one space.

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
        top: How many of the likeliest classes count.
        head: Moves pictures in the text space; None leaves them where ConSE puts them.
    """

    prototypes: Vectors
    mean: Vectors
    projection: Vectors
    text_projection: Vectors
    picture_shares: Vectors
    text_shares: Vectors
    temperature: float
    top: int
    head: Head | None = None

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.prototypes.shape[1] + self.projection.shape[1])

    @classmethod
    def read(cls, content: bytes, head: Head | None = None) -> "Space":
        """Read the bytes of an npz file; pickled arrays are refused."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            wide = {name: np.asarray(arrays[name], dtype=np.float32) for name in arrays.files}
        temperature, top = wide.pop("temperature").item(), round(wide.pop("top").item())
        return cls(**wide, temperature=temperature, top=top, head=head)

    def pictures(self, pooled: Vectors, logits: Vectors) -> Vectors:
        """Map pooled features (n, 1280) and logits (n, 1000) to unit rows (n, dim)."""
        meaning, looks = self.parts(pooled, logits)
        if self.head is not None:
            meaning = self.head(meaning, looks)
        return _join(meaning, looks, self.picture_shares)

    def parts(self, pooled: Vectors, logits: Vectors) -> tuple[Vectors, Vectors]:
        """Return both parts of pictures, without the head: unit rows (n, 384) and (n, v)."""
        scaled = logits / self.temperature
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True)).astype(np.float32)
        threshold = np.partition(weights, -self.top, axis=1)[:, -self.top, None]
        meaning = np.where(weights >= threshold, weights, np.float32(0)) @ self.prototypes
        looks = np.asarray((pooled - self.mean) @ self.projection, dtype=np.float32)
        return normalised(meaning), normalised(looks)

    def texts(self, vectors: Vectors) -> Vectors:
        """Map text vectors (n, 384) to unit rows (n, dim), and zeros to zeros."""
        projection = self.text_projection if self.head is None else self.head.text_projection
        looks = vectors @ projection[:-1] + projection[-1]
        rows = _join(normalised(vectors), normalised(looks), self.text_shares)
        return np.where(vectors.any(axis=1, keepdims=True), rows, np.float32(0))


def _join(meaning: Vectors, looks: Vectors, shares: Vectors) -> Vectors:
    return normalised(np.hstack([shares[0] * meaning, shares[1] * looks]))
