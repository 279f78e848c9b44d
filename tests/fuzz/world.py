"""What targets work on: a library and folders of their own, made when they are first needed."""

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
    """Bytes as a text; those that are not UTF-8 become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


@cache
def folder(name: str) -> Path:
    """An empty folder that is there until the process ends."""
    made = Path(tempfile.mkdtemp(prefix=f"rzen-fuzz-{name}-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def library() -> Library:
    """A library of the toy model: a picture, and a text of two passages."""
    media = folder("media")
    Image.new("RGB", (32, 24), (210, 40, 40)).save(media / "red.png")
    (media / "notes.txt").write_text("zebra crossing\n\n" + "rain over the moor " * 60)
    opened = Library.open(folder("library"), model="toy")
    opened.ingest([media])
    atexit.register(opened.close)
    return opened


@cache
def services() -> Services:
    """What stands behind the page over that library."""
    return build(AppConfig(), library(), folder("scratch"))
