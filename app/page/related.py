"""What else belongs to a file: what was there at the same time, and what other kinds show of it."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from app.page import labels, macros
from embedder import EmbedderError
from embedder.media.kinds import Kind
from indexer import Filters, IndexerError, Library, MediaItem, Query, QueryPart, Segment

_html = macros("related.html")
_EACH_WAY = 6  # Files shown before and after.
_READ = 4 * _EACH_WAY  # Some may be copies.
_SPANS = tuple(map(timedelta, (1, 7, 31, 366)))
_MAX_RELATED = 8
_MAX_HITS = 24  # Several may be of one file.


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A file beside the one that is shown.

    Attributes:
        item: The file.
        segment: What of it is shown.
        note: Its date, or why and where it is like the other one.
    """

    item: MediaItem
    segment: Segment
    note: str


def related_html(library: Library, segment_id: int) -> str:
    """Return strips of the files around a segment's file in time, and of other kinds like it.

    Raises:
        NotFound: if there is no such segment.
    """
    segment, item = library.catalog.segment(segment_id), library.catalog.item_of(segment_id)
    around = _around(library, item)
    days = [one.item.date.date() for one in (around[0], around[-1])] if around else None
    return _html.related(around, days, _like(library, segment, item))


def _around(library: Library, item: MediaItem) -> list[Neighbour]:
    """Return the files next to a file in time, of any kind and in order.

    They are of a day before or after it; if there are none, of a week, a month or a year.
    """
    timeline, date = library.catalog.timeline, item.date
    before = timeline.files(Filters(before=date), limit=_READ)
    after = timeline.files(Filters(after=date), limit=_READ, oldest_first=True)
    for span in _SPANS:
        earlier, later = (_within(side, item, span) for side in (before, after))
        if earlier or later:
            both = (*reversed(earlier), *later)
            return [Neighbour(*one, labels.day(one[0].date)) for one in both]
    return []


def _within(
    files: Sequence[tuple[MediaItem, Segment]], item: MediaItem, span: timedelta
) -> list[tuple[MediaItem, Segment]]:
    """Return those files whose dates are not far from a file's, without its and their copies."""
    seen, found = {item.content_hash}, []
    for one in files:
        if one[0].content_hash not in seen and abs(one[0].date - item.date) <= span:
            seen.add(one[0].content_hash)
            found.append(one)
    return found[:_EACH_WAY]


def _like(library: Library, segment: Segment, item: MediaItem) -> list[Neighbour]:
    """Return the files of other kinds that are more likely than not like a segment, best first.

    There are none where the library cannot be searched, as while its model is missing.
    """
    others = frozenset(Kind) - {segment.kind}
    query = Query((QueryPart(segment_id=segment.id),), Filters(kinds=others), limit=_MAX_HITS)
    found: dict[int, Neighbour] = {}
    with suppress(IndexerError, EmbedderError):
        for hit in library.search(query):
            if not hit.weak and hit.item.id != item.id:
                place = labels.place(hit.segment, hit.item.path)
                note = " · ".join(filter(None, (place, labels.reason(hit))))
                found.setdefault(hit.item.id, Neighbour(hit.item, hit.segment, note))
    return [*found.values()][:_MAX_RELATED]
