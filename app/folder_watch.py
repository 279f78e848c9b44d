"""Keep the library's folders up to date: ingest them again whenever something changes in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TypeAlias

from app.jobs import Busy, Jobs
from app.texts import N_
from indexer import IngestReport, Library, LibraryBusy, Progress
from indexer.ingest.watch import changed_paths

_RETRY_SECONDS = 2.0
_STOP_SECONDS = 20.0

OnProgress: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class FolderUpdate:
    """The latest update of the folders that changed anything, and when it ended."""

    report: IngestReport
    ended_at: datetime


class FolderWatch:
    """Ingests the library's folders again when something changes in them. Thread-safe.

    Guarantee: there is one update at a time, however often it is switched off and on.

    Whether it does is kept in the library. Its jobs give way to those that users start.

    Attributes:
        latest: The latest update that changed anything, since the page was started.
        problem: Why the latest update failed; empty if it did not.
        warning: How changes are noticed where the system does not report them; else empty.

    Args:
        library: The library.
        jobs: Where the updates run.
        message: Returns what users may read of an error, and logs the rest.
    """

    def __init__(self, library: Library, jobs: Jobs, message: Callable[[Exception], str]) -> None:
        self.latest: FolderUpdate | None = None
        self.problem = self.warning = ""
        self._library, self._jobs, self._message = library, jobs, message
        self._lock = Lock()
        self._cancel = Event()
        self._thread: Thread | None = None

    @property
    def is_on(self) -> bool:
        """Whether the folders are kept up to date."""
        thread = self._thread
        return thread is not None and thread.is_alive() and not self._cancel.is_set()

    def start(self) -> None:
        """Begin, if the library says so: first with what changed while nothing was watched."""
        with self._lock:
            if self.is_on or not self._library.catalog.watched():
                return
            self._cancel = Event()
            arguments = self._cancel, self._thread
            self._thread = Thread(
                target=self._run, args=arguments, name="folder-watch", daemon=True
            )
            self._thread.start()

    def switch(self, on: bool) -> None:
        """Begin, or stop without waiting for a running update to end; keep that in the library.

        Raises:
            LibraryError: if the library cannot be written to.
        """
        self._library.set_watched(on)
        self.start()
        with self._lock:
            if not self._library.catalog.watched():
                self._stop()

    def close(self) -> None:
        """Stop, and wait for a running update to end."""
        with self._lock:
            self._stop()
            thread = self._thread
        if thread is not None:
            thread.join(_STOP_SECONDS)

    def _stop(self) -> None:
        self._cancel.set()
        self._jobs.cancel(background=True)

    def _run(self, cancel: Event, before: Thread | None) -> None:
        """Watch, once the thread before, which was stopped, has ended its update."""
        if before is not None:
            before.join()
        self.problem = self.warning = ""
        try:
            if self._library.catalog.roots():
                self._update([], cancel)
            for changed in changed_paths(self._library, cancel=cancel, on_warning=self._warn):
                self._update(changed, cancel)
        except Exception as error:
            self.problem = N_("this has stopped: {reason}", reason=self._message(error))

    def _update(self, paths: Sequence[Path], cancel: Event) -> None:
        """Ingest some paths, once no other job is running; none for all folders."""
        while not cancel.is_set():
            try:
                report = self._jobs.run_in_background(
                    N_("Updating your folders"),
                    lambda on_progress, stop: self._ingest(paths, on_progress, cancel, stop),
                )
            except (Busy, LibraryBusy):
                cancel.wait(_RETRY_SECONDS)
                continue
            except Exception as error:
                self.problem = self._message(error)
                return
            self.problem = ""
            assert isinstance(report, IngestReport)
            if report.has_changed:
                self.latest = FolderUpdate(report, datetime.now(UTC))
            return

    def _ingest(
        self, paths: Sequence[Path], on_progress: OnProgress, cancel: Event, stop: Event
    ) -> IngestReport:
        if cancel.is_set():  # Before there was a job to cancel.
            stop.set()
        return self._library.ingest(paths, on_progress=on_progress, cancel=stop)

    def _warn(self, sentence: str) -> None:
        self.warning = sentence
