"""Making a backup of a library while it is in use; `indexer.manifest` says what one is."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from indexer.catalog import Catalog
from indexer.catalog.audit import Audit
from indexer.catalog.copying import copy
from indexer.config import typed_path
from indexer.database import Database
from indexer.decoding import hash_of
from indexer.errors import LibraryError
from indexer.manifest import FORMAT, LIST, MANIFEST, BackupReport
from indexer.meter import Meter
from indexer.placing import copy_file, whole_or_not
from indexer.premises import Premises
from indexer.reports import Progress
from indexer.scan import LIBRARY_FILE
from indexer.thumbnails import Thumbnails

_ROUNDS = 3


def back_up(
    place: Premises, target: Path, *, on_progress: Callable[[Progress], None] | None = None
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
    started_at, meter = monotonic(), Meter(on_progress)
    target = typed_path(target)
    if place.directory in (target, *target.parents):
        raise LibraryError(f"{target} is inside the library: choose a folder elsewhere")
    if os.path.lexists(target):
        raise LibraryError(f"{target} exists already: name a folder that does not")
    with whole_or_not(target, ".partial") as partial:
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


def _copy_tables(place: Premises, target: Path, meter: Meter) -> dict[str, Any]:
    target.unlink(missing_ok=True)
    meter.begin("database")
    found = copy(place.database, target, meter.reach)
    return {name: asdict(one) for name, one in found.items()}


def _copy_files(place: Premises, copied: _Copied, meter: Meter) -> list[str]:
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
    place: Premises, partial: Path, tables: dict[str, Any], copied: _Copied
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
            "list": hash_of(partial / LIST),
            "tables": tables,
        }


@contextmanager
def _closing(database: Database) -> Iterator[Database]:
    try:
        yield database
    finally:
        database.close()
