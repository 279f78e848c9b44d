"""Texts of all formats: which there are, what reads them, and their passages."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from embedder.content import Content, Modality
from embedder.media.archive import protected, too_much_text
from embedder.media.books import (
    read_epub,
    read_epub_properties,
    read_fictionbook,
    read_fictionbook_properties,
    read_notebook,
    read_rich_text,
    read_rich_text_properties,
)
from embedder.media.cards import (
    read_calendar,
    read_calendar_properties,
    read_cards,
    read_cards_properties,
)
from embedder.media.encodings import looks_binary
from embedder.media.kinds import (
    Details,
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    UnsupportedMedia,
    first_bytes,
    open_media,
    suffixes,
    translated_os_errors,
)
from embedder.media.mail import read_mail, read_mail_properties, read_mailbox
from embedder.media.metadata.properties import Properties
from embedder.media.office import read_office_properties, read_sheets, read_slides, read_word
from embedder.media.opendocument import (
    read_flat_opendocument,
    read_flat_opendocument_properties,
    read_opendocument,
    read_opendocument_properties,
)
from embedder.media.text import passages, read_plain_details, read_plain_text

_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""What old binary documents begin with, and new ones that are encrypted."""

_ZIP = first_bytes(rb"PK", re.escape(_COMPOUND))
_XML = first_bytes(rb"(?:\xef\xbb\xbf)?\s*<", rb"\xff\xfe<\0", rb"\xfe\xff\0<")
_MAIL = first_bytes(rb"(?:\xef\xbb\xbf)?\s*(?:>?From |[A-Za-z][A-Za-z0-9-]{0,70}[ \t]*:)")
_COMPONENT = re.compile(rb"(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)?[\0\s]*B\0?E\0?G\0?I\0?N\0?:", re.I)
_RICH_TEXT = first_bytes(rb"\s*\{\\rt")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentFormat:
    """A format of documents whose text is not what their bytes are.

    Attributes:
        noun: What a file of it is called in messages, with its article.
        suffixes: Extensions of its files.
        signature: Matches the first bytes of its files.
        page: What its pages are called, which form feeds separate in its text; None without any.
        read: Return the text of an open file.
        properties: Return what the file says about itself.
    """

    noun: str
    suffixes: frozenset[str]
    signature: re.Pattern[bytes] = _ZIP
    page: str | None = None
    read: Callable[[BinaryIO, Limits], str]
    properties: Callable[[BinaryIO, Limits], Properties] = lambda _file, _limits: Properties()


def _opendocuments() -> Iterator[DocumentFormat]:
    """Yield the formats of OpenDocument, in an archive and flat."""
    families = (
        ("text", "an OpenDocument text", None, "odt ott", "fodt"),
        ("spreadsheet", "an OpenDocument spreadsheet", "sheet", "ods ots", "fods"),
        ("presentation", "an OpenDocument presentation", "slide", "odp otp", "fodp"),
        ("graphics", "an OpenDocument drawing", "page", "odg otg", "fodg"),
    )
    for family, noun, page, names, flat in families:
        yield DocumentFormat(
            noun=noun,
            suffixes=suffixes(names),
            page=page,
            read=partial(read_opendocument, family),
            properties=read_opendocument_properties,
        )
        yield DocumentFormat(
            noun=noun,
            suffixes=suffixes(flat),
            signature=_XML,
            page=page,
            read=partial(read_flat_opendocument, family),
            properties=read_flat_opendocument_properties,
        )


_DOCUMENTS = (
    DocumentFormat(
        noun="a Word document",
        suffixes=suffixes("docx docm dotx dotm"),
        read=read_word,
        properties=read_office_properties,
    ),
    DocumentFormat(
        noun="a PowerPoint presentation",
        suffixes=suffixes("pptx pptm potx potm ppsx ppsm"),
        page="slide",
        read=read_slides,
        properties=read_office_properties,
    ),
    DocumentFormat(
        noun="an Excel workbook",
        suffixes=suffixes("xlsx xlsm xltx xltm"),
        page="sheet",
        read=read_sheets,
        properties=read_office_properties,
    ),
    *_opendocuments(),
    DocumentFormat(
        noun="a book",
        suffixes=suffixes("epub"),
        page="section",
        read=read_epub,
        properties=read_epub_properties,
    ),
    DocumentFormat(
        noun="a FictionBook",
        suffixes=suffixes("fb2"),
        signature=_XML,
        page="section",
        read=read_fictionbook,
        properties=read_fictionbook_properties,
    ),
    DocumentFormat(
        noun="a Rich Text document",
        suffixes=suffixes("rtf"),
        signature=_RICH_TEXT,
        read=read_rich_text,
        properties=read_rich_text_properties,
    ),
    DocumentFormat(
        noun="a mail",
        suffixes=suffixes("eml"),
        signature=_MAIL,
        read=read_mail,
        properties=read_mail_properties,
    ),
    DocumentFormat(
        noun="a mailbox",
        suffixes=suffixes("mbox"),
        signature=first_bytes(rb"From "),
        page="message",
        read=read_mailbox,
    ),
    DocumentFormat(
        noun="a contact",
        suffixes=suffixes("vcf vcard"),
        signature=_COMPONENT,
        page="contact",
        read=read_cards,
        properties=read_cards_properties,
    ),
    DocumentFormat(
        noun="a calendar",
        suffixes=suffixes("ics"),
        signature=_COMPONENT,
        page="entry",
        read=read_calendar,
        properties=read_calendar_properties,
    ),
    DocumentFormat(
        noun="a Jupyter notebook",
        suffixes=suffixes("ipynb"),
        signature=first_bytes(rb"(?:\xef\xbb\xbf)?\s*\{"),
        read=read_notebook,
    ),
)
DOCUMENT_FORMATS: Mapping[str, DocumentFormat] = {
    suffix: one for one in _DOCUMENTS for suffix in one.suffixes
}
"""Formats of documents by extension."""

