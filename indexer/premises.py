"""A library on disk as those who look after it see it: its parts, without a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from indexer.catalog import Catalog
from indexer.catalog.ledger import Ledger
from indexer.catalog.pending import Pending
from indexer.config import typed_path
from indexer.database import Database, WriterLock
from indexer.errors import LibraryError
from indexer.mirror import Mirror
from indexer.scan import LIBRARY_FILE, holds_library
from indexer.thumbnails import Thumbnails


@dataclass(frozen=True)
class Premises:
    """The parts of a library; made by `premises`.

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
    def ledger(self) -> Ledger:
        """Writing to its tables."""
        return Ledger(self.database)

    @cached_property
    def pending(self) -> Pending:
        """Vectors of another model."""
        return Pending(self.database)

    @cached_property
    def thumbnails(self) -> Thumbnails:
        """Its small pictures."""
        return Thumbnails(self.directory / "thumbnails")

    @contextmanager
    def mirror(self) -> Iterator[Mirror]:
        """Its vectors as they are searched, loaded anew."""
        mirror = Mirror(self.catalog, self.vectors)
        try:
            yield mirror
        finally:
            mirror.close()


@contextmanager
def premises(directory: Path, *, read_only: bool = False) -> Iterator[Premises]:
    """Opens what is on disk of a library.

    Raises:
        LibraryError: there is none, or it cannot be opened.
    """
    directory = typed_path(directory)
    if not holds_library(directory):
        raise LibraryError(f"there is no library in {directory}: name its folder with --library")
    database = Database(directory / LIBRARY_FILE, read_only=read_only)
    try:
        yield Premises(directory, database)
    finally:
        database.close()
