"""Watch folders and ingest again after each burst of changes."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

from indexer.config import IngestOptions
from indexer.errors import LibraryBusy
from indexer.ingest.discovery import roots
from indexer.library import Library
from indexer.types import IngestReport, Progress

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
        targets = [root for root in watched if any(_is_below(path, root) for path in changes)]
        while targets and not cancel.is_set():
            try:
                yield library.ingest(targets, options, on_progress=on_progress, cancel=cancel)
                break
            except LibraryBusy:
                _log.info("another ingest is running; waiting for it")
                cancel.wait(_BUSY_WAIT_SECONDS)


def _bursts(watched: Sequence[Path], library: Path, cancel: Event) -> Iterator[list[str]]:
    """Yield the paths that changed, gathered until nothing changes for a moment."""
    import watchfiles

    def relevant(_change: object, path: str) -> bool:
        return is_relevant(path, watched, library)

    for burst in watchfiles.watch(
        *watched,
        watch_filter=relevant,
        debounce=_DEBOUNCE_MS,
        stop_event=cancel,
        rust_timeout=500,
        raise_interrupt=False,
        ignore_permission_denied=True,
    ):
        yield [path for _, path in burst]


def is_relevant(path: str, watched: Sequence[Path], library: Path) -> bool:
    """Whether a change may concern an ingest: not of hidden files or the library's own."""
    for root in watched:
        if not _is_below(path, root):
            continue
        hidden = any(part.startswith(".") for part in Path(path).relative_to(root).parts)
        own = _is_below(path, library) and not _is_below(str(root), library)
        if not hidden and not own:
            return True
    return False


def _is_below(path: str, folder: Path) -> bool:
    start = str(folder)
    return path == start or path.startswith(start.rstrip(os.sep) + os.sep)
