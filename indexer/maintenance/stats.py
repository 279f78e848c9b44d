"""What a library contains, and how much disk space it uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder.media.kinds import Kind
from indexer.catalog import schema
from indexer.catalog.verify import Audit
from indexer.config import LIBRARY_FILE
from indexer.maintenance.check import folder_bytes
from indexer.maintenance.storage import LibraryFiles
from indexer.types import LibraryStats
from indexer.vectors import Description

_TOMBSTONE_BYTES = 40  # A row of `removals` with its files in the index, roughly.


@dataclass(frozen=True, slots=True)
class LibraryInventory:
    """What is in a library's folder.

    Attributes:
        directory: The folder.
        holdings: Files and segments.
        model: Spec of its model; None while nothing is indexed.
        fingerprint: Fingerprint of that model.
        dim: Dimensions of its vectors.
        generation: The number that every change of segments increases.
        saved_generation: That of the saved vector index; None if it has to be built.
        searching: How the saved index searches the vectors of each kind.
        schema: Version of the database schema.
        pending: Vectors of an unfinished re-embedding.
        removals: Tombstones of removed segments.
        bytes: On disk: "database", "vectors", "thumbnails", "uploads".
        reclaimable: Bytes that `compact` would free in the database, roughly.
    """

    directory: Path
    holdings: LibraryStats
    model: str | None
    fingerprint: str | None
    dim: int | None
    generation: int
    saved_generation: int | None
    searching: Mapping[Kind, Description]
    schema: int
    pending: int
    removals: int
    bytes: Mapping[str, int]
    reclaimable: int


def inventory(files: LibraryFiles) -> LibraryInventory:
    """Return what a library contains, without changing anything."""
    catalog, audit = files.catalog, Audit(files.database)
    with files.index() as index, catalog.moment():
        model, size, retired = catalog.model(), files.database.size(), audit.retired_vectors()
        removals = audit.removals()
        return LibraryInventory(
            directory=files.directory,
            holdings=catalog.stats(),
            model=model.name,
            fingerprint=model.fingerprint,
            dim=model.dim,
            generation=catalog.generation(),
            saved_generation=index.saved_generation(),
            searching=index.describe_saved(),
            schema=schema.VERSION,
            pending=audit.pending_vectors(),
            removals=removals,
            bytes=_sizes(files),
            reclaimable=size.free + retired * 2 * (model.dim or 0) + removals * _TOMBSTONE_BYTES,
        )


def _sizes(files: LibraryFiles) -> dict[str, int]:
    database = sum(path.stat().st_size for path in files.directory.glob(f"{LIBRARY_FILE}*"))
    folders = ("vectors", "thumbnails", "uploads")
    return {"database": database} | {name: folder_bytes(files.directory / name) for name in folders}
