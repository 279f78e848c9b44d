"""Building the next index of a partition beside the one that is searched."""

import atexit
import logging
from collections.abc import Callable
from threading import Event, Thread

from embedder.media.kinds import Kind

_log = logging.getLogger(__name__)


class Builder:
    """A thread that does one thing at a time, and can be stopped within about a second."""

    def __init__(self) -> None:
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether it is building."""
        return self._thread is not None and self._thread.is_alive()

    def stopped(self) -> bool:
        """Whether it is to come to an end."""
        return self._stop.is_set()

    def start(self, work: Callable[[Kind], None], kind: Kind) -> None:
        """Builds for a partition in the background, unless it was stopped or is busy.

        Args:
            work: Has to look at `stopped` often.
            kind: Of the partition.
        """
        if self.busy or self.stopped():
            return
        self._thread = Thread(
            target=self._run, args=(work, kind), name=f"build-{kind}", daemon=True
        )
        # Whoever forgets to close the store must not have a thread at work in a dying interpreter.
        atexit.register(self.stop)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Waits for the end of what is being built, so long at most."""
        if self._thread is not None:
            self._thread.join(seconds)

    def stop(self) -> None:
        """Ends what is being built, for good."""
        self.abandon()
        if self._thread is not None:
            self._thread.join()

    def abandon(self) -> None:
        """Ends what is being built, for good and soon, without waiting for it."""
        self._stop.set()

    def _run(self, work: Callable[[Kind], None], kind: Kind) -> None:
        try:
            work(kind)
        except Exception:
            _log.exception("the index of %s could not be built", kind)
        finally:
            atexit.unregister(self.stop)
