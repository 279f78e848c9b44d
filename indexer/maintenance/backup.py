"""Backups: making, verifying and restoring them.

A backup is a folder like a library's, without the vector index, which the first search rebuilds:

    library.sqlite3   the tables, as they were at one moment
    thumbnails/       thumbnails
    uploads/          uploaded files, which exist nowhere else
    files.jsonl       path, size and SHA-256 of each of these files
    backup.json       the manifest: SHA-256 of the database and of the list; written last
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar, cast

from embedder.media.kinds import os_reason, sha256_of
from indexer.catalog import Catalog
from indexer.catalog.sqlite import Database
from indexer.catalog.verify import Audit
from indexer.catalog.writer import CatalogWriter
from indexer.config import LIBRARY_FILE, holds_library, typed_path
from indexer.errors import LibraryError
from indexer.ingest.thumbnails import Thumbnails
from indexer.maintenance.storage import (
    LibraryFiles,
    copy_file,
    is_free,
    replace_directory_atomically,
)
from indexer.progress import Progress, ProgressReporter

FORMAT = 1
MANIFEST = "backup.json"
FILE_LIST = "files.jsonl"

_FOLDERS = ("thumbnails", "uploads")
_MANIFEST_FIELDS = {"directory": str, "items": int, "files": int, "list": str, "database": str}
_MAX_ROUNDS = 3

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What was copied or verified.

    Attributes:
        target: The folder that was written, or that was verified.
        files: How many files it has besides the database.
        bytes: Size of everything.
        items: How many files the library has indexed, skipped or failed.
        missing: Thumbnails and uploads that the library should have, but has not.
        kept: Where the replaced library is now, if one was.
        seconds: How long it took.
    """

    target: Path
    files: int
    bytes: int
    items: int
    missing: tuple[str, ...] = ()
    kept: Path | None = None
    seconds: float = 0.0


def back_up(
    files: LibraryFiles, target: Path, *, on_progress: Callable[[Progress], None] | None = None
) -> BackupReport:
    """Make a complete backup or none; the library may be searched and written to meanwhile.

    Args:
        files: The library; it may be opened for reading only.
        target: A folder that does not exist.
        on_progress: Called several times a second at most.

    Raises:
        LibraryError: If the target exists or cannot be written to, the disk is full, or the copy
            of the database is damaged.
    """
    started_at, progress = monotonic(), ProgressReporter(on_progress)
    target = typed_path(target)
    if files.directory in (target, *target.parents):
        raise LibraryError(f"{target} is inside the library: choose a folder elsewhere")
    if os.path.lexists(target):
        raise LibraryError(f"{target} already exists: name a folder that does not")
    with replace_directory_atomically(target, ".partial") as partial:
        copies, missing = _Copies(partial), list[str]()
        for _ in range(_MAX_ROUNDS):  # what is removed meanwhile is not in the next copy either
            _copy_database(files, partial / LIBRARY_FILE, progress)
            missing = _copy_files(files, copies, progress)
            if not missing:
                break
        copies.write_list(partial / FILE_LIST)
        manifest = _manifest(files, partial, copies)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        total = copies.bytes + (partial / LIBRARY_FILE).stat().st_size
    return BackupReport(
        target=target,
        files=len(copies.files),
        bytes=total,
        items=manifest["items"],
        missing=tuple(missing),
        seconds=monotonic() - started_at,
    )


def verify(source: Path, *, on_progress: Callable[[Progress], None] | None = None) -> BackupReport:
    """Read a backup and compare it with its manifest.

    Raises:
        LibraryError: If it is no backup, or is not as it was written.
    """
    started_at, progress = monotonic(), ProgressReporter(on_progress)
    source = typed_path(source)
    manifest = read_manifest(source)
    with _readable(source):
        progress.begin("database")
        for name, sha256 in ((FILE_LIST, manifest["list"]), (LIBRARY_FILE, manifest["database"])):
            if sha256_of(source / name) != sha256:
                raise _damaged(source, name)
        count, total = 0, 0
        progress.begin("files", manifest["files"])
        for name, size, sha256 in progress.counted(listed(source)):
            path = source / name
            if not path.is_file() or path.stat().st_size != size or sha256_of(path) != sha256:
                raise _damaged(source, name)
            count, total = count + 1, total + size
        total += (source / LIBRARY_FILE).stat().st_size
    return BackupReport(source, count, total, manifest["items"], seconds=monotonic() - started_at)


