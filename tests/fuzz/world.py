"""The library and the folders that targets work on, created on first use."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

from app.config import AppConfig
from app.services import Services, build
from indexer import Library


def text_of(data: bytes) -> str:
    """Decode bytes; those that are not UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


@cache
def folder(name: str) -> Path:
    """Create a folder that exists until the process ends."""
    made = Path(tempfile.mkdtemp(prefix=f"rzen-fuzz-{name}-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def library() -> Library:
    """Create a library of the toy model with a picture, and a text of two passages."""
    media = folder("media")
    Image.new("RGB", (32, 24), (210, 40, 40)).save(media / "red.png")
    (media / "notes.txt").write_text("zebra crossing\n\n" + "rain over the moor " * 60)
    opened = Library.open(folder("library"), model="toy")
    opened.ingest([media])
    atexit.register(opened.close)
    return opened


@cache
def services() -> Services:
    """Return the page's services for that library."""
    return build(AppConfig(), library(), folder("scratch"))
