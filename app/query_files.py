"""Files to search with: identified by a random id, kept until others need their room."""

import base64
import secrets
import shutil
from pathlib import Path
from threading import Lock

from cachetools import LRUCache

from app.texts import N_
from app.uploads import (
    MIN_FILE_BYTES,
    IncomingFile,
    Quota,
    Reservation,
    SavedFile,
    TooLarge,
    UploadError,
    clean_name,
    save,
)
from embedder.media import MEDIA_TYPES

MAX_QUERY_FILE_BYTES = 1 << 30
"""Most bytes of a file to search with."""

_MAX_TOTAL_BYTES = 2 << 30
_MAX_DATA_URL_BYTES = 32 << 20
_SPARE_BYTES = 16 << 20
# Reversed, so that a type gets the first of its suffixes.
_SUFFIXES = {
    media_type.partition(";")[0]: suffix for suffix, media_type in reversed([*MEDIA_TYPES.items()])
}


class _FileCache(LRUCache[str, SavedFile]):
    """Files by id; the one that was not used for the longest time is deleted from the disk."""

    def popitem(self) -> tuple[str, SavedFile]:
        """Delete the least recently used file."""
        key, saved = super().popitem()
        shutil.rmtree(saved.path.parent, ignore_errors=True)
        return key, saved


class QueryFiles:
    """Files to search with, each alone in a private folder and identified by a random id.

    Guarantees: at most `max_files` stay, of at most `max_bytes` together with the unfinished
    ones; the least recently used are deleted for newer ones. Thread-safe.

    Args:
        folder: The private folder.
        max_files: Most files.
        max_bytes: Most bytes of all of them.
        limit: Most bytes of one.
    """

    def __init__(
        self,
        folder: Path,
        max_files: int = 100,
        max_bytes: int = _MAX_TOTAL_BYTES,
        limit: int = MAX_QUERY_FILE_BYTES,
    ) -> None:
        self._folder = folder
        self._limit = limit
        self._files = _FileCache(max_files)
        self._lock = Lock()
        self._quota = Quota(
            folder,
            max_bytes,
            self._make_room,
            spare=_SPARE_BYTES,
            full=N_("too many files are being sent at this time: try again in a moment"),
        )

    async def add(self, name: str, incoming: IncomingFile) -> tuple[str, SavedFile]:
        """Save a file, and return its id.

        Raises:
            UploadError: if it is too large, there is no room, or it has no name.
        """
        key, target = self._new_target(name)
        try:
            saved = await save(
                incoming,
                target,
                target.parent,
                self._quota,
                self._limit,
                lambda saved: self._register(key, saved),
            )
        except BaseException:
            shutil.rmtree(target.parent, ignore_errors=True)
            raise
        return key, saved

    def add_data_url(self, url: str) -> str:
        """Save the content of a "data:" URL, and return its id.

        Raises:
            UploadError: if it is no base64 of a known type, is too large, or there is no room.
        """
        head, _, body = url.partition(",")
        media_type = head.removeprefix("data:").partition(";")[0].lower()
        suffix = _SUFFIXES.get(media_type)
        if suffix is None or not head.endswith(";base64"):
            raise UploadError(f"a data URL must be base64 of one of {', '.join(sorted(_SUFFIXES))}")
        if len(body) > _MAX_DATA_URL_BYTES * 4 // 3:
            raise UploadError(f"a data URL may hold at most {_MAX_DATA_URL_BYTES >> 20} MB")
        try:
            content = base64.b64decode(body, validate=True)
        except ValueError:  # Not base64, or not even ASCII.
            raise UploadError("the data URL is not valid base64") from None
        return self._write(f"query{suffix}", content)

    def admit(self, announced: int) -> Reservation:
        """Reserve room for bytes that belong to no file yet.

        Raises:
            TooLarge: if there are more than a file may have.
            NoRoom: if there is no room for them.
        """
        if announced > self._limit:
            raise TooLarge(N_("a file to search with may have at most {n} MB", n=self._limit >> 20))
        return self._quota.admit(announced)

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._files

    def resolve(self, reference: object) -> Path:
        """Return the file that a request refers to.

        Args:
            reference: An id of this store, or a "data:" URL.

        Raises:
            UploadError: if it is anything else; a path of this machine is never accepted.
        """
        if isinstance(reference, str) and reference.startswith("data:"):
            reference = self.add_data_url(reference)
        if isinstance(reference, str):
            with self._lock:
                if known := self._files.get(reference):
                    return known.path
        raise UploadError(N_("unknown or expired file: send it again and use its new id"))

    def _new_target(self, name: str) -> tuple[str, Path]:
        """Return a new id, and the path for its file."""
        key = secrets.token_urlsafe(12)
        return key, self._folder / key / clean_name(name)

    def _register(self, key: str, saved: SavedFile) -> None:
        with self._lock:
            self._files[key] = saved

    def _write(self, name: str, content: bytes) -> str:
        reservation = self.admit(len(content))
        key, path = self._new_target(name)
        try:
            reservation.grow(len(content))
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            self._register(key, SavedFile(path, len(content)))
            reservation.commit()
        except OSError as error:
            shutil.rmtree(path.parent, ignore_errors=True)
            reason = error.strerror or "the disk refused it"
            raise UploadError(N_("the file could not be stored: {reason}", reason=reason)) from None
        finally:
            reservation.close()
        return key

    def _make_room(self, lacking: int) -> int:
        """Delete old files until the lacking bytes are free; return the bytes of the others."""
        freed = 0
        with self._lock:
            while self._files and freed < lacking:
                freed += _disk_bytes(self._files.popitem()[1])
            return sum(map(_disk_bytes, self._files.values()))


def _disk_bytes(file: SavedFile) -> int:
    return max(MIN_FILE_BYTES, file.size)
