"""Decode pictures whose file ends too early: nearly whole ones as viewers do, others not."""

from collections.abc import Callable

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from embedder.media.kinds import MediaError

_MOST_MISSING = 0.1
"""Of the rows. A file that was not copied to its end lacks some bytes, or much."""
_END_OF_JPEG = b"\xff\xd9"
_GREYS = (127, 128, 129)
_ROW_BY_ROW = ("PNG", "BMP", "DIB", "PPM")


def decode(image: Image.Image) -> None:
    """Decode an opened picture, of which the last tenth of the rows may be missing.

    Of a progressive JPEG, all rows are there once a coarse picture is; the rest sharpens it.

    Raises:
        MediaError: if more is missing.
        OSError: if it is damaged, or how much is missing is not known.
    """
    if isinstance(image, JpegImageFile):
        reader = _EndedReader(image.load_read)
        image.load_read = reader.read  # type: ignore[assignment]
        image.load()
        if reader.has_ended:
            _check_rows(_rows_before_grey(image), image.height)
        return
    try:
        image.load()
    except OSError as error:
        in_order = image.format in _ROW_BY_ROW and not image.info.get("interlace")
        if "truncated" not in str(error) or not in_order:
            raise
        image.tile = []  # type: ignore[attr-defined] # the rows decoded so far stay, others are 0
        _, top, _, bottom = image.getbbox() or (0, 0, 0, 0)
        _check_rows(bottom - top, image.height)


class _EndedReader:
    """Reads a JPEG, and where its file ends, the mark that a JPEG must end with.

    Without it, libjpeg waits for more; with it, it fills what is missing with grey.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read_more = read
        self.has_ended = False

    def read(self, count: int) -> bytes:
        """Read at most as many bytes, as Pillow asks for them."""
        data = self._read_more(count)
        if data or self.has_ended:
            return data
        self.has_ended = True
        return _END_OF_JPEG


def _rows_before_grey(image: Image.Image) -> int:
    """Count the rows above those that are all of the grey that stands for missing ones."""
    last = image.getpixel((image.width - 1, image.height - 1))
    values = last if isinstance(last, tuple) else (last,)
    if any(value not in _GREYS for value in values):
        return image.height
    box = ImageChops.difference(image, Image.new(image.mode, image.size, last)).getbbox()
    return box[3] if box else 0


def _check_rows(present: int, rows: int) -> None:
    if present < (1 - _MOST_MISSING) * rows:
        share = f"{present / rows:.0%}"
        raise MediaError(f"the file is truncated: only {share} of the picture is there")
