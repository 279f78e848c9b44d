"""Find files: walk folders, compare with the catalog, and plan what an ingest would do."""

# ruff: noqa: PTH110, PTH111, PTH114, PTH116, PTH120, PTH207
# Functions of os.path, since a walk makes a Path only for what it yields: building one for each
# name costs more than the rest of the walk.
import fnmatch
import glob
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from embedder.media import detect
from embedder.media.kinds import MediaError, UnsupportedMedia, os_reason, report_progress, sha256_of
from indexer.catalog.writer import CatalogWriter, Known, vanished
from indexer.config import LIBRARY_FILE
from indexer.types import Candidate, Failure, IngestOptions, IngestPlan, Status

_FILES_PER_QUERY = 1_000
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_SYSTEM_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information"})

T = TypeVar("T")


def scan(
    paths: Iterable[str | os.PathLike[str]], exclude: Sequence[str] = ()
) -> Iterator[Candidate | Failure]:
    """List the files in folders, in order of their names, folder by folder.

    Links to files and folders are followed; each real file is listed once. Skipped are names that
    start with a dot, files that operating systems leave in folders, folders that hold a library,
    and what `exclude` matches; a path that is given by name is always listed itself.

    Args:
        paths: Files, folders, or patterns such as `photos/**/*.jpg`.
        exclude: Patterns with `*` and `?` as in a shell: one without a slash is compared with
            each name, one with a slash with the whole path. A folder that matches is skipped.

    Yields:
        `Candidate` for a file; `Failure` for what cannot be listed (a path that does not exist, a
        folder without permission, a broken or circular link, or a socket or device, which is
        never opened).
    """
    walk = _Walk(_excluder(exclude))
    for given in paths:
        path = os.path.expanduser(os.fspath(given))
        if os.path.lexists(path) or not glob.has_magic(path):
            yield from walk.root(os.path.abspath(path))
            continue
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            yield Failure(Path(path), "no file matches the pattern")
        for match in matches:
            yield from walk.match(os.path.abspath(match))
    yield from walk.links()


def _excluder(patterns: Sequence[str]) -> Callable[[str, str], bool]:
    """Return a function of name and path that says whether a pattern excludes it."""

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
    """One scan; remembers the real files and folders that it has seen.

    Links are followed after everything else, so that a file is listed under its real name if that
    is within the scan.
    """

    def __init__(self, excluded: Callable[[str, str], bool]) -> None:
        self._excluded = excluded
        self._files: set[tuple[int, int] | str] = set()
        self._folders: set[tuple[int, int]] = set()
        self._links: list[str] = []

    def root(self, path: str) -> Iterator[Candidate | Failure]:
        """List a path that was given by name."""
        try:
            status = os.stat(path)
            if stat.S_ISDIR(status.st_mode):
                os.scandir(path).close()
        except OSError as error:
            yield Failure(Path(path), _root_reason(path, error))
            return
        if stat.S_ISDIR(status.st_mode) and os.path.exists(os.path.join(path, LIBRARY_FILE)):
            yield Failure(Path(path), "the folder holds a library, which is not indexed")
            return
        yield from self._any(path, status)

    def match(self, path: str) -> Iterator[Candidate | Failure]:
        """List a path that a pattern matched."""
        try:
            status = os.stat(path)
        except OSError as error:
            yield Failure(Path(path), _link_reason(error))
            return
        if not self._excluded(os.path.basename(path), path):
            yield from self._any(path, status)

    def links(self) -> Iterator[Candidate | Failure]:
        """List the targets of the links found so far, and of links found there."""
        for path in self._links:  # Grows meanwhile.
            try:
                status = os.stat(path)
            except OSError as error:
                yield Failure(Path(path), _link_reason(error))
                continue
            if stat.S_ISDIR(status.st_mode) and _leads_back(path):
                yield Failure(Path(path), "the link is circular: it points to a folder above it")
                continue
            yield from self._any(path, status)

    def _any(self, path: str, status: os.stat_result) -> Iterator[Candidate | Failure]:
        if stat.S_ISDIR(status.st_mode):
            yield from self._folder(path, status)
        else:
            yield from self._file(path, status)

    def _folder(self, path: str, status: os.stat_result) -> Iterator[Candidate | Failure]:
        """List a folder and all below; with a stack, since folders may nest too deep to recurse."""
        pending: list[tuple[str, os.stat_result]] = [(path, status)]
        while pending:
            folder, status = pending.pop()
            identity = (status.st_dev, status.st_ino)
            if identity in self._folders:
                continue
            self._folders.add(identity)
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(_reported(listing), key=lambda entry: entry.name)
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
        if name.startswith(".") or lower in _SYSTEM_FILES or self._excluded(name, entry.path):
            return
        try:
            if entry.is_symlink():
                self._links.append(entry.path)
                return
            status = entry.stat(follow_symlinks=False)
        except OSError as error:  # It vanished meanwhile, or its disk fails.
            yield Failure(Path(entry.path), f"it cannot be read: {error.strerror}")
            return
        if not stat.S_ISDIR(status.st_mode):
            yield from self._file(entry.path, status)
        elif lower not in _SYSTEM_FOLDERS:
            below.append((entry.path, status))

    def _file(self, path: str, status: os.stat_result) -> Iterator[Candidate | Failure]:
        if not stat.S_ISREG(status.st_mode):
            yield Failure(Path(path), f"this is {_special(status.st_mode)}, not a file")
            return
        # Hard links are files with the same bytes, all of which are listed; a path only once.
        hard_links = status.st_nlink > 1
        identity = os.path.realpath(path) if hard_links else (status.st_dev, status.st_ino)
        if identity not in self._files:
            self._files.add(identity)
            yield Candidate(Path(path), status.st_size, status.st_mtime_ns)