def restore(
    source: Path,
    directory: Path,
    *,
    replace: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> BackupReport:
    """Restore a backup after verifying it; the backup stays as it is.

    Args:
        source: The backup.
        directory: The library's folder.
        replace: Whether a library that is there gives way; it is kept under another name.
        on_progress: Called several times a second at most.

    Raises:
        LibraryBusy: If another program has the library open that is to be replaced.
        LibraryError: If the backup is damaged, or the folder is in use or cannot be written to.
    """
    started_at, progress = monotonic(), ProgressReporter(on_progress)
    source, directory = typed_path(source), typed_path(directory)
    if source == directory:
        raise LibraryError(f"{source} is the backup itself: name the library with --library")
    kept = _name_for_replaced(directory, replace=replace)
    verified, manifest = verify(source, on_progress=on_progress), read_manifest(source)
    with replace_directory_atomically(directory, ".restoring", kept=kept) as partial:
        progress.begin("files", manifest["files"])
        for name, _, sha256 in progress.counted(listed(source)):
            if copy_file(source / name, partial / name)[1] != sha256:
                raise _damaged(source, name)
        if copy_file(source / LIBRARY_FILE, partial / LIBRARY_FILE)[1] != manifest["database"]:
            raise _damaged(source, LIBRARY_FILE)
        before, uploads = Path(manifest["directory"]) / "uploads", directory / "uploads"
        moved = {} if before == uploads else {before: uploads}
        with closing(Database(partial / LIBRARY_FILE)) as database:
            CatalogWriter(database).move(secrets.token_hex(8), moved)
    return BackupReport(
        target=directory,
        files=verified.files,
        bytes=verified.bytes,
        items=verified.items,
        kept=kept,
        seconds=monotonic() - started_at,
    )


def _name_for_replaced(directory: Path, *, replace: bool) -> Path | None:
    """Return the new name of a library that is replaced, or None if the folder is free."""
    if not holds_library(directory):
        if is_free(directory):
            return None
        raise LibraryError(f"{directory} is no library and not empty: choose another folder")
    if not replace:
        raise LibraryError(
            f"there already is a library in {directory}: with --replace it is kept under another "
            "name beside this one"
        )
    now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return directory.with_name(f"{directory.name}.before-{now}")


def read_manifest(source: Path) -> dict[str, Any]:
    """Return the manifest of a backup.

    Raises:
        LibraryError: If there is none, or it is incomplete or of a newer version.
    """
    try:
        manifest = json.loads((source / MANIFEST).read_bytes())
        newer = _field(manifest, "format", int) > FORMAT
        if not newer:
            for name, kind in _MANIFEST_FIELDS.items():
                _field(manifest, name, kind)
    except (OSError, ValueError, RecursionError) as error:
        raise LibraryError(
            f"{source} is not a complete backup: it has no readable {MANIFEST}"
        ) from error
    if newer:
        raise LibraryError(f"the backup {source} is of a newer version: update the program")
    return cast("dict[str, Any]", manifest)


def listed(source: Path) -> Iterator[tuple[str, int, str]]:
    """Yield the path, size and SHA-256 of each file of a backup.

    Raises:
        ValueError: If the list names anything else than files of a library.
    """
    with (source / FILE_LIST).open(encoding="ascii") as lines:
        for line in lines:
            try:
                fields = json.loads(line)
            except RecursionError as error:
                raise ValueError(f"{FILE_LIST} is not readable") from error
            name = _field(fields, "path", str)
            # A malicious backup would otherwise overwrite any file of the user's.
            folder, *below = Path(name).parts or ("",)
            if folder not in _FOLDERS or not below or ".." in below or "\0" in name:
                raise ValueError(f"{FILE_LIST} names {name!r}, which is no file of a library")
            yield name, _field(fields, "bytes", int), _field(fields, "sha256", str)


def _field(values: object, name: str, kind: type[Value]) -> Value:
    """Return a value of a JSON object, after checking its type."""
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, kind):
        raise ValueError(f"{name} is not a {kind.__name__}")
    return value


