"""Small pictures of segments, as files beside the database."""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from PIL import Image

_QUALITY = 82
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"  # ITU-T T.81, B.1.1.3: the markers SOI and EOI.


class Thumbnails:
    """A folder of JPEG files, named by content hash and position. Thread-safe.

    They are written before the segments are committed; one without a segment does no harm and
    is overwritten or removed with its media.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, content_hash: str, position: int) -> Path:
        """Where the thumbnail of a segment is, if it has one."""
        return self._directory / content_hash[:2] / f"{content_hash}-{position}.jpg"

    def write(self, content_hash: str, position: int, picture: Image.Image) -> None:
        """Writes a thumbnail, whole or not at all."""
        path = self.path(content_hash, position)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                picture.save(file, "JPEG", quality=_QUALITY)
            os.replace(temporary, path)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def compare(
        self, prefix: str, expected: Collection[tuple[str, int]]
    ) -> tuple[set[str], set[str]]:
        """What is in the folder of content hashes that begin with two digits.

        Args:
            prefix: The two digits.
            expected: Content hash and position of the thumbnails that should be there.

        Returns:
            The names of those that are missing, and of files that nothing expects, among them
            what writing left behind when the program was killed.
        """
        wanted = {self.path(content_hash, position).name for content_hash, position in expected}
        try:
            there = set(os.listdir(self._directory / prefix))  # noqa: PTH208
        except FileNotFoundError:
            there = set()
        return wanted - there, there - wanted

    def broken(self, prefix: str) -> set[str]:
        """Names of those in such a folder that are cut off, empty, or no JPEG files at all.

        A loss of power leaves such files: they are not forced to the disk one by one.
        """
        found = (self._directory / prefix).glob("*.jpg")
        return {path.name for path in found if not _is_whole(path)}

    def discard(self, prefix: str, names: Collection[str]) -> int:
        """Deletes files that `compare` told of; returns their bytes."""
        freed = 0
        for name in names:
            path = self._directory / prefix / name
            freed += path.stat().st_size
            path.unlink(missing_ok=True)
        return freed

    def prefixes(self) -> list[str]:
        """All pairs of digits that a content hash can begin with."""
        return [f"{number:02x}" for number in range(256)]

    def remove(self, content_hash: str) -> None:
        """Removes all thumbnails of media."""
        for path in (self._directory / content_hash[:2]).glob(f"{content_hash}-*.jpg"):
            path.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(len(_BEGIN))
            file.seek(-len(_END), os.SEEK_END)
            return begin == _BEGIN and file.read() == _END
    except FileNotFoundError:  # Its file has just been removed from the library.
        return True
    except OSError:
        return False
