"""Uploads: safe file names, private temporary folders, quotas, and writing what is sent."""

import filecmp
import itertools
import logging
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic, time
from typing import BinaryIO

from anyio import to_thread
from filelock import FileLock

from app.page.labels import size
from app.texts import N_
from indexer import IndexerError

_log = logging.getLogger(__name__)


class UploadError(IndexerError):
    """A file cannot be uploaded; the message is for its sender."""


class TooLarge(UploadError):
    """A file is larger than a single one may be."""


class NoRoom(UploadError):
    """There is no room for a file, whatever its size."""


# ---- names

# Device names of Windows, with any extension.
_RESERVED_NAME = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
_MAX_NAME_BYTES = 200  # Of 255, so that a number can be added.
_MAX_EXTENSION = 10
_MAX_DEPTH = 20
_NO_NAME = N_("a file without a name cannot be uploaded")


def clean_name(name: str) -> str:
    """Return a file name that every file system accepts and that cannot leave its folder.

    Raises:
        UploadError: if nothing of the name is left.
    """
    name = unicodedata.normalize("NFC", name).strip()
    name = "".join("_" if ch in '<>:"|?*\\/' or not ch.isprintable() else ch for ch in name)
    name = unicodedata.normalize("NFC", name).strip(". ")
    if not name:
        raise UploadError(_NO_NAME)
    return _escape_reserved(_shorten(_escape_reserved(name)))


def _escape_reserved(name: str) -> str:
    return f"_{name}" if _RESERVED_NAME.fullmatch(name) else name


def _shorten(name: str) -> str:
    """Return as much of a name as a file system accepts, with its extension."""
    if len(name.encode()) <= _MAX_NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension
    if not dot or len(extension) > _MAX_EXTENSION:
        stem, ending = name, ""
    kept = stem.encode()[: _MAX_NAME_BYTES - len(ending.encode())]
    return kept.decode(errors="ignore").rstrip(". ") + ending


def clean_path(relative: str) -> Path:
    """Return a relative path whose every part is a clean name, without ".." and roots.

    Raises:
        UploadError: if it names no file or is nested too deeply.
    """
    parts = [part for part in re.split(r"[/\\]+", relative) if part.strip(". ")]
    if not parts:
        raise UploadError(_NO_NAME)
    if len(parts) > _MAX_DEPTH:
        raise UploadError(N_("folders nested more than {n} deep cannot be uploaded", n=_MAX_DEPTH))
    return Path(*map(clean_name, parts))


# ---- temporary folders

_LOCK_NAME = "in-use.lock"
_LOCK_SECONDS = 5.0


@contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """Create a folder that is deleted at the end; delete those that killed programs left.

    A file lock, which the operating system releases, marks the folders of running programs.

    Raises:
        OSError: if the folder cannot be created.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{prefix}*"):
        _delete_unused(leftover)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with FileLock(folder / _LOCK_NAME, timeout=_LOCK_SECONDS):
            if (folder / _LOCK_NAME).is_file():  # Else another program deleted it before the lock.
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


def _delete_unused(folder: Path) -> None:
    """Delete a folder that this user's `workspace` created and that no program locks."""
    try:
        ours = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
        if ours and not folder.is_symlink() and (folder / _LOCK_NAME).is_file():
            with FileLock(folder / _LOCK_NAME, blocking=False):
                shutil.rmtree(folder)
    except OSError as error:
        _log.debug("left %s in place: %s", folder, error)


# ---- quotas

MIN_FILE_BYTES = 4096
"""What even an empty file takes on a disk, and so does a folder."""


