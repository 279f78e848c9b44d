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
        store = self._loaded() if self._store is None else self._store
        generation = self._catalog.generation()
        if generation < self._generation:  # The database is older: a backup was put back.
            store, self._generation = FaissStore(store.dim), 0
        while generation != self._generation:
            with self._catalog.changes(self._generation) as changes:
                if changes.dim != store.dim:  # The first vectors, or those of another model.
                    store, self._generation = FaissStore(changes.dim), 0
                    continue
                for kind, ids in changes.removed.items():
                    store.remove(ids, kind)
                for kind, ids, vectors in changes.added:
                    store.add(kind, ids, vectors)
                self._generation = generation = changes.generation
            _log.debug("caught up with generation %d", generation)
        self._store = store
        return store

    def _loaded(self) -> FaissStore:
        """What is on disk, or an empty store."""
        dim = self._catalog.model().dim or 0
        loaded = FaissStore.load(self._directory, self._catalog.uid(), dim)
        store, self._generation = loaded or (FaissStore(dim), 0)
        self._on_disk = self._generation if loaded else -1
        return store
