"""Speed of an ingest on two processors and on one: `python -m benchmarks.scaling`.

Each kind of media is indexed into new libraries, alternately on one processor with one worker, on
two with one, and on two with two. The ingest and the processes that it starts are bound to those
processors. The medians of all rounds are compared.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from PIL import Image

from benchmarks.clients import write_photos
from benchmarks.madeup import words

_WAYS = ((1, 1), (2, 1), (2, 2))
_FRAME = (640, 360)
# As `embedder` sets it where it is loaded before NumPy, as in the programs.
_ENVIRONMENT = os.environ | {"OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    """Print a line for each kind of media."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of files")
    parser.add_argument("--only", nargs="+", choices=(*_SORTS, "mixed"), default=(*_SORTS, "mixed"))
    parser.add_argument("--one", nargs=4, metavar=("FOLDER", "LIBRARY", "CORES", "WORKERS"))
    given = parser.parse_args()
    if given.one:
        folder, library, cores, workers = given.one
        print(json.dumps(_ingested(Path(folder), Path(library), int(cores), int(workers))))
        return
    with tempfile.TemporaryDirectory(prefix="rzen-") as place:
        for name in given.only:
            folder = Path(place, "media", name.replace(" ", "-"))
            for sort, write in _SORTS.items():
                if name in (sort, "mixed"):
                    share = 0.4 if name == "mixed" else 1.0
                    write(folder / sort.replace(" ", "-"), max(2, round(share * given.scale * 10)))
            print(_compared(name, folder, Path(place), given.rounds), flush=True)


def _compared(name: str, folder: Path, place: Path, rounds: int) -> str:
    rates: dict[tuple[int, int], list[float]] = {way: [] for way in _WAYS}
    for turn in range(rounds):
        for cores, workers in _WAYS:
            library = place / f"{name}-{turn}-{cores}-{workers}"
            command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(folder)]
            command += [str(library), str(cores), str(workers)]
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=_ENVIRONMENT
            )
            rates[cores, workers].append(json.loads(done.stdout)["rate"])
    one, spare, two = (median(rates[way]) for way in _WAYS)
    each = ", ".join(f"{b / a:.2f}" for a, b in zip(rates[_WAYS[0]], rates[_WAYS[2]], strict=True))
    return (
        f"{name:12} one core {one:6.2f} files/s, two cores with one worker {spare:6.2f}, "
        f"with two {two:6.2f}: {two / one:.2f} times as fast ({each}), "
        f"workers alone {two / spare:.2f}"
    )


def _ingested(folder: Path, directory: Path, cores: int, workers: int) -> Mapping[str, float]:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from embedder import Content
    from indexer import IngestOptions, Library

    with Library.open(directory, model="mini") as library:
        picture = Image.new("RGB", (64, 64))
        library.embedder.embed([Content(frames=[picture])], "document")  # loads the weights
        started = perf_counter()
        report = library.ingest([folder], IngestOptions(workers=workers))
        rate = report.added / (perf_counter() - started)
        assert not report.failures, report.failures
    return {"rate": rate}


def _write_small_photos(folder: Path, count: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_photos(folder, 12 * count)


def _write_large_photos(folder: Path, count: int) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_photos(folder, 4 * count, (4032, 3024))


def _write_videos(folder: Path, count: int) -> None:
    """Write videos of five scenes of three seconds each, with a moving camera."""
    import cv2

    folder.mkdir(parents=True)
    write_photos(folder.with_name("scenes"), 5 * count)
    scenes = sorted(folder.with_name("scenes").iterdir())
    for number in range(count):
        path = str(folder / f"{number}.mp4")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"mp4v"), 25, _FRAME)
        for scene in scenes[5 * number : 5 * number + 5]:
            picture = np.asarray(Image.open(scene).resize((900, 675)))[..., ::-1]
            for frame in range(75):
                cut = picture[frame : frame + _FRAME[1], 2 * frame : 2 * frame + _FRAME[0]]
                writer.write(np.ascontiguousarray(cut))
        writer.release()
    for scene in scenes:
        scene.unlink()
    folder.with_name("scenes").rmdir()


def _write_documents(folder: Path, count: int) -> None:
    import pymupdf

    folder.mkdir(parents=True)
    chance = random.Random(4)
    for number in range(count):
        document = pymupdf.open()
        for _ in range(10):
            page = document.new_page()
            page.insert_textbox((50, 50, 545, 790), words(chance, 350), fontsize=11)
        document.save(folder / f"{number}.pdf")


def _write_texts(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    chance = random.Random(5)
    for number in range(4 * count):
        paragraphs = [words(chance, chance.randint(40, 120)) for _ in range(20)]
        (folder / f"{number}.txt").write_text("\n\n".join(paragraphs))


_SORTS: Mapping[str, Callable[[Path, int], None]] = {
    "photos 2 MP": _write_small_photos,
    "photos 12 MP": _write_large_photos,
    "videos": _write_videos,
    "PDFs": _write_documents,
    "texts": _write_texts,
}


if __name__ == "__main__":
    main()
