"""Background jobs: one at a time, with progress that any number of pages can follow."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from app.texts import N_
from indexer import IndexerError, IngestReport, Progress, ReembedReport

Report = IngestReport | ReembedReport
Work = Callable[[Callable[[Progress], None], threading.Event], Report]
"""Does the work; receives a callback for progress, and an event that asks it to stop."""


_STOP_SECONDS = 20.0


class Busy(IndexerError):
    """Another job is running."""


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of the latest job.

    Attributes:
        title: What it does, for users.
        background: Whether it gives way to others, and is forgotten once it has ended.
        running: Whether it still runs.
        cancelling: Whether it was asked to stop.
        progress: The latest progress, or None before the first; in bytes while a model is
            downloaded (the stage "download").
        report: What it did, once it has succeeded.
        error: Why it failed, one sentence.
        following: What will be done last after it, for users; empty if nothing is.
        version: Grows with every change.
    """

    title: str = ""
    background: bool = False
    running: bool = False
    cancelling: bool = False
    progress: Progress | None = None
    report: Report | None = None
    error: str | None = None
    following: str = ""
    version: int = 0


class Jobs:
    """Starts, follows and cancels ingests and re-embeddings, one at a time. Thread-safe.

    Args:
        message: Returns what users may read of an error, and logs the rest.
    """

    def __init__(self, message: Callable[[Exception], str]) -> None:
        self._message = message
        self._state = JobState()
        self._lock = threading.Condition()
        self._cancel = threading.Event()
        self._waiting = 0  # Jobs that a background job has to give way to.
        self._thread: threading.Thread | None = None
        self._latest: tuple[str, Work] | None = None
        self._queue: list[tuple[str, Work]] = []

    @property
    def state(self) -> JobState:
        """Return the latest state."""
        with self._lock:
            return self._state

    def start(self, title: str, work: Work, *, wait: bool = False) -> None:
        """Start a job and return at once.

        Args:
            title: What it does, for users.
            work: Does it.
            wait: Start it once the running job and those that wait have ended, rather than refuse
                it.

        Raises:
            Busy: if one is running.
        """
        with self._lock:
            if wait and self._state.running and not self._state.background:
                self._queue.append((title, work))
                self._set(replace(self._state, following=title))
                return
            if self._state.background and self._state.running:
                self._stop_background()
            self._begin(title)
            self._latest = title, work
            self._thread = threading.Thread(
                target=self._run, args=(work, self._cancel), name="job", daemon=True
            )
            self._thread.start()

    def resume(self) -> None:
        """Start the latest job again, which was cancelled: what it has done is not done again.

        Raises:
            Busy: if one is running.
        """
        if self._latest is not None:
            self.start(*self._latest)

    def run_in_background(self, title: str, work: Work) -> Report:
        """Do a job in this thread that stops as soon as another one is started.

        Raises:
            Busy: if another one is running, or was started meanwhile.
        """
        with self._lock:
            before = self._state
            cancel = self._begin(title, background=True)
        try:
            report = work(self._on_progress, cancel)
        finally:
            with self._lock:
                gave_way = bool(self._waiting)
                self._set(replace(before, version=self._state.version))
                self._lock.notify_all()
        if gave_way:
            raise Busy(f"{title} has given way to another job")
        return report

    def cancel(self, *, background: bool = False) -> bool:
        """Ask the running job to stop within seconds; return False if there is none.

        Args:
            background: Only if it is one in the background.
        """
        with self._lock:
            if not self._state.running or (background and not self._state.background):
                return False
            self._cancel.set()
            self._set(replace(self._state, cancelling=True))
            return True

    def close(self, timeout: float = _STOP_SECONDS) -> None:
        """Cancel the running job and wait for it to stop."""
        self._queue.clear()
        self.cancel()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _begin(self, title: str, *, background: bool = False) -> threading.Event:
        """Note that a job begins; return the event that cancels it."""
        if self._state.running:
            raise Busy(
                N_(
                    "another job is running ({job}): wait for it to end or cancel it, then try "
                    "again",
                    job=self._state.title,
                )
            )
        self._cancel = threading.Event()
        self._set(JobState(title, background, running=True, version=self._state.version))
        return self._cancel

    def _stop_background(self) -> None:
        self._cancel.set()
        self._waiting += 1
        self._lock.wait_for(lambda: not self._state.running, _STOP_SECONDS)
        self._waiting -= 1

    def _run(self, work: Work, cancel: threading.Event) -> None:
        report, error = None, None
        try:
            report = work(self._on_progress, cancel)
        except Exception as reason:
            error = self._message(reason)
        with self._lock:
            ended = replace(self._state, running=False, cancelling=False, following="")
            self._set(replace(ended, report=report, error=error))
            if self._queue:
                self.start(*self._queue.pop(0))
            if self._queue:
                self._set(replace(self._state, following=self._queue[-1][0]))

    def _on_progress(self, progress: Progress) -> None:
        with self._lock:
            self._set(replace(self._state, progress=progress))

    def _set(self, state: JobState) -> None:
        self._state = replace(state, version=state.version + 1)
