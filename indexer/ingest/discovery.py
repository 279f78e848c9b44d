"""Find files: walk folders, and compare what is there with the catalog."""

# ruff: noqa: PTH110, PTH111, PTH114, PTH116, PTH120, PTH207
# Functions of os.path, since a walk makes a Path only for what it yields: building one for each
# name costs more than the rest of the walk.
import fnmatch
import glob
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeVar

from embedder.media import MEDIA_KINDS
from embedder.media.kinds import Kind, MediaError, report_progress
from embedder.media.members import container_of, may_have_members, members, stat_media
from embedder.media.metadata import sidecars_in
from embedder.media.subtitles import SUFFIXES as SUBTITLES
from indexer.catalog.writer import CatalogWriter, Known
from indexer.config import LIBRARY_FILE
from indexer.ingest.live_photos import has_lost_its_photo, is_beside, stems_of_photos
from indexer.presence import FolderId
from indexer.types import Candidate, Failure, IngestOptions, Root, Status

_FILES_PER_QUERY = 1_000
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_SYSTEM_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information"})
# Thousands of files each, which package managers put there.
_PACKAGE_FOLDERS = frozenset({"node_modules", "site-packages", "__pycache__"})

_SIDECARS = (".xmp", ".json", *SUBTITLES)
_SUBTITLED = tuple(MEDIA_KINDS[Kind.VIDEO].suffixes)
_WITH_JSON = tuple(MEDIA_KINDS[Kind.IMAGE].suffixes | MEDIA_KINDS[Kind.VIDEO].suffixes)

_NEVER = r"(?!)"

T = TypeVar("T")
Excluder: TypeAlias = Callable[[str, str], bool]
"""Says of a name and its whole path whether it is left out."""


def scan(roots: Iterable[Root]) -> Iterator[Candidate | Failure]:
    """List the files in folders, in order of their names, folder by folder.

    Links to files and folders are followed; each real file is listed once. Skipped are names that
    start with a dot, files that operating systems leave in folders, folders of package managers
    such as node_modules, folders that hold a library, and what a root excludes; a path that is
    given by name is always listed itself.

    Args:
        roots: Where to look, and what to leave out there: patterns with `*` and `?` as in a shell,
            of which one without a slash is compared with each name, one with a slash with the whole
            path. A folder that matches is skipped.

    Yields:
        `Candidate` for a file; `Failure` for what cannot be listed (a path that does not exist, a
        folder without permission, a broken or circular link, or a socket or device, which is
        never opened).
    """
    walk = _Walk()
    for root in roots:
        path = os.path.expanduser(os.fspath(root.path))
        walk.excluded = excluder(root.exclude)
        if os.path.lexists(path) or not glob.has_magic(path):
            yield from walk.root(os.path.abspath(path))
            continue
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            yield Failure(Path(path), "no file matches the pattern")
        for match in matches:
            yield from walk.match(os.path.abspath(match))
    yield from walk.links()


@lru_cache(maxsize=64)
def excluder(patterns: tuple[str, ...]) -> Excluder:
    """Return what decides whether one of some patterns excludes a file or folder.

    A pattern also excludes what has the pattern itself as its name, such as "[2009] Rome", and
    names in another form of Unicode, as macOS writes them.
    """
    patterns = tuple(_composed(os.path.expanduser(one.rstrip("/"))) for one in patterns)
    names = "|".join(_either(one) for one in patterns if "/" not in one)
    whole = "|".join(
        _either(one) if one.startswith(("/", "*")) else rf"(?s:.*)/(?:{_either(one)})"
        for one in patterns
        if "/" in one
    )
    if not names and not whole:
        return lambda name, path: False
    name_pattern, path_pattern = re.compile(names or _NEVER), re.compile(whole or _NEVER)

    def is_excluded(name: str, path: str) -> bool:
        return bool(
            name_pattern.match(_composed(name)) or (whole and path_pattern.match(_composed(path)))
        )

    return is_excluded


def _either(pattern: str) -> str:
    """Return a regular expression for what a pattern of a shell matches, and for the pattern."""
    return rf"{fnmatch.translate(pattern)}|{re.escape(pattern)}\Z"


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


