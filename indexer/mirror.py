"""Keeps a vector store the mirror of the vectors in the catalog."""

import logging
from pathlib import Path
from threading import Lock

from indexer.catalog import Catalog
from indexer.vectors import FaissStore, VectorStore, saved_generation

_log = logging.getLogger(__name__)


class Mirror:
    """The vector store of a library, loaded when it is first asked for. Thread-safe.

    Guarantees: `current` holds every vector that was committed before the call, by this process
    or another, and none that was removed. What is on disk may be missing, old, damaged or of
    another library: it is caught up or made anew from the catalog.
    """

    def __init__(self, catalog: Catalog, directory: Path) -> None:
        self._catalog = catalog
        self._directory = directory
        self._lock = Lock()
        self._store: FaissStore | None = None
        self._generation = 0
        self._on_disk = -1

    def current(self) -> VectorStore:
        """The store, caught up."""
        with self._lock:
            return self._caught_up()

    def save(self) -> None:
        """Catches up and writes to disk what is not there yet; for the holder of the lock."""
        with self._lock:
            uid, generation = self._catalog.uid(), self._catalog.generation()
            if self._store is None and saved_generation(self._directory, uid) == generation:
                return  # Nothing to write, and no need to load anything.
            store = self._caught_up()
            if self._on_disk != self._generation:
                store.save(self._directory, uid, self._generation)
                self._on_disk = self._generation

    def _caught_up(self) -> FaissStore:
        dim = self._catalog.model().dim or 1
        if self._store is None or self._store.dim != dim:
            self._load(dim)
        assert self._store is not None
        generation = self._catalog.generation()
        if generation == self._generation:
            return self._store
        if generation < self._generation:  # The database is older: a backup was put back.
            self._store, self._generation = FaissStore(dim), 0
        with self._catalog.changes(self._generation) as changes:
            for kind, ids in changes.removed.items():
                self._store.remove(ids, kind)
            for kind, ids, vectors in changes.added:
                self._store.add(kind, ids, vectors)
            self._generation = changes.generation
        _log.debug("caught up with generation %d", self._generation)
        return self._store

    def _load(self, dim: int) -> None:
        loaded = FaissStore.load(self._directory, self._catalog.uid(), dim)
        self._store, self._generation = loaded or (FaissStore(dim), 0)
        self._on_disk = self._generation if loaded else -1
