"""Passages: a text cut where a reader would, into pieces that an embedder takes whole."""

import re
from collections.abc import Iterable, Iterator

from embedder.media.kind import Limits

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
# A word; a character of a script that writes none apart; a part of anything endless.
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]{{1,24}}")


def passages(text: str, limits: Limits | None = None) -> Iterator[Span]:
    """Cut a text into passages.

    A passage ends where a paragraph or heading does, if it can; within a long paragraph where a
    sentence or line does; within an endless one anywhere between words. Short paragraphs share a
    passage, and a heading starts one unless the passage before is still very short. Chinese and
    Japanese characters count as words each.

    Args:
        text: As `read_text` gives it.
        limits: Gives `passage_words`.

    Yields:
        Spans in order, without overlap; all that lies outside them is white space. No passage
        starts or ends with white space, and none has more than `passage_words` words.
    """
    most = (limits or Limits()).passage_words
    start, end, held = 0, 0, 0
    for piece, words, opens in _pieces(text, most):
        if held and (held + words > most or (opens and held > most // 4)):
            yield start, end
            held = 0
        if not held:
            start = piece[0]
        end, held = piece[1], held + words
    if held:
        yield start, end


def _pieces(text: str, most: int) -> Iterator[tuple[Span, int, bool]]:
    """Paragraphs, or their sentences, or parts of those; words of each; whether it opens anew."""
    for paragraph in _parted(text, (0, len(text)), _PARAGRAPH_END):
        words = _count(text, paragraph)
        opens = bool(_HEADING.match(text, *paragraph))
        if words <= most:
            yield paragraph, words, opens
            continue
        opens = True  # a paragraph too long for one passage does not begin in another's rest
        for sentence in _parted(text, paragraph, _SENTENCE_END):
            words = _count(text, sentence)
            parts = [(sentence, words)] if words <= most else _chunks(text, sentence, most)
            for part, count in parts:
                yield part, count, opens
                opens = False


def _parted(text: str, span: Span, border: re.Pattern[str]) -> Iterator[Span]:
    """The stretches between borders, without white space around them; empty ones left out."""
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


def _chunks(text: str, span: Span, most: int) -> Iterator[tuple[Span, int]]:
    """Cut without mercy, after every `most` words."""
    held: list[re.Match[str]] = []
    for unit in _UNIT.finditer(text, *span):
        held.append(unit)
        if len(held) == most:
            yield (held[0].start(), held[-1].end()), most
            held = []
    if held:
        yield (held[0].start(), held[-1].end()), len(held)
