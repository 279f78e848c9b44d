"""PDF: every page as a picture, its text in reading order, and the box of each word."""

import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from embedder.content import Content, Modality
from embedder.media.kinds import (
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    Word,
    first_bytes,
    open_media,
    suffixes,
    translated_os_errors,
)
from embedder.media.picture import thumbnail

# MuPDF is not safe to use from two threads at a time. Held for a page, never for a document.
_MUPDF_LOCK = threading.Lock()


@dataclass(frozen=True, eq=False, slots=True)
class Page:
    """A page of a PDF.

    Attributes:
        number: From 1.
        picture: RGB, as rendered.
        text: The text layer in reading order; empty where there is none.
        words: Its words with their boxes.
    """

    number: int
    picture: Image.Image
    text: str
    words: tuple[Word, ...]


def read_pages(path: str | os.PathLike[str], limits: Limits | None = None) -> Iterator[Page]:
    """Read a PDF page by page; damaged pages are skipped as long as another can be read.

    Args:
        path: A PDF file.
        limits: Gives `pages`, `frame_side` and `page_side`.

    Yields:
        Pages in order.

    Raises:
        MediaError: if it cannot be opened, is protected by a password, has too many pages, or
            not a single page can be read.
    """
    limits = limits or Limits()
    with _opened(Path(path), limits.pages) as document:
        read, damaged = 0, None
        for number in range(1, _page_count(document) + 1):
            try:
                page = _read(document, number, limits.sheet_side)
            except MediaError as error:
                damaged = error
                continue
            read += 1
            yield page
        if not read:
            raise damaged or MediaError(
                "the PDF has no pages that can be read: it is damaged or truncated"
            )


def read_page(path: str | os.PathLike[str], number: int, limits: Limits | None = None) -> Page:
    """Read one page.

    Args:
        path: A PDF file.
        number: From 1.
        limits: Gives `frame_side` and `page_side`.

    Raises:
        MediaError: if the PDF or the page cannot be read, or there is no such page.
    """
    with _opened(Path(path)) as document:
        _check_number(number, document)
        return _read(document, number, (limits or Limits()).sheet_side)


def render_page(path: str | os.PathLike[str], number: int, side: int) -> Image.Image:
    """Render one page so that its longest side has `side` pixels.

    Raises:
        MediaError: if the PDF or the page cannot be read, or there is no such page.
    """
    with _opened(Path(path)) as document:
        _check_number(number, document)
        with _translated(number), _MUPDF_LOCK:
            return _rendered(document.load_page(number - 1), side)


@cache
def _load_mupdf() -> Any:
    """Import PyMuPDF when the first PDF comes, and keep MuPDF from printing to the console."""
    import pymupdf

    tools: Any = pymupdf.TOOLS
    tools.mupdf_display_errors(False)
    tools.mupdf_display_warnings(False)
    return pymupdf


@contextmanager
def _opened(path: Path, max_pages: int | None = None) -> Iterator[Any]:
    mupdf = _load_mupdf()
    with translated_os_errors(), open_media(path) as file:
        if not file.read(1):
            raise MediaError("the file is empty")
        # Mapped, since MuPDF takes no open files, and decoders may not open any by their paths.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    document = None
    try:
        with _translated(), _MUPDF_LOCK:
            document = mupdf.open(stream=memoryview(data), filetype="pdf")
            if not document.is_pdf:  # MuPDF goes by the bytes and reads other formats too
                raise MediaError("the file is not a PDF")
            locked, pages = bool(document.needs_pass), document.page_count
        if locked:
            raise MediaError("the PDF is protected by a password; save it without one")
        if max_pages is not None and pages > max_pages:
            raise MediaError(f"the PDF has {pages} pages, more than the limit of {max_pages}")
        yield document
    finally:
        if document is not None:
            with _MUPDF_LOCK:
                document.close()
                mupdf.TOOLS.reset_mupdf_warnings()  # kept in a list that grows otherwise


