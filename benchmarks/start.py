"""Times of opening a library and of what the page does first, in a small and a large one.

    python -m benchmarks.start [--segments 10000 1000000] [--keep DIR]

The libraries are filled with generated segments by `filled.py`, and their vector indexes built
first. Each is measured in a separate process that has only loaded the model. What does not grow
with the library has a factor of about one. The photo that is added is a real one; `--keep` names a
folder in which the libraries stay for the next run.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from app.config import AppConfig
from app.page.events import LibraryView, Update
from app.page.labels import folder_choices, folder_of
from app.services import build
from benchmarks.filled import fill
from embedder import Content, open_embedder
from embedder.interface import Embedder
from indexer import Library, Status
from indexer.maintenance.storage import open_storage
from indexer.search.query import text_part
from indexer.types import Filters, Query

TIMES = 7


def made(directory: Path, segments: int, embedder: Embedder) -> None:
    """Fill a library and build its vector index, unless it exists."""
    if (directory / "vectors").is_dir():
        return
    for _ in fill(directory, segments, embedder.info):
        pass
    with open_storage(directory) as place, place.index() as index:
        index.settle()
        index.save()


def once(task: Callable[[], object]) -> float:
    """Return the milliseconds of a task."""
    start = time.perf_counter()
    task()
    return 1000 * (time.perf_counter() - start)


def often(task: Callable[[], object]) -> float:
    """Return the median milliseconds of several runs."""
    return median(once(task) for _ in range(TIMES))


def looking(library: Library) -> dict[str, float]:
    """Measure what the page requests besides searches."""
    wanted = folder_choices(library)[-1].id
    middle = sum(library.catalog.stats().items.values()) // 2

    def page(**given: Any) -> Callable[[], object]:
        return lambda: library.catalog.items(status=Status.INDEXED, limit=51, **given)

    return {
        "counts": often(library.catalog.stats),
        "folders to choose from": often(lambda: folder_choices(library)),
        "a folder by its id": often(lambda: folder_of(library, wanted)),
        "months of files": often(lambda: library.catalog.timeline.months(Filters())),
        "newest files": often(lambda: library.catalog.timeline.files(Filters())),
        "first page of files": often(page()),
        "page in the middle": often(page(offset=middle)),
        "files named …river…": often(page(name="river")),
        "files named …IMG…": often(page(name="IMG")),
        "files named …zq…": often(page(name="zq")),
        "failed files": often(lambda: library.catalog.items(status=Status.FAILED, limit=51)),
    }


def changing(library: Library, folder: Path) -> dict[str, float]:
    """Measure adding and removing a photo; saving the vector index is measured separately.

    Index building in the background is not waited for.
    """
    chance = np.random.default_rng()
    rows = chance.integers(256, size=(480, 640, 3), dtype=np.uint8)
    Image.fromarray(rows).save(folder / "one.png")
    index, saving, save = library._index, list[float](), library._index.save

    def without_saving(task: Callable[[], object]) -> float:
        saving.clear()
        return once(task) - sum(saving)

    with (
        patch.object(index, "settle", lambda stop: None),
        patch.object(index, "save", lambda: saving.append(once(save))),
    ):
        times = {"adding a photo": without_saving(lambda: library.ingest([folder]))}
        times["saving the index after that"] = sum(saving)
        times["an unchanged folder"] = often(lambda: library.ingest([folder]))
        (one,) = library.catalog.items(name="one.png")
        times["removing a photo"] = without_saving(lambda: library.remove([one.id]))
    return times


async def first(view: LibraryView) -> Update:
    """Return what a page shows when it opens."""
    return await anext(view.follow())


def measured(directory: Path) -> dict[str, float]:
    """Return milliseconds by action; the library is unchanged afterwards."""
    with open_embedder("mini") as embedder, tempfile.TemporaryDirectory() as scratch:
        embedder.embed([Content(text="warm up")], "query")
        start = time.perf_counter()
        with Library.open(directory, embedder=embedder) as library:
            times = {"opening": 1000 * (time.perf_counter() - start)}
            (Path(scratch) / "files").mkdir()
            services = build(AppConfig(library=directory), library, Path(scratch) / "files")
            times["start of the page"] = once(lambda: asyncio.run(first(LibraryView(services))))
            asked = Query((text_part("the story of a river"),))
            times["first search"] = once(lambda: library.search(asked))
            times["the same search again"] = often(lambda: library.search(asked))
            inside = Filters(folder=folder_of(library, folder_choices(library)[-1].id))
            within = Query(asked.parts, inside)
            times["search in a folder"] = often(lambda: library.search(within))
            media = Path(scratch) / "media"
            media.mkdir()
            return times | looking(library) | changing(library, media)


def main() -> None:
    """Make the libraries, measure them, and print the times side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--segments", type=int, nargs=2, default=[10_000, 1_000_000])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure)))
        return
    with tempfile.TemporaryDirectory() as scratch, open_embedder("mini") as embedder:
        columns = []
        for segments in given.segments:
            directory = (given.keep or Path(scratch)) / str(segments)
            made(directory, segments, embedder)
            command = [sys.executable, "-m", "benchmarks.start", "--measure", str(directory)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            columns.append(json.loads(done.stdout))
    small, large = columns
    print(f"{'ms':28}" + "".join(f"{count:>12,}" for count in given.segments) + f"{'factor':>9}")
    for name, value in small.items():
        print(f"{name:28}{value:12.1f}{large[name]:12.1f}{large[name] / value:9.1f}")


if __name__ == "__main__":
    main()
