"""Watch folders and ingest again after each burst of changes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from indexer.errors import LibraryBusy
from indexer.ingest.discovery import roots
from indexer.library import Library
from indexer.types import IngestOptions, IngestReport, Progress

_log = logging.getLogger(__name__)

_DEBOUNCE_MS = 1_600
_BUSY_WAIT_SECONDS = 2.0


def watch(
    library: Library,
    paths: Sequence[Path],
    options: IngestOptions,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: Event,
) -> Iterator[IngestReport]:
    """Ingest again after each burst of changes below some paths, until cancelled.

    Each of the paths that saw a change is listed as a whole. That costs a stat of each file, and
    treats exclusions, moves and unplugged disks as any ingest does.

    Yields:
        A report after each burst, once nothing has changed for a moment.
    """
    watched = roots(paths)
    for changes in _bursts(watched, library.directory, cancel):
        targets = [root for root in watched if any(path.is_relative_to(root) for path in changes)]
        while targets and not cancel.is_set():
            try:
                yield library.ingest(targets, options, on_progress=on_progress, cancel=cancel)
                break
            except LibraryBusy:
                _log.info("another ingest is running; waiting for it")
                cancel.wait(_BUSY_WAIT_SECONDS)


def _bursts(watched: Sequence[Path], library: Path, cancel: Event) -> Iterator[list[Path]]:
    """Yield the paths that changed, gathered until nothing changes for a moment."""
    import watchfiles

    for burst in watchfiles.watch(
        *watched,
        watch_filter=lambda _change, path: _is_relevant(Path(path), watched, library),
        debounce=_DEBOUNCE_MS,
        stop_event=cancel,
        rust_timeout=500,
        raise_interrupt=False,
        ignore_permission_denied=True,
    ):
        yield [Path(path) for _, path in burst]


def _is_relevant(path: Path, watched: Sequence[Path], library: Path) -> bool:
    """Whether a change may concern an ingest: not of hidden files or the library's own."""
    return any(
        path.is_relative_to(root)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and (root.is_relative_to(library) or not path.is_relative_to(library))
        for root in watched
    )
