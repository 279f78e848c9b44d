"""What documents say about themselves: PDF, the head of HTML, the front matter of Markdown."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from html.parser import HTMLParser

from embedder.media.kinds import SEPARATOR, Details
from embedder.media.metadata.values import labelled, parsed_date, written_date
from embedder.media.metadata.xmp import xmp_details

MAX_HEAD_CHARACTERS = 1 << 16

_PDF_DATE = re.compile(
    r"\s*(\d{4})(?![-/.:])(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?\s*(Z|[+-]\d\d)?'?(\d\d)?.*"
)
# What programs write for a title: their own name with the file's, or the file's name.
_NO_TITLES = re.compile(
    r"(?:microsoft (?:word|powerpoint|excel|publisher)\b.*|powerpoint[- ]pr[e\u00e4]sentation"
    r"|pr\u00e9sentation powerpoint"
    r"|(?:document|dokument|documento|slide|folie|layout|print|no title|title)[ -]?\d*"
    r"|\S+\.(?:docx?|dot|rtf|odt|ppt[xm]?|xlsx?|dvi|tex|pdf|ps|qxd|indd|pmd|cdr|ai"
    r"|fm|wpd|p65|txt|html?|eps|tiff?|jpe?g|png))",
    re.IGNORECASE,
)
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_TITLES, _AUTHORS = ("title", "dc.title", "og:title"), ("author", "authors", "dc.creator")
_SUBJECTS = ("description", "subject", "summary", "subtitle", "dc.description", "og:description")
_KEYWORDS = ("keywords", "tags", "categories", "dc.subject")
_DATES = (
    *("date", "article:published_time", "dc.date", "dcterms.created", "dcterms.date"),
    *("datepublished", "created", "published", "pubdate"),
)


def pdf_details(metadata: Mapping[str, str | None], pages: int, xmp: str = "") -> Details:
    """Return what the information dictionary of a PDF says or, if it has no words, its XMP.

    Args:
        metadata: As PyMuPDF names the entries.
        pages: How many it has.
        xmp: The packet; empty if there is none.
    """
    fields = {name: value or "" for name, value in metadata.items()}
    details = document_details(
        title=fields.get("title", ""),
        author=fields.get("author", ""),
        subject=fields.get("subject", ""),
        keywords=re.split("[,;]", fields.get("keywords", "")),
        written_at=pdf_date(fields.get("creationDate", "")) or pdf_date(fields.get("modDate", "")),
    )
    if xmp and not details.words:
        details = details.over(_xmp_details(xmp))
    return details.over(Details(facts=(("Pages", str(pages)),)))


def _xmp_details(packet: str) -> Details:
    try:
        said, made = xmp_details(packet.encode(errors="replace"))
    except ValueError:
        return Details()
    words = dict(said.words)
    return document_details(
        title=words.get("Title", ""),
        author=words.get("Author", ""),
        subject=words.get("Caption", ""),
        keywords=words.get("Keywords", "").split(SEPARATOR),
        written_at=made,
    )


def pdf_date(text: str) -> datetime | None:
    """Parse D:20110203040506+02'00', of which all but the year may be missing.

    Some programs write ISO 8601 or the form of mail instead.
    """
    text = text.strip().removeprefix("D:")
    if written := written_date(text):
        return written
    found = _PDF_DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, zone, minutes = found.groups()
    date = "-".join(filter(None, (year, month, day)))
    if not (day and hour):
        return parsed_date(date)
    offset = zone if zone in (None, "Z") else f"{zone}:{minutes or '00'}"
    return parsed_date(f"{date}T{hour}:{minute or '00'}:{second or '00'}", offset or "")


def document_details(
    title: str = "",
    author: str = "",
    subject: str = "",
    keywords: Iterable[str] = (),
    written_at: datetime | None = None,
) -> Details:
    """Return details of a document from its properties; titles that are none are left out."""
    return Details(
        captured_at=written_at,
        words=labelled(
            ("Title", [] if _NO_TITLES.fullmatch(title.strip()) else [title]),
            ("Author", [author]),
            ("Subject", [subject]),
            ("Keywords", keywords),
        ),
    )


def html_details(source: str) -> Details:
    """Return what the head of an HTML page says: its title, and elements `meta`."""
    head = _Head()
    with suppress(AssertionError):  # of unknown marked sections
        head.feed(source[:MAX_HEAD_CHARACTERS])
    return _from_fields(head.fields)


def front_matter_details(text: str) -> Details:
    """Return what the front matter of a Markdown file says, in the plain YAML that people write."""
    found = _FRONT_MATTER.match(text[:MAX_HEAD_CHARACTERS])
    fields: dict[str, list[str]] = {}
    values: list[str] = []
    for line in found[1].splitlines() if found else ():
        name, colon, value = line.partition(":")
        if line.lstrip().startswith("- "):
            values += _items(line.lstrip()[2:])
        elif colon and not line[0].isspace():  # nor nested
            values = fields.setdefault(name.strip().lower(), [])
            values += _items(value)
    return _from_fields(fields)


def _items(value: str) -> list[str]:
    """Return the items of a YAML value: a text, perhaps quoted, or a list in brackets."""
    value = value.strip()
    if value.startswith("[") and value.endswith("]"):
        return [item.strip(" \"'") for item in value[1:-1].split(",")]
    return [value.strip("\"'")] if value.strip("|> ") else []


def _from_fields(fields: Mapping[str, list[str]]) -> Details:
    def texts(names: tuple[str, ...]) -> list[str]:
        return [text for name in names for text in fields.get(name, ())]

    keywords = [word for text in texts(_KEYWORDS) for word in re.split("[,;]", text)]
    return document_details(
        title="".join(texts(_TITLES)[:1]),
        author="; ".join(texts(_AUTHORS)),
        subject="".join(texts(_SUBJECTS)[:1]),
        keywords=keywords,
        written_at=next(filter(None, map(written_date, texts(_DATES))), None),
    )


class _Head(HTMLParser):
    """Collects the title and the elements `meta` of an HTML page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.fields: dict[str, list[str]] = {}
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "meta":
            found = dict(attrs)
            name = found.get("name") or found.get("property") or found.get("itemprop")
            if name and (content := found.get("content")):
                self.fields.setdefault(name.lower(), []).append(content)
        self._in_title = tag == "title" and "title" not in self.fields

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.fields.setdefault("title", []).append(" ".join(data.split()))

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
