"""Where the files of a library are, and how files are copied and folders replaced safely."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from embedder.media.kinds import open_media, sha256_of
from indexer.catalog import Catalog
from indexer.catalog.sqlite import Database, WriterLock, alone
from indexer.catalog.staged import StagedVectors
from indexer.catalog.writer import CatalogWriter
from indexer.config import LIBRARY_FILE, holds_library, typed_path
from indexer.errors import LibraryError
from indexer.ingest.thumbnails import Thumbnails
from indexer.vectors.sync import IndexSync

_UNFINISHED = "unfinished"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class LibraryFiles:
    """The parts of a library that is open without its model; made by `open_storage`.

    Attributes:
        directory: Its folder.
        database: Its tables.
    """

    directory: Path
    database: Database

    @property
    def uploads(self) -> Path:
        """The folder of uploads, which exist nowhere else."""
        return self.directory / "uploads"

    def uploaded(self) -> set[Path]:
        """Return all files in the folder of uploads and below it."""
        return {path for path in self.uploads.rglob("*") if path.is_file()}

    @property
    def vectors(self) -> Path:
        """The folder of the saved vector index."""
        return self.directory / "vectors"

    @property
    def writer(self) -> WriterLock:
        """The lock that is held to write for longer than a transaction."""
        return WriterLock(self.directory / "writer.lock", self.database.check_unchanged)

    @cached_property
    def catalog(self) -> Catalog:
        """Reads its tables."""
        return Catalog(self.database)

    @cached_property
    def ledger(self) -> CatalogWriter:
        """Writes its tables."""
        return CatalogWriter(self.database)

    @cached_property
    def pending(self) -> StagedVectors:
        """The vectors of an unfinished re-embedding."""
        return StagedVectors(self.database)

    @cached_property
    def thumbnails(self) -> Thumbnails:
        """Its thumbnails."""
        return Thumbnails(self.directory / "thumbnails")

    @contextmanager
    def index(self) -> Iterator[IndexSync]:
        """Yield its vector index, which is not loaded yet, and close it afterwards."""
        index = IndexSync(self.catalog, self.vectors)
        try:
            yield index
        finally:
            index.close()


@contextmanager
def open_storage(directory: Path, *, read_only: bool = False) -> Iterator[LibraryFiles]:
    """Open a library's files without its model.

    Raises:
        LibraryError: If there is no library, or it cannot be opened.
    """
    directory = typed_path(directory)
    if not holds_library(directory):
        raise LibraryError(f"there is no library in {directory}: name its folder with --library")
    database = Database(directory / LIBRARY_FILE, read_only=read_only)
    try:
        yield LibraryFiles(directory, database)
    finally:
        database.close()


@contextmanager
def replace_directory_atomically(
    target: Path, suffix: str, *, kept: Path | None = None
) -> Iterator[Path]:
    """Yield a folder to fill, which becomes `target` once it is complete, or else is deleted.

    Args:
        target: A folder that does not exist, is empty, or holds a library that gives way.
        suffix: Appended to its name until it is complete.
        kept: The new name of the library that gives way.

    Raises:
        LibraryBusy: If another program has that library open.
        LibraryError: If the disk is full, or something cannot be written.
    """
    partial = target.with_name(target.name + suffix)
    try:
        if os.path.lexists(partial):
            if not (partial / _UNFINISHED).is_file() and not _is_empty(partial):
                raise LibraryError(f"{partial} is in the way: move or delete it")
            _delete_unfinished(partial)  # left by a run that was killed
        partial.mkdir(parents=True)
        (partial / _UNFINISHED).touch()
        try:
            yield partial
            if hasattr(os, "sync"):
                os.sync()  # its content must not reach the disk after its name
            _move_into_place(partial, target, kept)
            (target / _UNFINISHED).unlink()
        except BaseException:
            with suppress(OSError):
                _delete_unfinished(partial)
            raise
    except OSError as error:
        raise LibraryError(_write_error(error, target)) from error


def _move_into_place(partial: Path, target: Path, kept: Path | None) -> None:
    if target.is_dir() and kept is None:
        target.rmdir()
    elif kept is not None:
        with WriterLock(target / "writer.lock").held(), alone(target / LIBRARY_FILE):
            target.rename(kept)
    try:
        partial.rename(target)
    except OSError:
        if kept is not None:
            kept.rename(target)
        raise


def _delete_unfinished(partial: Path) -> None:
    # The marker goes last: if this is killed too, the next run still knows that it may delete it.
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _UNFINISHED:
            path.unlink()
    shutil.rmtree(partial)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def is_free(folder: Path) -> bool:
    """Whether a folder is empty or does not exist.

    Raises:
        LibraryError: If it cannot be read.
    """
    try:
        return not folder.is_dir() or _is_empty(folder)
    except OSError as error:
        raise LibraryError(_write_error(error, folder)) from error


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copy a file with its date, and read the copy again; return its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with open_media(source) as file:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as copy:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
                size += copy.write(block)
    shutil.copystat(source, target)
    if sha256_of(target) != digest.hexdigest():
        raise LibraryError(f"{target} does not read back as it was written: try another disk")
    return size, digest.hexdigest()


def _write_error(error: OSError, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {target} is full: free some space and run the same command again"
    return f"{target} cannot be written: {error.strerror or error}"
