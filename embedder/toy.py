"""`toy`: a tiny deterministic embedder without weights, for tests.

It is a working fake: texts that share words are near each other, pictures that share colours are,
and a picture is near the words for its colour.
"""

import re
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from embedder.content import Content, Modality, Role
from embedder.interface import (
    Backend,
    BaseEmbedder,
    Calibration,
    Embedder,
    EmbedderInfo,
    Vectors,
    normalised,
)

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (30, 60, 220),
    "yellow": (240, 220, 40),
    "orange": (245, 140, 30),
}
_WORD_BUCKETS = 64
_GRID = 4


class ToyEmbedder(BaseEmbedder):
    """Hashed words, named colours and a coarse grid of a picture, side by side."""

    batch_size = 64

    def __init__(self) -> None:
        super().__init__()
        self.info = EmbedderInfo(
            name="toy",
            revision="1",
            dim=_WORD_BUCKETS + len(COLOURS) + 3 * _GRID * _GRID,
            modalities=frozenset(Modality),
            frame_side=64,
            calibration={
                (query, document): Calibration(midpoint=0.3, slope=9.0)
                for query in Modality
                for document in Modality
            },
        )

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        return np.stack([_embed(content) for content in contents])


def _embed(content: Content) -> Vectors:
    parts = [_embed_picture(frame) for frame in content.frames]
    pictures = normalised(np.sum(parts, axis=0)) if parts else 0.0
    words = _embed_text(content.text) if content.text else 0.0
    return normalised(np.asarray(pictures + words))


def _embed_text(text: str) -> Vectors:
    row = np.zeros(_WORD_BUCKETS + len(COLOURS) + 3 * _GRID * _GRID, dtype=np.float32)
    names = list(COLOURS)
    for word in re.findall(r"\w+", text.lower()) or [text]:
        if word in COLOURS:
            row[_WORD_BUCKETS + names.index(word)] += 2
        row[crc32(word.encode(errors="replace")) % _WORD_BUCKETS] += 1
    return normalised(row)


def _embed_picture(frame: Image.Image) -> Vectors:
    grid = np.asarray(frame.resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float32)
    distance = np.linalg.norm(np.array(list(COLOURS.values())) - grid.mean(axis=(0, 1)), axis=1)
    colours = np.exp(-distance / 40)
    detail = (grid - 127.5).ravel() / 127.5
    row = np.concatenate([np.zeros(_WORD_BUCKETS), normalised(colours), 0.5 * normalised(detail)])
    return normalised(row)


def _open(argument: str, **_options: Any) -> Embedder:
    return ToyEmbedder()


BACKEND = Backend(family="toy", summary="tiny, for tests", open=_open, listed=False)
