"""Watch folders and ingest again after each burst of changes."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
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
    poll_seconds: float = 60.0,
) -> Iterator[IngestReport]:
    """Ingest again after each burst of changes below some paths, until cancelled.

    Each of the paths that saw a change is listed as a whole. That costs a stat of each file, and
    treats exclusions, moves and unplugged disks as any ingest does.

    Args:
        library: The library.
        paths: Files, folders and patterns.
        options: How to ingest.
        on_progress: Called several times a second at most during an ingest.
        cancel: Set it to stop within seconds.
        poll_seconds: How often all paths are listed where the system cannot report changes.

    Yields:
        A report after each burst, once nothing has changed for a moment.
    """
    watched = roots(paths)
    for changes in _bursts(watched, library.directory, cancel, poll_seconds):
        targets = [root for root in watched if any(path.is_relative_to(root) for path in changes)]
        while targets and not cancel.is_set():
            try:
                yield library.ingest(targets, options, on_progress=on_progress, cancel=cancel)
                break
            except LibraryBusy:
                _log.info("another ingest is running; waiting for it")
                cancel.wait(_BUSY_WAIT_SECONDS)


def _bursts(
    watched: Sequence[Path], library: Path, cancel: Event, poll_seconds: float
) -> Iterator[Sequence[Path]]:
    """Yield the paths that changed; all of them now and then where changes are not reported."""
    try:
        yield from _reported_bursts(watched, library, cancel)
    except (OSError, RuntimeError) as error:
        _log.warning(
            "The system cannot report all changes (%s), so the folders are listed every %g "
            "seconds instead; on Linux, a higher fs.inotify.max_user_watches may help.",
            str(error).partition(" about [")[0].rstrip("."),
            poll_seconds,
        )
        while not cancel.is_set():
            yield watched
            cancel.wait(poll_seconds)


def _reported_bursts(
    watched: Sequence[Path], library: Path, cancel: Event
) -> Iterator[Sequence[Path]]:
    """Yield the paths that the system reports as changed, until nothing changes for a moment.

    Raises:
        OSError, RuntimeError: if it cannot watch all of them.
    """
    import watchfiles

    with closing(
        watchfiles.watch(
            *watched,
            watch_filter=lambda _change, path: _is_relevant(Path(path), watched, library),
            debounce=_DEBOUNCE_MS,
            stop_event=cancel,
            rust_timeout=500,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
    ) as bursts:
        for number, burst in enumerate(bursts):
            if burst or number == 0:  # A burst may be of new folders, which are watched as well.
                _check_that_watches_are_left(library)
            if burst:
                yield [Path(path) for _, path in burst]


def _check_that_watches_are_left(folder: Path) -> None:
    """Raise `OSError` if the system cannot watch one more folder.

    Ignoring folders without permission, watchfiles also ignores those for which there is no watch.
    """
    import watchfiles

    with closing(
        watchfiles.watch(folder, recursive=False, step=1, rust_timeout=1, yield_on_timeout=True)
    ) as probe:
        next(probe)


def _is_relevant(path: Path, watched: Sequence[Path], library: Path) -> bool:
    """Whether a change may concern an ingest: not of hidden files or the library's own."""
    return any(
        path.is_relative_to(root)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and (root.is_relative_to(library) or not path.is_relative_to(library))
        for root in watched
    )
