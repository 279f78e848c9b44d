"""The detail dialog as HTML: one segment, large, with the file it is in."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from unicodedata import bidirectional
from urllib.parse import urlencode

from markupsafe import Markup

from app.desktop import is_opened
from app.page import labels, macros
from app.page.results import marked
from app.sessions import SearchSession
from embedder.content import Modality
from embedder.media import MEDIA_KINDS, Kind, MediaError
from embedder.media.kinds import SEPARATOR, Cue, Details, Word
from embedder.normalisation import occurrences, words
from indexer import Filters, Library, LibraryError, MediaItem, QueryError, Segment
from indexer.catalog.transcripts import cues_of_clips
from indexer.decoding.on_demand import Passage
from indexer.search.query import matching_words

_html = macros("detail.html")
_CONTEXT_CHARACTERS = 1600
_MAX_MARKED_WORDS = 400
_MAX_DRAWN_WORDS = 2_000
_MAX_FOUND_PAGES = 30
_MAX_SHOWN = 1000
_MAX_FILES = 20
_MAX_LINES = 5_000
_PLACE, _SIZE = "Place", "Size"  # labels of `Details` that are shown with others
# Labels whose values lead to a search.
_SEARCHED = frozenset({"Keywords", "People", _PLACE, "Artist", "Album", "Genre"})
_SHOWN_BY_BROWSERS = frozenset(MEDIA_KINDS[Kind.IMAGE].media_types)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that holds what is shown.

    Attributes:
        item_id: Its id.
        path: Its path as this user may see it.
        opens: Whether a program of this machine may open it.
    """

    item_id: int
    path: str
    opens: bool


@dataclass(frozen=True, slots=True)
class Line:
    """What is said in a video at a time.

    Attributes:
        cue: The words and their time.
        clip: The clip in which it begins.
        text: The words, with those of the search marked.
        matches: Whether there are any.
    """

    cue: Cue
    clip: Segment
    text: Markup
    matches: bool


@dataclass(frozen=True, slots=True)
class Transcript:
    """All lines of a track, with its name."""

    name: str
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a detail in parts; a part with an address leads to a search for it."""

    parts: tuple[tuple[Markup, str], ...]


def detail_html(
    library: Library,
    segment_id: int,
    search: SearchSession | None,
    *,
    paths: bool,
    local: bool = False,
    find: str = "",
) -> str:
    """Return the dialog's content.

    Args:
        library: Whose segment it is.
        segment_id: What to show.
        search: Whose words are marked and whose hit is explained, if any.
        paths: Show files with their whole paths, or only with their folder.
        local: Offer to show files in programs of this machine.
        find: What to mark on a page in place of the search's words, and to find in the whole
            document, also inside words.

    Raises:
        NotFound: if there is no such segment.
    """
    segment = library.catalog.segment(segment_id)
    item, missing = library.original(segment_id)
    details, terms = library.catalog.details(item.id), search.terms if search else ()
    transcripts = _transcripts(library, item, details, terms)
    hit = search.hit(segment_id) if search else None
    places = search.places(segment_id) if search else ()
    return _html.dialog(
        segment,
        item,
        missing,
        labels.kind_name(item),
        hit,
        labels.reason(hit) if hit else "",
        _absent(segment, item, missing, terms)
        if missing
        else _stage(
            library,
            segment,
            item,
            terms,
            places,
            find=find,
            start=_start(segment, transcripts),
        ),
        _about(item, details, terms),
        dict(details.facts).get(_SIZE),
        [*_files(library, segment_id, item, paths=paths)],
        _folder(library, item),
        local and missing is None,
        _html.transcripts(transcripts, missing is None),
        sorted(
            (one for one in places if one.id != segment_id), key=lambda segment: segment.position
        ),
        _read_text(library, segment, terms),
    )


def page_segment(library: Library, segment_id: int, page: int) -> int:
    """Return the segment of a page of a segment's document; of the nearest page that has one."""
    pages = library.catalog.segments(library.catalog.item_of(segment_id).id)
    numbered = {one.id: one.page for one in pages if one.page is not None}
    return min(numbered, key=lambda one: abs(numbered[one] - page), default=segment_id)


def _files(
    library: Library, segment_id: int, item: MediaItem, *, paths: bool
) -> Iterator[FileEntry]:
    """Yield the file that is shown, and its copies."""
    _, holders = library.catalog.resolve([segment_id], Filters()).get(segment_id, (None, ()))
    copies = [one for one in holders if one.id != item.id]
    for one in (item, *copies[: _MAX_FILES - 1]):
        path = str(one.path) if paths else f"{one.path.parent.name}/{one.name}"
        yield FileEntry(one.id, path, is_opened(one.path))


def _folder(library: Library, item: MediaItem) -> tuple[str, str] | None:
    """Return the name of a file's folder, and the address that lists it; None if none does."""
    folder = item.path.parent
    with suppress(QueryError):
        labels.folder_of(library, labels.folder_id(folder))
        return folder.name, f"?{urlencode({'folder': labels.folder_id(folder)})}"
    return None


def _about(item: MediaItem, details: Details, terms: Sequence[str]) -> Any:
    """Return what is known about a file: when, where, what people wrote, and with what."""
    texts = {label: _value(label, value, terms) for label, value in details.words}
    coordinates = None
    if details.latitude is not None and details.longitude is not None:
        coordinates = labels.coordinates(details.latitude, details.longitude)
    place = texts.pop(_PLACE, None)
    facts = [pair for pair in details.facts if pair[0] != _SIZE]
    return _html.about(item, place, coordinates, [*texts.items()], facts)


