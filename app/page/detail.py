"""One find, large: what the detail dialog shows of a segment."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.page import labels
from app.page.labels import escape
from app.page.results import marked, pattern
from embedder.media.kinds import Kind, MediaError, Word
from indexer import Hit, Library, LibraryError, MediaItem, Segment
from indexer.decoding.on_demand import Passage

_CONTEXT = 1600
_MOST_MARKS = 400
SHOWN_BY_BROWSERS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".avif", ".bmp"})


@dataclass(frozen=True, slots=True)
class Detail:
    """A segment with what stands around it.

    Attributes:
        segment: What was found.
        item: The file it is in.
        siblings: All segments of that file, in order.
        terms: Words to mark.
        hit: The search result, where the segment is one.
    """

    segment: Segment
    item: MediaItem
    siblings: tuple[Segment, ...]
    terms: tuple[str, ...] = ()
    hit: Hit | None = None


def load(
    library: Library, segment_id: int, terms: Iterable[str] = (), hit: Hit | None = None
) -> Detail:
    """Collects what the dialog shows.

    Raises:
        NotFound: if there is no such segment.
    """
    segment = library.segment(segment_id)
    item = library.item_of(segment_id)
    return Detail(segment, item, tuple(library.segments(item.id)), tuple(terms), hit)


def render(library: Library, detail: Detail, *, paths: bool) -> str:
    """The dialog's content as HTML; every value is escaped.

    Args:
        library: That it is in.
        detail: What to show.
        paths: Whether files are named with their whole paths, or only with their folder.
    """
    place = detail.segment.place
    title = escape(detail.item.name)
    return (
        f'<div class="rz-detail" data-segment="{detail.segment.id}" '
        f'data-kind="{detail.segment.kind}" data-name="{title}">'
        f'<div class="rz-stage">{_stage(library, detail)}</div>'
        f'<aside class="rz-side"><p class="rz-side-kind">'
        f"{labels.KINDS[detail.segment.kind]}{labels.kind_name(detail.item)}"
        f"{' · ' + escape(place) if place else ''}</p>"
        f'<h2 id="rz-detail-title">{title}</h2>{_why(detail)}{_actions(detail)}'
        f"{_facts(detail, paths)}{_moments(detail)}</aside></div>"
    )


def _stage(library: Library, detail: Detail) -> str:
    if not detail.item.path.is_file():
        return (
            '<p class="rz-missing">The file is no longer where it was. '
            "Add its folder again to bring the library up to date.</p>"
        )
    match detail.segment.kind:
        case Kind.VIDEO:
            return _video(detail)
        case Kind.PDF:
            return _pdf_page(library.words(detail.segment.id), detail)
        case Kind.TEXT:
            return _passage(library, detail)
        case _:
            return _picture(detail)


def _picture(detail: Detail) -> str:
    plain = detail.item.path.suffix.lower() in SHOWN_BY_BROWSERS
    address = f"media/{detail.segment.id}" if plain else f"page/{detail.segment.id}.png"
    return f'<img class="rz-full" src="{address}" alt="{escape(detail.item.name)}">'


def _video(detail: Detail) -> str:
    start = detail.segment.start or 0.0
    if detail.item.path.suffix.lower() in SHOWN_BY_BROWSERS:  # An animated picture.
        return _picture(detail)
    return (
        f'<video class="rz-full" controls autoplay playsinline preload="metadata" '
        f'data-start="{start:.3f}" poster="thumbnail/{detail.segment.id}" '
        f'src="media/{detail.segment.id}#t={start:.3f}"></video>'
        '<p class="rz-missing" hidden>This browser cannot play this kind of video. '
        "Download it to watch it in another player.</p>"
    )


def _pdf_page(words: Sequence[Word], detail: Detail) -> str:
    number = detail.segment.page or 1
    pages = {segment.page: segment.id for segment in detail.siblings if segment.page}
    ordered = sorted(pages)
    index = ordered.index(number) if number in pages else 0
    before = pages[ordered[index - 1]] if index > 0 else None
    after = pages[ordered[index + 1]] if index + 1 < len(ordered) else None
    return (
        f'<div class="rz-sheet"><img src="page/{detail.segment.id}.png?side=1600" '
        f'alt="Page {number} of {escape(detail.item.name)}">'
        f"{_marks(words, detail.terms)}</div>"
        f'<nav class="rz-turn" aria-label="Pages">{_turn(before, "Previous page", labels.BACK)}'
        f"<span>Page {number} of {max(pages, default=number)}</span>"
        f"{_turn(after, 'Next page', labels.FORWARD)}</nav>"
    )


def _turn(segment_id: int | None, label: str, icon: str) -> str:
    target = f'data-turn="{segment_id}"' if segment_id is not None else "disabled"
    return f'<button type="button" class="rz-icon" aria-label="{label}" {target}>{icon}</button>'


def _marks(words: Sequence[Word], terms: Sequence[str]) -> str:
    single = [word for term in terms for word in term.split()]
    if not single:
        return ""
    wanted = pattern(single)
    found = [word for word in words if wanted.search(word.text)][:_MOST_MARKS]
    return "".join(
        f'<i style="left:{100 * word.left:.2f}%;top:{100 * word.top:.2f}%;'
        f"width:{100 * (word.right - word.left):.2f}%;"
        f'height:{100 * (word.bottom - word.top):.2f}%"></i>'
        for word in found
    )


def _passage(library: Library, detail: Detail) -> str:
    found = _surrounded(library, detail)
    lead, tail = "" if found.first else "… ", "" if found.last else " …"
    return (
        f'<div class="rz-text" tabindex="0" role="document"><span>{lead}{escape(found.before)}'
        f'</span><span class="rz-passage">{marked(found.text, detail.terms)}</span>'
        f"<span>{escape(found.after)}{tail}</span></div>"
    )


def _surrounded(library: Library, detail: Detail) -> Passage:
    """The passage in its context; without it where the file cannot be read just now."""
    if detail.segment.span is not None:
        with suppress(MediaError, LibraryError):
            return library.viewer.passage(detail.item.path, detail.segment.span, _CONTEXT)
    return Passage("", detail.segment.text or "", "", first=True, last=True)


def _why(detail: Detail) -> str:
    if detail.hit is None:
        return ""
    percent = round(100 * detail.hit.relevance)
    return (
        f'<p class="rz-side-why"><span class="rz-score"><i style="width:{max(4, percent)}%"></i>'
        f"</span>{escape(labels.reason(detail.hit))} ({percent}%)</p>"
    )


def _actions(detail: Detail) -> str:
    segment = detail.segment.id
    return (
        '<div class="rz-actions">'
        f'<button type="button" class="rz-button rz-primary" data-similar="{segment}">'
        f"{labels.SIMILAR}More like this</button>"
        f'<a class="rz-button" href="media/{segment}?download=1" download>'
        f"{labels.DOWNLOAD}Download</a></div>"
    )


def _facts(detail: Detail, whole: bool) -> str:
    item = detail.item
    copies = detail.hit.copies if detail.hit else ()
    files = [item.path, *copies]
    shown = [str(one) if whole else f"{one.parent.name}/{one.name}" for one in files]
    paths = "".join(map(_path, shown))
    return (
        '<dl class="rz-facts">'
        f"<div><dt>Date</dt><dd>{escape(labels.day(item.modified_at))}</dd></div>"
        f"<div><dt>Size</dt><dd>{labels.size(item.size)}</dd></div>"
        f"<div><dt>{'Files' if copies else 'File'}</dt><dd>{paths}</dd></div></dl>"
    )


def _path(path: str) -> str:
    shown = escape(path)
    return (
        f'<span class="rz-path"><code>{shown}</code><button type="button" class="rz-icon" '
        f'data-copy="{shown}" aria-label="Copy the path">{labels.COPY}</button></span>'
    )


def _moments(detail: Detail) -> str:
    """Further matches in the same file: clips to jump to, or passages to open."""
    more = detail.hit.more if detail.hit else ()
    if not more:
        return ""
    links = "".join(
        f'<button type="button" class="rz-moment" data-turn="{segment.id}">{_moment(segment)}'
        "</button>"
        for segment in sorted(more, key=lambda segment: segment.position)
    )
    return f'<h3>Also in this file</h3><div class="rz-moments">{links}</div>'


def _moment(segment: Segment) -> str:
    place = segment.place
    if segment.kind is Kind.TEXT:
        return f"<span>{escape(' '.join((segment.text or '').split())[:90])}…</span>"
    return f'<img src="thumbnail/{segment.id}" alt="" loading="lazy"><span>{escape(place)}</span>'
