"""The detail dialog as HTML: one segment, large, with the file it is in."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app.page import labels, macros
from app.page.results import marked, word_pattern
from embedder.media.kinds import Kind, MediaError, Word
from indexer import Hit, Library, LibraryError, MediaItem, Segment
from indexer.decoding.on_demand import Passage

_html = macros("detail.html")
_CONTEXT_CHARACTERS = 1600
_MAX_MARKED_WORDS = 400
SHOWN_BY_BROWSERS = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".avif", ".bmp"})


@dataclass(frozen=True, slots=True)
class Detail:
    """A segment with its context.

    Attributes:
        segment: What is shown.
        item: Its file.
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
    library: Library, segment_id: int, terms: Sequence[str] = (), hit: Hit | None = None
) -> Detail:
    """Load what the dialog shows.

    Raises:
        NotFound: if there is no such segment.
    """
    segment = library.segment(segment_id)
    item = library.item_of(segment_id)
    return Detail(segment, item, tuple(library.segments(item.id)), tuple(terms), hit)


def detail_html(library: Library, detail: Detail, *, paths: bool) -> str:
    """Return the dialog's content.

    Args:
        library: Whose segment it is.
        detail: What to show.
        paths: Show files with their whole paths, or only with their folder.
    """
    hit = detail.hit
    files = [detail.item.path, *(hit.copies if hit else ())]
    return str(
        _html.dialog(
            detail.segment,
            detail.item,
            labels.kind_name(detail.item),
            hit,
            labels.reason(hit) if hit else "",
            _stage(library, detail),
            [str(file) if paths else f"{file.parent.name}/{file.name}" for file in files],
            sorted(hit.more if hit else (), key=lambda segment: segment.position),
        )
    )


def _stage(library: Library, detail: Detail) -> Any:
    segment, item = detail.segment, detail.item
    if not item.path.is_file():
        return _html.missing()
    match segment.kind:
        case Kind.PDF:
            return _pdf_page(library.words(segment.id), detail)
        case Kind.TEXT:
            passage = _passage(library, detail)
            return _html.passage(passage, marked(passage.text, detail.terms))
        case _:
            shown = item.path.suffix.lower() in SHOWN_BY_BROWSERS
            if segment.kind is Kind.VIDEO and not shown:
                return _html.video(segment)
            source = f"media/{segment.id}" if shown else f"page/{segment.id}.png"
            return _html.picture(segment, item, source)


def _pdf_page(words: Sequence[Word], detail: Detail) -> Any:
    number = detail.segment.page or 1
    pages = {segment.page: segment.id for segment in detail.siblings if segment.page}
    before = max((page for page in pages if page < number), default=0)
    after = min((page for page in pages if page > number), default=0)
    return _html.pdf_page(
        detail.segment,
        detail.item,
        number,
        max(pages, default=number),
        pages.get(before),
        pages.get(after),
        _matching_words(words, detail.terms),
    )


def _matching_words(words: Sequence[Word], terms: Sequence[str]) -> list[Word]:
    single = [word for term in terms for word in term.split()]
    if not single:
        return []
    pattern = word_pattern(single)
    return [word for word in words if pattern.search(word.text)][:_MAX_MARKED_WORDS]


def _passage(library: Library, detail: Detail) -> Passage:
    """Return the passage in its context; without it where the file cannot be read just now."""
    if detail.segment.span is not None:
        with suppress(MediaError, LibraryError):
            return library.viewer.passage(
                detail.item.path, detail.segment.span, _CONTEXT_CHARACTERS
            )
    return Passage("", detail.segment.text or "", "", first=True, last=True)
