"""Cost of decoding query files and viewed files in separate processes.

    python -m benchmarks.viewing [--media samples/media] [--rounds 15]

Each file is used as a query, alternately decoded in place and as the page does it, and a page of a
PDF is rendered both ways; the medians are printed side by side, then the time of starting a
process.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from embedder.media import Kind, detect, render_page
from indexer import Library, Query
from indexer.decoding.on_demand import OnDemandDecoder
from indexer.search.query import file_part

SIDE = 1600


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--media", type=Path, default=Path("samples/media"))
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {"photo of 12 megapixels": photo(Path(folder))} | one_of_each(given.media)
        with Library.open(Path(folder) / "library") as library:
            library.ingest([given.media])
            compare(library, files, given.rounds)


def photo(folder: Path) -> Path:
    """Write a JPEG of 12 megapixels."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    path = folder / "photo.jpg"
    Image.fromarray(pixels).resize((4000, 3000)).save(path, quality=85)
    return path


def one_of_each(media: Path) -> dict[str, Path]:
    """Return the first PDF, video and text."""
    found: dict[str, Path] = {}
    for path in sorted(media.rglob("*.*")):
        if (kind := detect(path)) is not Kind.IMAGE:
            found.setdefault(kind, path)
    return found


def compare(library: Library, files: dict[str, Path], rounds: int) -> None:
    """Search with each file, render a page, and start processes."""

    def search(path: Path, viewer: OnDemandDecoder | None) -> None:
        part = file_part(path, limits=library.limits, viewer=viewer)
        library.search(Query((part,)))

    print("milliseconds, in place and in another process:")
    for name, path in files.items():
        print_times(
            f"from a {name} to its hits",
            rounds,
            partial(search, path, None),
            partial(search, path, library.viewer),
        )
    pdf = files[Kind.PDF]
    print_times(
        f"a page of {SIDE} pixels",
        rounds,
        lambda: render_page(pdf, 1, SIDE),
        lambda: library.viewer.page(pdf, 1, SIDE),
    )
    print(f"starting a process: {1000 * median(map(starting, [library] * 5)):.0f}")


def print_times(
    what: str, rounds: int, here: Callable[[], object], there: Callable[[], object]
) -> None:
    """Run both alternately, and print the medians."""
    here(), there()
    pairs = [(timed(here), timed(there)) for _ in range(rounds)]
    print(f"{what}: {' and '.join(f'{median(one):.0f}' for one in zip(*pairs, strict=True))}")


def timed(act: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - started)


def starting(library: Library) -> float:
    """Return the seconds until a new process has rendered a small picture."""
    viewer, started = OnDemandDecoder(), time.perf_counter()
    viewer.picture(next(iter(library.catalog.items(kind=Kind.IMAGE))).path, 32)
    took = time.perf_counter() - started
    viewer.close()
    return took


if __name__ == "__main__":
    main()
