"""Keeping the vector index of a library in step with the vectors in its catalog."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedder.media.kinds import Kind
from indexer.catalog import Catalog
from indexer.catalog.reader import Changes
from indexer.catalog.sqlite import WriterLock
from indexer.errors import LibraryError
from indexer.vectors import storage
from indexer.vectors.interface import Description, VectorIndex

_log = logging.getLogger(__name__)


class IndexSync:
    """The vector index of a library, loaded when it is first needed. Thread-safe.

    Guarantees: `current` holds every vector that was committed before the call, by this process
    or another, and none that was removed. What is on disk may be missing, old, damaged or of
    another library: it is brought up to date or rebuilt from the catalog. Inverted lists that are
    due are built in the background; they cost only time if that is cut short, and are saved unless
    another process is writing, so that the next process need not build them.
    """

    def __init__(self, catalog: Catalog, directory: Path, writer: WriterLock | None = None) -> None:
        """Note where things are.

        Args:
            catalog: The vectors as they are committed.
            directory: Where the index is saved.
            writer: Held while saving what was built in the background; without it, that is not
                saved until `save`.
        """
        self._catalog = catalog
        self._directory = directory
        self._writer = writer
        self._lock = Lock()
        self._index: VectorIndex | None = None
        self._generation = 0
        self._on_disk = -1
        self._ready: tuple[VectorIndex, int] | None = None  # The index, and its generation.

    def current(self) -> VectorIndex:
        """Return the index, up to date; not to be called within `Catalog.moment`.

        In a moment that is past, an index that another thread has updated since would look like
        one from before a backup was restored, and be rebuilt.
        """
        ready = self._ready
        if ready is None or ready[1] != self._catalog.generation():
            with self._lock:
                ready = self._updated(), self._generation
        # Else without the lock: reading must not wait for saving.
        ready[0].tend()
        return ready[0]

    def settle(self, stop: Event | None = None) -> None:
        """Wait until every kind is indexed as its size makes due, or until `stop` is set.

        For work that has changed much and can wait: what is saved then is searched fast at once.
        """
        with self._lock:
            if self._is_saved():
                return
            index = self._defragmented()
        index.settle(stop)

    def save(self) -> None:
        """Update the index and write what is not on disk; for the holder of the writer lock."""
        with self._lock:
            if self._is_saved():
                return  # Nothing to write, and no need to load anything.
            index = self._defragmented()
            if self._on_disk != self._generation or index.unsaved:
                index.save(self._directory, self._catalog.uid(), self._generation)
                self._on_disk = self._generation

    def close(self) -> None:
        """Stop what is built in the background, and wait if that is being saved."""
        with self._lock:
            index = self._index
        if index is not None:
            index.close()  # Without the lock, which saving needs.

    # What is on disk, without loading the index.

    def saved_generation(self) -> int | None:
        """Return the generation of the saved index; None if there is none of this library."""
        try:
            state = storage.state_of(self._directory)
            same = state["owner"], state["fingerprint"]
            known = self._catalog.uid(), self._catalog.model().fingerprint
            return state["generation"] if same == known else None
        except (OSError, ValueError, KeyError):
            return None

    def describe_saved(self) -> Mapping[Kind, Description]:
        """Return how each kind is searched by the saved index."""
        if self.saved_generation() is None:
            return {}
        try:
            partitions = storage.state_of(self._directory)["partitions"].items()
            return {Kind(name): Description.of(one["description"]) for name, one in partitions}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    @property
    def has_files(self) -> bool:
        """Whether there are files of a saved index, whatever they hold."""
        return self._directory.is_dir() and any(self._directory.iterdir())

    def damage(self) -> list[str]:
        """Return what is wrong with the files of the saved index; reads all of them."""
        model = self._catalog.model()
        loaded = _load(self._directory, self._catalog.uid(), model.dim or 0, model.fingerprint)
        if loaded is None:
            return [f"a file in {self._directory} is missing or damaged"]
        loaded[0].close()
        return storage.damaged_files(self._directory)

    def discard(self) -> None:
        """Delete the saved index; the next search rebuilds it."""
        shutil.rmtree(self._directory)

    def _is_saved(self) -> bool:
        return self._index is None and self.saved_generation() == self._catalog.generation()

    def _save_built(self) -> None:
        """Save what was built in the background."""
        if self._writer is None:
            return
        try:
            with self._writer.held():
                self.save()
        except LibraryError as error:  # The process that is writing saves its own index.
            _log.info("what was built for searching is not saved yet: %s", error)

    def _defragmented(self) -> VectorIndex:
        """Return the index, up to date, and filled again if removed vectors take up much of it."""
        index = self._updated()
        if index.fragmented:
            index.close(wait=False)
            self._index = self._empty(index.dim, index.fingerprint)
            index = self._updated()
        return index

    def _updated(self) -> VectorIndex:
        if self._index is None:
            model = self._catalog.model()
            self._index = self._loaded(model.dim or 0, model.fingerprint)
        index, generation = self._index, self._catalog.generation()
        while generation != self._generation:
            with self._catalog.changes(self._generation) as changes:
                if (changes.dim, changes.fingerprint) != (index.dim, index.fingerprint):
                    # The first vectors, or those of another model. It is another index, so that
                    # searches which hold the former go on comparing vectors of one model.
                    index.close(wait=False)
                    self._index = index = self._loaded(changes.dim, changes.fingerprint)
                    generation = changes.generation
                    continue
                if changes.generation < self._generation:  # A backup was restored.
                    index.close(wait=False)
                    self._index = index = self._empty(changes.dim, changes.fingerprint)
                    continue
                for kind, ids in changes.removed.items():
                    index.remove(ids, kind)
                for kind, ids, vectors in changes.added:
                    index.add(kind, ids, vectors)
                _set_holders(index, changes)
                self._generation = generation = changes.generation
            _log.debug("up to date with generation %d", generation)
        self._ready = index, generation
        return index

    def _loaded(self, dim: int, fingerprint: str | None) -> VectorIndex:
        """Return what is on disk of that model, or an empty index."""
        loaded = _load(self._directory, self._catalog.uid(), dim, fingerprint)
        if loaded is None:
            return self._empty(dim, fingerprint)
        index, self._generation = loaded
        self._on_disk = self._generation
        index.after_building(self._save_built)
        return index

    def _empty(self, dim: int, fingerprint: str | None) -> VectorIndex:
        from indexer.vectors.faiss_index import FaissIndex

        self._generation, self._on_disk = 0, -1
        index = FaissIndex(dim, fingerprint)
        index.after_building(self._save_built)
        return index


def _set_holders(index: VectorIndex, changes: Changes) -> None:
    """Pass on which files hold segments; of each segment all at once, which chunks may divide."""
    found: dict[Kind, list[tuple[NDArray[Any], ...]]] = {}
    for kind, ids, folder_ids, dates_ns in changes.holders:
        found.setdefault(kind, []).append((ids, folder_ids, dates_ns))
    for kind, chunks in found.items():
        ids, folder_ids, dates_ns = map(np.concatenate, zip(*chunks, strict=True))
        index.set_holders(kind, ids, folder_ids, dates_ns)


def _load(
    directory: Path, owner: str, dim: int, fingerprint: str | None
) -> tuple[VectorIndex, int] | None:
    from indexer.vectors.faiss_index import FaissIndex

    return FaissIndex.load(directory, owner, dim, fingerprint)
