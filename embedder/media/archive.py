"""Documents that are zip archives of XML: their parts and the text in them, within limits."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from posixpath import join, normpath
from typing import Any, BinaryIO
from urllib.parse import unquote
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers.expat import ParserCreate
from zipfile import ZipFile

from embedder.media.kinds import Limits, MediaError, report_progress

_MAX_PARTS = 50_000
# Mark-up is several times as long as the text in it; archive bombs are thousands of times as long.
_BYTES_PER_BYTE_OF_TEXT = 8
_MAX_TREE_BYTES = 10_000_000
_CHUNK_BYTES = 1 << 16


class Archive:
    """The parts of an open document, of which no more is unpacked than the limits allow.

    Guarantees: nothing is written to disk, entities are not expanded, and nothing outside the
    file is read. Names of parts are compared as the formats demand, without their case.

    Args:
        file: The document.
        limits: Gives `file_bytes`.

    Raises:
        MediaError: if it has too many parts.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._zip = ZipFile(file)
        self.max_characters = limits.file_bytes
        self._left = self._max_bytes = limits.file_bytes * _BYTES_PER_BYTE_OF_TEXT
        parts = self._zip.infolist()
        if len(parts) > _MAX_PARTS:
            raise MediaError(f"the document has more than {_MAX_PARTS:,} parts: it is not read")
        self._parts = {_key(part.filename): part for part in parts}

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._parts

    def read(self, name: str) -> bytes:
        """Return a part, whole; nothing if there is none.

        Raises:
            MediaError: if it is encrypted, or too large.
        """
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a part in chunks; nothing if there is none.

        Raises:
            MediaError: if it is encrypted, or too large.
        """
        part = self._parts.get(_key(name))
        if part is None:
            return
        if part.flag_bits & 1:
            raise protected()
        self._left -= part.file_size  # of which the reader gives no byte more
        if self._left < 0:
            raise MediaError(
                f"the document unpacks to more than the limit of {self._max_bytes / 1e6:.0f} MB"
            )
        with self._zip.open(part) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                report_progress()
                yield chunk

    def tree(self, name: str) -> Element | None:
        """Return the root element of a small XML part, with its tags as local names; or None."""
        part = self._parts.get(_key(name))
        if part is None or part.file_size > _MAX_TREE_BYTES:
            return None
        return tree(self.chunks(name))

    def relations(self, name: str = "") -> dict[str, tuple[str, str]]:
        """Return what a part of an Office document refers to, or the document itself.

        Returns:
            By identifier, the kind of relation, such as "footnotes", and the name of the part.
        """
        folder, _, base = name.rpartition("/")
        root = self.tree(f"{folder}/_rels/{base}.rels")
        return {
            one.get("Id", ""): (
                one.get("Type", "").rpartition("/")[2],
                normpath(join("/", folder, unquote(one.get("Target", "")))).lstrip("/"),
            )
            for one in (root if root is not None else ())
            if one.get("TargetMode") != "External"
        }


def protected() -> MediaError:
    """Return the error for a document that asks for a password."""
    return MediaError("the document is protected by a password; save it without one")


def _key(name: str) -> str:
    return name.replace("\\", "/").lstrip("/").lower()


@lru_cache(maxsize=1000)
def local_name(tag: str) -> str:
    """Return a tag or attribute without its namespace."""
    return tag.rpartition(" ")[2]


def parse(chunks: Iterator[bytes], target: Any) -> Any:
    """Parse XML without expanding entities or loading anything.

    Args:
        chunks: The bytes.
        target: Has methods `start`, `end`, `data` and `close`, as of `xml.etree.XMLParser`; names
            have their namespace and a space before them.

    Returns:
        What `target.close` returns.

    Raises:
        MediaError: if it declares entities, which can grow without end or name other files.
        ExpatError: if it is not well-formed.
    """
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = target.start
    parser.EndElementHandler = target.end
    parser.CharacterDataHandler = target.data
    parser.EntityDeclHandler = _refuse_entity
    for chunk in chunks:
        parser.Parse(chunk, False)
    parser.Parse(b"", True)
    return target.close()


def _refuse_entity(*_declaration: object) -> None:
    raise MediaError("the document declares XML entities, which are not read, as they can do harm")


def tree(chunks: Iterator[bytes]) -> Element:
    """Return the root element of XML, with its tags as local names."""
    root: Element = parse(chunks, TreeBuilder())
    for element in root.iter():
        element.tag = local_name(element.tag)
    return root


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """What the elements of a format mean, by their names without or with their namespace.

    Attributes:
        paragraphs: Paragraphs, headings, and what else stands on lines of its own.
        texts: Hold the characters of paragraphs; without any, all in a paragraph counts.
        characters: Elements that stand for characters.
        rows: Rows of tables.
        cells: Cells of these.
        pages: Pages, slides, sheets or sections; what lies outside them is left out.
        skipped: What readers do not see.
        pictures: Have words for a picture as their attribute `descr`.
    """

    paragraphs: frozenset[str]
    texts: frozenset[str] = frozenset()
    characters: Mapping[str, str] = field(default_factory=dict)
    rows: frozenset[str] = frozenset()
    cells: frozenset[str] = frozenset()
    pages: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    pictures: frozenset[str] = frozenset()

    def role(self, tag: str) -> str:
        """Return the field that lists a tag, or nothing."""
        names = (tag, local_name(tag))
        roles = (
            "skipped",
            "paragraphs",
            "texts",
            "characters",
            "rows",
            "cells",
            "pages",
            "pictures",
        )
        return next((one for one in roles if any(name in getattr(self, one) for name in names)), "")


class TextCollector:
    """Collects the text of XML as it is parsed, without building a tree.

    Args:
        markup: What the elements mean.
        max_characters: How much is too much.
        titled: Pages begin with their name.
    """

    def __init__(self, markup: Markup, max_characters: int, *, titled: bool = False) -> None:
        self._markup = markup
        self._role = lru_cache(maxsize=1000)(markup.role)
        self._left = self._max_characters = max_characters
        self._titled = titled
        self._pages: list[list[str]] = [] if markup.pages else [[]]
        self._open: list[list[str]] = []  # paragraphs, the innermost last
        self._inner: list[str] = []  # notes and text boxes, which follow their paragraph
        self._row: list[list[str]] = []
        self._depth = dict.fromkeys(("skipped", "texts", "rows", "pages"), 0)

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """Enter an element."""
        role = "skipped" if self._depth["skipped"] else self._role(tag)
        if role in self._depth:
            self._depth[role] += 1
        if role == "paragraphs":
            self._open.append([])
        elif role == "characters":
            self._add(self._markup.characters[local_name(tag)])
        elif role == "cells" and self._depth["rows"] == 1:
            self._row.append([])
        elif role == "pictures":
            self._put(attributes.get("descr", ""))
        elif role == "pages" and self._depth["pages"] == 1:
            self._pages.append([])
            if self._titled:
                names = (attributes[key] for key in attributes if local_name(key) == "name")
                self._put(next(names, ""))

    def end(self, tag: str) -> None:
        """Leave an element."""
        role = "skipped" if self._depth["skipped"] else self._role(tag)
        if role in self._depth:
            self._depth[role] -= 1
        if role == "paragraphs":
            self._end_paragraph()
        elif role == "rows" and not self._depth["rows"]:
            self._end_row()

    def data(self, data: str) -> None:
        """Take characters."""
        if self._depth["skipped"]:
            return
        if self._depth["texts"]:
            self._add(data)
        elif not self._markup.texts:
            self._add(re.sub(r"\s+", " ", data))

    def close(self) -> list[str]:
        """Return the text of each page, or the whole text as the only one."""
        return ["".join(page).strip() for page in self._pages]

    def _add(self, text: str) -> None:
        if self._open:
            self._open[-1].append(text)
            self._left -= len(text)
            if self._left < 0:
                raise too_much_text(self._max_characters)

    def _end_paragraph(self) -> None:
        text = "".join(self._open.pop()).strip()
        if self._open:
            self._inner.append(text)
            return
        inner, self._inner = self._inner, []
        for one in (text, *inner):
            self._put(one)

    def _end_row(self) -> None:
        cells = (" ".join(cell) for cell in self._row)
        line = "\t".join(cell for cell in cells if cell)
        self._row = []
        if line and self._pages:
            self._pages[-1].append(f"{line}\n")

    def _put(self, text: str) -> None:
        """Add a paragraph to the open cell, or else to the page."""
        if text and self._row:
            self._row[-1].append(" ".join(text.split()))
        elif text and (self._depth["pages"] or not self._markup.pages):
            page = self._pages[-1]
            after_row = bool(page) and not page[-1].endswith("\n\n")
            page.append(f"\n{text}\n\n" if after_row else f"{text}\n\n")


def chunks_of(file: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Yield a file in chunks.

    Raises:
        MediaError: if it is too large.
    """
    left = max_bytes
    while chunk := file.read(_CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise MediaError(f"the document is larger than the limit of {max_bytes / 1e6:.0f} MB")
        report_progress()
        yield chunk


def too_much_text(max_characters: int) -> MediaError:
    """Return the error for a document with more text than the limit."""
    return MediaError(
        f"the text of the document is larger than the limit of {max_characters / 1e6:.0f} MB"
    )