@contextmanager
def _translated(number: int | None = None) -> Iterator[None]:
    """Turn whatever PyMuPDF raises into a `MediaError`."""
    try:
        yield
    except MediaError:
        raise
    except Exception as error:  # RuntimeError, ValueError, mupdf.FzErrorBase and more
        what = "the PDF" if number is None else f"page {number} of the PDF"
        raise MediaError(f"{what} is damaged or truncated and cannot be read") from error


def _page_count(document: Any) -> int:
    with _translated(), _MUPDF_LOCK:
        return int(document.page_count)


def _check_number(number: int, document: Any) -> None:
    pages = _page_count(document)
    if not 1 <= number <= pages:
        raise MediaError(f"the PDF has no page {number}; its pages are 1 to {pages}")


def _read(document: Any, number: int, side: int) -> Page:
    with _translated(number), _MUPDF_LOCK:
        page = document.load_page(number - 1)
        picture = _rendered(page, side)
        try:
            found = page.get_text("words", sort=False)
            rotation, width, height = page.rotation_matrix, page.rect.width, page.rect.height
            boxes = [tuple(_load_mupdf().Rect(word[:4]) * rotation) for word in found]
        except Exception:  # the picture is useful without its text
            found, boxes, width, height = [], [], 1.0, 1.0
    words = tuple(
        Word(word[4], *_fractions(box, width, height))
        for word, box in zip(found, boxes, strict=True)
    )
    return Page(number, picture, _joined(found), words)


def _rendered(page: Any, side: int) -> Image.Image:
    mupdf = _load_mupdf()
    longest = max(page.rect.width, page.rect.height)
    zoom = side / longest if longest > 0 else 1.0
    pixmap = page.get_pixmap(matrix=mupdf.Matrix(zoom, zoom), colorspace=mupdf.csRGB, alpha=False)
    picture = Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)
    if max(picture.size) > side:  # rounded up
        picture = picture.crop((0, 0, min(side, picture.width), min(side, picture.height)))
    return picture


def _fractions(
    box: tuple[float, ...], width: float, height: float
) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return (
        min(max(left / width, 0.0), 1.0),
        min(max(top / height, 0.0), 1.0),
        min(max(right / width, 0.0), 1.0),
        min(max(bottom / height, 0.0), 1.0),
    )


def _joined(words: list[tuple[Any, ...]]) -> str:
    """Join words to a text with lines and blocks; words hyphenated at a line's end are rejoined."""
    text, previous = "", None
    for word in words:
        block, line = word[5], word[6]
        if previous is None:
            pass
        elif block != previous[0]:
            text += "\n\n"
        elif line != previous[1]:
            divided = text[-1:] == "-" and text[-2:-1].isalpha() and word[4][:1].islower()
            text = text[:-1] if divided else text + "\n"
        else:
            text += " "
        text += word[4]
        previous = (block, line)
    return text


def _content(page: Page) -> Content:
    return Content(text=page.text, frames=[page.picture], modality=Modality.PAGE)


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    # A blank page is a segment too: page numbers have no gaps, and it can be asked for.
    for page in read_pages(path, limits):
        small = thumbnail(page.picture, limits)
        yield Draft(_content(page), small, page=page.number, words=page.words)


PDF = MediaKind(
    kind=Kind.PDF,
    noun="PDF",
    unit="page",
    modality=Modality.PAGE,
    has_text=True,
    has_picture=True,
    suffixes=suffixes("pdf"),
    media_types={".pdf": "application/pdf"},
    signature=first_bytes(rb"\s*%PDF-"),
    named_signature=first_bytes(rb".{0,1019}%PDF-"),  # readers take it with something before
    read=lambda path, limits, page: _content(read_page(path, page or 1, limits)),
    cut=_cut,
    draw=lambda path, page, limits: render_page(path, page or 1, limits.frame_side),
)
