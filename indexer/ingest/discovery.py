"""Folders → candidate files, in a fixed order; nothing is opened, nothing is followed twice."""

# ruff: noqa: PTH110, PTH111, PTH114, PTH116, PTH120, PTH207
import fnmatch
import glob
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import has_magic
from itertools import islice
from pathlib import Path
from threading import Event as Flag
from typing import TypeAlias, TypeVar

from indexer.catalog.writer import CatalogWriter, Known
from indexer.config import LIBRARY_FILE, IngestOptions
from indexer.errors import Closed
from indexer.ingest.decode import Broken, ByteBoundedQueue, Event, Job
from indexer.types import Candidate, Failure, Status

_LITTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_LITTER_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information"})


@dataclass(frozen=True, slots=True)
class MissingRoot(Failure):
    """A path given to `scan` that does not exist or cannot be entered, as an unplugged disk.

    What the library knows below it must not be taken for deleted.
    """


def scan(
    paths: Iterable[str | os.PathLike[str]], exclude: Sequence[str] = ()
) -> Iterator[Candidate | Failure]:
    """List the files in folders, in order of their names, folder by folder.

    Links are followed, to files and to folders. Each real file comes once, however many ways
    lead to it. Left out are names that start with a dot, litter of operating systems, folders
    that hold a library, and what `exclude` says; below a path that was given by name they are
    left out too, but the path itself is taken.

    Args:
        paths: Files, folders, or patterns such as `photos/**/*.jpg`.
        exclude: Patterns; one without a slash is compared with each name, one with a slash with
            the whole path. `*` and `?` match as in a shell, and a folder that matches is not
            entered.

    Yields:
        `Candidate` for a file; `Failure` for what cannot be listed (a folder without
        permission, a link to nothing or in a circle, a socket or device, which is never
        opened); `MissingRoot` for a path that does not lead anywhere.
    """
    walk = _Walk(_excluder(exclude))
    for given in paths:
        path = os.path.expanduser(os.fspath(given))
        if os.path.lexists(path) or not glob.has_magic(path):
            yield from walk.root(os.path.abspath(path))
            continue
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            yield MissingRoot(Path(path), "no file matches the pattern")
        for match in matches:
            yield from walk.match(os.path.abspath(match))
    yield from walk.links()


def _excluder(patterns: Sequence[str]) -> Callable[[str, str], bool]:
    """A function of name and path that says whether a pattern excludes it."""

    def joined(chosen: list[str]) -> re.Pattern[str] | None:
        return re.compile("|".join(map(fnmatch.translate, chosen))) if chosen else None

    slashed = [os.path.expanduser(p.rstrip("/")) for p in patterns if "/" in p.rstrip("/")]
    rooted = [p if p.startswith(("/", "*")) else f"*/{p}" for p in slashed]
    names = joined([p.rstrip("/") for p in patterns if "/" not in p.rstrip("/")])
    whole = joined(rooted)
    if names is None and whole is None:
        return lambda name, path: False
    return lambda name, path: bool((names and names.match(name)) or (whole and whole.match(path)))


class _Walk:
    """One scan: remembers the real files and folders that it has seen.

    Links wait until everything else is listed, so that a file is known by its real name where
    that is within the scan.
    """

    def __init__(self, excluded: Callable[[str, str], bool]) -> None:
        self._excluded = excluded
        self._files: set[tuple[int, int] | str] = set()
        self._folders: set[tuple[int, int]] = set()
        self._links: list[str] = []

    def root(self, path: str) -> Iterator[Candidate | Failure]:
        """What is at a path that was given by name."""
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                os.scandir(path).close()
        except OSError as error:
            yield MissingRoot(Path(path), _root_reason(path, error))
            return
        if stat.S_ISDIR(status.st_mode) and os.path.exists(os.path.join(path, LIBRARY_FILE)):
            yield Failure(Path(path), "the folder holds a library, whose own files are left out")
            return
        yield from self._any(path, status)

    def match(self, path: str) -> Iterator[Candidate | Failure]:
        """What is at a path that a pattern matched."""
        try:
            status = os.stat(path)
        except OSError as error:
            yield Failure(Path(path), _link_reason(error))
            return
        if not self._excluded(os.path.basename(path), path):
            yield from self._any(path, status)

    def links(self) -> Iterator[Candidate | Failure]:
        """What the links lead to that were met on the way, and further ones behind them."""
        for path in self._links:  # grows meanwhile
            try:
                status = os.stat(path)
            except OSError as error:
                yield Failure(Path(path), _link_reason(error))
                continue
            if stat.S_ISDIR(status.st_mode) and _leads_back(path):
                yield Failure(Path(path), "the link leads in a circle, to a folder above it")
                continue
            yield from self._any(path, status)

    def _any(self, path: str, status: os.stat_result) -> Iterator[Candidate | Failure]:
        if stat.S_ISDIR(status.st_mode):
            yield from self._folder(path, status)
        else:
            yield from self._file(path, status)

    def _folder(self, path: str, status: os.stat_result) -> Iterator[Candidate | Failure]:
        """A folder and all below; from a list rather than by recursion, for folders nest deep."""
        pending: list[tuple[str, os.stat_result]] = [(path, status)]
        while pending:
            folder, status = pending.pop()
            identity = (status.st_dev, status.st_ino)
            if identity in self._folders:
                continue
            self._folders.add(identity)
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                yield Failure(Path(folder), f"the folder cannot be read: {error.strerror}")
                continue
            if any(entry.name == LIBRARY_FILE for entry in entries):
                continue
            below: list[tuple[str, os.stat_result]] = []
            for entry in entries:
                yield from self._entry(entry, below)
            pending.extend(reversed(below))

    def _entry(
        self, entry: os.DirEntry[str], below: list[tuple[str, os.stat_result]]
    ) -> Iterator[Candidate | Failure]:
        name, lower = entry.name, entry.name.lower()
        if name.startswith(".") or lower in _LITTER or self._excluded(name, entry.path):
            return
        try:
            if entry.is_symlink():
                self._links.append(entry.path)
                return
            status = entry.stat(follow_symlinks=False)
        except OSError as error:  # it vanished meanwhile, or its disk fails
            yield Failure(Path(entry.path), f"it cannot be looked at: {error.strerror}")
            return
        if not stat.S_ISDIR(status.st_mode):
            yield from self._file(entry.path, status)
        elif lower not in _LITTER_FOLDERS:
            below.append((entry.path, status))

    def _file(self, path: str, status: os.stat_result) -> Iterator[Candidate | Failure]:
        if not stat.S_ISREG(status.st_mode):
            yield Failure(Path(path), f"this is {_special(status.st_mode)}, not a file")
            return
        hard_links = status.st_nlink > 1  # names of their own for the same bytes: all count
        identity = os.path.realpath(path) if hard_links else (status.st_dev, status.st_ino)
        if identity not in self._files:
            self._files.add(identity)
            yield Candidate(Path(path), status.st_size, status.st_mtime_ns)