class Quota:
    """Bounds the bytes in a folder. Thread-safe.

    Guarantees: files and unfinished uploads never exceed `max_bytes` together, whether or not
    their length is announced; announcing much and sending nothing keeps no room from others.

    Args:
        folder: Where the files are.
        max_bytes: Bytes that may be there; None for as many as the disk holds.
        recount: Called with the number of lacking bytes for the first file, and when there is no
            room; may make room, and returns how many bytes are used then.
        spare: Bytes that the disk keeps free.
        full: The message if there is no room.
        recount_seconds: How long a count is trusted.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int | None,
        recount: Callable[[int], int],
        *,
        spare: int,
        full: str,
        recount_seconds: float = 0.0,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._recount = recount
        self._spare = spare
        self._recount_seconds = recount_seconds
        self._full = full
        self._used = 0
        self._reserved = 0
        self._counted_at: float | None = None
        self._lock = Lock()

    def admit(self, announced: int = 0) -> "Reservation":
        """Begin a file of the announced number of bytes.

        Raises:
            NoRoom: if there is no room for them.
        """
        with self._lock:
            self._check(max(announced, MIN_FILE_BYTES))
        return Reservation(self)

    def reserve(self, count: int) -> None:
        """Reserve bytes for an unfinished file.

        Raises:
            NoRoom: if there is none.
        """
        with self._lock:
            self._check(count)
            self._reserved += count

    def release(self, reserved: int, kept: int) -> None:
        """Give reserved bytes back, and count those that stay as used."""
        with self._lock:
            self._reserved -= reserved
            self._used += kept

    def _check(self, count: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < count + self._spare:
            raise NoRoom(
                N_(
                    "the disk would have less than {size} left: free some space and send the file "
                    "again",
                    size=size(self._spare),
                )
            )
        if self._max_bytes is None:
            return
        if self._lacking(count) > 0 or self._counted_at is None:
            self._count(max(0, self._lacking(count)))
        if self._lacking(count) > 0:
            raise NoRoom(self._full)

    def _lacking(self, count: int) -> int:
        return self._used + self._reserved + count - (self._max_bytes or 0)

    def _count(self, lacking: int) -> None:
        now = monotonic()
        if self._counted_at is None or now - self._counted_at >= self._recount_seconds:
            self._used = self._recount(lacking)
            self._counted_at = now


class Reservation:
    """Room for an unfinished file; closed without `commit` it gives all of it back."""

    def __init__(self, quota: Quota) -> None:
        self.size = 0
        self._quota = quota
        self._kept = 0

    def grow(self, count: int) -> None:
        """Reserve room for the next bytes.

        Raises:
            NoRoom: if there is none.
        """
        self._quota.reserve(count)
        self.size += count

    def commit(self) -> None:
        """Keep the bytes as used."""
        self._kept = max(self.size, MIN_FILE_BYTES)

    def close(self) -> None:
        """Release what was not committed."""
        self._quota.release(self.size, self._kept)


# ---- writing


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A file that was written, and its size in bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file as it is being sent.

    Attributes:
        chunks: Its bytes.
        announced: How many there are said to be, 0 if unknown.
        modified_ms: When the sender's file was modified, in milliseconds since 1970, if known.
    """

    chunks: AsyncIterator[bytes]
    announced: int = 0
    modified_ms: int | None = None


_MAX_NUMBERED = 100


async def save(
    incoming: IncomingFile,
    target: Path,
    staging: Path,
    quota: Quota,
    limit: int,
    on_saved: Callable[[SavedFile], None] = lambda _: None,
) -> SavedFile:
    """Write a file beside its target, then rename it: no partial file is ever seen.

    Where the target exists with other bytes the name gets a number; with the same bytes the
    existing file is returned.

    Args:
        incoming: What to write.
        target: The wanted path; missing folders are created once the file is complete.
        staging: A folder on the same file system for the unfinished file.
        quota: Where it counts.
        limit: Most bytes.
        on_saved: Called with the file while it still counts as unfinished.

    Raises:
        TooLarge: if it has more than `limit` bytes, or is announced to.
        NoRoom: if the quota has no room for it.
    """
    if incoming.announced > limit:
        raise _too_large(target, limit)
    reservation = await to_thread.run_sync(quota.admit, incoming.announced)
    staging.mkdir(parents=True, exist_ok=True)
    partial = staging / f"{secrets.token_hex(8)}.part"
    try:
        with partial.open("xb") as file:
            async for chunk in incoming.chunks:
                if reservation.size + len(chunk) > limit:
                    raise _too_large(target, limit)
                await to_thread.run_sync(_write, file, chunk, reservation)
        if incoming.modified_ms is not None:
            _set_time(partial, incoming.modified_ms)
        size = reservation.size
        path = await to_thread.run_sync(_place, partial, target, reservation)
        saved = SavedFile(path, size)
        on_saved(saved)
        reservation.commit()
        return saved
    finally:
        partial.unlink(missing_ok=True)
        reservation.close()


