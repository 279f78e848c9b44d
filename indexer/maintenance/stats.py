"""What a library contains, and how much disk space it uses."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from embedder.content import Modality
from embedder.download import local_folder
from embedder.interface import EmbedderInfo, EmbedderUnavailable, Reliability
from embedder.media.kinds import Kind
from embedder.registry import hub_model, open_embedder
from indexer.catalog import Model, schema
from indexer.catalog.verify import Audit
from indexer.config import LIBRARY_FILE
from indexer.maintenance.check import folder_bytes
from indexer.maintenance.storage import LibraryFiles
from indexer.search.candidates import MIN_SAMPLE
from indexer.search.query import MODALITY
from indexer.types import LibraryStats
from indexer.vectors import Description

_TOMBSTONE_BYTES = 40  # A row of `removals` with its files in the index, roughly.


class Origin(StrEnum):
    """Where the constants come from that turn cosines into probabilities."""

    MEASURED = "measured"
    STATED = "the model's own constants, not measured"
    FITTED = "fitted to this library"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What is known of the probabilities of hits of one kind.

    Attributes:
        query: Modality of the query.
        kind: What is found.
        origin: Where their constants come from.
        reliability: What was measured; None where nothing was.
    """

    query: Modality
    kind: Kind
    origin: Origin
    reliability: Reliability | None


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
        probabilities: Of each modality of a query with each kind in the library; empty if its model
            cannot be opened here without a download.
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
    probabilities: Sequence[Probabilities]
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
        removals, holdings = audit.removals(), catalog.stats()
        info = _info(model)
        return LibraryInventory(
            directory=files.directory,
            holdings=holdings,
            model=model.name,
            fingerprint=model.fingerprint,
            dim=model.dim,
            generation=catalog.generation(),
            saved_generation=index.saved_generation(),
            searching=index.describe_saved(),
            probabilities=list(_probabilities(info, holdings.segments)) if info else [],
            schema=schema.VERSION,
            pending=audit.pending_vectors(),
            removals=removals,
            bytes=_sizes(files),
            reclaimable=size.free + retired * 2 * (model.dim or 0) + removals * _TOMBSTONE_BYTES,
        )


def _info(model: Model) -> EmbedderInfo | None:
    """Return what is known of a model; None if it cannot be opened without a download."""
    if model.name is None:
        return None
    try:
        on_hub = hub_model(model.name)
        if on_hub is not None and local_folder(on_hub) is None:
            return None
        with open_embedder(model.name, instructions=model.instructions) as embedder:
            return embedder.info if embedder.info.fingerprint == model.fingerprint else None
    except EmbedderUnavailable:
        return None


def _probabilities(info: EmbedderInfo, segments: Mapping[Kind, int]) -> Iterator[Probabilities]:
    for query, kind in itertools.product(Modality, sorted(segments)):
        constants = info.calibration.get((query, MODALITY[kind]))
        if constants is None:
            origin = Origin.FITTED if segments[kind] >= MIN_SAMPLE else Origin.GENERIC
            yield Probabilities(query, kind, origin, None)
        else:
            measured = constants.reliability
            yield Probabilities(
                query, kind, Origin.MEASURED if measured else Origin.STATED, measured
            )


def _sizes(files: LibraryFiles) -> dict[str, int]:
    database = sum(path.stat().st_size for path in files.directory.glob(f"{LIBRARY_FILE}*"))
    folders = ("vectors", "thumbnails", "uploads")
    return {"database": database} | {name: folder_bytes(files.directory / name) for name in folders}