@dataclass(frozen=True, eq=False, slots=True)
class _Sidecars:
    """The sidecars in a folder.

    Attributes:
        of: Sidecars by the name of the file that they describe.
        names: The names of all of them.
    """

    of: Mapping[str, tuple[Candidate, ...]]
    names: Container[str]

    @classmethod
    def among(cls, entries: Sequence[os.DirEntry[str]], excluded: Excluder) -> "_Sidecars":
        """Find the sidecars among the entries of a folder that a scan does not skip."""
        if not any(one.name.lower().endswith(_SIDECARS) for one in entries):
            return _NO_SIDECARS
        files = {
            one.name: one
            for one in entries
            if not one.is_dir(follow_symlinks=False) and not _is_skipped(one, excluded)
        }
        found = {
            name: tuple(_sidecar(files[one]) for one in beside if _describes(one, name))
            for name, beside in sidecars_in(files, _SUBTITLED).items()
        }
        names = frozenset(one.path.name for beside in found.values() for one in beside)
        return cls(found, names)


_NO_SIDECARS = _Sidecars({}, frozenset())


def _describes(sidecar: str, name: str) -> bool:
    """Return whether a file of this name may have such a sidecar: JSON describes only media."""
    return not sidecar.lower().endswith(".json") or name.lower().endswith(_WITH_JSON)


def _sidecar(entry: os.DirEntry[str]) -> Candidate:
    try:
        status = entry.stat()
    except OSError:  # It vanished meanwhile, or is a broken link, which says nothing.
        return Candidate(Path(entry.path), 0, 0)
    return Candidate(Path(entry.path), status.st_size, status.st_mtime_ns)


def _is_skipped(entry: os.DirEntry[str], excluded: Excluder) -> bool:
    name = entry.name
    return name.startswith(".") or name.lower() in _SYSTEM_FILES or excluded(name, entry.path)


class _Walk:
    """One scan; remembers the real files and folders that it has seen.

    Links are followed after everything else, so that a file is listed under its real name if that
    is within the scan.

    Attributes:
        excluded: Says of a name and a path whether the root that is being listed excludes it.
    """

    def __init__(self) -> None:
        self.excluded = excluder(())
        self._files: set[tuple[int, int] | str] = set()
        self._folders: set[tuple[int, int]] = set()
        self._links: list[tuple[str, Excluder]] = []
        self._listed = "", _NO_SIDECARS

    def root(self, path: str) -> Iterator[Candidate | Failure]:
        """List a path that was given by name."""
        try:
            if container_of(path):
                status = stat_media(Path(path))
                yield Candidate(Path(path), status.st_size, status.st_mtime_ns)
                return
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
        name = os.path.basename(path)
        if not self.excluded(name, path) and name not in self._sidecars_beside(path).names:
            yield from self._any(path, status)

    def links(self) -> Iterator[Candidate | Failure]:
        """List the targets of the links found so far, and of links found there."""
        for path, excluded in self._links:  # Grows meanwhile.
            self.excluded = excluded
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
            sidecars = self._sidecars_beside(path).of.get(os.path.basename(path), ())
            yield from self._file(path, status, _parent(path), sidecars)

    def _sidecars_beside(self, path: str) -> "_Sidecars":
        """Return the sidecars in the folder of a file that no folder was listed for."""
        folder = os.path.dirname(path)
        if self._listed[0] != folder:
            found = _NO_SIDECARS
            with suppress(OSError), os.scandir(folder) as listing:
                found = _Sidecars.among(list(listing), self.excluded)
            self._listed = folder, found
        return self._listed[1]

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
            folder_id, sidecars = FolderId.of(status), _Sidecars.among(entries, self.excluded)
            for entry in entries:
                if entry.name not in sidecars.names:
                    yield from self._entry(entry, folder_id, sidecars, below)
            pending.extend(reversed(below))

    def _entry(
        self,
        entry: os.DirEntry[str],
        folder: FolderId,
        sidecars: "_Sidecars",
        below: list[tuple[str, os.stat_result]],
    ) -> Iterator[Candidate | Failure]:
        lower = entry.name.lower()
        if _is_skipped(entry, self.excluded):
            return
        try:
            if entry.is_symlink():
                self._links.append((entry.path, self.excluded))
                return
            status = entry.stat(follow_symlinks=False)
        except OSError as error:  # It vanished meanwhile, or its disk fails.
            yield Failure(Path(entry.path), f"it cannot be read: {error.strerror}")
            return
        if not stat.S_ISDIR(status.st_mode):
            yield from self._file(entry.path, status, folder, sidecars.of.get(entry.name, ()))
        elif lower not in _SYSTEM_FOLDERS and lower not in _PACKAGE_FOLDERS:
            below.append((entry.path, status))

    def _file(
        self,
        path: str,
        status: os.stat_result,
        folder: FolderId | None,
        sidecars: tuple[Candidate, ...],
    ) -> Iterator[Candidate | Failure]:
        if not stat.S_ISREG(status.st_mode):
            yield Failure(Path(path), f"this is {_special(status.st_mode)}, not a file")
            return
        # Hard links are files with the same bytes, all of which are listed; a path only once.
        hard_links = status.st_nlink > 1
        identity = os.path.realpath(path) if hard_links else (status.st_dev, status.st_ino)
        if identity not in self._files:
            self._files.add(identity)
            yield Candidate(Path(path), status.st_size, status.st_mtime_ns, folder, sidecars)


