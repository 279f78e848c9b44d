"""OpenDocument: text and properties of texts, spreadsheets, presentations and drawings.

Source: OASIS OpenDocument 1.3, parts 2 and 3.
"""

from typing import Any, BinaryIO

from embedder.media.archive import (
    Archive,
    Markup,
    TextCollector,
    chunks_of,
    local_name,
    parse,
    protected,
    tree,
)
from embedder.media.kinds import Limits, MediaError
from embedder.media.metadata.properties import Properties

_DC = "http://purl.org/dc/elements/1.1/ "
_SVG = "urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0 "
_PAGES = {"text": (), "spreadsheet": ("table",), "presentation": ("page",), "graphics": ("page",)}
_HEADERS = ("header", "footer", "header-left", "footer-left", "header-first", "footer-first")
_MIMETYPE = "application/vnd.oasis.opendocument."
_COUNTS = {"page-count": "Pages", "word-count": "Words", "table-count": "Tables"}
_MAX_TREE_BYTES = 10_000_000


def read_opendocument(family: str, file: BinaryIO, limits: Limits) -> str:
    """Return the text of an OpenDocument file; its sheets or slides are pages.

    Args:
        family: "text", "spreadsheet", "presentation" or "graphics".
        file: The document.
        limits: What reading may cost.

    Raises:
        MediaError: if it is another document, encrypted, or over the limits.
    """
    archive = _opened(family, file, limits)
    pages = []
    if "content.xml" in archive:  # templates may have styles alone
        pages = parse(archive.chunks("content.xml"), _collector(family, limits))
    if family == "text" and "styles.xml" in archive:
        headers = TextCollector(_markup(_HEADERS), limits.file_bytes)
        pages += dict.fromkeys(parse(archive.chunks("styles.xml"), headers))
    return ("\n\n" if family == "text" else "\f").join(pages)


def read_flat_opendocument(family: str, file: BinaryIO, limits: Limits) -> str:
    """Return the text of an OpenDocument file that is one XML file; otherwise as above."""
    return "\f".join(parse(chunks_of(file, limits.file_bytes), _collector(family, limits)))


def read_opendocument_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return what an OpenDocument file says about itself."""
    return _properties(Archive(file, limits).tree("meta.xml"))


def read_flat_opendocument_properties(file: BinaryIO, limits: Limits) -> Properties:
    """Return what an OpenDocument file that is one XML file says about itself."""
    chunks = chunks_of(file, min(limits.file_bytes, _MAX_TREE_BYTES))
    return _properties(tree(chunks).find("meta"))


def opendocument_family(archive: Archive) -> str | None:
    """Return the family that an archive's type names; None if it names none."""
    stated = archive.read("mimetype").decode("ascii", "replace").strip()
    family = stated.removeprefix(_MIMETYPE).partition("-")[0]
    return family if family in _PAGES else None


def _opened(family: str, file: BinaryIO, limits: Limits) -> Archive:
    archive = Archive(file, limits)
    encrypted = b"encryption-data" in archive.read("META-INF/manifest.xml")
    if encrypted or "encrypted-package" in archive:
        raise protected()
    found = opendocument_family(archive)
    if found not in (None, family):
        raise MediaError(f"its bytes are an OpenDocument {found}; rename it to index it")
    if found is None and "content.xml" not in archive:
        raise MediaError("its bytes are a zip archive, but not an OpenDocument file")
    return archive


def _markup(pages: tuple[str, ...]) -> Markup:
    return Markup(
        paragraphs=frozenset({"p", "h", f"{_SVG}title", f"{_SVG}desc"}),
        characters={"tab": "\t", "line-break": "\n", "s": " "},
        rows=frozenset({"table-row"}),
        cells=frozenset({"table-cell"}),
        pages=frozenset(pages),
        skipped=frozenset({"tracked-changes", "binary-data", "note-citation", "page-number"})
        | {"page-count", "ruby-text", f"{_DC}creator", f"{_DC}date", "creator-initials"},
    )


def _collector(family: str, limits: Limits) -> TextCollector:
    titled = family == "spreadsheet"
    return TextCollector(_markup(_PAGES[family]), limits.file_bytes, titled=titled)


def _properties(meta: Any) -> Properties:
    properties = Properties()
    properties.add_dublin_core(meta)
    for statistic in meta.iter("document-statistic") if meta is not None else ():
        for key, value in statistic.items():
            label = _COUNTS.get(local_name(key))
            if label:
                properties.add_count(label, value)
    return properties
