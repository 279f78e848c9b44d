"""PDF: every page as a picture, its text in reading order, and the box of each word.

The words of a page are those on it, in its notes, and in the bookmarks that lead to it. Of files
attached to the PDF, the pages of PDFs follow its own, and the words of texts are on its first page.
"""

import io
import mmap
import os
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from embedder.content import Content, Modality
from embedder.media.documents import TEXT
from embedder.media.kinds import (
    Details,
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    Word,
    first_bytes,
    holding,
    open_media,
    suffixes,
    translated_os_errors,
)
from embedder.media.metadata import pdf_details
from embedder.media.pixels import thumbnail

# MuPDF is not safe to use from two threads at a time. Held for a page, never for a document.
MUPDF_LOCK = threading.Lock()

# Fonts name shapes where letters are meant: Kangxi radicals, compatibility ideographs, ligatures,
# and the forms of Arabic letters within words.
_SHAPES = ((0x2F00, 0x2FDF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE70, 0xFEFC))
_LETTERS_OF_SHAPES = {
    code: unicodedata.normalize("NFKC", chr(code)).strip()
    for first, last in _SHAPES
    for code in range(first, last + 1)
}
_UNKNOWN = re.compile("[\ufffd\ue000-\uf8ff\x00-\x1f]")  # glyphs of which no character is known
_HYPHENS = ("-", "\u00ad", "\u2010")
_MAX_NOTE_CHARACTERS = 20_000  # of one page
_MAX_NOTES = 1000  # of one page
_MAX_ATTACHMENTS = 100
_MAX_ATTACHED_PAGES = 500  # of all attached PDFs together


@dataclass(frozen=True, eq=False, slots=True)
class Page:
    """A page of a PDF.

    Attributes:
        number: From 1.
        picture: RGB, as rendered.
        text: The text layer in reading order, the notes on the page, and the titles of the
            bookmarks that lead to it; of the first page also the names and texts of attached
            files. Empty where there is nothing of these.
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
        read, damaged, notes = 0, None, _notes_by_page(document)
        for number in range(1, _page_count(document) + 1):
            try:
                page = _read(document, number, limits.sheet_side, notes.get(number, ()))
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
        notes = _notes_by_page(document).get(number, ())
        return _read(document, number, (limits or Limits()).sheet_side, notes)


def render_page(path: str | os.PathLike[str], number: int, side: int) -> Image.Image:
    """Render one page so that its longest side has `side` pixels.

    Raises:
        MediaError: if the PDF or the page cannot be read, or there is no such page.
    """
    with _opened(Path(path)) as document:
        _check_number(number, document)
        with _translated(number), MUPDF_LOCK:
            return rendered(document.load_page(number - 1), side)


@cache
def load_mupdf() -> Any:
    """Import PyMuPDF when the first PDF comes, and keep MuPDF from printing to the console."""
    import pymupdf

    tools: Any = pymupdf.TOOLS
    tools.mupdf_display_errors(False)
    tools.mupdf_display_warnings(False)
    return pymupdf


@contextmanager
def _opened(path: Path, max_pages: int | None = None) -> Iterator[Any]:
    mupdf = load_mupdf()
    with translated_os_errors(), open_media(path) as file:
        if not file.read(1):
            raise MediaError("the file is empty")
        # Mapped, since MuPDF takes no open files, and decoders may not open any by their paths.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    document = None
    try:
        with _translated(), MUPDF_LOCK:
            document = mupdf.open(stream=memoryview(data), filetype="pdf")
            if not document.is_pdf:  # MuPDF goes by the bytes and reads other formats too
                raise MediaError("the file is not a PDF")
            if document.needs_pass:
                raise MediaError("the PDF is protected by a password; save it without one")
            if not document.page_count:
                _find_pages(document)
            pages = document.page_count
            if max_pages is not None and pages > max_pages:
                raise MediaError(f"the PDF has {pages} pages, more than the limit of {max_pages}")
            _append_attached(document)
        yield document
    finally:
        if document is not None:
            with MUPDF_LOCK:
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
    with _translated(), MUPDF_LOCK:
        return int(document.page_count)


def _check_number(number: int, document: Any) -> None:
    pages = _page_count(document)
    if not 1 <= number <= pages:
        raise MediaError(f"the PDF has no page {number}; its pages are 1 to {pages}")


def _find_pages(document: Any) -> None:
    """Give a document in which no page can be reached a list of all those that it holds."""

    def is_page(xref: int) -> bool:
        with suppress(Exception):  # a damaged object
            return bool(document.xref_get_key(xref, "Type") == ("name", "/Page"))
        return False

    pages = [f"{xref} 0 R" for xref in range(1, document.xref_length()) if is_page(xref)]
    tree, catalog = document.get_new_xref(), document.get_new_xref()
    document.update_object(tree, f"<</Type/Pages/Count {len(pages)}/Kids[{' '.join(pages)}]>>")
    document.update_object(catalog, f"<</Type/Catalog/Pages {tree} 0 R>>")
    document.xref_set_key(-1, "Root", f"{catalog} 0 R")  # -1 is the trailer


def _append_attached(document: Any) -> None:
    """Append the pages of attached PDFs, except for those that are damaged or locked."""
    room = _MAX_ATTACHED_PAGES
    for _, data in _attachments(document):
        if PDF.named_signature.match(data[:1024]):
            with suppress(Exception), load_mupdf().open(stream=data, filetype="pdf") as attached:
                if not attached.needs_pass and attached.page_count <= room:
                    document.insert_pdf(attached, links=False)
                    room -= attached.page_count


def _attachments(document: Any) -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes of the files that are attached to a document, damaged ones left out."""
    count = 0
    with suppress(Exception):
        count = min(document.embfile_count(), _MAX_ATTACHMENTS)
    for index in range(count):
        with suppress(Exception):
            information = document.embfile_info(index)
            names = (information.get(key) for key in ("ufilename", "filename", "name"))
            yield next(filter(None, names), ""), document.embfile_get(index)


