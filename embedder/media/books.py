"""Books and notebooks: EPUB, FictionBook, Rich Text and Jupyter notebooks.

Sources: EPUB 3.3, FictionBook 2.1, Rich Text Format 1.9.1, nbformat 4.5.
"""

import json
import re
from collections.abc import Iterator
from posixpath import dirname, join, normpath
from typing import Any, BinaryIO
from urllib.parse import unquote

from embedder.media.archive import (
    Archive,
    Markup,
    TextCollector,
    chunks_of,
    parse,
    too_much_text,
    tree,
)
from embedder.media.encodings import decode
from embedder.media.kinds import Limits, MediaError
from embedder.media.metadata.properties import Properties
from embedder.media.text import html_to_text

_FICTION = Markup(
    paragraphs=frozenset({"p", "v", "text-author", "subtitle"}),
    rows=frozenset({"tr"}),
    cells=frozenset({"td", "th"}),
    # A body may have a title and an epigraph before its sections.
    pages=frozenset({"section", "title", "epigraph"}),
    skipped=frozenset({"binary", "description"}),
)
# Pictures in Rich Text: hexadecimal digits without an end.
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F\s]{256,}")
_BINARY = re.compile(rb"\\bin(\d{1,9}) ?")
# What striprtf takes for no part of the text, though it is read.
_READ_BESIDE = re.compile(r"\\(?:header[lrf]?|footer[lrf]?|footnote|annotation)(?![a-z]) ?")
_CELL_END = re.compile(r"\\(?:nest)?cell(?![a-z]) ?")  # a "|" for it
_INFO = re.compile(r"\{\\(title|subject|author|keywords|doccomm)\s([^{}]*)\}")
_CODE_PAGE = re.compile(r"\\ansicpg(\d{1,5})")
_OLD_CHARSET = re.compile(r"\s*\{\\rtf\d*\\(mac|pca?)(?![a-z])")
_OLD_CODECS = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}
_HIGH_BYTE = re.compile(r"\\'([89a-fA-F][0-9a-fA-F])")
_INFO_LABELS = {"doccomm": "Description"}


def read_epub(file: BinaryIO, limits: Limits) -> str:
    """Return the text of a book, each file of it as a page, in the order of reading.

    Raises:
        MediaError: if it is no book, has a copy protection, or is over the limits.
    """
    archive = Archive(file, limits)
    package, folder = _package(archive)
    encrypted = archive.read("META-INF/encryption.xml")
    left, pages = limits.file_bytes, []
    for name in _spine(package, folder):
        if name.rpartition("/")[2].encode() in encrypted:
            raise MediaError(
                "the book has a copy protection (DRM); only its own reader can open it"
            )
        page = html_to_text(decode(archive.read(name)).text)
        left -= len(page)
        if left < 0:
            raise too_much_text(limits.file_bytes)
        pages.append(page)
    return "\f".join(page for page in pages if page)


def read_epub_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return what a book says about itself."""
    properties = Properties()
    package, _ = _package(Archive(file, limits))
    metadata = package.find("metadata")
    for element in metadata.iter() if metadata is not None else ():
        if element.tag == "description" and element.text:
            element.text = html_to_text(element.text)
    properties.add_dublin_core(metadata)
    return properties


def _package(archive: Archive) -> tuple[Any, str]:
    """Return the root of the file that lists the others, and its folder."""
    container = archive.tree("META-INF/container.xml")
    found = container.find(".//rootfile") if container is not None else None
    name = found.get("full-path", "") if found is not None else ""
    package = archive.tree(name)
    if package is None:
        raise MediaError("its bytes are a zip archive, but not a book")
    return package, dirname(name)


def _spine(package: Any, folder: str) -> Iterator[str]:
    """Yield the names of the files of a book in the order of reading."""
    files = {item.get("id"): item.get("href", "") for item in package.iter("item")}
    for reference in package.iter("itemref"):
        if href := files.get(reference.get("idref")):
            yield normpath(join(folder, unquote(href.partition("#")[0])))


def read_fictionbook(file: BinaryIO, limits: Limits) -> str:
    """Return the text of a FictionBook, each of its outermost sections as a page.

    Raises:
        MediaError: if it is over the limits.
    """
    collector = TextCollector(_FICTION, limits.file_bytes)
    return "\f".join(parse(chunks_of(file, limits.file_bytes), collector))


def read_fictionbook_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return what a FictionBook says about itself."""
    properties = Properties()
    info = tree(chunks_of(file, min(limits.file_bytes, 20_000_000))).find(".//title-info")
    if info is None:
        return properties
    properties.add("Title", info.findtext("book-title"))
    for author in info.iter("author"):
        properties.add("Author", " ".join(part.text or "" for part in author))
    properties.add("Keywords", info.findtext("keywords"))
    for paragraph in info.iterfind("annotation/p"):
        properties.add("Description", "".join(paragraph.itertext()))
    return properties