def _value(label: str, text: str, terms: Sequence[str]) -> Value:
    """Return what people wrote; each keyword, person and place leads to a search for it."""
    if label not in _SEARCHED:
        return Value(((marked(_shortened(text), terms), ""),))
    parts = _shortened(text).split(SEPARATOR)
    # In quotes, it is looked for in details, names and texts alone.
    return Value(tuple((marked(one, terms), "?" + urlencode({"q": f'"{one}"'})) for one in parts))


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _transcripts(
    library: Library, item: MediaItem, details: Details, terms: Sequence[str]
) -> list[Transcript]:
    """Return what is said in a file, track by track."""
    clips = library.catalog.segments(item.id) if details.tracks else []
    starts = [clip.start or 0.0 for clip in clips]
    found = []
    for track in details.tracks:
        lines = [
            Line(cue, clip, marked(cue.text, terms), bool(occurrences(cue.text, terms)))
            for clip, cues in zip(clips, cues_of_clips([track], starts), strict=True)
            for cue in cues
        ]
        found.append(Transcript(track.name, lines[:_MAX_LINES]))
    return found


def _start(segment: Segment, transcripts: Sequence[Transcript]) -> float:
    """Return when a clip is played from: where the words of the search are said, if they are."""
    lines = (line for one in transcripts for line in one.lines)
    said = (one.cue.start for one in lines if one.matches and one.clip.id == segment.id)
    return min(said, default=segment.start or 0.0)


def _read_text(library: Library, segment: Segment, terms: Sequence[str]) -> Any:
    """Return the words that were read in the picture, to be selected and copied."""
    lines = [line.text for line in library.catalog.lines(segment.id)]
    if not lines:
        return ""
    text = "\n".join(lines)
    return _html.read_text(text, marked(text, terms, anywhere=segment.kind is not Kind.PDF))


def _absent(segment: Segment, item: MediaItem, missing: Path, terms: Sequence[str]) -> Any:
    """Return what the library has of a file that is not there, and why not more."""
    text = marked(segment.text or "", terms)
    return _html.missing(segment, labels.unavailable(item, missing), text)


def _stage(
    library: Library,
    segment: Segment,
    item: MediaItem,
    terms: Sequence[str],
    places: Sequence[Segment],
    *,
    find: str,
    start: float,
) -> Any:
    if segment.kind is Kind.AUDIO:
        return _html.audio(segment, item)
    match MEDIA_KINDS[segment.kind].modality:
        case Modality.PAGE:
            return _page(library, segment, item, terms, find)
        case Modality.IMAGE if segment.page is not None:
            return _page(library, segment, item, terms, find)
        case Modality.TEXT:
            passage = _passage(library, segment, item)
            return _html.passage(passage, marked(passage.text, terms))
        case modality:
            # Browsers show animated pictures, which are videos too.
            shown = item.path.suffix.lower() in _SHOWN_BY_BROWSERS
            if modality is Modality.VIDEO and not shown:
                clips = library.catalog.segments(item.id)
                matching = {one.id for one in places}
                return _html.video(segment, item.path, clips, matching, start)
            source = f"media/{segment.id}" if shown else f"page/{segment.id}.webp"
            sharper = "" if shown else f"{source}?side=2400"
            words_found = matching_words(library.catalog.words(segment.id), terms, segment.kind)
            return _html.picture(
                segment, item, source, sharper, [*islice(words_found, _MAX_MARKED_WORDS)]
            )


def _page(
    library: Library, segment: Segment, item: MediaItem, terms: Sequence[str], find: str
) -> Any:
    number = segment.page or 1
    pages = {page.page: page for page in library.catalog.segments(item.id) if page.page}
    drawn = library.catalog.words(segment.id)
    before = max((page for page in pages if page < number), default=0)
    after = min((page for page in pages if page > number), default=0)
    sought = [" ".join(words(find))] if words(find) else []
    found = [
        page
        for page in pages.values()
        if sought and occurrences(library.catalog.text(page) or "", sought, anywhere=True)
    ]
    marks = _boxes(drawn, sought) if sought else matching_words(drawn, terms, segment.kind)
    return _html.pdf_page(
        segment,
        item,
        number,
        max(pages, default=number),
        pages.get(before),
        pages.get(after),
        drawn[:_MAX_DRAWN_WORDS],
        [*islice(marks, _MAX_MARKED_WORDS)],
        find if sought else "",
        found[:_MAX_FOUND_PAGES],
    )


def _boxes(drawn: Sequence[Word], sought: Sequence[str]) -> Iterator[Word]:
    """Yield the parts of words that are sought; where a letter is in a word is estimated."""
    ends = [*accumulate(len(word.text) + 1 for word in drawn)]
    for start, end in occurrences(" ".join(word.text for word in drawn), sought, anywhere=True):
        for place in range(bisect_right(ends, start), bisect_left(ends, end) + 1):
            word = drawn[place]
            begin = ends[place] - len(word.text) - 1
            yield _part(word, max(start - begin, 0), min(end - begin, len(word.text)))


def _part(word: Word, start: int, end: int) -> Word:
    if any(bidirectional(letter) in {"R", "AL"} for letter in word.text):
        return word  # Written from the right.
    width = (word.right - word.left) / len(word.text)
    return replace(word, left=word.left + start * width, right=word.left + end * width)


def _passage(library: Library, segment: Segment, item: MediaItem) -> Passage:
    """Return the passage in its context; without it where the file cannot be read just now."""
    if segment.span is not None:
        with suppress(MediaError, LibraryError):
            return library.viewer.passage(item.path, segment.span, _CONTEXT_CHARACTERS)
    return Passage("", segment.text or "", "", first=True, last=True)
