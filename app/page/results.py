"""Search results as HTML: cards, snippets with the matching words marked, and notices."""

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from app.page import labels, macros
from app.search import ResultPage
from indexer import Hit, MediaItem, Segment

_html = macros("results.html")
_SNIPPET_LENGTH = 260
_MAX_STRONG_BESIDE_WEAK = 6


def cards(page: ResultPage, terms: Sequence[str]) -> str:
    """Return the cards of a page of hits and, if there are more, a button for them."""
    return _html.cards(page, terms, _reason, snippet)


def search_results(strong: ResultPage, weak: ResultPage, terms: Sequence[str]) -> str:
    """Return a whole answer: the matches, then the weaker ones in a section of their own."""
    if not strong.hits and not weak.hits:
        return notice("No results", "Nothing in the library matches these filters.")
    # With few matches there is room, and one may be missing.
    weak_open = len(strong.hits) < _MAX_STRONG_BESIDE_WEAK
    return _html.answer(strong, weak, terms, weak_open, _reason, snippet)


def home(files: Sequence[tuple[MediaItem, Segment]]) -> str:
    """Return cards of some files, shown before any search, or how to begin if there are none."""
    return _html.home(files, snippet)


def notice(title: str, text: str, *, tone: str = "plain") -> str:
    """Return a panel that says what happened and what to do."""
    return _html.notice(title, text, tone)


def problem(message: str) -> str:
    """Return an error message as a panel."""
    return notice("That did not work", labels.sentence(message), tone="error")


def _reason(hit: Hit) -> str:
    if not hit.copies:
        return labels.reason(hit)
    return f"{labels.reason(hit)} · {labels.counted(len(hit.copies), 'copy', 'copies')}"


def snippet(segment: Segment, terms: Sequence[str]) -> Markup:
    """Return the part of a text around its first matching word, with the matches marked."""
    text, length = " ".join((segment.text or "").split()), _SNIPPET_LENGTH
    match = word_pattern(terms).search(text) if terms else None
    start = max(0, match.start() - length // 3) if match else 0
    if start:
        start = text.find(" ", start) + 1
    lead, tail = "… " if start else "", "…" if len(text) > start + length else ""
    return lead + marked(text[start : start + length], terms) + tail


def marked(text: str, terms: Sequence[str]) -> Markup:
    """Return escaped text with the terms in <mark>."""
    parts = word_pattern(terms).split(text) if terms else [text]
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if i % 2 else part for i, part in enumerate(parts)
    )


def word_pattern(terms: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of any term at the beginning of a word; one group around the match."""
    words = sorted(map(re.escape, terms), key=len, reverse=True)
    return re.compile(rf"(\b(?:{'|'.join(words)})\w{{0,3}}\b)", re.IGNORECASE)
