"""What a library holds and how much room it takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder.media.kinds import Kind
from indexer.catalog.maintenance import Upkeep
from indexer.catalog.verify import Audit
from indexer.config import LIBRARY_FILE
from indexer.maintenance.check import folder_bytes
from indexer.maintenance.storage import LibraryFiles
from indexer.types import LibraryStats
from indexer.vectors import Description

_VECTOR_NOTE_BYTES = 40  # A row of `removals` with its place in the index, roughly.


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is in a library's folder.

    Attributes:
        directory: The folder.
        holdings: Files and segments.
        model: What opens its model; None while nothing was taken in.
        fingerprint: Of that model.
        dim: Length of its vectors.
        generation: The number that every change of segments raises.
        saved_generation: The one that the vector index on disk is of; None if it has to be made.
        searching: How the vectors of each kind are searched by that index.
        schema: The last step that the tables have taken.
        pending: Vectors of a re-embedding that was stopped.
        removals: Segments that are gone and still noted.
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


def inventory(place: LibraryFiles) -> Inventory:
    """What a library holds; reads only."""
    catalog, audit, upkeep = place.catalog, Audit(place.database), Upkeep(place.database)
    with place.index() as index, catalog.moment():
        model, size, retired = catalog.model(), upkeep.size(), audit.retired_vectors()
        removals = audit.removals()
        return Inventory(
            directory=place.directory,
            holdings=catalog.stats(),
            model=model.name,
            fingerprint=model.fingerprint,
            dim=model.dim,
            generation=catalog.generation(),
            saved_generation=index.saved_generation(),
            searching=index.describe_saved(),
            schema=upkeep.schema_version(),
            pending=audit.pending_vectors(),
            removals=removals,
            bytes=_sizes(place),
            reclaimable=size.free + retired * 2 * (model.dim or 0) + removals * _VECTOR_NOTE_BYTES,
        )


def _sizes(place: LibraryFiles) -> dict[str, int]:
    database = sum(path.stat().st_size for path in place.directory.glob(f"{LIBRARY_FILE}*"))
    folders = ("vectors", "thumbnails", "uploads")
    return {"database": database} | {name: folder_bytes(place.directory / name) for name in folders}
