"""Ingests run in the background, one at a time; visitors come and go and see how far it is."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedder import EmbedderError
from embedder.media import MediaError
from indexer import IndexerError, IngestOptions, IngestReport, Library, Progress

_log = logging.getLogger(__name__)


class IngestBusy(IndexerError):
    """Another ingest is running."""


@dataclass(frozen=True, slots=True)
class IngestState:
    """What can be told of the latest ingest.

    Attributes:
        title: What is being added, for people.
        running: Whether it still works.
        cancelling: Whether it was asked to stop.
        progress: The latest news, or None before the first.
        report: What it did, once it has ended well.
        error: Why it ended badly, one sentence.
        version: Grows with every change.
    """

    title: str = ""
    running: bool = False
    cancelling: bool = False
    progress: Progress | None = None
    report: IngestReport | None = None
    error: str | None = None
    version: int = 0


class Ingests:
    """Starts, follows and cancels ingests. Thread-safe."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._state = IngestState()
        self._changed = threading.Condition()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> IngestState:
        """The latest state."""
        with self._changed:
            return self._state

    def start(self, title: str, paths: Sequence[Path], *, retry_failed: bool = False) -> None:
        """Begins an ingest and returns at once.

        Raises:
            IngestBusy: if one is running.
        """
        with self._changed:
            if self._state.running:
                raise IngestBusy(
                    "files are already being added: wait for that to end, or cancel it, "
                    "and then try again"
                )
            self._cancel = threading.Event()
            self._set(IngestState(title=title, running=True, version=self._state.version))
            self._thread = threading.Thread(
                target=self._run,
                args=(tuple(paths), retry_failed, self._cancel),
                name="ingest",
                daemon=True,
            )
            self._thread.start()

    def cancel(self) -> bool:
        """Asks the running ingest to stop after the file it works on; False if there is none."""
        with self._changed:
            if not self._state.running:
                return False
            self._cancel.set()
            self._set(replace(self._state, cancelling=True))
            return True

    def wait(self, seen: int, timeout: float) -> IngestState:
        """The state as soon as it is newer than version `seen`, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.version != seen, timeout)
            return self._state

    def close(self, timeout: float = 20.0) -> None:
        """Cancels what runs and waits for it to stop."""
        self.cancel()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self, paths: tuple[Path, ...], retry_failed: bool, cancel: threading.Event) -> None:
        report, error = None, None
        try:
            report = self._library.ingest(
                paths,
                IngestOptions(retry_failed=retry_failed),
                on_progress=self._on_progress,
                cancel=cancel,
            )
        except (IndexerError, EmbedderError, MediaError) as reason:
            error = str(reason)
        except Exception:
            _log.exception("the ingest broke off")
            error = "something unforeseen stopped the ingest: the server's log says more"
        with self._changed:
            ended = replace(self._state, running=False, cancelling=False)
            self._set(replace(ended, report=report, error=error))

    def _on_progress(self, progress: Progress) -> None:
        with self._changed:
            self._set(replace(self._state, progress=progress))

    def _set(self, state: IngestState) -> None:
        self._state = replace(state, version=state.version + 1)
        self._changed.notify_all()
