"""Text files: bytes → text, whatever the encoding, HTML without its mark-up; text → passages."""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from embedder.content import Content, Modality
from embedder.media.kinds import (
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    open_media,
    suffixes,
    translated_os_errors,
)

_HTML_SUFFIXES = {".html", ".htm", ".xhtml"}
_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9._-]{2,30})""")
# Codecs that Python knows but no document is written in; UTF-8 has been tried before.
_NO_CHARSETS = {
    *("utf-8", "utf-7", "idna", "punycode", "undefined"),
    *("unicode-escape", "unicode_escape", "raw-unicode-escape", "raw_unicode_escape"),
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\b\x1b"))


def read_text(path: str | os.PathLike[str], limits: Limits | None = None) -> str:
    """Read a text file.

    The encoding is found by its byte-order mark, by trying UTF-8, or by what an HTML or XML file
    declares, and assumed to be Windows-1252 otherwise. Lines end in a line feed alone. Of HTML,
    the title and the visible text are kept.

    Args:
        path: A text file.
        limits: Gives `file_bytes`.

    Returns:
        The text, into which the spans of passages point; the same for the same bytes.

    Raises:
        MediaError: if it cannot be read, is too large, is binary, or holds no text.
    """
    limits, path = limits or Limits(), Path(path)
    with translated_os_errors(), open_media(path) as file:
        data = file.read(limits.file_bytes + 1)
    if len(data) > limits.file_bytes:
        raise MediaError(
            f"the text file is larger than the limit of {limits.file_bytes / 1e6:.0f} MB"
        )
    if not data:
        raise MediaError("the file is empty")
    if looks_binary(data[:65536]):
        raise MediaError(f"named {path.suffix}, but its bytes are not text")
    text = decoded(data).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if path.suffix.lower() in _HTML_SUFFIXES:
        text = html_to_text(text)
    if not text.strip():
        raise MediaError("the file holds no text")
    return text


def decoded(data: bytes) -> str:
    """Decode text bytes of unknown encoding; never fails, at worst some characters are wrong."""
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data.decode(codec, errors="replace").removeprefix("\ufeff")
    if codec_16 := looks_utf16(data[:4096]):
        return data.decode(codec_16, errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if declared := _declared_codec(data):
        return data.decode(declared, errors="replace")
    mended = data.decode("utf-8", errors="replace")
    if mended.count("\ufffd") * 20 <= sum(character > "\x7f" for character in mended):
        return mended  # UTF-8 with a few damaged bytes
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file cannot be the start of a text in any usual encoding."""
    if head.startswith(tuple(mark for mark, _ in _MARKS)):
        return False
    if b"\0" in head:
        return not looks_utf16(head)
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls > len(head) // 50


def looks_utf16(head: bytes) -> str | None:
    """Return the codec of UTF-16 without a mark, by where zero bytes are; None for other bytes."""
    pairs = len(head) // 2
    if pairs < 2:
        return None
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if odd > pairs * 0.4 and even <= pairs * 0.02:
        return "utf-16-le"
    if even > pairs * 0.4 and odd <= pairs * 0.02:
        return "utf-16-be"
    return None


def html_to_text(source: str) -> str:
    """Return the title and the visible text of an HTML page, with blank lines between blocks."""
    parser = _VisibleText()
    parser.feed(source)
    parser.close()
    return parser.text()


def _declared_codec(data: bytes) -> str | None:
    """Return the encoding that an HTML or XML file declares, if Python has a text codec for it."""
    head = data[:2048]
    if not head.lstrip().startswith(b"<"):
        return None
    found = _DECLARED.search(head)
    if found is None:
        return None
    try:
        codec = codecs.lookup(found[1].decode())
        codec.decode(b"", "strict")
        b"".decode(codec.name)
    except (LookupError, ValueError, TypeError):
        return None
    return None if codec.name in _NO_CHARSETS else codec.name


