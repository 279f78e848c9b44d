"""What a backup says of itself, and whether it is still so.

A backup is a folder like a library's, without the vector index, which the first search makes anew:

    library.sqlite3   the tables, as they were at one moment
    thumbnails/       small pictures
    uploads/          files that exist nowhere else
    files.jsonl       size and SHA-256 of each of these files
    backup.json       what the tables hold, and that all of this is complete; written last
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

from embedder.media.file_access import os_reason, sha256_of
from indexer.catalog import Catalog
from indexer.catalog.database import Database
from indexer.catalog.maintenance import copy, digests, identify
from indexer.catalog.verify import Audit
from indexer.config import LIBRARY_FILE, holds_library, typed_path
from indexer.errors import LibraryError
from indexer.ingest.progress import ProgressReporter
from indexer.ingest.thumbnails import Thumbnails
from indexer.maintenance.storage import (
    LibraryFiles,
    Room,
    copy_file,
    is_free,
    replace_directory_atomically,
)
from indexer.types import Progress

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
    started_at, meter = monotonic(), ProgressReporter(on_progress)
    source = typed_path(source)
    manifest = read_manifest(source)
    with _readable(source):
        if sha256_of(source / LIST) != manifest["list"]:
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
            if not path.is_file() or path.stat().st_size != size or sha256_of(path) != sha256:
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


_ROUNDS = 3


def back_up(
    place: LibraryFiles, target: Path, *, on_progress: Callable[[Progress], None] | None = None
) -> BackupReport:
    """Makes a backup, whole or not at all; the library may be written to and searched meanwhile.

    Args:
        place: The library; it may be opened for reading only.
        target: A folder that does not exist.
        on_progress: Called several times a second at most.

    Raises:
        LibraryError: the target exists or cannot be written to, the disk is full, or the copy is
            not like the original.
    """
    started_at, meter = monotonic(), ProgressReporter(on_progress)
    target = typed_path(target)
    if place.directory in (target, *target.parents):
        raise LibraryError(f"{target} is inside the library: choose a folder elsewhere")
    if os.path.lexists(target):
        raise LibraryError(f"{target} exists already: name a folder that does not")
    with replace_directory_atomically(target, ".partial") as partial:
        copied, missing, tables = _Copied(partial), list[str](), dict[str, Any]()
        for _ in range(_ROUNDS):  # What is removed meanwhile is gone from the next copy as well.
            tables = _copy_tables(place, partial / LIBRARY_FILE, meter)
            missing = _copy_files(place, copied, meter)
            if not missing:
                break
        copied.write_list(partial / LIST)
        items, manifest = _manifest(place, partial, tables, copied)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        bytes_ = copied.bytes + (partial / LIBRARY_FILE).stat().st_size
    return BackupReport(
        target=target,
        files=len(copied.files),
        bytes=bytes_,
        items=items,
        missing=tuple(missing),
        seconds=monotonic() - started_at,
    )


class _Copied:
    """The files in a backup that is being made."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, tuple[int, str]] = {}
        self.folder = folder

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    def take(self, source: Path, name: str) -> bool:
        """Copies a file unless that was done; False if it is not there."""
        if name not in self.files:
            try:
                self.files[name] = copy_file(source, self.folder / name)
            except FileNotFoundError:
                (self.folder / name).unlink(missing_ok=True)
                return False
        return True

    def keep_only(self, names: set[str], below: str) -> None:
        """Drops files below a folder that have been removed from the library meanwhile."""
        for name in [one for one in self.files if one.startswith(below) and one not in names]:
            del self.files[name]
            (self.folder / name).unlink()

    def write_list(self, path: Path) -> None:
        with path.open("w", encoding="ascii") as file:
            for name, (size, sha256) in sorted(self.files.items()):
                line = json.dumps({"path": name, "bytes": size, "sha256": sha256})
                file.write(line + "\n")


