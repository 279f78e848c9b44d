"""What a backup says of itself, and whether it is still so.

A backup is a folder like a library's, without the vector index, which the first search makes anew:

    library.sqlite3   the tables, as they were at one moment
    thumbnails/       small pictures
    uploads/          files that exist nowhere else
    files.jsonl       size and SHA-256 of each of these files
    backup.json       what the tables hold, and that all of this is complete; written last
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

from indexer.catalog.copying import digests
from indexer.config import typed_path
from indexer.decoding import hash_of, os_reason
from indexer.errors import LibraryError
from indexer.meter import Meter
from indexer.reports import Progress
from indexer.scan import LIBRARY_FILE

FORMAT = 1
MANIFEST = "backup.json"
LIST = "files.jsonl"

_FOLDERS = ("thumbnails", "uploads")
_STATED = {"directory": str, "items": int, "files": int, "list": str, "tables": dict}
_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was copied.

    Attributes:
        target: Where to.
        files: Files, the database not among them.
        bytes: All that was copied.
        items: Files that the library knows.
        missing: Files of the library's own that were not there to be copied.
        kept: Where the library that was replaced is now, if one was.
        seconds: How long it took.
    """

    target: Path
    files: int
    bytes: int
    items: int
    missing: tuple[str, ...] = ()
    kept: Path | None = None
    seconds: float = 0.0


def verify(source: Path, *, on_progress: Callable[[Progress], None] | None = None) -> BackupReport:
    """Reads a backup and compares it with what was noted when it was made.

    Raises:
        LibraryError: it is none, or not complete any more.
    """
    started_at, meter = monotonic(), Meter(on_progress)
    source = typed_path(source)
    manifest = read_manifest(source)
    with _readable(source):
        if hash_of(source / LIST) != manifest["list"]:
            raise LibraryError(damaged(source, LIST))
        meter.begin("database")
        tables = {name: asdict(one) for name, one in digests(source / LIBRARY_FILE).items()}
        for name in sorted(tables.keys() | manifest["tables"].keys()):
            if tables.get(name) != manifest["tables"].get(name):
                raise LibraryError(damaged(source, f"the table {name} in {LIBRARY_FILE}"))
        count, total = 0, 0
        meter.begin("files", manifest["files"])
        for name, size, sha256 in meter.counted(listed(source)):
            path = source / name
            if not path.is_file() or path.stat().st_size != size or hash_of(path) != sha256:
                raise LibraryError(damaged(source, name))
            count, total = count + 1, total + size
        total += (source / LIBRARY_FILE).stat().st_size
    return BackupReport(source, count, total, manifest["items"], seconds=monotonic() - started_at)


def read_manifest(source: Path) -> dict[str, Any]:
    """What a backup says of itself.

    Raises:
        LibraryError: it is not complete, or of a newer version.
    """
    try:
        manifest = json.loads((source / MANIFEST).read_bytes())
        newer = _stated(manifest, "format", int) > FORMAT
        if not newer:
            for name, kind in _STATED.items():
                _stated(manifest, name, kind)
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryError(
            f"{source} is not a complete backup: it has no readable {MANIFEST}"
        ) from error
    if newer:
        raise LibraryError(f"the backup {source} is of a newer version: update the program")
    return cast("dict[str, Any]", manifest)


def _stated(value: object, name: str, kind: type[_Kind]) -> _Kind:
    """A value of an object, of a type."""
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise ValueError(f"{name} is not a {kind.__name__}")
    return found


def listed(source: Path) -> Iterator[tuple[str, int, str]]:
    """The files of a backup: name, size and SHA-256.

    Raises:
        ValueError: if it lists what is no file of a library.
    """
    with (source / LIST).open(encoding="ascii") as file:
        for line in file:
            try:
                one = json.loads(line)
            except RecursionError as error:
                raise ValueError(f"{LIST} is not readable") from error
            name = _stated(one, "path", str)
            # A backup that a stranger made would otherwise be put back over any file.
            folder, *below = Path(name).parts or ("",)
            if folder not in _FOLDERS or not below or ".." in below or "\0" in name:
                raise ValueError(f"{LIST} names {name!r}, which is no file of a library")
            yield name, _stated(one, "bytes", int), _stated(one, "sha256", str)


def damaged(source: Path, what: str) -> str:
    """The sentence that refuses a backup."""
    return f"the backup {source} is damaged: {what} is not as it was written; use another backup"


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise LibraryError(f"the backup {source} cannot be read: {reason}") from error