def _root_reason(path: str, error: OSError) -> str:
    if os.path.islink(path):
        return _link_reason(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file or folder"
    return f"it cannot be read: {error.strerror}"


def _leads_back(link: str) -> bool:
    """Whether a link to a folder lies below that very folder."""
    target, place = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return place == target or place.startswith(target.rstrip(os.sep) + os.sep)


def _link_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the link leads to nothing"
    if isinstance(error, PermissionError):
        return "looking at it is not permitted"
    return f"the link cannot be followed: {error.strerror}"


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


_log = logging.getLogger(__name__)

_AT_ONCE = 1_000

Scan: TypeAlias = Callable[[Sequence[Path], Sequence[str]], Iterator[Candidate | Failure]]
"""As `indexer.ingest.discovery.scan`."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False, slots=True)
class Discovered:
    """A batch of files that were listed.

    Attributes:
        known: Ids of files that the library knows, changed or not.
        unchanged: How many of them need no work.
        jobs: How many files need work.
        failures: What could not be listed.
        last: The listing is complete.
    """

    known: Sequence[int] = ()
    unchanged: int = 0
    jobs: int = 0
    failures: Sequence[Failure] = ()
    last: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Sorted:
    """Candidates by what is to be done with them."""

    new: list[Candidate]
    changed: list[Candidate]
    known: list[Known]
    unchanged: int
    failures: list[Failure]


@dataclass(frozen=True, eq=False, slots=True)
class Discovery:
    """Lists files and sends those that need work to the decoders; runs in one thread."""

    ledger: CatalogWriter
    scan: Scan
    jobs: ByteBoundedQueue[Job]
    events: ByteBoundedQueue[Event | Discovered]
    cancel: Flag
    options: IngestOptions
    paths: Sequence[Path]

    def run(self) -> None:
        """The body of a thread."""
        try:
            for found in sorted_candidates(self.ledger, self.scan, self.paths, self.options):
                work = found.new + found.changed
                self.events.put(
                    Discovered(
                        known=[known.id for known in found.known],
                        unchanged=found.unchanged,
                        jobs=len(work),
                        failures=found.failures,
                    ),
                    0,
                )
                for candidate in work:
                    self.jobs.put(Job(candidate))
                if self.cancel.is_set():
                    return
            self.events.put(Discovered(last=True), 0)
        except Closed:
            pass
        except BaseException as error:
            _log.debug("the listing ends", exc_info=True)
            with suppress(Closed):
                self.events.put(Broken(error), 0)


def sorted_candidates(
    ledger: CatalogWriter, scan: Scan, paths: Sequence[Path], options: IngestOptions
) -> Iterator[Sorted]:
    """What is at some paths, in batches, compared with what the library knows."""
    for batch in _batches(scan(paths, options.exclude), _AT_ONCE):
        candidates = [found for found in batch if isinstance(found, Candidate)]
        known = ledger.known([candidate.path for candidate in candidates])
        new = [candidate for candidate in candidates if candidate.path not in known]
        changed = [
            candidate
            for candidate in candidates
            if (before := known.get(candidate.path)) is not None
            and _needs_work(before, candidate, options)
        ]
        yield Sorted(
            new=new,
            changed=changed,
            known=list(known.values()),
            unchanged=len(candidates) - len(new) - len(changed),
            failures=[found for found in batch if isinstance(found, Failure)],
        )


def roots(paths: Iterable[Path]) -> list[Path]:
    """The folders and files below which an ingest of these paths may notice vanished files.

    A path that does not exist is none: an unplugged disk has not lost its files.
    """
    found: dict[Path, None] = {}
    for path in paths:
        path = Path(os.path.abspath(os.path.expanduser(path)))
        if not os.path.lexists(path):
            while has_magic(str(path)):
                path = path.parent
        if path.exists():
            found[path] = None
    return list(found)


def _needs_work(before: Known, candidate: Candidate, options: IngestOptions) -> bool:
    retried = options.retry_failed and before.status is Status.FAILED
    return retried or not before.same(candidate)


def _batches(source: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(source, size)):
        yield batch