def _attached_text(name: str, data: bytes) -> str:
    """Return the text of an attached file; nothing if it is no text, or cannot be read."""
    path = Path(name)
    with suppress(Exception), holding(path, io.BufferedReader(io.BytesIO(data))):
        if path.suffix.lower() in TEXT.suffixes:
            return TEXT.read(path, Limits(), None).text or ""
    return ""


def _notes_by_page(document: Any) -> Mapping[int, list[str]]:
    """Return what the document says at each page, from 1: titles of bookmarks, attached texts."""
    notes: dict[int, list[str]] = {}
    with suppress(MediaError), _translated(), MUPDF_LOCK:
        for _, title, number in document.get_toc():
            notes.setdefault(number, []).append(title)
        for name, data in _attachments(document):
            notes.setdefault(1, []).extend((name, _attached_text(name, data)))
    return notes


def _read(document: Any, number: int, side: int, more_notes: Sequence[str]) -> Page:
    with _translated(number), MUPDF_LOCK:
        page = document.load_page(number - 1)
        picture = rendered(page, side)
        try:
            found = _words(page)
            boxes, width, height = _boxes(page, found), page.rect.width, page.rect.height
        except Exception:  # the picture is useful without its text
            found, boxes, width, height = [], [], 1.0, 1.0
        notes = _notes(page)
    words = tuple(
        Word(word[4], *_fractions(box, width, height))
        for word, box in zip(found, boxes, strict=True)
    )
    return Page(number, picture, _with_notes(_joined(found), (*notes, *more_notes)), words)


def _words(page: Any) -> list[tuple[Any, ...]]:
    """Return words as PyMuPDF lists them; those without most of their characters are left out."""
    mupdf = load_mupdf()
    # The number of a glyph is no character. Ligatures are taken apart below: MuPDF would cut Arabic
    # words there, and give the letters of right-to-left ones in the wrong order.
    flags = mupdf.TEXTFLAGS_WORDS & ~mupdf.TEXT_CID_FOR_UNKNOWN_UNICODE
    found = page.get_text("words", sort=False, flags=flags)
    return [
        (*word[:4], word[4].translate(_LETTERS_OF_SHAPES), *word[5:])
        for word in found
        if 2 * len(_UNKNOWN.findall(word[4])) < len(word[4])
    ]


def _boxes(page: Any, words: Sequence[tuple[Any, ...]]) -> list[tuple[float, ...]]:
    """Return left, top, right and bottom of words on the page as it is shown, in points."""
    if not page.rotation:
        return [word[:4] for word in words]
    rect, rotation = load_mupdf().Rect, page.rotation_matrix
    return [tuple(rect(word[:4]) * rotation) for word in words]


def _notes(page: Any) -> list[str]:
    """Return sticky notes, comments of highlights, and the names and texts of pinned files."""
    notes: list[str] = []
    with suppress(Exception):  # the page is useful without them
        annotation = page.first_annot  # page.annots() looks for each of them from the first on
        while annotation and len(notes) < _MAX_NOTES:
            notes.append(annotation.info["content"])
            if annotation.type[0] == load_mupdf().PDF_ANNOT_FILE_ATTACHMENT:
                name = annotation.file_info["filename"]
                notes += [name, _attached_text(name, annotation.get_file())]
            annotation = annotation.next
    return notes


def _with_notes(text: str, notes: Iterable[str]) -> str:
    """Append notes and titles to the text of a page, except for those that stand in it already."""
    known, room = " ".join(text.split()), _MAX_NOTE_CHARACTERS
    for note in notes:
        line = " ".join(note.translate(_LETTERS_OF_SHAPES).split())[:room]
        if line not in known:
            text, known, room = f"{text}\n\n{line}", f"{known}\n{line}", room - len(line)
    return text.lstrip("\n")


def rendered(page: Any, side: int) -> Image.Image:
    """Return a page of MuPDF's on white, its longest side `side` pixels."""
    mupdf = load_mupdf()
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
            hyphen = text.endswith(_HYPHENS) and text[-2:-1].isalpha()
            divided = hyphen and word[4][:1].islower()
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


def _details(path: Path, _limits: Limits) -> Details:
    with _opened(path) as document, MUPDF_LOCK:
        return pdf_details(document.metadata, document.page_count, document.get_xml_metadata())


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
    details=_details,
    draw=lambda path, page, limits: render_page(path, page or 1, limits.frame_side),
)
