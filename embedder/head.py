"""The head of `mini`: moves a picture's place in the text space by what its features say.

ConSE knows a picture by the classes of ImageNet alone, so a drawing of a lighthouse is near
whatever its classifier takes drawings for. The head adds what it was taught on captioned drawings:

    m' = unit(m + b₂ + W₂ · max(0, b₁ + W₁ · [v m]))

with m the unit text-space part and v the unit visual part of the picture. Trained by
trainer/mini/head.py.
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
            taught together with the rest, so it stands for the space's own.
    """

    inner: Vectors
    outer: Vectors
    text_projection: Vectors

    @classmethod
    def read(cls, content: bytes) -> "Head":
        """From the bytes of an npz file, in which nothing may be pickled."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(**{name: np.asarray(arrays[name], np.float32) for name in arrays.files})

    def __call__(self, meaning: Vectors, looks: Vectors) -> Vectors:
        """Moves pictures.

        Args:
            meaning: Unit rows (n, 384).
            looks: Unit rows (n, v).

        Returns:
            Unit rows (n, 384).
        """
        hidden = np.hstack([looks, meaning]) @ self.inner[:-1] + self.inner[-1]
        added = np.maximum(hidden, 0) @ self.outer[:-1] + self.outer[-1]
        return normalised(meaning + added)
