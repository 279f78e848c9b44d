"""A small library for the tests of maintenance: made once, copied for each test and damaged."""

import atexit
import os
import shutil
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from PIL import Image

from embedder import Content
from indexer import Library, Query, QueryPart
from indexer.admin import main
from indexer.maintenance.check import Fault, check
from indexer.maintenance.storage import open_storage

COLOURS = ("red", "green", "blue")


@cache
def _made() -> Path:
    """A folder with media and a library of them, to be copied; there until the process ends."""
    base = Path(mkdtemp(prefix="rzen-looked-after-"))
    atexit.register(shutil.rmtree, base, ignore_errors=True)
    media = base / "media"
    media.mkdir()
    for number in range(6):
        (media / f"{number}.txt").write_text(f"text number{number} about red things")
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (96 + number, 64), colour).save(media / f"{colour}.png")
    with Library.open(base / "library", model="toy") as library:
        library.uploads.mkdir()
        (library.uploads / "mine.txt").write_text("an uploaded text")
        library.ingest([media, library.uploads])
    return base


def copy(folder: Path, made: Path | None = None) -> Path:
    """Copy the library and the media of a folder into another one; return the library.

    Args:
        folder: An empty folder.
        made: The folder with `media` and `library`; None for the small library above.
    """
    made = made or _made()
    shutil.copytree(made, folder, dirs_exist_ok=True)
    moved = (str(made), str(folder))
    with closing(sqlite3.connect(folder / "library/library.sqlite3")) as connection:
        connection.execute("UPDATE items SET path = replace(path, ?, ?)", moved)
        connection.execute(
            "UPDATE folders SET path = CAST(replace(CAST(path AS TEXT), ?, ?) AS BLOB)", moved
        )
        connection.commit()
    return folder / "library"


def run(where: Path, command: str, *arguments: object) -> int:
    return main([command, "--library", str(where), *map(str, arguments)])


def sql(where: Path, *statements: str) -> None:
    """Changes the tables behind the library's back."""
    with closing(sqlite3.connect(where / "library.sqlite3")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def faults(where: Path, *, read_files: bool = False) -> set[Fault]:
    with open_storage(where, read_only=True) as place:
        return {one.fault for one in check(place, read_files=read_files).findings}


def found(where: Path) -> list[str]:
    """The names of all files that a search finds, each as often as it is found."""
    with Library.open(where, create=False) as library:
        parts = (QueryPart(Content(text="red text number")),)
        hits = library.search(Query(parts, limit=99))
        return sorted(hit.item.name for hit in hits)


def everything() -> list[str]:
    return sorted(
        [f"{n}.txt" for n in range(6)] + [f"{colour}.png" for colour in COLOURS] + ["mine.txt"]
    )


def thumbnails(where: Path) -> list[Path]:
    return sorted((where / "thumbnails").rglob("*.jpg"))


def partition(where: Path, kind: str = "text") -> Path:
    """The file with the vectors of a kind, which is the largest."""
    return max((where / "vectors").glob(f"{kind}-*"), key=lambda path: path.stat().st_size)


def rot(path: Path) -> None:
    """Other bytes under the same size and date."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_vectors(where: Path) -> None:
    """The index has what belongs to other segments, and all its checksums are right."""
    sql(
        where,
        "CREATE TEMP TABLE other AS SELECT segment_id, data FROM vectors",
        "UPDATE vectors SET data = (SELECT data FROM other WHERE other.segment_id = "
        "(SELECT max(segment_id) FROM other) - vectors.segment_id + 1)",
    )
