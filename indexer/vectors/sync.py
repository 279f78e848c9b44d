"""Keeps a vector store the mirror of the vectors in the catalog."""

import logging
from pathlib import Path
from threading import Event, Lock

from indexer.catalog import Catalog
from indexer.catalog.database import WriterLock
from indexer.errors import LibraryError
from indexer.vectors import FaissIndex, VectorIndex, saved_generation

_log = logging.getLogger(__name__)


class IndexSync:
    """The vector store of a library, loaded when it is first asked for. Thread-safe.

    Guarantees: `current` holds every vector that was committed before the call, by this process
    or another, and none that was removed. What is on disk may be missing, old, damaged or of
    another library: it is caught up or made anew from the catalog. An index that its size makes
    due is built in the background, and costs nothing but time if that is cut short; it is saved
    then, unless somebody else is writing, so that the next process need not build it.
    """

    def __init__(self, catalog: Catalog, directory: Path, writer: WriterLock | None = None) -> None:
        """Remembers where things are.

        Args:
            catalog: The truth.
            directory: Where the store is saved.
            writer: Held while saving what was built in the background; without it, that is not
                saved until `save`.
        """
        self._catalog = catalog
        self._directory = directory
        self._writer = writer
        self._lock = Lock()
        self._store: FaissIndex | None = None
        self._generation = 0
        self._on_disk = -1
        self._ready: tuple[FaissIndex, int] | None = None  # Caught up with that generation.

    def current(self) -> VectorIndex:
        """The store, caught up; not to be asked for within `Catalog.moment`.

        In a moment that is past, a store that another thread has caught up since would look like
        one from before a backup was put back, and be made anew.
        """
        ready = self._ready
        if ready is None or ready[1] != self._catalog.generation():
            with self._lock:
                ready = self._caught_up(), self._generation
        # Else without the lock: who only reads must not wait for whoever is saving.
        ready[0].tend()
        return ready[0]

    def settle(self, stop: Event | None = None) -> None:
        """Waits until every index is the one that its size makes due, or until told to stop.

        For whoever has changed much and can wait: what is saved then is quick to search at once.
        """
        with self._lock:
            if self._store is None and self._saved_generation() == self._catalog.generation():
                return  # As in `save`.
            store = self._caught_up()
        store.settle(stop)

    def save(self) -> None:
        """Catches up and writes to disk what is not there yet; for the holder of the lock."""
        with self._lock:
            if self._store is None and self._saved_generation() == self._catalog.generation():
                return  # Nothing to write, and no need to load anything.
            store = self._caught_up()
            if self._on_disk != self._generation or store.unsaved:
                store.save(self._directory, self._catalog.uid(), self._generation)
                self._on_disk = self._generation

    def close(self) -> None:
        """Stops what is built in the background, and waits if that is being saved."""
        with self._lock:
            store = self._store
        if store is not None:
            store.close()  # Without the lock, which saving needs.

    def _keep(self) -> None:
        """Saves what was built, once."""
        if self._writer is None:
            return
        try:
            with self._writer.held():
                self.save()
        except LibraryError as error:  # Whoever is writing saves an index of their own.
            _log.info("what was built for searching is not saved yet: %s", error)

    def _saved_generation(self) -> int | None:
        fingerprint = self._catalog.model().fingerprint
        return saved_generation(self._directory, self._catalog.uid(), fingerprint)

    def _caught_up(self) -> FaissIndex:
        if self._store is None:
            model = self._catalog.model()
            self._store = self._loaded(model.dim or 0, model.fingerprint)
        store, generation = self._store, self._catalog.generation()
        while generation != self._generation:
            with self._catalog.changes(self._generation) as changes:
                if (changes.dim, changes.fingerprint) != (store.dim, store.fingerprint):
                    # The first vectors, or those of another model. It is another store, so that
                    # searches which hold the former go on comparing vectors of one model.
                    store.abandon()
                    self._store = store = self._loaded(changes.dim, changes.fingerprint)
                    generation = changes.generation
                    continue
                if changes.generation < self._generation:  # A backup was put back.
                    self._generation = 0
                    store.abandon()
                    self._store = store = FaissIndex(changes.dim, changes.fingerprint)
                    store.after_building(self._keep)
                    continue
                for kind, ids in changes.removed.items():
                    store.remove(ids, kind)
                for kind, ids, vectors in changes.added:
                    store.add(kind, ids, vectors)
                self._generation = generation = changes.generation
            _log.debug("caught up with generation %d", generation)
        self._ready = store, generation
        return store

    def _loaded(self, dim: int, fingerprint: str | None) -> FaissIndex:
        """What is on disk of that model, or an empty store."""
        loaded = FaissIndex.load(self._directory, self._catalog.uid(), dim, fingerprint)
        store, self._generation = loaded or (FaissIndex(dim, fingerprint), 0)
        self._on_disk = self._generation if loaded else -1
        store.after_building(self._keep)
        return store
