"""Removing files from the library so that they can be brought back for a while."""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Timer

from app.jobs import Jobs
from app.texts import N_
from app.uploads import rename_without_replacing
from indexer import IngestReport, Library, NotFound, Progress

KEPT_SECONDS = 120.0
"""How long files can be brought back; the page's message with Undo is shown for a few seconds."""

MAX_FILES = 1000
"""Of more files, to read them again takes longer than a message should promise."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed: how many files, and what brings them back; None if nothing does."""

    files: int
    token: str | None


@dataclass(frozen=True, slots=True)
class _Removed:
    """Files that can be brought back, and where copies that were uploaded are meanwhile."""

    paths: Sequence[Path]
    kept: Mapping[Path, Path]
    folder: Path


class Removals:
    """Removes files, and brings them back by reading them again. Thread-safe.

    Guarantees: a copy that was uploaded is deleted when it cannot be brought back any more; after a
    crash, that is when the page is started again. Nothing else is scanned to bring files back.

    Args:
        library: The library.
        jobs: Where files are read again.
        folder: A private folder on the library's disk, which is deleted when the page stops.
    """

    def __init__(self, library: Library, jobs: Jobs, folder: Path) -> None:
        self._library, self._jobs, self._folder = library, jobs, folder
        self._removed: dict[str, _Removed] = {}
        self._lock = Lock()

    def remove(self, item_ids: Sequence[int]) -> Removal:
        """Remove files from the library, and copies that were uploaded from the disk.

        Nothing brings them back if there are too many, or if one is not there to be read again.

        Raises:
            LibraryBusy: if an ingest is running and does not end within ten seconds.
            OSError: if a copy could not be deleted.
        """
        paths = [item.path for item in self._library.catalog.files(item_ids)]
        if not 0 < len(paths) <= MAX_FILES or self._library.missing(paths):
            return Removal(self._library.remove(item_ids), None)
        token, kept = secrets.token_urlsafe(12), dict[Path, Path]()
        folder = self._folder / f"removed-{token}"

        def keep(path: Path) -> None:
            folder.mkdir(parents=True, exist_ok=True)
            copy = folder / str(len(kept))
            path.replace(copy)
            kept[path] = copy

        files = self._library.remove(item_ids, discard=keep)
        with self._lock:
            self._removed[token] = _Removed(paths, kept, folder)
        timer = Timer(KEPT_SECONDS, self._give_up, [token])
        timer.daemon = True
        timer.start()
        return Removal(files, token)

    def bring_back(self, token: str) -> "Future[IngestReport]":
        """Start to bring files back, once no other job is running.

        Raises:
            NotFound: if they cannot be brought back any more.
        """
        with self._lock:
            removed = self._removed.pop(token, None)
        if removed is None:
            raise NotFound(N_("this can no longer be undone: add the files again"))
        done = Future[IngestReport]()

        def work(on_progress: Callable[[Progress], None], cancel: Event) -> IngestReport:
            try:
                paths = _put_back(removed)
                report = self._library.ingest(paths, on_progress=on_progress, cancel=cancel)
            except Exception as error:
                done.set_exception(error)
                raise
            done.set_result(report)
            return report

        self._jobs.start(N_("Bringing files back"), work, wait=True)
        return done

    def _give_up(self, token: str) -> None:
        with self._lock:
            removed = self._removed.pop(token, None)
        if removed is not None:
            shutil.rmtree(removed.folder, ignore_errors=True)


def _put_back(removed: _Removed) -> list[Path]:
    """Put copies back where they were, or beside what is there now; return all paths."""
    paths = {path: path for path in removed.paths}
    for path, copy in removed.kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        paths[path] = rename_without_replacing(copy, path)
    shutil.rmtree(removed.folder, ignore_errors=True)
    return [*paths.values()]
