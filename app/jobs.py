"""Background jobs: one at a time, with progress that any number of pages can follow."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from indexer import IndexerError, IngestReport, Progress, ReembedReport

Report = IngestReport | ReembedReport
Work = Callable[[Callable[[Progress], None], threading.Event], Report]
"""Does the work; receives a callback for progress, and an event that asks it to stop."""


class Busy(IndexerError):
    """Another job is running."""


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of the latest job.

    Attributes:
        title: What it does, for users.
        running: Whether it still runs.
        cancelling: Whether it was asked to stop.
        progress: The latest progress, or None before the first; in bytes while a model is
            downloaded (the stage "download").
        report: What it did, once it has succeeded.
        error: Why it failed, one sentence.
        version: Grows with every change.
    """

    title: str = ""
    running: bool = False
    cancelling: bool = False
    progress: Progress | None = None
    report: Report | None = None
    error: str | None = None
    version: int = 0


class Jobs:
    """Starts, follows and cancels ingests and re-embeddings, one at a time. Thread-safe.

    Args:
        message: Returns what users may read of an error, and logs the rest.
    """

    def __init__(self, message: Callable[[Exception], str]) -> None:
        self._message = message
        self._state = JobState()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> JobState:
        """Return the latest state."""
        with self._lock:
            return self._state

    def start(self, title: str, work: Work) -> None:
        """Start a job and return at once.

        Raises:
            Busy: if one is running.
        """
        with self._lock:
            if self._state.running:
                raise Busy(
                    f"another job is running ({self._state.title}): wait for it to end or cancel "
                    "it, then try again"
                )
            self._cancel = threading.Event()
            self._set(JobState(title=title, running=True, version=self._state.version))
            self._thread = threading.Thread(
                target=self._run, args=(work, self._cancel), name="job", daemon=True
            )
            self._thread.start()

    def cancel(self) -> bool:
        """Ask the running job to stop within seconds; return False if there is none."""
        with self._lock:
            if not self._state.running:
                return False
            self._cancel.set()
            self._set(replace(self._state, cancelling=True))
            return True

    def close(self, timeout: float = 20.0) -> None:
        """Cancel the running job and wait for it to stop."""
        self.cancel()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self, work: Work, cancel: threading.Event) -> None:
        report, error = None, None
        try:
            report = work(self._on_progress, cancel)
        except Exception as reason:
            error = self._message(reason)
        with self._lock:
            ended = replace(self._state, running=False, cancelling=False)
            self._set(replace(ended, report=report, error=error))

    def _on_progress(self, progress: Progress) -> None:
        with self._lock:
            self._set(replace(self._state, progress=progress))

    def _set(self, state: JobState) -> None:
        self._state = replace(state, version=state.version + 1)
