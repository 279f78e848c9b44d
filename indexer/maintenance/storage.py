"""A library on disk as those who look after it see it: its parts, without a model."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from embedder.media.file_access import sha256_of
from indexer.catalog import Catalog
from indexer.catalog.database import Database, WriterLock
from indexer.catalog.maintenance import alone
from indexer.catalog.staged import StagedVectors
from indexer.catalog.writer import CatalogWriter
from indexer.config import LIBRARY_FILE, holds_library, typed_path
from indexer.errors import LibraryError
from indexer.ingest.thumbnails import Thumbnails
from indexer.vectors.sync import IndexSync


@dataclass(frozen=True)
class LibraryFiles:
    """The parts of a library; made by `open_storage`.

    Attributes:
        directory: Its folder.
        database: Its tables.
    """

    directory: Path
    database: Database

    @property
    def uploads(self) -> Path:
        """The folder for files that exist nowhere else."""
        return self.directory / "uploads"

    @property
    def vectors(self) -> Path:
        """The folder with the saved vector index."""
        return self.directory / "vectors"

    @property
    def writer(self) -> WriterLock:
        """Who may write for longer than a transaction."""
        return WriterLock(self.directory / "writer.lock")

    @cached_property
    def catalog(self) -> Catalog:
        """Questions to its tables."""
        return Catalog(self.database)

    @cached_property
    def ledger(self) -> CatalogWriter:
        """Writing to its tables."""
        return CatalogWriter(self.database)

    @cached_property
    def pending(self) -> StagedVectors:
        """Vectors of another model."""
        return StagedVectors(self.database)

    @cached_property
    def thumbnails(self) -> Thumbnails:
        """Its small pictures."""
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
    """Opens what is on disk of a library.

    Raises:
        LibraryError: there is none, or it cannot be opened.
    """
    directory = typed_path(directory)
    if not holds_library(directory):
        raise LibraryError(f"there is no library in {directory}: name its folder with --library")
    database = Database(directory / LIBRARY_FILE, read_only=read_only)
    try:
        yield LibraryFiles(directory, database)
    finally:
        database.close()


_UNFINISHED = "unfinished"
_COPIED_BYTES = 1 << 20


class Room:
    """Room for a folder where there may be a library, which is put aside.

    Attributes:
        kept: Where that library is now.
    """

    def __init__(self, directory: Path) -> None:
        self.kept: Path | None = None
        self._directory = directory

    def make(self) -> None:
        """Gives the library that is there another name, if nobody else has it open."""
        directory = self._directory
        if not directory.is_dir():
            return
        if not any(directory.iterdir()):
            directory.rmdir()
            return
        now = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        kept = directory.with_name(f"{directory.name}.before-{now}")
        with WriterLock(directory / "writer.lock").held(), alone(directory / LIBRARY_FILE):
            directory.rename(kept)
        self.kept = kept

    def undo(self) -> None:
        """Puts the library back where it was."""
        if self.kept is not None:
            self.kept.rename(self._directory)


@contextmanager
def replace_directory_atomically(
    target: Path, suffix: str, room: Room | None = None
) -> Iterator[Path]:
    """A folder that gets the name of the target once all is in it; otherwise nothing stays."""
    partial = target.with_name(target.name + suffix)
    try:
        if os.path.lexists(partial):
            if not (partial / _UNFINISHED).is_file() and not _is_empty(partial):
                raise LibraryError(f"{partial} is in the way: move or delete it")
            _clear_away(partial)  # Of a run that was killed.
        partial.mkdir(parents=True)
        (partial / _UNFINISHED).touch()
        try:
            yield partial
            if hasattr(os, "sync"):
                os.sync()  # All of it is on the disk before it gets its name.
            if room is not None:
                room.make()
            try:
                partial.rename(target)
            except OSError:
                if room is not None:
                    room.undo()
                raise
            (target / _UNFINISHED).unlink()
        except BaseException:
            with suppress(OSError):
                _clear_away(partial)
            raise
    except OSError as error:
        raise LibraryError(_refusal(error, target)) from error


def _clear_away(partial: Path) -> None:
    """Deletes what is unfinished, and last of all the sign that it is, lest this is killed too."""
    for path in partial.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _UNFINISHED:
            path.unlink()
    shutil.rmtree(partial)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def is_free(folder: Path) -> bool:
    """Whether there is nothing in a folder, or no folder.

    Raises:
        LibraryError: it cannot be looked into.
    """
    try:
        return not folder.is_dir() or _is_empty(folder)
    except OSError as error:
        raise LibraryError(_refusal(error, folder)) from error


def copy_file(source: Path, target: Path) -> tuple[int, str]:
    """Copies a file with its date, and reads the copy again; returns its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb", buffering=0) as file:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as written:
            while block := file.read(_COPIED_BYTES):
                digest.update(block)
                size += written.write(block)
    shutil.copystat(source, target)
    if sha256_of(target) != digest.hexdigest():
        raise LibraryError(f"{target} cannot be read as it was written: try another disk")
    return size, digest.hexdigest()


def _refusal(error: OSError, target: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {target} is full: free some space and run the same command again"
    return f"{target} cannot be written: {error.strerror or error}"
