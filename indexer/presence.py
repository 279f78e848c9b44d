"""Whether files are there; and where they are not, whether they were deleted or are unplugged."""

import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from typing import Self

from embedder.media.members import container_of

_STORABLE = 2**63 - 1  # SQLite's integers have 64 bits with a sign, those of file systems without.


@dataclass(frozen=True, slots=True)
class FolderId:
    """Which folder it is: a path leads to another one when a disk is mounted or unmounted there.

    Attributes:
        device: Number of the disk.
        inode: Number of the folder on it.
    """

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the folder that a status is of."""
        return cls(status.st_dev & _STORABLE, status.st_ino & _STORABLE)

    @classmethod
    def stored(cls, device: int | None, inode: int | None) -> Self | None:
        """Return the folder that a library has stored, if it has."""
        return None if device is None or inode is None else cls(device, inode)


def vanished(path: Path) -> bool:
    """Return whether a path certainly leads to no file: an unreadable folder proves nothing."""
    try:
        status_of(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def status_of(path: Path) -> os.stat_result:
    """Return the status of a file, or of the mail that it is attached to; raises `OSError`."""
    try:
        return os.stat(path)  # noqa: PTH116
    except NotADirectoryError:
        container = container_of(path)
        if container is None:
            raise
        return container.stat()


def deleted(path: Path, seen: FolderId | None) -> bool:
    """Return whether a file is gone from a disk that is connected.

    Args:
        path: The file.
        seen: Its folder, when the file was last found in it.
    """
    return vanished(path) and disconnected(path.parent, seen) is None


def disconnected(
    folder: Path, seen: FolderId | None, devices: Mapping[int, int] | None = None
) -> Path | None:
    """Return what is not connected, of a folder in which no known file is left.

    The files of the folder were deleted if it is the folder that it was; or if it is gone from a
    folder above it that is on the same disk and not empty. An empty one may be a mount point, and
    a broken link may lead to a disk.

    Args:
        folder: The folder, which may be gone.
        seen: What it was when files were last found in it; without that, nothing is proven.
        devices: Present numbers of the disks that are connected, by those that were seen; if None,
            numbers are taken to be those of the same disks as then.

    Returns:
        The disk or folder that is not connected; None if the files were deleted.
    """
    above, lost = nearest_existing(folder), lost_part(folder)
    try:
        status = above.stat()
    except OSError:
        return lost
    if not stat.S_ISDIR(status.st_mode):
        return None
    if seen is None or lost.is_symlink():
        return lost
    now = FolderId.of(status)
    if now.device != (seen.device if devices is None else devices.get(seen.device)):
        return lost
    was_deleted = now.inode == seen.inode if above == folder else lost != above
    return None if was_deleted else lost


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest one above it that exists."""
    while vanished(path) and path != path.parent:
        path = path.parent
    return path


def lost_part(path: Path) -> Path:
    """Return which part of a path is not there.

    Returns:
        The first folder or file in the path that does not exist; but the folder above it if that is
        empty, as the mount point of an unplugged disk is. The path itself if it exists.
    """
    above = nearest_existing(path)
    if above == path or is_empty(above):
        return above
    return above / path.relative_to(above).parts[0]


def is_empty(folder: Path) -> bool:
    """Return whether a folder is certainly there and holds nothing but hidden files."""
    try:
        with os.scandir(folder) as entries:
            return all(entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


class PresenceCheck:
    """Looks whether files are there, without waiting for disks that do not answer. Thread-safe.

    Guarantees: a call takes little more than `wait_seconds`; a root that has not answered counts as
    not connected, and is not asked again, until it has.

    Args:
        wait_seconds: How long roots have to answer.
    """

    def __init__(self, wait_seconds: float = 1.0) -> None:
        self._wait_seconds = wait_seconds
        self._lock = Lock()
        self._stalled: dict[Path, Thread] = {}

    def missing(self, paths: Iterable[Path], roots: Sequence[Path]) -> dict[Path, Path]:
        """Return what is not connected, by those of some paths that lead nowhere.

        An empty folder leads nowhere.

        Args:
            paths: The paths.
            roots: Folders each of which is on one disk, so that it answers or does not as a whole;
                files in none of them are asked for together.
        """
        deepest_first = sorted(roots, key=lambda root: len(root.parts), reverse=True)
        by_root: dict[Path, list[Path]] = {}
        for path in dict.fromkeys(paths):
            root = _above(path, deepest_first) or Path(path.anchor)
            by_root.setdefault(root, []).append(path)
        answers: dict[Path, Path | None] = {}
        self._ask(by_root, answers)
        found = {path: answers.get(path, root) for root, some in by_root.items() for path in some}
        return {path: missing for path, missing in found.items() if missing is not None}

    def _ask(
        self, by_root: Mapping[Path, Sequence[Path]], answers: dict[Path, Path | None]
    ) -> None:
        """Add what is not connected to the answers, as far as roots answer in time."""
        deadline = monotonic() + self._wait_seconds
        with self._lock:
            self._stalled = {root: one for root, one in self._stalled.items() if one.is_alive()}
            asked = {
                root: Thread(target=_answer, args=(paths, answers), daemon=True, name="presence")
                for root, paths in by_root.items()
                if root not in self._stalled
            }
            for thread in asked.values():
                thread.start()
        for thread in asked.values():
            thread.join(max(0.0, deadline - monotonic()))
        with self._lock:
            self._stalled |= {root: thread for root, thread in asked.items() if thread.is_alive()}


def _answer(paths: Iterable[Path], answers: dict[Path, Path | None]) -> None:
    lost: set[Path] = set()  # Of a disk that is not connected, hundreds of files may be asked for.
    for path in paths:
        answers[path] = missing = _above(path, lost) or _lost(path)
        if missing is not None and missing != path:
            lost.add(missing)


def _above(path: Path, folders: Iterable[Path]) -> Path | None:
    """Return the first of some folders that a path is or lies below."""
    text = f"{path}{os.sep}"  # Path.is_relative_to takes ten times as long.
    return next((one for one in folders if text.startswith(os.path.join(one, ""))), None)


def _lost(path: Path) -> Path | None:
    """Return what is not connected, of a file; None if the file is there."""
    try:
        is_folder = stat.S_ISDIR(status_of(path).st_mode)
        return path if is_folder and is_empty(path) else None
    except (FileNotFoundError, NotADirectoryError):
        return lost_part(path) if vanished(path) else None
    except OSError as error:  # Its folder may not be entered, or its disk fails.
        return path if error.errno == errno.ELOOP else path.parent
