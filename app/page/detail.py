"""The detail dialog as HTML: one segment, large, with the file it is in."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from app.page import labels, macros
from app.page.results import marked, word_pattern
from app.search import SearchSession
from embedder.content import Modality
from embedder.media import MEDIA_KINDS, Kind, MediaError
from embedder.media.kinds import Word
from indexer import Library, LibraryError, MediaItem, Segment
from indexer.decoding.on_demand import Passage

_html = macros("detail.html")
_CONTEXT_CHARACTERS = 1600
_MAX_MARKED_WORDS = 400
_SHOWN_BY_BROWSERS = frozenset(MEDIA_KINDS[Kind.IMAGE].media_types)


def detail_html(
    library: Library, segment_id: int, search: SearchSession | None, *, paths: bool
) -> str:
    """Return the dialog's content.

    Args:
        library: Whose segment it is.
        segment_id: What to show.
        search: Whose words are marked and whose hit is explained, if any.
        paths: Show files with their whole paths, or only with their folder.

    Raises:
        NotFound: if there is no such segment.
    """
    segment, item = library.catalog.segment(segment_id), library.catalog.item_of(segment_id)
    hit = search.hit(segment_id) if search else None
    files = [item.path, *(hit.copies if hit else ())]
    return _html.dialog(
        segment,
        item,
        labels.kind_name(item),
        hit,
        labels.reason(hit) if hit else "",
        _stage(library, segment, item, search.terms if search else ()),
        [str(file) if paths else f"{file.parent.name}/{file.name}" for file in files],
        sorted(hit.more if hit else (), key=lambda segment: segment.position),
    )


def _stage(library: Library, segment: Segment, item: MediaItem, terms: Sequence[str]) -> Any:
    if not item.path.is_file():
        return _html.missing()
    match MEDIA_KINDS[segment.kind].modality:
        case Modality.PAGE:
            return _page(library, segment, item, terms)
        case Modality.TEXT:
            passage = _passage(library, segment, item)
            return _html.passage(passage, marked(passage.text, terms))
        case modality:
            # Browsers show animated pictures, which are videos too.
            shown = item.path.suffix.lower() in _SHOWN_BY_BROWSERS
            if modality is Modality.VIDEO and not shown:
                return _html.video(segment)
            source = f"media/{segment.id}" if shown else f"page/{segment.id}.png"
            return _html.picture(segment, item, source)


def _page(library: Library, segment: Segment, item: MediaItem, terms: Sequence[str]) -> Any:
    number = segment.page or 1
    pages = {
        sibling.page: sibling.id for sibling in library.catalog.segments(item.id) if sibling.page
    }
    before = max((page for page in pages if page < number), default=0)
    after = min((page for page in pages if page > number), default=0)
    return _html.pdf_page(
        segment,
        item,
        number,
        max(pages, default=number),
        pages.get(before),
        pages.get(after),
        _matching_words(library.catalog.words(segment.id), terms),
    )


def _matching_words(words: Sequence[Word], terms: Sequence[str]) -> list[Word]:
    single = [word for term in terms for word in term.split()]
    if not single:
        return []
    pattern = word_pattern(single)
    return [word for word in words if pattern.search(word.text)][:_MAX_MARKED_WORDS]


def _passage(library: Library, segment: Segment, item: MediaItem) -> Passage:
    """Return the passage in its context; without it where the file cannot be read just now."""
    if segment.span is not None:
        with suppress(MediaError, LibraryError):
            return library.viewer.passage(item.path, segment.span, _CONTEXT_CHARACTERS)
    return Passage("", segment.text or "", "", first=True, last=True)