_NAMES = (
    # Prose, data and what programs write.
    "txt text md markdown mdown rst adoc asciidoc org tex bib html htm xhtml csv tsv json jsonl "
    "ndjson geojson xml yaml yml log srt vtt sub ass ssa nfo json5 jsonc rss atom opml gpx "
    "kml xsd xsl xslt wsdl dtd rng textile mediawiki wiki pod ris lrc cue m3u m3u8 lyx fountain "
    # Source code.
    "py pyi pyw js mjs cjs jsx ts tsx mts cts vue svelte astro c h cc cpp cxx hh hpp hxx cu java "
    "kt kts scala groovy go rs rb php pl pm lua r rmd qmd jl m mm swift cs fs fsx vb vbs vba bas "
    "pas dpr ada adb ads f f90 f95 for asm s hs lhs ml mli elm erl hrl ex exs clj cljs lisp el scm "
    "rkt nim zig dart sol v vhd vhdl sv tcl awk sh bash zsh fish ksh csh ps1 psm1 bat cmd sql "
    "graphql gql proto thrift css scss sass less styl gd glsl vert frag hlsl wgsl ino pde sty cls "
    "texi "
    # Settings and builds.
    "toml ini cfg conf cnf properties desktop service tf tfvars hcl nix gradle cmake mk mak make "
    "dockerfile bazel bzl mod diff patch po pot reg"
)
# Names that such texts have whatever follows the first dot, as in README.Debian.
_TEXT_NAMES = frozenset(
    "readme license licence copying notice authors contributors changelog changes history news "
    "todo install makefile dockerfile containerfile vagrantfile jenkinsfile procfile gemfile "
    "rakefile justfile codeowners".split()
)
_GENERATED = re.compile(
    r"(?:.*\.min\.(?:js|mjs|css)|package-lock\.json|npm-shrinkwrap\.json|pnpm-lock\.yaml)",
    re.IGNORECASE,
)
_MAX_BYTES_WITHOUT_ENDING = 5_000_000
_OLD_FORMATS = {
    **dict.fromkeys((".doc", ".dot"), ("Word", ".docx")),
    **dict.fromkeys((".xls", ".xlt"), ("Excel", ".xlsx")),
    **dict.fromkeys((".ppt", ".pps"), ("PowerPoint", ".pptx")),
}
_MAILBOX = first_bytes(rb"From [^\n]*\n[A-Za-z-]+:")
_REASONS = {
    ".msg": "Outlook messages (.msg) are not supported: save them as .eml",
    **dict.fromkeys(
        suffixes("pst ost"),
        "Outlook data files are not supported: export mails as .eml or .mbox",
    ),
    ".xlsb": "the binary Excel format .xlsb is not supported: save it as .xlsx",
    ".pages": "the format of Apple Pages is not supported: export it as .docx or PDF",
    ".numbers": "the format of Apple Numbers is not supported: export it as .xlsx or PDF",
    ".key": "the format of Apple Keynote is not supported: export it as .pptx or PDF",
    ".exr": "OpenEXR pictures are not supported: export it as TIFF or PNG",
    **dict.fromkeys(
        suffixes("mobi azw azw3 kfx prc"), "Kindle books are not supported: convert it to EPUB"
    ),
    **dict.fromkeys(
        suffixes("zip gz tgz bz2 xz zst lz4 7z rar tar"),
        "the file is an archive or compressed: unpack it to index what it holds",
    ),
}


def is_office_lock(name: str) -> bool:
    """Whether a file only says who has the document beside it open."""
    return name.startswith("~$")


def is_generated(name: str) -> bool:
    """Whether files of this name are written by build tools for programs, not for people."""
    return _GENERATED.fullmatch(name) is not None