def _reported(entries: Iterable[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
    """Yield entries, and report each as progress: a disk may need minutes for a large folder."""
    for entry in entries:
        report_progress()
        yield entry


def _parent(path: str) -> FolderId | None:
    try:
        return FolderId.of(os.stat(os.path.dirname(path)))
    except OSError:
        return None


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
        folders: The folders that they were found in.
        sidecars: Sidecars that it knows as files, by their ids.
    """

    new: list[Candidate]
    changed: list[Candidate]
    known: list[Known]
    unchanged: int
    failures: list[Failure]
    folders: dict[Path, FolderId]
    sidecars: dict[int, Path]


def compare(
    writer: CatalogWriter, roots: Sequence[Root], options: IngestOptions
) -> Iterator[Compared]:
    """Compare what is at some roots with the catalog, in batches."""
    new_photos = set[Path]()
    for batch in _batches(scan(roots), _FILES_PER_QUERY):
        candidates = [found for found in batch if isinstance(found, Candidate)]
        known = writer.known([candidate.path for candidate in candidates])
        within = list(_within(writer, candidates, known, roots))
        known |= writer.known([candidate.path for candidate in within])
        # Before the mail that they are attached to: once that is stored, it is not read again.
        candidates = within + candidates
        sidecars = writer.known([one.path for found in candidates for one in found.sidecars])
        new = [candidate for candidate in candidates if candidate.path not in known]
        # A video may be in the batch after that of its photo.
        photos_before, new_photos = new_photos, stems_of_photos(one.path for one in new)
        changed = [
            candidate
            for candidate in candidates
            if (before := known.get(candidate.path)) is not None
            and (
                _needs_work(before, candidate, options)
                or is_beside(candidate.path, new_photos | photos_before)
            )
        ]
        yield Compared(
            new=new,
            changed=changed,
            known=list(known.values()),
            unchanged=len(candidates) - len(new) - len(changed),
            failures=[found for found in batch if isinstance(found, Failure)],
            folders=_folders_of(candidates),
            sidecars={one.id: path for path, one in sidecars.items()},
        )


def _folders_of(candidates: Iterable[Candidate]) -> dict[Path, FolderId]:
    """Return the folders of files, as which a mail counts for what is attached to it."""
    return {one.path.parent: one.folder for one in candidates if one.folder is not None}


def _within(
    writer: CatalogWriter,
    candidates: Iterable[Candidate],
    known: Mapping[Path, Known],
    roots: Sequence[Root],
) -> Iterator[Candidate]:
    """List the files within files, without reading those that are unchanged."""
    unread: dict[Path, Candidate] = {}
    for one in candidates:
        if not may_have_members(one.path):
            continue
        before = known.get(one.path)
        if before is not None and before.same(one):
            unread[one.path] = one
            continue
        try:
            found = members(one.path)
        except (MediaError, OSError):  # for which the file itself is going to fail
            unread[one.path] = one
            continue
        for name, size in found:
            if not _excluded_by(roots, one.path / name):
                yield Candidate(one.path / name, size, one.mtime_ns, one.folder)
    below = [one.path for one in writer.below(list(unread)) if one.path not in unread]
    for path, before in writer.known(below).items():
        if not _excluded_by(roots, path):
            yield Candidate(path, before.size, before.mtime_ns, unread[path.parent].folder)


def _excluded_by(roots: Iterable[Root], path: Path) -> bool:
    given = [one for one in roots if path.is_relative_to(os.path.abspath(one.path))]
    return any(excluder(one.exclude)(path.name, str(path)) for one in given)


def _needs_work(before: Known, candidate: Candidate, options: IngestOptions) -> bool:
    retried = options.retry_failed and before.status is Status.FAILED
    alone = has_lost_its_photo(candidate.path, before.error)
    return retried or alone or not before.same(candidate)


def _batches(source: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(source, size)):
        yield batch
