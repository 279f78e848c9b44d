"""Generated media for measuring searches in a library of many segments.

Half of the segments are pictures, a tenth clips, two tenths pages and two tenths passages. Their
vectors are clustered around random directions, because embedding is not measured; their texts are
common words drawn by Zipf's law.
"""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

import embedder
from embedder import Content, Role, open_embedder
from embedder.interface import BaseEmbedder, Vectors, normalised

TOKENS = json.loads((Path(embedder.__file__).parent / "mini/weights/tokenizer.json").read_text())
WORDS = [word for word in TOKENS["model"]["vocab"] if word.isalpha() and len(word) > 2][:5000]
WEIGHTS = [1 / (rank + 10) for rank in range(len(WORDS))]
_FIRST_DAY, _LAST_DAY = 1_451_606_400, 1_735_689_600  # of 2016 and of 2025, seconds


class MadeUpDocuments(BaseEmbedder):
    """Embeds queries with `mini` and documents as random clustered vectors, instantly."""

    def __init__(self) -> None:
        super().__init__()
        self._mini = open_embedder("mini")
        self.info = self._mini.info
        self._random = np.random.default_rng(1)
        self._centres = normalised(self._random.standard_normal((200, self.info.dim)))

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        if role == "query":
            return self._mini.embed(contents, role)
        noise = self._random.standard_normal((len(contents), self.info.dim)) / 25
        return normalised(self._centres[self._random.integers(200, size=len(contents))] + noise)


def words(chance: random.Random, count: int) -> str:
    """Draw common words."""
    return " ".join(chance.choices(WORDS, WEIGHTS, k=count))


def write_media(folder: Path, segments: int) -> None:
    """Write small real files of every kind, from ten years, with about this many segments."""
    import cv2
    import pymupdf

    chance = random.Random(1)
    for number in range(segments // 2):
        name = f"{words(chance, 1)}-IMG_{number:05}.bmp"
        colour = tuple(chance.randrange(256) for _ in range(3))
        Image.new("RGB", (8, 8), colour).save(folder / name)
    for number in range(segments // 100):
        path = str(folder / f"{words(chance, 2)} {number}.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 2, (16, 16))
        for frame in range(200):
            writer.write(np.full((16, 16, 3), (frame + number) % 256, dtype=np.uint8))
        writer.release()
    for number in range(segments // 100):
        document = pymupdf.open()
        for _ in range(20):
            page = document.new_page(width=200, height=200)
            page.insert_textbox((9, 9, 190, 190), words(chance, 60))
        document.save(folder / f"{words(chance, 2)} {number}.pdf")
    for number in range(segments // 50):
        text = "\n\n".join(words(chance, 100) for _ in range(10))
        (folder / f"{words(chance, 2)} {number}.txt").write_text(text)
    for file in sorted(folder.iterdir()):
        moment = chance.randrange(_FIRST_DAY, _LAST_DAY)
        os.utime(file, (moment, moment))
