"""Office Open XML: text and properties of Word, PowerPoint and Excel documents.

Python-docx and python-pptx would leave out text boxes, notes, content controls and what is marked
as inserted, so the elements that hold text are looked for wherever they are.

Source: ECMA-376.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from embedder.media.archive import Archive, Markup, TextCollector, local_name, parse
from embedder.media.cells import Cells, Rows, StringCollector
from embedder.media.encodings import decode
from embedder.media.kinds import Limits, MediaError
from embedder.media.mail import read_mail
from embedder.media.metadata.properties import Properties
from embedder.media.opendocument import opendocument_family
from embedder.media.text import html_to_text

_WORD, _SLIDES, _SHEETS = "a Word document", "a PowerPoint presentation", "an Excel workbook"
_CONTENT_TYPES = {
    **dict.fromkeys(("wordprocessingml", "ms-word"), _WORD),
    **dict.fromkeys(("presentationml", "ms-powerpoint"), _SLIDES),
    **dict.fromkeys(("spreadsheetml", "ms-excel"), _SHEETS),
}
# Of deleted and moved text, phonetic guides, fields that hold a number, and what is there twice.
_OFFICE = Markup(
    paragraphs=frozenset({"p", "si", "comment", "cm", "pt"}),
    texts=frozenset({"t", "v"}),
    characters={"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"},
    rows=frozenset({"tr"}),
    cells=frozenset({"tc"}),
    skipped=frozenset({"Fallback", "numCache", "numLit", "rPh", "rt", "fld"})
    | {"moveFrom", "http://schemas.openxmlformats.org/drawingml/2006/picture pic"},
    pictures=frozenset({"docPr", "cNvPr"}),
)
_BESIDE_DOCUMENT = ("footnotes", "endnotes", "comments", "header", "footer", "diagramData", "chart")
_BESIDE_SLIDE = ("notesSlide", "comments", "diagramData", "chart")
_BESIDE_SHEET = ("comments", "drawing", "diagramData", "chart")


def read_word(file: BinaryIO, limits: Limits) -> str:
    """Return the text of a Word document, its notes, comments, headers and footers at the end.

    Raises:
        MediaError: if it is another document, encrypted, or over the limits.
    """
    archive = Archive(file, limits)
    main = _main_part(archive, _WORD)
    texts = [*_texts(archive, main, _BESIDE_DOCUMENT), *_pages_within(archive, main, limits)]
    return "\n\n".join(filter(None, texts))


def read_slides(file: BinaryIO, limits: Limits) -> str:
    """Return the slides of a PowerPoint presentation as pages, each with its notes and comments.

    Raises:
        MediaError: if it is another document, encrypted, or over the limits.
    """
    archive = Archive(file, limits)
    main = _main_part(archive, _SLIDES)
    slides = _listed(archive, main, "sldId")
    return "\f".join("\n\n".join(_texts(archive, slide, _BESIDE_SLIDE)) for slide in slides)


def read_sheets(file: BinaryIO, limits: Limits) -> str:
    """Return the sheets of an Excel workbook as pages: names, rows of cells as shown, comments.

    Raises:
        MediaError: if it is another document, encrypted, or over the limits.
    """
    archive = Archive(file, limits)
    main = _main_part(archive, _SHEETS)
    parts = dict(archive.relations(main).values())
    strings: list[str] = []
    if (shared := parts.get("sharedStrings", "")) in archive:
        strings = parse(archive.chunks(shared), StringCollector(limits.file_bytes))
    cells = Cells(archive.tree(main), archive.tree(parts.get("styles", "")), strings)
    pages = []
    for part, name in _listed(archive, main, "sheet").items():
        rows = Rows(cells, limits.file_bytes)
        lines = parse(archive.chunks(part), rows) if part in archive else []
        beside = _texts(archive, part, _BESIDE_SHEET)[1:]
        pages.append("\n\n".join((name, "\n".join(lines), *beside)))
    return "\f".join(pages)


def read_office_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return what an Office Open XML document says about itself."""
    archive = Archive(file, limits)
    parts = dict(archive.relations().values())
    properties = Properties()
    properties.add_dublin_core(archive.tree(parts.get("core-properties", "")))
    extended = archive.tree(parts.get("extended-properties", ""))
    for name in ("Pages", "Words"):
        value = extended.findtext(name) if extended is not None else None
        properties.add_count(name, value)
    kinds = [kind for kind, _ in archive.relations(parts.get("officeDocument", "")).values()]
    properties.add_count("Slides", kinds.count("slide"))
    properties.add_count("Sheets", kinds.count("worksheet"))
    return properties


def _pages_within(archive: Archive, main: str, limits: Limits) -> Iterator[str]:
    """Yield the pages of HTML that programs put into a document whole, for Word to convert."""
    for kind, part in archive.relations(main).values():
        if kind == "aFChunk" and part.endswith((".mht", ".mhtml")):
            yield read_mail(BytesIO(archive.read(part)), limits)
        elif kind == "aFChunk" and part.endswith((".htm", ".html", ".xhtml")):
            yield html_to_text(decode(archive.read(part)).text)


def _main_part(archive: Archive, noun: str) -> str:
    """Return the name of the part that a document begins with, if it is what `noun` says."""
    parts = dict(archive.relations().values())
    main = parts.get("officeDocument", "")
    if main not in archive:
        found = "an OpenDocument file" if opendocument_family(archive) else "a zip archive"
    else:
        found = _noun(archive, main) or noun
    if found != noun:
        raise MediaError(f"its bytes are {found}, not {noun}; rename it to index it")
    return main


def _noun(archive: Archive, main: str) -> str | None:
    """Return what a document is by the type of its first part; None if that does not say it."""
    types = archive.tree("[Content_Types].xml")
    for one in types if types is not None else ():
        if one.get("PartName", "").lower() == f"/{main}".lower():
            stated = one.get("ContentType", "")
            return next((noun for mark, noun in _CONTENT_TYPES.items() if mark in stated), None)
    return None


def _listed(archive: Archive, main: str, tag: str) -> dict[str, str]:
    """Return the parts of slides or sheets in their order, with their names."""
    root, relations = archive.tree(main), archive.relations(main)
    listed = {}
    for element in root.iter(tag) if root is not None else ():
        for key, value in element.items():
            if local_name(key) == "id" and value in relations:
                listed[relations[value][1]] = element.get("name", "")
    return listed


def _texts(archive: Archive, part: str, beside: tuple[str, ...]) -> list[str]:
    """Return the text of a part, then those of the parts of certain kinds that belong to it."""
    names, pending = {part: None}, [part]
    while pending:
        related = archive.relations(pending.pop(0)).values()
        kept = sorted((beside.index(kind), name) for kind, name in related if kind in beside)
        pending += [name for _, name in kept if name not in names]
        names |= dict.fromkeys(name for _, name in kept)
    first, *others = (_text(archive, name) for name in names)
    return [first, *dict.fromkeys(filter(None, others))]  # headers are often the same


def _text(archive: Archive, part: str) -> str:
    if part not in archive:
        return ""
    collector = TextCollector(_OFFICE, archive.max_characters)
    return "\n\n".join(parse(archive.chunks(part), collector))
