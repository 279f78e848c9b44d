"""How long a whole search of a large library takes, the embedding of its query left out.

    python -m benchmarks.library DIR [--queries 200] [--profile]

DIR is a library that `benchmarks/filled.py` made; its vector index is built first if it has none,
which takes minutes for a million segments. Queries are one to six words that are drawn as the
library's texts were, and a vector that is drawn as its vectors were. Beside the whole search stands
the search for the nearest vectors alone, as the search asks for them.
"""

import argparse
import cProfile
import pstats
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from benchmarks.madeup import WEIGHTS, WORDS
from embedder import Content, Role, open_embedder
from embedder.interface import BaseEmbedder, Vectors, normalised
from embedder.media.kinds import Kind
from indexer import Library
from indexer.search.query import text_part
from indexer.types import Filters, Query

ANY = Filters()
NOISE = 0.7
HITS = 20
DEPTH = 60


class Given(BaseEmbedder):
    """Gives each text a vector that was made beforehand."""

    def __init__(self, vectors: dict[str, Vectors]) -> None:
        super().__init__()
        with open_embedder("mini") as mini:
            self.info = mini.info
        self.vectors = vectors

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        return np.array([self.vectors[one.text or ""] for one in contents])


def questions(library: Library, count: int) -> dict[str, Vectors]:
    """Words, each with a vector between two of the library's and some noise."""
    chance = random.Random(2)
    texts = [" ".join(chance.choices(WORDS, WEIGHTS, k=1 + n % 6)) for n in range(count)]
    most = sum(library.stats().segments.values())
    noise = np.random.default_rng(2)
    found = {}
    for text in texts:
        own = library.catalog.vectors_of([chance.randint(1, most)])[0]
        away = noise.standard_normal((1, len(own))) / len(own) ** 0.5
        found[text] = normalised(own[None] + NOISE * away)[0]
    return found


def timed(ask: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Milliseconds of each, in the order of the texts."""
    times = []
    for text in texts:
        start = time.perf_counter()
        ask(text)
        times.append(1000 * (time.perf_counter() - start))
    return times


def told(name: str, times: Sequence[float]) -> None:
    """Prints a line."""
    cut = quantiles(times, n=100)
    print(f"{name:44} {median(times):8.2f} {cut[94]:8.2f} {cut[98]:8.2f}", flush=True)


def main() -> None:
    """Asks, and prints what took how long."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--profile", action="store_true", help="also tell where the time goes")
    given = parser.parse_args()
    embedder = Given({})
    with Library.open(given.directory, embedder=embedder, create=False) as library:
        embedder.vectors = asked = questions(library, given.queries)
        library.vectors.settle()
        texts = list(asked)

        def search(text: str, filters: Filters = ANY) -> object:
            return library.search(Query((text_part(text),), filters, limit=HITS))

        def nearest(text: str) -> None:
            vectors = library.vectors
            for kind in Kind:
                vectors.search(asked[text], DEPTH, kind)

        timed(search, texts[:20])
        held = library.stats().segments
        print(", ".join(f"{count:,} {kind}" for kind, count in held.items()))
        for kind, how in library.vectors.describe().items():
            print(f"{kind}: {how}")
        print(f"{'milliseconds of':44} {'median':>8} {'95 %':>8} {'99 %':>8}")
        # By turns, so that whatever else the machine does befalls both.
        alone, whole = zip(
            *((*timed(nearest, [t]), *timed(search, [t])) for t in texts), strict=True
        )
        told("the nearest vectors alone, four kinds", alone)
        told("a search for words", whole)
        print(f"a search takes {median(whole) / median(alone):.1f} times as long")
        for count in (1, 3, 6):
            some = [text for text in texts if len(text.split()) == count]
            told(f"  for {count} of them", timed(search, some))
        folder = library.folders()[len(library.folders()) // 2][0]
        year = Filters(
            after=datetime(2019, 1, 1, tzinfo=UTC), before=datetime(2020, 1, 1, tzinfo=UTC)
        )
        for name, filters in (
            ("only PDFs", Filters(kinds=frozenset({Kind.PDF}))),
            ("one folder", Filters(folder=folder)),
            ("one year of ten", year),
        ):
            told(f"a search, {name}", timed(partial(search, filters=filters), texts))
        if given.profile:
            with cProfile.Profile() as profile:
                timed(search, texts)
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
