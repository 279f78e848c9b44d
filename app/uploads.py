"""Files that visitors send: written under names of our choosing, within a quota, whole or not."""

import itertools
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anyio import to_thread

from app.names import UploadError, clean_path
from app.quota import LEAST_BYTES, Entry, Quota, TooLarge

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