def _damaged(source: Path, what: str) -> LibraryError:
    return LibraryError(
        f"the backup {source} is damaged: {what} is not as it was written; use another backup"
    )


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        raise LibraryError(f"the backup {source} cannot be read: {reason}") from error


class _Copies:
    """The files that were copied to a backup."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, tuple[int, str]] = {}
        self.folder = folder

    @property
    def bytes(self) -> int:
        return sum(size for size, _ in self.files.values())

    def add(self, source: Path, name: str) -> bool:
        """Copy a file unless that was done; return False if it does not exist."""
        if name not in self.files:
            try:
                self.files[name] = copy_file(source, self.folder / name)
            except FileNotFoundError:
                (self.folder / name).unlink(missing_ok=True)
                return False
        return True

    def retain(self, names: set[str], below: str) -> None:
        """Delete the other files below a folder: the library does not have them any more."""
        for name in [one for one in self.files if one.startswith(below) and one not in names]:
            del self.files[name]
            (self.folder / name).unlink()

    def write_list(self, path: Path) -> None:
        with path.open("w", encoding="ascii") as lines:
            for name, (size, sha256) in sorted(self.files.items()):
                line = json.dumps({"path": name, "bytes": size, "sha256": sha256})
                lines.write(line + "\n")


def _copy_database(files: LibraryFiles, target: Path, progress: ProgressReporter) -> None:
    """Copy the database, and let SQLite check the copy."""
    target.unlink(missing_ok=True)
    progress.begin("database")
    files.database.copy_to(target, progress.update)
    with closing(Database(target, read_only=True)) as copy:
        if damage := Audit(copy).damage():
            raise LibraryError(
                f"the copy of the library's database is damaged ({damage[0]}): run rzen-admin "
                "check; if it finds nothing, try another disk"
            )


def _copy_files(files: LibraryFiles, copies: _Copies, progress: ProgressReporter) -> list[str]:
    """Copy the thumbnails of the copied tables, and all uploads; return what is missing."""
    missing, thumbnails = list[str](), Thumbnails(Path("thumbnails"))
    with closing(Database(copies.folder / LIBRARY_FILE, read_only=True)) as database:
        audit = Audit(database)
        names = set[str]()
        prefixes = sorted(audit.prefixes())
        progress.begin("thumbnails", len(prefixes))
        for prefix in progress.counted(prefixes):
            for content_hash, position in sorted(audit.pictured(prefix)):
                name = thumbnails.path(content_hash, position).as_posix()
                names.add(name)
                if not copies.add(files.directory / name, name):
                    missing.append(name)
        copies.retain(names, "thumbnails/")
        uploads = files.uploaded() | audit.known_below(files.uploads)
    names = {path.relative_to(files.directory).as_posix() for path in uploads}
    progress.begin("uploads", len(names))
    for name in progress.counted(sorted(names)):
        if not copies.add(files.directory / name, name):
            missing.append(name)
    copies.retain(names, "uploads/")
    return missing


def _manifest(files: LibraryFiles, partial: Path, copies: _Copies) -> dict[str, Any]:
    with closing(Database(partial / LIBRARY_FILE, read_only=True)) as database:
        catalog = Catalog(database)
        stats = catalog.stats()
        return {
            "format": FORMAT,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "directory": str(files.directory),
            "uid": catalog.uid(),
            "generation": catalog.generation(),
            "model": catalog.model().name,
            "items": sum(stats.items.values()) + stats.skipped + stats.failed,
            "files": len(copies.files),
            "list": sha256_of(partial / FILE_LIST),
            "database": sha256_of(partial / LIBRARY_FILE),
        }
