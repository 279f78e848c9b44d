"""Live photos: the seconds of video that a phone stores beside a photo, which are no other item."""

import os
import struct
from collections.abc import Container, Iterable
from pathlib import Path

from embedder.media.kinds import UnsupportedMedia, open_media

_PHOTO_SUFFIXES = (".heic", ".HEIC", ".jpg", ".JPG", ".jpeg", ".JPEG", ".heif", ".HEIF")
_VIDEO_SUFFIXES = (".mov", ".mp4")  # the second after a download from Google Photos
# The key of what both files of a live photo have in common; other videos lack it.
_IDENTIFIER = b"com.apple.quicktime.content.identifier"
_REASON = "it is the moving part of the live photo"
_MAX_BYTES = 32 << 20
_MAX_SECONDS = 4.0


def photo_beside(path: Path) -> Path | None:
    """Return the photo of the same name of which a video may be the moving part."""
    stem, suffix = os.path.splitext(path)
    if suffix.lower() in _VIDEO_SUFFIXES:
        for photo in (Path(stem + one) for one in _PHOTO_SUFFIXES):
            if photo.is_file():
                return photo
    return None


def has_lost_its_photo(path: Path, reason: str | None) -> bool:
    """Whether a video was refused as a moving part, and is no longer one."""
    return reason is not None and reason.startswith(_REASON) and photo_beside(path) is None


def stems_of_photos(paths: Iterable[Path]) -> set[Path]:
    """Return which of some paths are those of photos, without their endings."""
    return {path.with_suffix("") for path in paths if path.suffix in _PHOTO_SUFFIXES}


def is_beside(path: Path, photos: Container[Path]) -> bool:
    """Whether a file may be the moving part of one of some photos, from `stems_of_photos`."""
    return path.suffix.lower() in _VIDEO_SUFFIXES and path.with_suffix("") in photos


def refuse_moving_part(path: Path) -> None:
    """Refuse the video of a live photo whose photo lies beside it.

    Raises:
        UnsupportedMedia: if it is one.
        OSError: if it cannot be read.
    """
    photo = photo_beside(path)
    if photo is not None and _is_moving_part(path):
        raise UnsupportedMedia(f"{_REASON} {photo.name}, beside which it lies")


def _is_moving_part(path: Path) -> bool:
    with open_media(path) as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            return False
        data = file.read()
    return _IDENTIFIER in data and 0 < _seconds(data) <= _MAX_SECONDS


def _seconds(data: bytes) -> float:
    """Return how long a QuickTime file says that it lasts; 0 if it does not."""
    start = data.find(b"mvhd")
    if start < 0:
        return 0.0
    layout, offset = (">IQ", 24) if data[start + 4 : start + 5] == b"\1" else (">II", 16)
    try:
        scale, length = struct.unpack_from(layout, data, start + offset)
    except struct.error:
        return 0.0
    return length / scale if scale else 0.0
