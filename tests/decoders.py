"""Decoders for tests of the ingest: files are cut by a test's own function, in this process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Event

from embedder.media import Draft, Kind, Limits
from embedder.media.kinds import Details
from embedder.media.metadata import sidecar_details


class InProcess:
    """Cuts files with a given function; for `Library.open(decoders=...)` or `Library.decoders`."""

    def __init__(self, cut: Callable[[Path, Kind, Limits], Iterator[Draft]]) -> None:
        self.cut = cut

    def describe(self, sidecar: Path) -> Details:
        return sidecar_details([sidecar])

    def __call__(self, cancel: Event) -> AbstractContextManager["InProcess"]:
        return nullcontext(self)
