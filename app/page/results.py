"""From hits to HTML: every value from outside is escaped, and only ids go into addresses."""

import re
from collections.abc import Iterable

from app.page import labels
from app.page.labels import escape
from app.search import Glimpse, ResultPage
from embedder.media.kinds import Kind
from indexer import Hit, MediaItem, Segment

_SNIPPET = 260
_FEW = 6


def result_page(page: ResultPage, terms: Iterable[str]) -> str:
    """The cards of a page and, if there are more, a button for them."""
    terms = tuple(terms)
    cards = "".join(hit_card(hit, terms) for hit in page.hits)
    if page.next_offset is None:
        return cards
    part = "&amp;weak=1" if page.weak else ""
    address = f"results/{escape(page.token)}?offset={page.next_offset}{part}"
    return (
        f'{cards}<div class="rz-more"><button type="button" class="rz-button" '
        f'data-more="{address}">Show more</button></div>'
    )


def search_results(strong: ResultPage, weak: ResultPage, terms: Iterable[str]) -> str:
    """A whole answer: the matches, then the weaker ones set apart."""
    terms = tuple(terms)
    if not strong.hits and not weak.hits:
        return notice("Nothing found", "Nothing in the library fits these filters.")
    answer = _matches(strong, terms) + _weaker(strong, weak, terms)
    return f'<div data-answer="{escape(strong.token)}">{answer}</div>'


def _matches(strong: ResultPage, terms: tuple[str, ...]) -> str:
    if not strong.hits:
        return (
            '<p class="rz-count" role="status">No clear match. '
            "These are the nearest things in the library:</p>"
        )
    some = "+" if strong.next_offset is not None else ""
    count = labels.counted(len(strong.hits), "match", "matches") if not some else ""
    told = count or f"More than {len(strong.hits)} matches"
    return (
        f'<p class="rz-count" role="status">{told}</p>'
        f'<div class="rz-grid" role="list">{result_page(strong, terms)}</div>'
    )


def _weaker(strong: ResultPage, weak: ResultPage, terms: tuple[str, ...]) -> str:
    if not weak.hits:
        return ""
    grid = f'<div class="rz-grid" role="list">{result_page(weak, terms)}</div>'
    if not strong.hits:
        return grid
    few = " open" if len(strong.hits) < _FEW else ""  # There is room, and a match may be missing.
    count = f"{len(weak.hits)}{'+' if weak.next_offset is not None else ''}"
    return (
        f'<details class="rz-weak"{few}><summary><span>Weaker matches ({count})</span>'
        f"{labels.CHEVRON}</summary>{grid}</details>"
    )


def hit_card(hit: Hit, terms: tuple[str, ...]) -> str:
    """One result: its picture or words, kind, name, place, how sure, and why."""
    place = hit.segment.place
    percent = round(100 * hit.relevance)
    more = f" · {labels.counted(len(hit.copies), 'copy', 'copies')}" if hit.copies else ""
    foot = (
        f'<span class="rz-score" role="img" aria-label="{percent} percent sure" '
        f'title="{percent}% sure"><i style="width:{max(4, percent)}%"></i></span>'
        f'<span class="rz-why">{escape(labels.reason(hit))}{more}</span>'
    )
    return _card(hit.item, hit.segment, place, foot, terms)


def glimpse_section(found: Iterable[Glimpse]) -> str:
    """Some of what is there, shown before anything is searched."""
    cards = "".join(
        _card(
            one.item,
            one.segment,
            "",
            f'<span class="rz-why">{escape(labels.day(one.item.modified_at))}</span>',
            (),
        )
        for one in found
    )
    return f'<p class="rz-count">In your library</p><div class="rz-grid" role="list">{cards}</div>'


def _card(item: MediaItem, segment: Segment, place: str, foot: str, terms: tuple[str, ...]) -> str:
    badge = f"{labels.KINDS[segment.kind]}<span>{labels.KIND_NAMES[segment.kind]}</span>"
    name = escape(item.name)
    where = f'<span class="rz-place">{escape(place)}</span>' if place else ""
    label = escape(", ".join(filter(None, [item.name, labels.KIND_NAMES[segment.kind], place])))
    return (
        f'<article class="rz-card" role="listitem" data-kind="{segment.kind}">'
        f'<button type="button" class="rz-open" data-segment="{segment.id}" aria-label="{label}">'
        f'<span class="rz-thumb">{_face(segment, terms)}'
        f'<span class="rz-badge">{badge}</span></span>'
        f'<span class="rz-caption"><span class="rz-title"><b title="{name}">{name}</b>{where}'
        f'</span><span class="rz-foot">{foot}</span></span></button></article>'
    )


def _face(segment: Segment, terms: tuple[str, ...]) -> str:
    if segment.kind is Kind.TEXT:
        return f'<span class="rz-words">{snippet(segment.text or "", terms)}</span>'
    play = f'<span class="rz-play">{labels.PLAY}</span>' if segment.kind is Kind.VIDEO else ""
    return f'<img src="thumbnail/{segment.id}" alt="" loading="lazy" decoding="async">{play}'


def snippet(text: str, terms: tuple[str, ...], length: int = _SNIPPET) -> str:
    """A piece of a passage around its first matching word, the matches marked."""
    text = " ".join(text.split())
    found = pattern(terms).search(text) if terms else None
    start = max(0, found.start() - length // 3) if found else 0
    if start:
        start = text.find(" ", start) + 1
    piece = text[start : start + length]
    lead, tail = "… " if start else "", "…" if len(text) > start + length else ""
    return lead + marked(piece, terms) + tail


def marked(text: str, terms: tuple[str, ...]) -> str:
    """Escaped text with the terms in <mark>."""
    if not terms:
        return escape(text)
    parts = pattern(terms).split(text)
    return "".join(
        f"<mark>{escape(part)}</mark>" if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def pattern(terms: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the terms at the beginning of a word; one group around the match."""
    words = sorted(map(re.escape, terms), key=len, reverse=True)
    return re.compile(rf"(\b(?:{'|'.join(words)})\w{{0,3}}\b)", re.IGNORECASE)


def notice(title: str, sentence: str, *, tone: str = "plain", action: str = "") -> str:
    """A panel that says what happened and what to do; `action` is trusted HTML."""
    return (
        f'<div class="rz-notice" data-tone="{escape(tone)}" role="status">'
        f"<h2>{escape(title)}</h2><p>{escape(sentence)}</p>{action}</div>"
    )


def problem(sentence: str) -> str:
    """An error as a sentence with a capital and a full stop."""
    return notice("That did not work", labels.sentence(sentence), tone="error")


def empty_library() -> str:
    """What to do first."""
    action = (
        '<button type="button" class="rz-button rz-primary" data-tab="library">'
        "Add your files</button>"
    )
    return (
        f'<div class="rz-welcome">{labels.STACK}<h2>Search by what things look like</h2>'
        "<p>Add a folder of photos, videos, PDFs or texts. Then describe what you are after, "
        "or drop a picture to find others like it. Everything stays on this machine.</p>"
        f"{action}</div>"
    )
