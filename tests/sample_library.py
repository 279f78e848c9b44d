"""A small library for the page's tests: generated media of every kind, and the page as a server."""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pymupdf
from PIL import Image
from starlette.types import ASGIApp

from indexer import Library

COLOURS = {
    "red": (210, 40, 40),
    "blue": (40, 70, 210),
    "green": (40, 150, 70),
    "yellow": (235, 215, 50),
    "grey": (128, 128, 128),
}
PAGES = (
    "The harbour was rebuilt in spring and the boats came back.",
    "A lighthouse keeper counts the boats by night.",
    "In winter the market moves beside the harbour wall.",
)
HOSTILE = '<img src=x onerror="document.title=1">&.txt'


def make_media(folder: Path, reds: int = 4) -> None:
    """Pictures, a video, a PDF, texts, and files that cannot be indexed."""
    for name in ("photos", "films", "papers"):
        (folder / name).mkdir(parents=True)
    for name, colour in COLOURS.items():
        _picture(colour, 0).save(folder / "photos" / f"{name}.jpg")
    for number in range(reds):
        _picture(COLOURS["red"], number + 1).save(folder / "photos" / f"red-{number:02}.png")
    _film(folder / "films" / "walk.webm")
    document = pymupdf.open()
    for text in PAGES:
        document.new_page(width=400, height=300).insert_text((40, 80), text, fontsize=12)
    document.save(folder / "papers" / "harbour.pdf")
    document.close()
    diary = [f"Day {day}. Nothing but rain over the moor." for day in range(1, 40)]
    diary[20] = "Day 21. A lantern burned in the old windmill."
    (folder / "papers" / "diary.md").write_text("\n\n".join(diary))
    (folder / "papers" / HOSTILE).write_text("A page of <script>alert(1)</script> marmalade.")
    (folder / "papers" / "page.html").write_text(
        "<h1>Recipe</h1><script>alert(1)</script><p>Quince jelly</p>"
    )
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"no picture" * 20)


def _picture(colour: tuple[int, int, int], number: int) -> Image.Image:
    """A plain picture for 0, and others with shades of the colour that look different."""
    shades = np.random.default_rng(number).integers(-24, 24, (8, 8, 1)) if number else 0
    pixels = np.clip(np.full((8, 8, 3), colour) + shades, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels).resize((320, 240), Image.Resampling.NEAREST)


def _film(path: Path) -> None:
    """Six seconds of green, then six of blue."""
    codec = cv2.VideoWriter.fourcc(*"VP90")
    film = cv2.VideoWriter(str(path), codec, 8, (160, 120))
    for frame in range(96):
        colour = COLOURS["green"] if frame < 48 else COLOURS["blue"]
        film.write(np.full((120, 160, 3), colour[::-1], dtype=np.uint8))
    film.release()


def filled_library(folder: Path, reds: int = 4) -> Library:
    """Ingest all media into a library of the toy model; the caller closes it."""
    make_media(folder / "media", reds)
    library = Library.open(folder / "library", model="toy")
    library.ingest([folder / "media"])
    return library


def copy_library(sample_folder: Path, folder: Path) -> Path:
    """Copy the sample library into a folder, for a test that changes it; its media stay."""
    return shutil.copytree(sample_folder / "library", folder / "library")


def segment_of(library: Library, name: str) -> int:
    """The first segment of the file of that name."""
    (item,) = library.catalog.items(name=name)
    return library.catalog.segments(item.id)[0].id


@contextlib.contextmanager
def served(library: Path, *flags: str, stop: int = signal.SIGTERM) -> Iterator[str]:
    """`python -m app` as people run it; yields its address, and checks that it stops cleanly."""
    command = [sys.executable, "-m", "app", "--library", str(library), "--model", "toy"]
    scratch = tempfile.mkdtemp()
    process = subprocess.Popen(
        [*command, "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": scratch},
    )
    assert process.stdout is not None
    seen = ""
    try:
        for line in process.stdout:
            seen += line
            if found := re.search(r"http://\S+?(?=/)", line):
                yield found[0]
                break
        else:
            raise AssertionError(f"the page did not start:\n{seen}")
    finally:
        process.send_signal(stop)
        rest, _ = process.communicate(timeout=20)
    assert not re.search("Traceback|ERROR", seen + rest), seen + rest
    assert process.returncode == 0, seen + rest
    Path(scratch).rmdir()  # Fails if files to search with were left.


@contextlib.contextmanager
def served_here(library: Library, scratch: Path, **config: Any) -> Iterator[str]:
    """The page from this process: a process of its own takes seconds to import Gradio."""
    import uvicorn

    from app import server, services
    from app.__main__ import listen
    from app.config import AppConfig

    def built() -> ASGIApp:
        return server.build(services.build(AppConfig(**config), library, scratch))

    listening = listen("127.0.0.1", 0)
    # As a factory, it is called in the loop: outside, Gradio leaves loops of its own open.
    # Pages that were asked for ahead may still be drawn when a window is closed.
    settings = uvicorn.Config(built, factory=True, log_config=None, timeout_graceful_shutdown=20)
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    with _no_errors_logged():
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()
            listening.close()


@contextlib.contextmanager
def _no_errors_logged() -> Iterator[None]:
    """Checks that nothing is logged as an error meanwhile."""
    logged: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert not logged, logged


@contextlib.contextmanager
def copy_served_here(sample_folder: Path, folder: Path) -> Iterator[str]:
    """Serve a copy of the sample library from this process; yields the page's address."""
    with (
        Library.open(copy_library(sample_folder, folder)) as library,
        served_here(library, folder / "scratch") as address,
    ):
        yield address
