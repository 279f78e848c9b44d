"""Search results as HTML: cards, snippets with the matching words marked, and notices."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from app.page import labels, macros
from app.sessions import Card, ResultPage, SearchSession
from app.texts import _, ngettext
from embedder.normalisation import occurrences
from indexer import MediaItem, Segment

_html = macros("results.html")
_SNIPPET_LENGTH = 260
_MAX_STRONG_BESIDE_WEAK = 6


def cards(page: ResultPage, terms: Sequence[str]) -> str:
    """Return the cards of a page of hits and, if there are more, a button for them."""
    return _html.cards(page, terms, _foot, snippet)


def search_results(session: SearchSession) -> str:
    """Return a whole answer: the matches, then the weaker ones in a section of their own.

    Raises:
        QueryError: if the query cannot be answered.
        NotFound: if the library has another model than when the search began.
    """
    strong = session.page()
    # With few matches there is room, and one may be missing.
    weak_open = len(strong.cards) < _MAX_STRONG_BESIDE_WEAK
    return _html.answer(session, strong, matches(session), weak_open, _foot, snippet)


def matches(session: SearchSession) -> str:
    """Return how many files match, as a heading."""
    count, is_all = session.matches()
    if is_all:
        return ngettext("{n} match", "{n} matches", count)
    return _("More than {n} matches", n=count)


def file_cards(files: Sequence[tuple[MediaItem, Segment]], missing: Mapping[Path, Path]) -> str:
    """Return cards of files that no words were asked for.

    Args:
        files: The files, and where each begins.
        missing: What is not connected, by the paths of files that are not there.
    """
    return _html.file_cards(files, missing, snippet)


def nothing_found(has_files: bool, filtered: bool) -> str:
    """Return a panel for a search without a result.

    Args:
        has_files: Whether the library has any file.
        filtered: Whether filters were set, which can be reset.
    """
    return _html.nothing_found(has_files, filtered)


def notice(title: str, text: str, *, tone: str = "plain") -> str:
    """Return a panel that says what happened and what to do."""
    return _html.notice(title, text, tone)


def problem(message: str) -> str:
    """Return an error message as a panel."""
    return notice(_("That did not work"), labels.sentence(message), tone="error")


def _foot(card: Card) -> str:
    reason, copies = labels.reason(card.hit), len(card.hit.copies)
    return f"{reason} · {ngettext('{n} copy', '{n} copies', copies)}" if copies else reason


def snippet(segment: Segment, terms: Sequence[str]) -> Markup:
    """Return the part of a text around its first matching word, with the matches marked.

    Of a clip, it is the line with most of them, and empty where nothing matches.
    """
    if segment.start is not None:
        return _line(segment, terms)
    text, length = " ".join((segment.text or "").split()), _SNIPPET_LENGTH
    found = occurrences(text, terms)
    start = max(0, found[0][0] - length // 3) if found else 0
    if start:
        start = text.find(" ", start) + 1
    lead, tail = "… " if start else "", "…" if len(text) > start + length else ""
    return lead + marked(text[start : start + length], terms) + tail


def _line(segment: Segment, terms: Sequence[str]) -> Markup:
    lines = (segment.text or "").split("\n")
    best = max(lines, key=lambda line: len(occurrences(line, terms)))
    return marked(best[:_SNIPPET_LENGTH], terms) if occurrences(best, terms) else Markup("")


def marked(text: str, terms: Sequence[str], *, anywhere: bool = False) -> Markup:
    """Return escaped text with the terms in <mark>, where `anywhere` also inside words."""
    parts, end = [], 0
    for span in occurrences(text, terms, anywhere=anywhere):
        parts += [text[end : span[0]], Markup("<mark>{}</mark>").format(text[slice(*span)])]
        end = span[1]
    return Markup("").join([*parts, text[end:]])