def is_text_by_content(name: str, head: bytes, size: int) -> bool:
    """Whether a file whose name does not say so is a text that people wrote.

    Args:
        name: Without its folders, such as "README", "LICENSE-MIT" or "Dockerfile.dev".
        head: Its first bytes.
        size: Its length in bytes.
    """
    if "." in name and name.partition(".")[0].lower() not in _TEXT_NAMES:
        return False
    if size > _MAX_BYTES_WITHOUT_ENDING or _MAILBOX.match(head):
        return False
    if name.partition(".")[0].lower() in _TEXT_NAMES:
        return not looks_binary(head)
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and error.reason == "unexpected end of data"
    return not looks_binary(head)


def page_noun(path: Path) -> str:
    """Return what the pages of a file are called: "page", "slide", "sheet" or "section"."""
    document = DOCUMENT_FORMATS.get(path.suffix.lower())
    return (document and document.page) or "page"


def unsupported_reason(name: str, head: bytes) -> str | None:
    """Return why a document is not indexed, and what to do; None where there is more to say.

    Args:
        name: The file's name.
        head: Its first bytes.
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _OLD_FORMATS and head.startswith(_COMPOUND):
        program, new = _OLD_FORMATS[suffix]
        return f"the old binary {program} format {suffix} is not supported: save it as {new}"
    if suffix in _OLD_FORMATS and _RICH_TEXT.match(head):
        return "the file is a Rich Text document: rename it to .rtf to index it"
    if suffix in _OLD_FORMATS and head.startswith(b"PK"):
        new = _OLD_FORMATS[suffix][1]
        return f"the file is a zip archive, as newer documents are: rename it to {new} to index it"
    if suffix in _OLD_FORMATS and not looks_binary(head):
        new = ".html" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else ".txt"
        return f"named {suffix}, but its bytes are text: rename it to {new} to index it"
    if _MAILBOX.match(head):
        return "the file is a mailbox: rename it to .mbox to index it"
    if suffix and not looks_binary(head):
        return "texts with its ending are not indexed: rename it to .txt to index it"
    return _REASONS.get(suffix)


def read_text(path: str | os.PathLike[str], limits: Limits | None = None) -> str:
    """Read the text of a text file or a document.

    Args:
        path: A file of the kind TEXT.
        limits: Gives `file_bytes`.

    Returns:
        The text, into which the spans of passages point; the same for the same bytes. Form feeds
        end pages.

    Raises:
        MediaError: if it cannot be read, is too large, is not what its name says, is protected by
            a password, or holds no text.
    """
    path, limits = Path(path), limits or Limits()
    document = DOCUMENT_FORMATS.get(path.suffix.lower())
    if document is None:
        return read_plain_text(path, limits)
    with translated_os_errors(), open_media(path) as file:
        try:
            _check_compound(path, file, limits)
            text = document.read(file, limits)
        except (MediaError, MemoryError, ImportError):
            raise
        except Exception as error:  # parsers raise anything from zlib.error to RecursionError
            reason = f"{document.noun} that is damaged or truncated and cannot be read"
            raise MediaError(f"the file is {reason}") from error
    if len(text) > limits.file_bytes:
        raise too_much_text(limits.file_bytes)
    if not text.strip():
        raise UnsupportedMedia("the document holds no text")
    return text


def _check_compound(path: Path, file: BinaryIO, limits: Limits) -> None:
    """Refuse a document that is encrypted, or an old one under a new name."""
    data = file.read(len(_COMPOUND))
    if data == _COMPOUND:
        data = file.read(limits.file_bytes)
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise protected()
        raise MediaError(
            f"named {path.suffix}, but its bytes are an old binary document: open it where it was "
            f"made, and save it as {path.suffix}"
        )
    file.seek(0)


def _read(path: Path, limits: Limits, _page: int | None) -> Content:
    return Content(text=read_text(path, limits))


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    text = read_text(path, limits)
    document = DOCUMENT_FORMATS.get(path.suffix.lower())
    page, counted = (1 if document and document.page else None), 0
    for start, end in passages(text, limits):
        if page is not None:
            page += text.count("\f", counted, start)
            counted = start
        yield Draft(Content(text=text[start:end]), span=(start, end), page=page)


def _details(path: Path, limits: Limits) -> Details:
    document = DOCUMENT_FORMATS.get(path.suffix.lower())
    if document is None:
        return read_plain_details(path, limits)
    with open_media(path) as file:
        return document.properties(file, limits).details()


TEXT = MediaKind(
    kind=Kind.TEXT,
    noun="text",
    unit="passage",
    modality=Modality.TEXT,
    has_text=True,
    suffixes=suffixes(_NAMES) | DOCUMENT_FORMATS.keys(),
    # Never as HTML, which could run scripts on the page that shows it.
    media_types={f".{name}": "text/plain; charset=utf-8" for name in _NAMES.split()},
    read=_read,
    cut=_cut,
    details=_details,
)
