"""Time of a typed query, from words to hits, in a library of many segments.

    python -m benchmarks.latency [--segments 10000] [--queries 60]

The segments are generated, see `benchmarks.madeup`; the queries are embedded by `mini`.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks.madeup import MadeUpDocuments, words, write_media
from embedder import Content
from indexer import Library
from indexer.search.query import text_part
from indexer.types import Query


def main() -> None:
    """Build the library, search, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=60)
    given = parser.parse_args()
    chance = random.Random(2)
    asked = [words(chance, 1 + n % 6) for n in range(given.queries)]
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder, "media")
        media.mkdir()
        write_media(media, given.segments)
        with Library.open(Path(folder, "library"), embedder=MadeUpDocuments()) as library:
            library.ingest([media])
            library.search(Query((text_part("warm up"),)))
            stats = library.catalog.stats()
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