def _too_large(target: Path, limit: int) -> TooLarge:
    return TooLarge(
        N_(
            "{name} is larger than the upload limit of {size} MB",
            name=target.name,
            size=limit >> 20,
        )
    )


def _write(file: BinaryIO, chunk: bytes, reservation: Reservation) -> None:
    reservation.grow(len(chunk))
    file.write(chunk)


def _set_time(path: Path, modified_ms: int) -> None:
    """Give a file the time that it had where it comes from, if it is in the past."""
    if modified_ms <= time() * 1000:
        with suppress(OSError, OverflowError):  # A time that this file system cannot store.
            os.utime(path, ns=(modified_ms * 1_000_000,) * 2)


def _place(partial: Path, target: Path, reservation: Reservation) -> Path:
    """Move a complete file to its target; if that fails, no folder made for it stays."""
    missing = [folder for folder in target.parents if not folder.exists()]  # Deepest first.
    reservation.grow(max(0, MIN_FILE_BYTES - reservation.size) + MIN_FILE_BYTES * len(missing))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return rename_without_replacing(partial, target)
    except BaseException:
        for folder in missing:
            with suppress(OSError):  # Another upload may be in it by now.
                folder.rmdir()
        raise


def rename_without_replacing(partial: Path, target: Path) -> Path:
    """Give a file a name, with a number where another file has it; return where it is.

    The file may keep the name that it had, too; where another one with the same bytes has the name,
    nothing happens.
    """
    candidate = target
    for number in itertools.count(2):
        try:
            candidate.hardlink_to(partial)
            return candidate
        except FileExistsError:
            if candidate.is_file() and filecmp.cmp(candidate, partial, shallow=False):
                return candidate
        except OSError:  # No hard links on this file system.
            if not candidate.exists():
                partial.rename(candidate)
                return candidate
        suffix = str(number) if number < _MAX_NUMBERED else secrets.token_hex(4)
        candidate = target.with_stem(f"{target.stem} ({suffix})")
    raise AssertionError("count() does not end")


# ---- uploads to the library

_SPARE_BYTES = 256 << 20  # For the library's own work.
_RECOUNT_SECONDS = 2.0


class LibraryUploads:
    """Writes uploaded files into the library.

    Args:
        folder: Where they stay.
        staging: Where unfinished files are, on the same disk.
        limit: Most bytes of one file.
        max_bytes: Most bytes of all files; None for as many as the disk holds.
    """

    def __init__(self, folder: Path, staging: Path, limit: int, max_bytes: int | None) -> None:
        self.folder = folder
        self._staging = staging
        self._limit = limit
        self._quota = Quota(
            folder,
            max_bytes,
            lambda _lacking: _bytes_below(folder),
            spare=_SPARE_BYTES,
            recount_seconds=_RECOUNT_SECONDS,
            full=N_(
                "the library has no room for more uploads: remove some files from it first, or ask "
                "its owner to raise --max-uploads-mb"
            ),
        )

    async def add(self, path: str, incoming: IncomingFile) -> SavedFile:
        """Save a file under a relative path, or under the nearest safe one.

        Raises:
            UploadError: if it is too large, there is no room, or the path names nothing.
        """
        target = self.folder / clean_path(path)
        if not target.parent.resolve().is_relative_to(self.folder.resolve()):
            raise UploadError("that folder of the library leads out of it: choose another one")
        return await save(incoming, target, self._staging, self._quota, self._limit)


def _bytes_below(folder: Path) -> int:
    """Return what all files and folders take together; empty ones take room too."""
    total = 0
    for parent, folders, names in os.walk(folder):
        total += MIN_FILE_BYTES * len(folders)
        for name in names:
            with suppress(OSError):
                total += max(MIN_FILE_BYTES, os.lstat(os.path.join(parent, name)).st_size)
    return total
