"""Time of a whole search of a large library, without embedding the query.

    python -m benchmarks.library DIR [--queries 200] [--profile]

DIR is a library made by `benchmarks/filled.py`; its vector index is built first if it has none,
which takes minutes for a million segments. A query is one to six words drawn like the library's
texts, and a vector drawn like its vectors. The time of the vector searches that it involves is
printed beside that of the whole search.
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
    """Returns prepared vectors of texts."""

    def __init__(self, vectors: dict[str, Vectors]) -> None:
        super().__init__()
        with open_embedder("mini") as mini:
            self.info = mini.info
        self.vectors = vectors

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        return np.array([self.vectors[one.text or ""] for one in contents])


def questions(library: Library, count: int) -> dict[str, Vectors]:
    """Return queries, each with a vector near one of the library's."""
    chance = random.Random(2)
    texts = [" ".join(chance.choices(WORDS, WEIGHTS, k=1 + n % 6)) for n in range(count)]
    most = sum(library.catalog.stats().segments.values())
    noise = np.random.default_rng(2)
    found = {}
    for text in texts:
        own = library.catalog.vectors_of([chance.randint(1, most)])[0]
        away = noise.standard_normal((1, len(own))) / len(own) ** 0.5
        found[text] = normalised(own[None] + NOISE * away)[0]
    return found


def timed(ask: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    """Return the milliseconds of each search, in order."""
    times = []
    for text in texts:
        start = time.perf_counter()
        ask(text)
        times.append(1000 * (time.perf_counter() - start))
    return times


def print_times(name: str, times: Sequence[float]) -> None:
    """Print a line of quantiles."""
    cut = quantiles(times, n=100)
    print(f"{name:44} {median(times):8.2f} {cut[94]:8.2f} {cut[98]:8.2f}", flush=True)


def main() -> None:
    """Search, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--profile", action="store_true", help="also print a profile")
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
        held = library.catalog.stats().segments
        print(", ".join(f"{count:,} {kind}" for kind, count in held.items()))
        for kind, how in library.vectors.describe().items():
            print(f"{kind}: {how}")
        print(f"{'milliseconds of':44} {'median':>8} {'95 %':>8} {'99 %':>8}")
        # Alternately, so that other load affects both.
        alone, whole = zip(
            *((*timed(nearest, [t]), *timed(search, [t])) for t in texts), strict=True
        )
        print_times("the nearest vectors alone, four kinds", alone)
        print_times("a search for words", whole)
        print(f"a search takes {median(whole) / median(alone):.1f} times as long")
        for count in (1, 3, 6):
            some = [text for text in texts if len(text.split()) == count]
            print_times(f"  for {count} of them", timed(search, some))
        folder = library.catalog.folders()[len(library.catalog.folders()) // 2][0]
        year = Filters(
            after=datetime(2019, 1, 1, tzinfo=UTC), before=datetime(2020, 1, 1, tzinfo=UTC)
        )
        for name, filters in (
            ("only PDFs", Filters(kinds=frozenset({Kind.PDF}))),
            ("one folder", Filters(folder=folder)),
            ("one year of ten", year),
        ):
            print_times(f"a search, {name}", timed(partial(search, filters=filters), texts))
        if given.profile:
            with cProfile.Profile() as profile:
                timed(search, texts)
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