def _copy_tables(place: LibraryFiles, target: Path, meter: ProgressReporter) -> dict[str, Any]:
    target.unlink(missing_ok=True)
    meter.begin("database")
    found = copy(place.database, target, meter.update)
    return {name: asdict(one) for name, one in found.items()}


def _copy_files(place: LibraryFiles, copied: _Copied, meter: ProgressReporter) -> list[str]:
    """Copies what the copy of the tables speaks of, and all uploads; returns what is missing."""
    missing, thumbnails = list[str](), Thumbnails(Path("thumbnails"))
    with _closing(Database(copied.folder / LIBRARY_FILE, read_only=True)) as database:
        audit = Audit(database)
        names = set[str]()
        prefixes = place.thumbnails.prefixes()
        meter.begin("thumbnails", len(prefixes))
        for prefix in meter.counted(prefixes):
            for one in audit.pictured(prefix):
                name = thumbnails.path(one.content_hash, one.position).as_posix()
                names.add(name)
                if not copied.take(place.directory / name, name):
                    missing.append(name)
        copied.keep_only(names, "thumbnails/")
        uploads = {path for path in place.uploads.rglob("*") if path.is_file()}
        uploads |= audit.known_below(place.uploads)
    names = {path.relative_to(place.directory).as_posix() for path in uploads}
    meter.begin("uploads", len(names))
    missing += [
        name
        for name in meter.counted(sorted(names))
        if not copied.take(place.directory / name, name)
    ]
    copied.keep_only(names, "uploads/")
    return missing


def _manifest(
    place: LibraryFiles, partial: Path, tables: dict[str, Any], copied: _Copied
) -> tuple[int, dict[str, Any]]:
    with _closing(Database(partial / LIBRARY_FILE, read_only=True)) as database:
        catalog = Catalog(database)
        stats, model = catalog.stats(), catalog.model()
        items = sum(stats.items.values()) + stats.skipped + stats.failed
        return items, {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "directory": str(place.directory),
            "uid": catalog.uid(),
            "generation": catalog.generation(),
            "model": model.name,
            "items": items,
            "files": len(copied.files),
            "list": sha256_of(partial / LIST),
            "tables": tables,
        }


@contextmanager
def _closing(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.close()


def restore(
    source: Path,
    directory: Path,
    *,
    replace: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> BackupReport:
    """Puts a backup back, after reading all of it; the backup stays as it is.

    Args:
        source: The backup.
        directory: The library's folder.
        replace: If there is a library, put it aside under another name.
        on_progress: Called several times a second at most.

    Raises:
        LibraryBusy: a program has the library open that is to be replaced.
        LibraryError: the backup is damaged, or the folder is taken or cannot be written to.
    """
    started_at, meter = monotonic(), ProgressReporter(on_progress)
    source, directory = typed_path(source), typed_path(directory)
    if source == directory:
        raise LibraryError(f"{source} is the backup itself: name the library with --library")
    there = holds_library(directory)
    if not there and not is_free(directory):
        raise LibraryError(f"{directory} holds other things than a library: choose another folder")
    if there and not replace:
        raise LibraryError(
            f"there is a library in {directory} already: with --replace it is put aside, under "
            "another name beside this one"
        )
    verified, manifest = verify(source, on_progress=on_progress), read_manifest(source)
    room = Room(directory)
    with replace_directory_atomically(directory, ".restoring", room) as partial:
        meter.begin("files", manifest["files"])
        for name, _, sha256 in meter.counted(listed(source)):
            if copy_file(source / name, partial / name)[1] != sha256:
                raise LibraryError(damaged(source, name))
        copy_file(source / LIBRARY_FILE, partial / LIBRARY_FILE)
        before, uploads = Path(manifest["directory"]) / "uploads", directory / "uploads"
        moved = {} if before == uploads else {before: uploads}
        identify(partial / LIBRARY_FILE, secrets.token_hex(8), moved)
    return BackupReport(
        target=directory,
        files=verified.files,
        bytes=verified.bytes,
        items=verified.items,
        kept=room.kept,
        seconds=monotonic() - started_at,
    )
