"""Putting a backup in the place of a library, or where there is none yet."""

import secrets
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from indexer.catalog.copying import identify
from indexer.config import typed_path
from indexer.errors import LibraryError
from indexer.manifest import BackupReport, damaged, listed, read_manifest, verify
from indexer.meter import Meter
from indexer.placing import Room, copy_file, is_free, whole_or_not
from indexer.reports import Progress
from indexer.scan import LIBRARY_FILE, holds_library


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
    started_at, meter = monotonic(), Meter(on_progress)
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
    with whole_or_not(directory, ".restoring", room) as partial:
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
