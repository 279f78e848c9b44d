"""Text files: bytes → text, whatever the encoding, HTML without its mark-up; text → passages."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from embedder.media.encodings import decode, encoding_name, looks_binary
from embedder.media.kinds import (
    Details,
    Limits,
    MediaError,
    UnsupportedMedia,
    open_media,
    translated_os_errors,
)
from embedder.media.metadata import MAX_HEAD_CHARACTERS, front_matter_details, html_details

_HTML_SUFFIXES = {".html", ".htm", ".xhtml"}
# Many programs write letters beyond ASCII as \u00fc in these.
_ESCAPED_SUFFIXES = {".json", ".jsonl", ".ndjson", ".geojson", ".properties"}
_ESCAPED_LETTERS = re.compile(r"(?<!\\)(?:\\u(?!00[0-7])[0-9a-fA-F]{4})+")


def read_plain_text(path: str | os.PathLike[str], limits: Limits | None = None) -> str:
    """Read a file that is text itself.

    The encoding is found by its byte-order mark, by trying UTF-8, by what an HTML or XML file
    declares, or by the letters of its language. Lines end in a line feed alone. Of HTML, the
    title and the visible text are kept; in JSON, escaped letters are read as the letters.

    Args:
        path: A text file.
        limits: Gives `file_bytes`.

    Returns:
        The text, into which the spans of passages point; the same for the same bytes.

    Raises:
        MediaError: if it cannot be read, is too large, is binary, or holds no text.
    """
    path = Path(path)
    text = decode(_bytes(path, limits or Limits())).text
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    if path.suffix.lower() in _HTML_SUFFIXES:
        text = html_to_text(text)
    elif path.suffix.lower() in _ESCAPED_SUFFIXES:
        text = _ESCAPED_LETTERS.sub(_unescaped, text)
    if not text.strip():
        raise UnsupportedMedia("the file holds no text")
    return text


def _unescaped(letters: re.Match[str]) -> str:
    return bytes.fromhex(letters[0].replace("\\u", "")).decode("utf-16-be", "replace")


def read_plain_details(path: Path, limits: Limits) -> Details:
    """Return the encoding, and what the head of a page or the front matter of a text says."""
    text, codec = decode(_bytes(path, limits))
    head = text[:MAX_HEAD_CHARACTERS].replace("\r\n", "\n")
    reader = html_details if path.suffix.lower() in _HTML_SUFFIXES else front_matter_details
    details, name = reader(head), encoding_name(codec)
    return replace(details, facts=(*details.facts, ("Encoding", name))) if name else details


def _bytes(path: Path, limits: Limits) -> bytes:
    """Read the bytes of a text file; raises `MediaError`."""
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
    return data


def html_to_text(source: str) -> str:
    """Return the title and the visible text of an HTML page, with blank lines between blocks."""
    parser = _VisibleText()
    parser.feed(source)
    parser.close()
    return parser.text()


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

_PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*|\f\s*")
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
    between two words, and always at a form feed, which ends a page. Short paragraphs share a
    passage, and a heading starts a new one unless the passage before is still very short. Each
    Chinese or Japanese character counts as a word.

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
        full = held + words > max_words or (opens and held > max_words // 4)
        if held and (full or text.find("\f", end, piece[0]) >= 0):
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