def _reported(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """Yield entries, and report each as progress: a disk may need minutes for a large folder."""
    for entry in entries:
        report_progress()
        yield entry


def _root_reason(path: str, error: OSError) -> str:
    if os.path.islink(path):
        return _link_reason(error)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file or folder"
    return f"it cannot be read: {error.strerror}"


def _leads_back(link: str) -> bool:
    """Whether a link to a folder lies below that folder."""
    target, parent = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return parent == target or parent.startswith(target.rstrip(os.sep) + os.sep)


def _link_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "the link is broken"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"the link cannot be followed: {error.strerror}"


def _special(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


@dataclass(frozen=True, eq=False, slots=True)
class Compared:
    """Files on disk, compared with what the catalog knows of them.

    Attributes:
        new: Files that it does not know.
        changed: Files that it knows with another size or time, or that are tried again.
        known: What it knows of the others and of these.
        unchanged: How many need no work.
        failures: What cannot be listed.
    """

    new: list[Candidate]
    changed: list[Candidate]
    known: list[Known]
    unchanged: int
    failures: list[Failure]


def compare(
    writer: CatalogWriter, paths: Sequence[Path], options: IngestOptions
) -> Iterator[Compared]:
    """Compare what is at some paths with the catalog, in batches."""
    for batch in _batches(scan(paths, options.exclude), _FILES_PER_QUERY):
        candidates = [found for found in batch if isinstance(found, Candidate)]
        known = writer.known([candidate.path for candidate in candidates])
        new = [candidate for candidate in candidates if candidate.path not in known]
        changed = [
            candidate
            for candidate in candidates
            if (before := known.get(candidate.path)) is not None
            and _needs_work(before, candidate, options)
        ]
        yield Compared(
            new=new,
            changed=changed,
            known=list(known.values()),
            unchanged=len(candidates) - len(new) - len(changed),
            failures=[found for found in batch if isinstance(found, Failure)],
        )


def _needs_work(before: Known, candidate: Candidate, options: IngestOptions) -> bool:
    retried = options.retry_failed and before.status is Status.FAILED
    return retried or not before.same(candidate)


def _batches(source: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(source, size)):
        yield batch


def roots(paths: Iterable[Path]) -> list[Path]:
    """Return the folders and files below which an ingest of these paths may notice deleted files.

    A path that does not exist is none of them: an unplugged disk has not lost its files.
    """
    found: dict[Path, None] = {}
    for path in paths:
        path = Path(os.path.abspath(os.path.expanduser(path)))
        if not os.path.lexists(path):
            while glob.has_magic(str(path)):
                path = path.parent
        if path.exists():
            found[path] = None
    return list(found)


def plan(writer: CatalogWriter, paths: Sequence[Path], options: IngestOptions) -> IngestPlan:
    """Return what an ingest of some paths would do.

    New files are read only as far as their kind requires, and whole where a known file has the
    same size and may be the same. Two new files with the same bytes both count as added.
    """
    lists: dict[str, list[Any]] = defaultdict(list)
    new: list[Candidate] = []
    known: set[int] = set()
    unchanged = 0
    for found in compare(writer, paths, options):
        new += found.new
        lists["updated"] += [candidate.path for candidate in found.changed]
        lists["failures"] += found.failures
        known.update(one.id for one in found.known)
        unchanged += found.unchanged
    gone = [
        path for one, path, _ in writer.below(roots(paths)) if one not in known and vanished(path)
    ]
    moved_away: set[Path] = set()
    for candidate in new:
        name, entry = _classify(writer, candidate, moved_away)
        lists[name].append(entry)
    lists["removed"] = [path for path in gone if path not in moved_away]
    return IngestPlan(unchanged=unchanged, **{name: tuple(some) for name, some in lists.items()})


def _classify(
    writer: CatalogWriter, new: Candidate, moved_away: set[Path]
) -> tuple[str, Path | tuple[Path, Path] | Failure]:
    """Return the field of `IngestPlan` that a new file belongs in, and its entry there.

    `moved_away` gets the path that the file was moved from.
    """
    path = new.path
    try:
        detect(path)
        holders = writer.holders(sha256_of(path)) if writer.holds_size(new.size) else []
    except UnsupportedMedia as error:
        return "skipped", Failure(path, str(error))
    except MediaError as error:
        return "failures", Failure(path, str(error))
    except OSError as error:
        return "failures", Failure(path, os_reason(error))
    old = next((one for one in holders if one not in moved_away and vanished(one)), None)
    if old is None:
        return ("copies" if holders else "added"), path
    moved_away.add(old)
    return "moved", (old, path)
