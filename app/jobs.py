"""What takes long runs in the background, one at a time; visitors come and go and see how far."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from embedder import EmbedderError
from embedder.media import MediaError
from indexer import IndexerError, IngestReport, Progress, ReembedReport

_log = logging.getLogger(__name__)

Report = IngestReport | ReembedReport
Work = Callable[[Callable[[Progress], None], threading.Event], Report]
"""Does the work: is given what to call with news, and an event that asks it to stop."""


class Busy(IndexerError):
    """Something else is running."""


@dataclass(frozen=True, slots=True)
class JobState:
    """What can be told of the latest job.

    Attributes:
        title: What is being done, for people.
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
    report: Report | None = None
    error: str | None = None
    version: int = 0


class Jobs:
    """Starts, follows and cancels what changes the library. Thread-safe.

    Whether it takes files in or computes vectors anew, only one job runs at a time.

    Args:
        told: From an error made for people to its sentence.
    """

    def __init__(self, told: Callable[[Exception], str] = str) -> None:
        self._told = told
        self._state = JobState()
        self._lock = threading.Lock()
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def state(self) -> JobState:
        """The latest state."""
        with self._lock:
            return self._state

    def start(self, title: str, work: Work) -> None:
        """Begins a job and returns at once.

        Raises:
            Busy: if one is running.
        """
        with self._lock:
            if self._state.running:
                raise Busy(
                    f"the library is at work already ({self._state.title}): wait for that to "
                    "end, or cancel it, and then try again"
                )
            self._cancel = threading.Event()
            self._set(JobState(title=title, running=True, version=self._state.version))
            self._thread = threading.Thread(
                target=self._run, args=(work, self._cancel), name="job", daemon=True
            )
            self._thread.start()

    def cancel(self) -> bool:
        """Asks the running job to stop within seconds; False if there is none."""
        with self._lock:
            if not self._state.running:
                return False
            self._cancel.set()
            self._set(replace(self._state, cancelling=True))
            return True

    def close(self, timeout: float = 20.0) -> None:
        """Cancels what runs and waits for it to stop."""
        self.cancel()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self, work: Work, cancel: threading.Event) -> None:
        report, error = None, None
        try:
            report = work(self._on_progress, cancel)
        except (IndexerError, EmbedderError, MediaError) as reason:
            error = self._told(reason)
        except Exception:
            _log.exception("a job broke off: %s", self.state.title)
            error = "something unforeseen stopped the work: the server's log says more"
        with self._lock:
            ended = replace(self._state, running=False, cancelling=False)
            self._set(replace(ended, report=report, error=error))

    def _on_progress(self, progress: Progress) -> None:
        with self._lock:
            self._set(replace(self._state, progress=progress))

    def _set(self, state: JobState) -> None:
        self._state = replace(state, version=state.version + 1)
