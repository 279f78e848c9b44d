"""Pictures drawn on request: pages, pictures that browsers cannot show, and frames of clips."""

from enum import StrEnum
from io import BytesIO
from math import ceil
from threading import Lock
from typing import Any

from cachetools import LRUCache
from PIL import Image

from app.page.labels import unavailable
from embedder.content import Modality
from embedder.media import MEDIA_KINDS
from indexer import Library, MediaItem, NotFound, Segment

FRAMES_PER_SECOND = 4
"""How many frames of a second of a clip can be asked for."""

MAX_FRAME_SIDE = 960
"""The longest side of a frame, in pixels."""

_FRAMES_AT_ONCE = 8  # To seek and open the file takes longer than to decode a few frames more.
_CACHE_BYTES = 64 << 20
_MAX_FLAT_COLOURS = 4096
# Measured on drawn pages of 1600 pixels: without loss, text takes a half to a tenth of a PNG with
# level 1 and as long to encode. Photos take a fifteenth with loss, and ten times as long without.
_WITHOUT_LOSS = {"lossless": True, "quality": 20, "method": 1}
_WITH_LOSS = {"quality": 88, "method": 2}
_FRAME = {"quality": 75, "method": 0}


class Form(StrEnum):
    """A format of pictures that browsers show."""

    WEBP = "webp"
    PNG = "png"


class DrawnPictures:
    """Draws pictures and keeps the latest ones. Thread-safe.

    Every method raises

    - `NotFound` if there is no such segment, if it is of another kind, or its file is not there;
    - `MediaError` if the file cannot be read any more;
    - `LibraryBusy` if too many files are being decoded.
    """

    def __init__(self, library: Library, max_bytes: int = _CACHE_BYTES) -> None:
        self._library = library
        self._kept = LRUCache[tuple[object, ...], bytes](max_bytes, getsizeof=len)
        self._lock = Lock()

    def page(self, segment_id: int, side: int, form: Form = Form.WEBP) -> bytes:
        """Return a page or a picture, its longest side about `side` pixels."""
        key = ("page", segment_id, side, form)
        if (kept := self._get(key)) is None:
            kept = _encoded(self._drawn(segment_id, side), form)
            self._keep(key, kept)
        return kept

    def frame(self, segment_id: int, at: float, side: int) -> bytes:
        """Return a frame of a clip as WebP, its longest side at most `side` pixels.

        Args:
            segment_id: The clip.
            at: Seconds after its beginning; after its end, the last frame is shown.
            side: Pixels.
        """
        segment = self._library.catalog.segment(segment_id)
        if segment.modality is not Modality.VIDEO or segment.start is None or segment.end is None:
            raise NotFound(f"segment {segment_id} is no clip of a video")
        last = ceil((segment.end - segment.start) * FRAMES_PER_SECOND) - 1
        number = max(0, min(int(at * FRAMES_PER_SECOND), last))
        kept = self._get(("frame", segment_id, side, number))
        return kept or self._decoded(segment, segment.start, number, side)

    def _decoded(self, segment: Segment, start: float, number: int, side: int) -> bytes:
        """Decode some frames of a clip, keep them, and return the one of that number."""
        first = number - number % _FRAMES_AT_ONCE
        frames = self._library.viewer.frames(
            self._item(segment.id).path,
            start + first / FRAMES_PER_SECOND,
            1 / FRAMES_PER_SECOND,
            _FRAMES_AT_ONCE,
            side,
        )
        encoded = [_saved(frame, Form.WEBP, _FRAME) for frame in frames]
        for position, data in enumerate(encoded):
            self._keep(("frame", segment.id, side, first + position), data)
        return encoded[min(number - first, len(encoded) - 1)]

    def _drawn(self, segment_id: int, side: int) -> Image.Image:
        segment, item = self._library.catalog.segment(segment_id), self._item(segment_id)
        if MEDIA_KINDS[segment.kind].draw is None:
            raise NotFound(f"segment {segment_id} is neither a page nor a picture")
        if segment.page is None:
            return self._library.viewer.picture(item.path, side)
        return self._library.viewer.page(item.path, segment.page, side)

    def _item(self, segment_id: int) -> MediaItem:
        item, missing = self._library.original(segment_id)
        if missing is not None:
            raise NotFound(unavailable(item, missing))
        return item

    def _get(self, key: tuple[object, ...]) -> bytes | None:
        with self._lock:
            return self._kept.get(key)

    def _keep(self, key: tuple[object, ...], picture: bytes) -> None:
        with self._lock:
            if len(picture) <= self._kept.maxsize:
                self._kept[key] = picture


def _encoded(picture: Image.Image, form: Form) -> bytes:
    """Return a picture in a format; text and drawings, which have few colours, without loss."""
    if form is Form.PNG:
        return _saved(picture, form, {"compress_level": 1})
    is_flat = picture.getcolors(_MAX_FLAT_COLOURS) is not None
    return _saved(picture, form, _WITHOUT_LOSS if is_flat else _WITH_LOSS)


def _saved(picture: Image.Image, form: Form, options: dict[str, Any]) -> bytes:
    out = BytesIO()
    picture.save(out, format=form.value, **options)
    return out.getvalue()
