"""Files as one ZIP archive, made while it is sent."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from zipfile import ZipFile, ZipInfo

from app.page.labels import readable
from app.texts import _
from app.uploads import UploadError, clean_name
from embedder.media import MediaError
from embedder.media.kinds import open_media, os_reason
from indexer import MediaItem

REPORT_NAME = "Not included.txt"
_BLOCK_BYTES = 1 << 20
_FIRST_YEAR, _LAST_YEAR = 1980, 2107  # That a date in an archive can have.
_PERMISSIONS = 0o644 << 16


@dataclass(frozen=True, slots=True)
class _LeftOut:
    """A file that is not in the archive, or not whole, and why."""

    name: str
    reason: str


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken. It cannot seek: sizes follow after the files."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._written += view
        return len(view)

    def take(self) -> bytes:
        """Return what was written since it was last asked."""
        taken = bytes(self._written)
        self._written.clear()
        return taken


def zipped(
    items: Sequence[MediaItem], absence: Callable[[MediaItem], str] = lambda _: ""
) -> Iterator[bytes]:
    """Yield a ZIP archive of files, which are stored as they are: media hardly get smaller.

    Nothing is kept on disk, and memory does not grow with the files. Files that are not there, or
    cannot be read to their end, are named with the reason in the file `REPORT_NAME`.

    Args:
        items: The files; those with the same name are numbered.
        absence: Returns why a file is not there, in a few words; empty if it is.
    """
    sink, left_out, names = _Sink(), list[_LeftOut](), _unique_names(items)
    with ZipFile(sink, "w") as archive:  # Without compression.
        for item, name in zip(items, names, strict=True):
            reason = absence(item)
            try:
                if not reason:
                    for _part in _stored(archive, item, name):
                        yield sink.take()
            except (OSError, MediaError) as error:
                reason = os_reason(error) if isinstance(error, OSError) else str(error)
            if reason:
                left_out.append(_LeftOut(name, reason))
        if left_out:
            archive.writestr(_entry(REPORT_NAME, datetime.now().astimezone()), _report(left_out))
    yield sink.take()


def _stored(archive: ZipFile, item: MediaItem, name: str) -> Iterator[None]:
    """Add a file to an archive, block by block; no more than it has when it is opened."""
    with open_media(item.path) as file:
        left = file.seek(0, io.SEEK_END)
        file.seek(0)
        entry = _entry(name, item.modified_at)
        entry.file_size = left  # Large ones need another form of entry.
        with archive.open(entry, "w") as target:
            while left and (block := file.read(min(left, _BLOCK_BYTES))):
                target.write(block)
                left -= len(block)
                yield


def _entry(name: str, time: datetime) -> ZipInfo:
    year = min(max(time.year, _FIRST_YEAR), _LAST_YEAR)
    entry = ZipInfo(name, (year, time.month, time.day, time.hour, time.minute, time.second))
    entry.external_attr = _PERMISSIONS
    return entry


def _unique_names(items: Iterable[MediaItem]) -> list[str]:
    """Return names that every file system accepts and tells apart, whatever the case."""
    taken, numbers, names = {REPORT_NAME.casefold()}, Counter[str](), list[str]()
    for item in items:
        try:
            name = clean_name(readable(item.name))
        except UploadError:  # Nothing of it is left.
            name = "file"
        plain, first = PurePath(name), name.casefold()
        while name.casefold() in taken:
            numbers[first] += 1  # Going on from the last: thousands may have the same name.
            name = f"{plain.stem} ({numbers[first] + 1}){plain.suffix}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _report(left_out: Sequence[_LeftOut]) -> str:
    lines = [f"{one.name}: {one.reason}" for one in left_out]
    return "\r\n".join([_("These files are not in this archive, or not whole:"), "", *lines, ""])


def archive_name(items: Sequence[MediaItem]) -> str:
    """Return what to call the archive of some files: after their folder if they share one."""
    folders = {item.path.parent for item in items}
    name = readable(folders.pop().name) if len(folders) == 1 else ""
    try:
        return f"{clean_name(name)}.zip"
    except UploadError:
        return "files.zip"
