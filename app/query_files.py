"""Files to search with: named by a random id, kept until others need their room."""

import base64
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from app.uploads import (
    LEAST_BYTES,
    Entry,
    Quota,
    Saved,
    Sent,
    TooLarge,
    UploadError,
    clean_name,
    save,
)

QUERY_BYTES = 1 << 30
"""Most bytes of a file to search with."""

_TOGETHER_BYTES = 2 << 30
_SPARE_BYTES = 16 << 20
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


class QueryFiles:
    """Files to search with: each lies alone in a private folder and is named by a random id.

    Guarantees: at most `keep` stay, of at most `most` bytes together with those that are coming
    in; the oldest are deleted for newer ones. Thread-safe.

    Args:
        folder: The private folder.
        keep: Most files.
        most: Most bytes of all of them.
        limit: Most bytes of one.
    """

    def __init__(
        self,
        folder: Path,
        keep: int = 100,
        most: int = _TOGETHER_BYTES,
        limit: int = QUERY_BYTES,
    ) -> None:
        self._folder = folder
        self._keep = keep
        self._limit = limit
        self._files: OrderedDict[str, Saved] = OrderedDict()
        self._lock = Lock()
        self._quota = Quota(
            folder,
            most,
            self._make_room,
            spare=_SPARE_BYTES,
            full="too many files are being sent at this time: try again in a moment",
        )

    async def add(self, name: str, sent: Sent) -> tuple[str, Saved]:
        """Takes a file and gives its id.

        Raises:
            UploadError: if it is too large, there is no room, or the name is none.
        """
        key, target = self._reserve(name)
        try:
            saved = await save(
                sent,
                target,
                target.parent,
                self._quota,
                self._limit,
                lambda saved: self._keep_file(key, saved),
            )
        except BaseException:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise
        return key, saved

    def admit(self, announced: int) -> Entry:
        """Room for bytes that are no file of their own yet.

        Raises:
            TooLarge: if there are more than a file may have.
            NoRoom: if there is no room for them.
        """
        if announced > self._limit:
            raise TooLarge(f"a file to search with may have {self._limit >> 20} MB at most")
        return self._quota.admit(announced)

    def knows(self, key: str) -> bool:
        """Whether a file has this id."""
        with self._lock:
            return key in self._files

    def resolve(self, reference: object) -> Path:
        """The file that a request names.

        Args:
            reference: An id of this store, or a "data:" address that holds the bytes.

        Raises:
            UploadError: if it is anything else: no path of this machine is ever taken.
        """
        if isinstance(reference, str) and reference.startswith("data:"):
            return self._from_data(reference)
        if isinstance(reference, str):
            with self._lock:
                if known := self._files.get(reference):
                    return known.path
        raise UploadError("the file is not known here any more: send it again and use its new id")

    def _reserve(self, name: str) -> tuple[str, Path]:
        """A new id, and the path where its file is to be written."""
        key = secrets.token_urlsafe(12)
        return key, self._folder / key / clean_name(name)

    def _keep_file(self, key: str, saved: Saved) -> None:
        with self._lock:
            self._files[key] = saved
            old = [self._files.popitem(last=False)[1] for _ in range(len(self._files) - self._keep)]
        _delete(old)

    def _make_room(self, lacking: int) -> int:
        """Deletes the oldest files of so many bytes; returns how many the others have."""
        old: list[Saved] = []
        with self._lock:
            while self._files and sum(map(_size, old)) < lacking:
                old.append(self._files.popitem(last=False)[1])
            left = sum(map(_size, self._files.values()))
        _delete(old)
        return left

    def _write(self, name: str, content: bytes) -> Path:
        entry = self.admit(len(content))
        try:
            entry.take(len(content))
            key, path = self._reserve(name)
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            self._keep_file(key, Saved(path, len(content)))
            entry.keep()
        finally:
            entry.close()
        return path

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
        return self._write(f"query{extension}", content)


def _size(file: Saved) -> int:
    return max(LEAST_BYTES, file.size)


def _delete(files: Iterable[Saved]) -> None:
    for one in files:
        shutil.rmtree(one.path.parent, ignore_errors=True)
