"""How long a typed query takes, from words to hits, in a library of many segments.

    python benchmarks/latency.py [--segments 10000] [--queries 60]

Half of the segments are pictures, a tenth clips, two tenths pages and two tenths passages, all made
up: their vectors are clustered around random directions, because embedding them is not what is
measured here, and their texts are common words drawn by Zipf's law. The queries are embedded by
`mini`.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import numpy as np
from PIL import Image

import embedder
from embedder import Content, Role, open_embedder
from embedder.interface import BaseEmbedder, Vectors, normalised
from indexer import Library
from indexer.entities import Query
from indexer.queries import text_part

TOKENS = json.loads((Path(embedder.__file__).parent / "weights/tokenizer.json").read_text())
WORDS = [word for word in TOKENS["model"]["vocab"] if word.isalpha() and len(word) > 2][:5000]
WEIGHTS = [1 / (rank + 10) for rank in range(len(WORDS))]


class MadeUpDocuments(BaseEmbedder):
    """Embeds queries as `mini` does and gives documents made-up vectors, in no time."""

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


def write_media(folder: Path, segments: int) -> None:
    """Small real files of every kind that come to about so many segments."""
    import cv2
    import pymupdf

    chance = random.Random(1)

    def words(count: int) -> str:
        return " ".join(chance.choices(WORDS, WEIGHTS, k=count))

    for number in range(segments // 2):
        name = f"{words(1)}-IMG_{number:05}.bmp"
        colour = tuple(chance.randrange(256) for _ in range(3))
        Image.new("RGB", (8, 8), colour).save(folder / name)
    for number in range(segments // 100):
        path = str(folder / f"{words(2)} {number}.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 2, (16, 16))
        for frame in range(200):
            writer.write(np.full((16, 16, 3), (frame + number) % 256, dtype=np.uint8))
        writer.release()
    for number in range(segments // 100):
        document = pymupdf.open()
        for _ in range(20):
            document.new_page(width=200, height=200).insert_textbox((9, 9, 190, 190), words(60))
        document.save(folder / f"{words(2)} {number}.pdf")
    for number in range(segments // 50):
        text = "\n\n".join(words(100) for _ in range(10))
        (folder / f"{words(2)} {number}.txt").write_text(text)


def main() -> None:
    """Builds the library, asks, and prints what took how long."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=60)
    given = parser.parse_args()
    chance = random.Random(2)
    asked = [" ".join(chance.choices(WORDS, WEIGHTS, k=1 + n % 6)) for n in range(given.queries)]
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder, "media")
        media.mkdir()
        write_media(media, given.segments)
        with Library.open(Path(folder, "library"), embedder=MadeUpDocuments()) as library:
            library.ingest([media])
            library.search(Query((text_part("warm up"),)))
            stats = library.stats()
            whole, embedding = [], []
            for text in asked:
                start = time.perf_counter()
                library.search(Query((text_part(text),)))
                whole.append(1000 * (time.perf_counter() - start))
                start = time.perf_counter()
                library.embedder.embed([Content(text=text)], role="query")
                embedding.append(1000 * (time.perf_counter() - start))
    held = ", ".join(f"{count} {kind}" for kind, count in stats.segments.items())
    print(f"{sum(stats.segments.values())} segments ({held}), {len(asked)} queries of 1 to 6 words")
    for name, times in (("query to hits", whole), ("embedding alone", embedding)):
        print(
            f"{name:16} median {median(times):6.1f} ms   95 % {quantiles(times, n=20)[-1]:6.1f} ms"
        )
    print(f"ratio            {median(whole) / median(embedding):6.1f}")


if __name__ == "__main__":
    main()
