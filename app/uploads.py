"""Files that visitors send: kept under names of our choosing, found again by id, never by path."""

import base64
import re
import secrets
import shutil
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from anyio import to_thread

from indexer import IndexerError

# What Windows takes for devices, whatever comes after a dot.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
_MAX_BYTES = 200  # Of 255, so that there is room for a number.
_MAX_EXTENSION = 10
_MAX_DEPTH = 20
_DATA_LIMIT = 32 << 20
_EXTENSIONS = {
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "image/gif": ".gif",
    "video/mp4": ".mp4",
    "application/pdf": ".pdf",
    "text/plain": ".txt",
}


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


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that was written: where, and how many bytes."""

    path: Path
    size: int


async def save_stream(
    chunks: AsyncIterator[bytes], target: Path, staging: Path, limit: int
) -> Saved:
    """Writes a request's body, then gives it its name: no half file is ever seen.

    Where the target exists with other bytes the name gets a number; with the same bytes the
    existing file stands for it.

    Args:
        chunks: The body.
        target: Where the file is wanted; missing folders are made.
        staging: A folder on the same file system for the unfinished file.
        limit: Most bytes.

    Raises:
        UploadError: if it is larger than `limit` bytes.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    partial = staging / f"{secrets.token_hex(8)}.part"
    size = 0
    try:
        with partial.open("xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise UploadError(
                        f"{target.name} is larger than the {limit >> 20} MB that can be uploaded"
                    )
                await to_thread.run_sync(file.write, chunk)
        return Saved(await to_thread.run_sync(_settle, partial, target), size)
    finally:
        partial.unlink(missing_ok=True)


def _settle(partial: Path, target: Path) -> Path:
    """Gives a finished file its name without replacing another one."""
    number = 1
    wanted = target
    while True:
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
        number += 1
        wanted = target.with_stem(f"{target.stem} ({number})")


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


class QueryFiles:
    """Files to search with: each lies alone in a private folder and is named by a random id.

    Only the newest `keep` stay. Thread-safe.

    Attributes:
        folder: The private folder.
    """

    def __init__(self, folder: Path, keep: int = 100) -> None:
        self.folder = folder
        self._keep = keep
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._lock = Lock()

    def reserve(self, name: str) -> tuple[str, Path]:
        """A new id, and the path where its file is to be written."""
        key = secrets.token_urlsafe(12)
        return key, self.folder / key / clean_name(name)

    def add(self, key: str, path: Path) -> None:
        """Makes a written file known; the oldest beyond `keep` are deleted."""
        with self._lock:
            self._paths[key] = path
            old = [self._paths.popitem(last=False)[1] for _ in range(len(self._paths) - self._keep)]
        for stale in old:
            shutil.rmtree(stale.parent, ignore_errors=True)

    def resolve(self, reference: object) -> Path:
        """The file that a request names.

        Args:
            reference: An id of this store; a "data:" address that holds the bytes; or what
                Gradio's client sends after its own upload, accepted inside this folder only.

        Raises:
            UploadError: if it is anything else: no path of this machine is ever taken.
        """
        if isinstance(reference, dict) and isinstance(reference.get("path"), str):
            if (path := self._within(reference["path"])) is not None:
                return path
        elif isinstance(reference, str) and reference.startswith("data:"):
            return self._from_data(reference)
        elif isinstance(reference, str):
            with self._lock:
                if known := self._paths.get(reference):
                    return known
        raise UploadError("the file is not known here any more: send it again and use its new id")

    def _within(self, named: str) -> Path | None:
        try:
            path = Path(named).resolve()
            inside = path.is_relative_to(self.folder.resolve()) and path.is_file()
        except (OSError, ValueError, RuntimeError):  # No name of a file, or a link to itself.
            return None
        return path if inside else None

    def _from_data(self, address: str) -> Path:
        head, _, body = address.partition(",")
        media_type = head.removeprefix("data:").split(";")[0].lower()
        extension = _EXTENSIONS.get(media_type)
        if extension is None or not head.endswith(";base64"):
            known = ", ".join(_EXTENSIONS)
            raise UploadError(f"a data address must be base64 of one of {known}")
        if len(body) > _DATA_LIMIT * 4 // 3:
            raise UploadError(f"a data address may hold {_DATA_LIMIT >> 20} MB at most")
        try:
            content = base64.b64decode(body, validate=True)
        except ValueError:  # Not base64, or not even ASCII.
            raise UploadError("the data address is not valid base64") from None
        key, path = self.reserve(f"query{extension}")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        self.add(key, path)
        return path
