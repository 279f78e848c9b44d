"""What the programs that talk to a terminal share: a progress bar, and stopping in good order."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from indexer.reports import Progress


_NICE = 15
_LINE_SECONDS = 30.0


class ProgressBar:
    """A bar with rate and remaining time on standard error; a line now and then if that is a file.

    Args:
        unit: What is counted, in the plural.
        shown: Whether there is anybody to see it.
    """

    def __init__(self, unit: str, *, shown: bool) -> None:
        self._unit, self._shown, self._told = unit, shown, monotonic()
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=0, unit=f" {unit}", dynamic_ncols=True, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def show(self) -> "Callable[[Progress], None] | None":
        """What is to be called with progress."""
        if not self._shown:
            return None
        return self._tell if self._bar is None else self._show

    def _tell(self, progress: "Progress") -> None:
        if monotonic() - self._told < _LINE_SECONDS:
            return
        self._told = monotonic()
        line = f"{progress.stage}: {progress.done:,} of {progress.total:,} {self._unit}"
        if progress.failures:
            line += f", {progress.failures:,} failed"
        if progress.remaining is not None:
            line += f", {progress.rate:.1f}/s, {timedelta(seconds=round(progress.remaining))} left"
        print(line, file=sys.stderr, flush=True)

    def _show(self, progress: "Progress") -> None:
        self._bar.total = max(progress.total, progress.done)
        self._bar.initial = progress.reused  # It took no time now, so it says nothing of the rate.
        self._bar.n = progress.done
        failed = f", {progress.failures} failed" if progress.failures else ""
        self._bar.set_description_str(f"{progress.stage}{failed}", refresh=False)
        self._bar.refresh()


def go_last() -> None:
    """Lets other programs have the processors first, a page that searches the library above all."""
    if sys.platform != "win32":
        os.nice(_NICE)


def stop_on_signals(cancel: Event, after: str) -> None:
    """The first Ctrl-C asks for an orderly end, the second ends at once: nothing can break.

    Args:
        cancel: Set by the first one.
        after: What is still finished, for the message.
    """

    def stop(_number: int, _frame: object) -> None:
        if cancel.is_set():
            os._exit(130)
        cancel.set()
        os.write(2, f"\nstopping after {after}; press again to quit at once\n".encode())

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def print_any_name() -> None:
    """Lets file names in any encoding be printed."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: dict[str, Any]) -> None:
    """Prints an object."""
    print(json.dumps(value, indent=1, default=str), flush=True)


def count(text: str) -> int:
    """A number of at least 1, for `argparse`."""
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number
