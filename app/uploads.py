"""Names that visitors give to files, made harmless."""

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
from time import monotonic
from typing import BinaryIO

from anyio import to_thread

from indexer import IndexerError, LibraryError
from indexer.catalog.database import WriterLock

# What Windows takes for devices, whatever comes after a dot.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
_MAX_BYTES = 200  # Of 255, so that there is room for a number.
_MAX_EXTENSION = 10
_MAX_DEPTH = 20


class UploadError(IndexerError):
    """A sent file cannot be taken; the message is one sentence for the sender."""


def clean_name(name: str) -> str:
    """A file name that every file system takes and that cannot leave its folder.

    Raises:
        UploadError: if nothing of the name is left.
    """
    name = unicodedata.normalize("NFC", name).strip()
    name = "".join("_" if ch in '<>:"|?*\\/' or not ch.isprintable() else ch for ch in name)
    name = unicodedata.normalize("NFC", name).strip(". ")
    if not name:
        raise UploadError("a file without a name cannot be uploaded")
    return _no_device(_short(_no_device(name)))


def _no_device(name: str) -> str:
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _short(name: str) -> str:
    """As much of a name as a file system takes, with its extension."""
    if len(name.encode()) <= _MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension
    if not dot or len(extension) > _MAX_EXTENSION:
        stem, ending = name, ""
    kept = stem.encode()[: _MAX_BYTES - len(ending.encode())]
    return kept.decode(errors="ignore").rstrip(". ") + ending


def clean_path(relative: str) -> Path:
    """A relative path whose every part is a clean name: ".." and roots cannot pass.

    Raises:
        UploadError: if it names no file or is nested too deeply.
    """
    parts = [part for part in re.split(r"[/\\]+", relative) if part.strip(". ")]
    if not parts:
        raise UploadError("a file without a name cannot be uploaded")
    if len(parts) > _MAX_DEPTH:
        raise UploadError(f"folders nested more than {_MAX_DEPTH} deep cannot be uploaded")
    return Path(*map(clean_name, parts))


_log = logging.getLogger(__name__)
_IN_USE = "in-use.lock"
_WAIT_SECONDS = 5.0


@contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder, deleted at the end; those of programs that were killed are deleted now.

    A lock of the operating system tells the folders of programs that run.

    Raises:
        OSError, LibraryError: if it cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        _clear(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = folder / _IN_USE
        with WriterLock(lock).held(_WAIT_SECONDS):
            if lock.is_file():  # Otherwise another program has cleared it before it was locked.
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


def _clear(folder: Path) -> None:
    """Deletes a folder that was made here and that nobody uses."""
    try:
        ours = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
        if ours and not folder.is_symlink() and (folder / _IN_USE).is_file():
            with WriterLock(folder / _IN_USE).held():
                shutil.rmtree(folder)
    except (OSError, LibraryError) as error:
        _log.debug("%s is left alone: %s", folder, error)


LEAST_BYTES = 4096
"""What even an empty file takes on a disk."""

_STEP_BYTES = 1 << 20


class TooLarge(UploadError):
    """A file is larger than a single one may be."""


class NoRoom(UploadError):
    """There is no room for a file, whatever its size."""


class Quota:
    """Room for what is sent to a folder. Thread-safe.

    Guarantees: what stays and what is coming in never exceed `most` together, whether or not its
    length is announced; nobody keeps room from others by announcing much and sending nothing.

    Args:
        folder: Where they lie.
        most: Bytes that may be there; None for as many as the disk holds.
        spare: Bytes that the disk keeps free.
        recount: Called when there is no room, with how many bytes are lacking; may make room, and
            returns how many are used then. Also called for the first file.
        full: The sentence for whoever finds no room.
        pause: Seconds in which the last count is believed.
    """

    def __init__(
        self,
        folder: Path,
        most: int | None,
        recount: Callable[[int], int],
        *,
        spare: int,
        full: str,
        pause: float = 0.0,
    ) -> None:
        self._folder = folder
        self._most = most
        self._recount = recount
        self._spare = spare
        self._pause = pause
        self._full = full
        self._used = 0
        self._coming = 0
        self._counted_at: float | None = None
        self._lock = Lock()

    def admit(self, announced: int = 0) -> "Entry":
        """Begins with a file.

        Args:
            announced: The bytes that it is said to have.

        Raises:
            NoRoom: if there is no room for so many.
        """
        with self._lock:
            self._check(max(announced, LEAST_BYTES))
        return Entry(self)

    def reserve(self, count: int) -> None:
        """Takes room for so many bytes that come in; for entries."""
        with self._lock:
            self._check(count)
            self._coming += count

    def settle(self, reserved: int, kept: int) -> None:
        """Gives reserved bytes back, save those that stay; for entries."""
        with self._lock:
            self._coming -= reserved
            self._used += kept

    def _check(self, count: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < count + self._spare:
            raise NoRoom("the disk is full: make room and send the file again")
        if self._most is None:
            return
        if self._counted_at is None:
            self._count(0)
        lacking = self._used + self._coming + count - self._most
        if lacking > 0 and self._may_count():
            self._count(lacking)
            lacking = self._used + self._coming + count - self._most
        if lacking > 0:
            raise NoRoom(self._full)

    def _count(self, lacking: int) -> None:
        self._used = self._recount(lacking)
        self._counted_at = monotonic()

    def _may_count(self) -> bool:
        return self._counted_at is None or monotonic() - self._counted_at >= self._pause


class Entry:
    """A file that is coming in; closed without `keep` it leaves no trace in the quota."""

    def __init__(self, quota: Quota) -> None:
        self.size = 0
        self._quota = quota
        self._reserved = 0
        self._kept = 0

    def take(self, count: int) -> None:
        """Makes room for the next bytes of it.

        Raises:
            NoRoom: if there is none.
        """
        self.size += count
        if self.size > self._reserved:
            more = max(_STEP_BYTES, self.size - self._reserved)
            try:
                self._quota.reserve(more)
            except NoRoom:
                more = self.size - self._reserved  # Perhaps there is room for the last bytes.
                self._quota.reserve(more)
            self._reserved += more

    def keep(self) -> None:
        """Says that the file stays."""
        self._kept = max(self.size, LEAST_BYTES)

    def close(self) -> None:
        """Ends it; may be called again."""
        self._quota.settle(self._reserved, self._kept)
        self._reserved = self._kept = 0


_SPARE_BYTES = 256 << 20  # For the library's own work.
_RECOUNT_SECONDS = 2.0
_MOST_NUMBERED = 100


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that was written: where, and how many bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A file as it is being sent.

    Attributes:
        chunks: Its bytes.
        announced: How many there are said to be, 0 if nothing is said.
    """

    chunks: AsyncIterator[bytes]
    announced: int = 0


async def save(
    sent: Sent,
    target: Path,
    staging: Path,
    quota: Quota,
    limit: int,
    on_saved: Callable[[Saved], None] = lambda _: None,
) -> Saved:
    """Writes what is sent, then gives it its name: no half file is ever seen.

    Where the target exists with other bytes the name gets a number; with the same bytes the
    existing file stands for it.

    Args:
        sent: What to write.
        target: Where the file is wanted; missing folders are made.
        staging: A folder on the same file system for the unfinished file.
        quota: Where it counts.
        limit: Most bytes.
        on_saved: Called with the file while it still counts as one that comes in.

    Raises:
        TooLarge: if it has more than `limit` bytes, or says so.
        NoRoom: if the quota has no room for it.
    """
    if sent.announced > limit:
        raise _too_large(target, limit)
    entry = await to_thread.run_sync(quota.admit, sent.announced)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    partial = staging / f"{secrets.token_hex(8)}.part"
    try:
        with partial.open("xb") as file:
            async for chunk in sent.chunks:
                if entry.size + len(chunk) > limit:
                    raise _too_large(target, limit)
                await to_thread.run_sync(_write, file, chunk, entry)
        saved = Saved(await to_thread.run_sync(_settle, partial, target), entry.size)
        on_saved(saved)
        entry.keep()
        return saved
    finally:
        partial.unlink(missing_ok=True)
        entry.close()


def _too_large(target: Path, limit: int) -> TooLarge:
    return TooLarge(f"{target.name} is larger than the {limit >> 20} MB that can be uploaded")


def _write(file: BinaryIO, chunk: bytes, entry: Entry) -> None:
    entry.take(len(chunk))
    file.write(chunk)


def _settle(partial: Path, target: Path) -> Path:
    """Gives a finished file its name without replacing another one."""
    wanted = target
    for number in itertools.count(2):
        try:
            wanted.hardlink_to(partial)
            return wanted
        except FileExistsError:
            if wanted.is_file() and _same_bytes(wanted, partial):
                return wanted
        except OSError:  # No hard links on this file system.
            if not wanted.exists():
                partial.rename(wanted)
                return wanted
        mark = str(number) if number < _MOST_NUMBERED else secrets.token_hex(4)
        wanted = target.with_stem(f"{target.stem} ({mark})")
    raise AssertionError("numbers do not end")


def _same_bytes(first: Path, second: Path) -> bool:
    if first.stat().st_size != second.stat().st_size:
        return False
    with first.open("rb") as a, second.open("rb") as b:
        return _equal_streams(a, b)


def _equal_streams(first: BinaryIO, second: BinaryIO) -> bool:
    while True:
        block = first.read(1 << 20)
        if block != second.read(1 << 20):
            return False
        if not block:
            return True


class LibraryUploads:
    """What visitors add to the library.

    Args:
        folder: Where it stays.
        staging: Where unfinished files are, on the same disk.
        limit: Most bytes of one file.
        most: Most bytes of all files; None for as many as the disk holds.
    """

    def __init__(self, folder: Path, staging: Path, limit: int, most: int | None) -> None:
        self.folder = folder
        self._staging = staging
        self._limit = limit
        self._quota = Quota(
            folder,
            most,
            lambda _lacking: _bytes_below(folder),
            spare=_SPARE_BYTES,
            pause=_RECOUNT_SECONDS,
            full="the library has no room for more uploads: remove some files from it first, or "
            "ask its owner for more room (--max-uploads-mb)",
        )

    async def add(self, path: str, sent: Sent) -> Saved:
        """Takes a file in under a relative path, or under the nearest harmless one.

        Raises:
            UploadError: if it is too large, there is no room, or the path names nothing.
        """
        target = self.folder / clean_path(path)
        if not target.parent.resolve().is_relative_to(self.folder.resolve()):
            raise UploadError("that folder of the library leads out of it: choose another one")
        return await save(sent, target, self._staging, self._quota, self._limit)


def _bytes_below(folder: Path) -> int:
    """The sizes of all files; an empty one takes room too."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += max(LEAST_BYTES, os.lstat(os.path.join(parent, name)).st_size)
    return total
