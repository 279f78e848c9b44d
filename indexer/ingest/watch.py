"""Watch folders and ingest again after each burst of changes."""

import logging
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event

from indexer.errors import LibraryBusy
from indexer.ingest.roots import base_of
from indexer.library import Library
from indexer.presence import vanished
from indexer.progress import Progress
from indexer.types import IngestOptions, IngestReport, Root

_log = logging.getLogger(__name__)

_DEBOUNCE_MS = 1_600
_TIMEOUT_MS = 500
_BURSTS_PER_LOOK = 10
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

    Args:
        library: The library.
        paths: As for `changed_paths`.
        options: How to ingest.
        on_progress: Called several times a second at most during an ingest.
        cancel: Set it to stop within seconds.
        poll_seconds: As for `changed_paths`.

    Yields:
        A report after each burst, once nothing has changed for a moment.
    """
    for changed in changed_paths(library, paths, cancel=cancel, poll_seconds=poll_seconds):
        while not cancel.is_set():
            try:
                yield library.ingest(changed, options, on_progress=on_progress, cancel=cancel)
                break
            except LibraryBusy:
                _log.info("another ingest is running; waiting for it")
                cancel.wait(_BUSY_WAIT_SECONDS)


def changed_paths(
    library: Library,
    paths: Sequence[Path] = (),
    *,
    cancel: Event,
    on_warning: Callable[[str], None] = _log.warning,
    poll_seconds: float = 60.0,
) -> Iterator[list[Path]]:
    """Yield those of some paths that are to be ingested again after each burst of changes.

    Each is to be listed as a whole. That costs a stat of each file, and treats exclusions, moves
    and unplugged disks as any ingest does.

    Args:
        library: The library.
        paths: Files, folders and patterns; none for the folders that the library remembers, also
            those that it comes to remember meanwhile.
        cancel: Set it to stop within seconds.
        on_warning: Called with a sentence where the system cannot report changes.
        poll_seconds: How often all paths are listed then.
    """

    def bases() -> dict[Path, Path]:
        roots = [Root(path) for path in paths] or library.catalog.roots()
        return {base_of(root): root.path for root in roots}

    for changes in _bursts(bases, library, cancel, on_warning, poll_seconds):
        changed = [
            path
            for base, path in bases().items()
            if any(one.is_relative_to(base) for one in changes)
        ]
        if changed:
            yield changed


_Watched = Callable[[], Collection[Path]]


def _bursts(
    watched: _Watched,
    library: Library,
    cancel: Event,
    on_warning: Callable[[str], None],
    poll_seconds: float,
) -> Iterator[Sequence[Path]]:
    """Yield the paths that changed; all of them now and then where changes are not reported."""
    try:
        yield from _bursts_of_connected(watched, library, cancel)
    except (OSError, RuntimeError) as error:
        reason = str(error).partition(" about [")[0].rstrip(".")
        on_warning(
            f"The system cannot report all changes ({reason}), so the folders are listed every "
            f"{poll_seconds:g} seconds instead; on Linux, a higher fs.inotify.max_user_watches may "
            "help."
        )
        while not cancel.is_set():
            yield list(watched())
            cancel.wait(poll_seconds)


def _bursts_of_connected(
    watched: _Watched, library: Library, cancel: Event
) -> Iterator[Sequence[Path]]:
    """Yield the paths that the system reports as changed, and those that are connected again.

    The system reports nothing of a disk that was unplugged and is back, until it is watched again.
    """
    connected = _connected(watched(), library)
    while not cancel.is_set():
        there = [path for path in watched() if not vanished(path)]
        with closing(_reported_bursts(there, library.directory, cancel)) as bursts:
            for number, burst in enumerate(bursts, 1):
                if burst:
                    yield burst
                if number % _BURSTS_PER_LOOK:
                    continue
                before, connected = connected, _connected(watched(), library)
                if connected != before:
                    yield list(connected - before)
                    break


def _connected(paths: Collection[Path], library: Library) -> set[Path]:
    return set(paths) - library.missing(paths).keys()


def _reported_bursts(
    watched: Sequence[Path], library: Path, cancel: Event
) -> Generator[Sequence[Path], None, None]:
    """Yield the paths that the system reports as changed, or none after each half second.

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
            rust_timeout=_TIMEOUT_MS,
            yield_on_timeout=True,
            raise_interrupt=False,
            ignore_permission_denied=True,
        )
    ) as bursts:
        for number, burst in enumerate(bursts):
            if burst or number == 0:  # A burst may be of new folders, which are watched as well.
                _check_that_watches_are_left(library)
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