def read_rich_text(file: BinaryIO, limits: Limits) -> str:
    """Return the text of a Rich Text file, with headers, notes and comments where they stand.

    Raises:
        MediaError: if it is over the limits.
    """
    source = _READ_BESIDE.sub(r"\\par ", _rich_source(file, limits))
    source = source.replace(r"\fldinst", r"\fldinsx")  # for which it takes quadratic time
    return _plain(_CELL_END.sub(r"\\tab ", source))


def read_rich_text_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return what a Rich Text file says about itself."""
    properties, source = Properties(), _rich_source(file, limits)[:100_000]
    code_page = _CODE_PAGE.search(source)
    head = f"{{\\rtf1\\ansi\\ansicpg{code_page[1] if code_page else 1252} "
    for name, value in _INFO.findall(source):
        properties.add(_INFO_LABELS.get(name, name.capitalize()), _plain(f"{head}{value}}}"))
    return properties


def _plain(source: str) -> str:
    """Return the text of Rich Text, with its surrogates joined into the characters they mean."""
    from striprtf.striprtf import rtf_to_text

    text = str(rtf_to_text(source, errors="replace"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _rich_source(file: BinaryIO, limits: Limits) -> str:
    """Return Rich Text without the data of its pictures, with old character sets decoded."""
    data, kept, position = b"".join(chunks_of(file, limits.file_bytes)), [], 0
    while found := _BINARY.search(data, position):
        kept.append(data[position : found.start()])
        position = found.end() + int(found[1])
    kept.append(data[position:])
    data = _HEXADECIMAL.sub(b" ", b"".join(kept))
    code_page = _CODE_PAGE.search(data[:1000].decode("latin-1"))
    source = decode(data, f"cp{code_page[1]}" if code_page else None).text
    old = _OLD_CHARSET.match(source)
    if old is None:
        return source
    codec = _OLD_CODECS[old[1]]
    return _HIGH_BYTE.sub(lambda byte: bytes.fromhex(byte[1]).decode(codec), source)


def read_notebook(file: BinaryIO, limits: Limits) -> str:
    """Return the cells of a Jupyter notebook with the texts that they gave, but no pictures.

    Raises:
        MediaError: if it is no notebook, or over the limits.
    """
    notebook = json.loads(b"".join(chunks_of(file, limits.file_bytes)))
    cells = notebook.get("cells")
    if cells is None:  # before version 4
        cells = [cell for sheet in notebook.get("worksheets", ()) for cell in sheet["cells"]]
    texts = []
    for cell in cells:
        texts.append(_lines(cell.get("source", cell.get("input"))))
        for output in cell.get("outputs") or ():
            plain = (output.get("data") or {}).get("text/plain")
            error = ": ".join(filter(None, (output.get("ename"), output.get("evalue"))))
            texts += [_lines(output.get("text")), _lines(plain), error]
    return "\n\n".join(text for text in texts if text.strip())


def _lines(source: Any) -> str:
    """Return the text of a cell, which is stored as a string or as a list of lines."""
    return source if isinstance(source, str) else "".join(source or ())
