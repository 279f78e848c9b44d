"""Read the words in pictures in a thread, whenever files have been added and nothing else runs."""

import logging
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

from indexer.errors import IndexerError, LibraryBusy
from indexer.progress import Progress

if TYPE_CHECKING:
    from indexer.library import Library

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_BUSY_SECONDS = 10.0  # until another program is asked for again
_STOP_SECONDS = 20.0


class BackgroundOcr:
    """Runs `Library.read_words` again and again. Thread-safe.

    Attributes:
        progress: How far it is; None before the first pass.
        problem: Why it has stopped by itself; None if it has not.

    Args:
        library: The library.
        is_busy: Whether something runs that goes first, such as an ingest.
    """

    def __init__(self, library: "Library", is_busy: Callable[[], bool] = lambda: False) -> None:
        self.progress: Progress | None = None
        self.problem: Exception | None = None
        self._library, self._is_busy = library, is_busy
        self._lock = Lock()
        self._cancel, self._pause = Event(), Event()
        self._thread: Thread | None = None

    @property
    def is_on(self) -> bool:
        """Whether words are read, or will be once there are new pictures."""
        return self._thread is not None and self._thread.is_alive() and not self._cancel.is_set()

    def start(self) -> None:
        """Begin; it goes on where the last pass was stopped."""
        with self._lock:
            if self.is_on:
                return
            self._cancel, self.problem = Event(), None
            arguments = self._cancel, self._thread
            self._thread = Thread(target=self._run, args=arguments, name="ocr", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop within seconds, without waiting for that."""
        self._cancel.set()
        self._pause.set()

    def close(self) -> None:
        """Stop, and wait until it has."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)

    def _run(self, cancel: Event, before: Thread | None) -> None:
        if before is not None:
            before.join()
        seen = -1
        try:
            while not cancel.wait(_LOOK_SECONDS):
                generation = self._library.catalog.generation()
                if generation == seen or self._is_busy():
                    continue
                try:
                    seen = generation if self._read(cancel) else -1
                except LibraryBusy:
                    cancel.wait(_BUSY_SECONDS)
        except IndexerError as error:
            self.problem = error
            _log.warning("words in pictures are not read any more: %s", error)

    def _read(self, cancel: Event) -> bool:
        """Make a pass; return whether it came to its end."""
        self._pause = Event()
        if cancel.is_set():
            return False
        report = self._library.read_words(on_progress=self._note, cancel=self._pause)
        return not report.cancelled

    def _note(self, progress: Progress) -> None:
        self.progress = progress
        if self._is_busy():
            self._pause.set()