class _VisibleText(HTMLParser):
    """Collects what a reader of the page sees."""

    _HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "head"})
    _IN_HEAD = frozenset("title meta link base script style noscript template".split())
    _BLOCKS = frozenset(
        "address article aside blockquote body br caption dd details div dl dt fieldset figcaption "
        "figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section "
        "select summary table tbody tfoot thead title tr ul".split()
    )
    _LINES = frozenset({"br", "li", "tr", "dt", "dd", "option"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._hidden: list[str] = []
        self._in_title = False
        self._in_pre = 0
        self._title: list[str] = []
        self._parts: list[str] = []

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Treat an unknown section as a comment, as browsers do."""
        try:
            return super().parse_marked_section(i, report)
        except AssertionError:
            return self.parse_bogus_comment(i)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden == ["head"] and tag not in self._IN_HEAD:
            self._hidden.clear()  # as browsers do where a head is not closed
        if tag == "title" and self._hidden in ([], ["head"]):
            self._in_title = True
        elif tag in self._HIDDEN:
            self._hidden.append(tag)
        self._in_pre += tag == "pre"
        self._break(tag)
        alternative = dict(attrs).get("alt") if tag == "img" else None
        if alternative and not self._hidden:
            self._parts.append(f" {alternative} ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._break(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_title = self._in_title and tag != "title"
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        if tag == "pre" and self._in_pre:
            self._in_pre -= 1
        self._break(tag)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self._title.append(data)
        elif not self._hidden:
            self._parts.append(data if self._in_pre else re.sub(r"\s+", " ", data))

    def text(self) -> str:
        """Return the title, then the body."""
        title = " ".join("".join(self._title).split())
        body = re.sub(r"(?<! ) *+\n *+", "\n", "".join(self._parts))
        body = re.sub(r"\n{3,}", "\n\n", re.sub(r"  +", " ", body)).strip()
        return "\n\n".join(part for part in (title, body) if part)

    def _break(self, tag: str) -> None:
        if tag in self._BLOCKS and not self._hidden:
            self._parts.append("\n" if tag in self._LINES else "\n\n")
        elif tag in ("td", "th") and not self._hidden:
            self._parts.append(" ")


Span = tuple[int, int]
"""First and one-past-last character."""

_PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*")
_HEADING = re.compile(
    r"(?:#{1,6}[ \t]|={1,6} |\\(?:sub)*section|\*{1,6} )"
    r"|[^\n]{1,100}\n(?:={3,}|-{3,}|~{3,})[ \t]*(?:\n|$)"
)
# A full stop with white space after it, a Chinese or Japanese one without, or the end of a line.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'»”’)\]]*+\s+|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f”’\uff09]*\s*|\n\s*"
)
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# A word; a character of a script without spaces; a part of an overlong run.
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,24}}")


def passages(text: str, limits: Limits | None = None) -> Iterator[Span]:
    """Cut a text into passages.

    A passage ends at the end of a paragraph where possible, else of a sentence or line, else
    between two words. Short paragraphs share a passage, and a heading starts a new one unless the
    passage before is still very short. Each Chinese or Japanese character counts as a word.

    Args:
        text: As `read_text` gives it.
        limits: Gives `passage_words`.

    Yields:
        Spans in order, without overlap; only white space lies outside them. No passage starts or
        ends with white space, and none has more than `passage_words` words.
    """
    max_words = (limits or Limits()).passage_words
    start, end, held = 0, 0, 0
    for piece, words, opens in _pieces(text, max_words):
        if held and (held + words > max_words or (opens and held > max_words // 4)):
            yield start, end
            held = 0
        if not held:
            start = piece[0]
        end, held = piece[1], held + words
    if held:
        yield start, end


def _pieces(text: str, max_words: int) -> Iterator[tuple[Span, int, bool]]:
    """Yield pieces of at most `max_words`: paragraphs, or their sentences, or parts of those.

    With each come its number of words, and whether it should start a new passage.
    """
    for paragraph in _parted(text, (0, len(text)), _PARAGRAPH_END):
        words = _count(text, paragraph)
        opens = bool(_HEADING.match(text, *paragraph))
        if words <= max_words:
            yield paragraph, words, opens
            continue
        opens = True  # a paragraph too long for one passage does not begin within another
        for sentence in _parted(text, paragraph, _SENTENCE_END):
            words = _count(text, sentence)
            parts = (
                [(sentence, words)] if words <= max_words else _chunks(text, sentence, max_words)
            )
            for part, count in parts:
                yield part, count, opens
                opens = False


def _parted(text: str, span: Span, border: re.Pattern[str]) -> Iterator[Span]:
    """Yield the spans between borders, without surrounding white space; skip empty ones."""
    start = span[0]
    for match in border.finditer(text, *span):
        yield from _trimmed(text, start, match.end())
        start = match.end()
    yield from _trimmed(text, start, span[1])


def _trimmed(text: str, start: int, end: int) -> Iterable[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return [(start, end)] if start < end else []


def _count(text: str, span: Span) -> int:
    return sum(1 for _ in _UNIT.finditer(text, *span))


def _chunks(text: str, span: Span, max_words: int) -> Iterator[tuple[Span, int]]:
    """Cut after every `max_words` words."""
    held: list[re.Match[str]] = []
    for unit in _UNIT.finditer(text, *span):
        held.append(unit)
        if len(held) == max_words:
            yield (held[0].start(), held[-1].end()), max_words
            held = []
    if held:
        yield (held[0].start(), held[-1].end()), len(held)


def _read(path: Path, limits: Limits, _page: int | None) -> Content:
    return Content(text=read_text(path, limits))


def _cut(path: Path, limits: Limits) -> Iterator[Draft]:
    text = read_text(path, limits)
    for start, end in passages(text, limits):
        yield Draft(Content(text=text[start:end]), span=(start, end))


_NAMES = (
    "txt text md markdown mdown rst adoc asciidoc org tex bib html htm xhtml csv tsv json jsonl "
    "ndjson geojson xml yaml yml log srt vtt sub ass ics vcf eml nfo"
)
TEXT = MediaKind(
    kind=Kind.TEXT,
    noun="text",
    unit="passage",
    modality=Modality.TEXT,
    has_text=True,
    suffixes=suffixes(_NAMES),
    # Never as HTML, which could run scripts on the page that shows it.
    media_types={f".{name}": "text/plain; charset=utf-8" for name in _NAMES.split()},
    read=_read,
    cut=_cut,
)
