"""Labels: kinds, reasons, numbers, times and folders as the page shows them."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from app import texts
from app.dates import Period
from app.texts import N_, _, ngettext
from embedder.media import page_noun
from embedder.media.kinds import Kind
from indexer import DateSource, Filters, Hit, Library, MediaItem, QueryError, Reason, Segment
from indexer.types import clock


@dataclass(frozen=True, slots=True)
class KindLabel:
    """What the page calls a kind of file, in English: its texts are translated where they stand.

    Attributes:
        name: One file.
        plural: Several files.
        icon: The macro in icons.html that draws it.
        counted: Returns a number of its segments in words, translated.
        similar: The reason for a hit whose picture is similar.
    """

    name: str
    plural: str
    icon: str
    counted: Callable[[int], str]
    similar: str = N_("similar picture")


KIND_LABELS: Mapping[Kind, KindLabel] = {
    Kind.IMAGE: KindLabel(
        N_("Photo"), N_("Photos"), "image", lambda n: ngettext("{n} picture", "{n} pictures", n)
    ),
    Kind.VIDEO: KindLabel(
        N_("Video"),
        N_("Videos"),
        "video",
        lambda n: ngettext("{n} clip", "{n} clips", n),
        similar=N_("similar frame"),
    ),
    Kind.AUDIO: KindLabel(
        N_("Audio"),
        N_("Audio"),
        "audio",
        lambda n: ngettext("{n} recording", "{n} recordings", n),
        similar=N_("similar text"),
    ),
    Kind.PDF: KindLabel(
        N_("PDF"), N_("PDFs"), "pdf", lambda n: ngettext("{n} page", "{n} pages", n)
    ),
    Kind.TEXT: KindLabel(
        N_("Text"), N_("Texts"), "text", lambda n: ngettext("{n} passage", "{n} passages", n)
    ),
}

_REASONS = {
    Reason.WORDS: N_("contains your words"),
    Reason.FILE_NAME: N_("file name matches"),
    Reason.TEXT: N_("similar text"),
}

DATE_SOURCES: Mapping[DateSource, str] = {
    DateSource.FILE_NAME: N_("from the file name"),
    DateSource.MODIFIED: N_("modified"),
}
"""What is said about a date that is not the file's own."""

DETAILS = (
    *(N_("Title"), N_("Caption"), N_("Keywords"), N_("People"), N_("Place"), N_("Author")),
    *(N_("Subject"), N_("Camera"), N_("Lens"), N_("Exposure"), N_("Altitude"), N_("Copyright")),
    *(N_("Rating"), N_("Size"), N_("Duration"), N_("Encoding"), N_("Pages"), N_("Slides")),
    *(N_("Sheets"), N_("Tables"), N_("Words"), N_("Contacts"), N_("Events")),
    *(N_("Category"), N_("Description"), N_("Subtitles")),
    *(N_("Artist"), N_("Album"), N_("Genre"), N_("Year"), N_("Lyrics")),
)
"""The labels of `embedder.media.kinds.Details`."""

_FACTS = (
    (re.compile(r"(?P<size>\d+ × \d+) pixels"), N_("{size} pixels")),
    (re.compile(r"(?P<stars>\d) of 5"), N_("{stars} of 5")),
    (
        re.compile(r"(?P<codec>.+), (?P<rate>[\d.]+) frames a second"),
        N_("{codec}, {rate} frames a second"),
    ),
)

_PAGES = {
    "page": N_("page {n}"),
    "slide": N_("slide {n}"),
    "sheet": N_("sheet {n}"),
    "section": N_("section {n}"),
    "message": N_("message {n}"),
    "contact": N_("contact {n}"),
    "entry": N_("entry {n}"),
}
"""Where in a file of pages, by what `page_noun` calls these."""

OTHERS = (
    N_("the first date comes after the last one: swap the dates"),
    N_("the query is empty: give words or a file that hits should be like, not only unlike"),
    N_("too many files are being decoded: try again in a moment"),
    N_("the favourites can be neither renamed nor deleted"),
    N_("the file is empty"),
    N_("the document is protected by a password; save it without one"),
    N_("the PDF is protected by a password; save it without one"),
    N_("the video is protected against copying (DRM) and cannot be decoded"),
    N_("the video has no frame that can be decoded: it is damaged or truncated"),
    N_("the picture has no pixels"),
    N_("the mail is damaged"),
    N_("decoding it takes too much memory"),
)
"""What `indexer` and `embedder` say most often; their other messages are shown in English."""

_NAME_FIRST = re.compile(r"\S*[./\\]\w")  # photo.jpg, http://…
_SURROGATES = re.compile("[\ud800-\udfff]")


def readable(name: str) -> str:
    """Replace lone surrogates by �.

    Python decodes the bytes of a file's name that are no UTF-8 to them, and neither JSON nor HTML
    can hold them.
    """
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", name)


def duration(seconds: float) -> str:
    """Format a duration: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def size(count: float) -> str:
    """Format a number of bytes, with a unit that keeps it short."""
    if count < 1000:
        return ngettext("{n} byte", "{n} bytes", int(count))
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{texts.number(count, 0 if count >= 10 else 1)} {unit}"
    return f"{texts.number(count / 1000, 1)} TB"


def day(moment: datetime) -> str:
    """Format a date without a time: 3 May 2024."""
    return texts.day(moment)


def moment(moment: datetime) -> str:
    """Format a date with its time, unless that is midnight, as where only the day is known."""
    time = "" if (moment.hour, moment.minute) == (0, 0) else f", {moment:%H:%M}"
    return f"{day(moment)}{time}"


def ago(moment: datetime) -> str:
    """Format how long ago something was: "5 min ago", "3 h ago"; the day after a day."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 60:
        return _("just now")
    if seconds < 86_400:
        return _("{duration} ago", duration=duration(seconds))
    return day(moment.astimezone())


def period(period: Period) -> str:
    """Format days that belong together: May 2024, 2019, 1 Jun 2024 – 31 Aug 2024."""
    first, last = period.first, period.last
    if first is None or last is None:
        if first is not None:
            return _("from {day}", day=texts.day(first))
        return _("until {day}", day=texts.day(last)) if last is not None else ""
    if first == last:
        return texts.day(first)
    if (first.month, first.day, last.month, last.day) == (1, 1, 12, 31):
        years = dict.fromkeys((texts.day(first, "y"), texts.day(last, "y")))
        return " – ".join(years)
    if first.day == 1 and (last + timedelta(days=1)).day == 1:
        return " – ".join(dict.fromkeys((texts.day(first, "yMMMM"), texts.day(last, "yMMMM"))))
    return f"{texts.day(first)} – {texts.day(last)}"


@dataclass(frozen=True, slots=True)
class Coordinates:
    """A place on Earth: for people, for programs, and where a map on the web shows it."""

    text: str
    decimal: str
    map: str


def coordinates(latitude: float, longitude: float) -> Coordinates:
    """Format degrees as 48.20820° N, 16.37380° E."""
    north, east = texts.number(abs(latitude), 5), texts.number(abs(longitude), 5)
    return Coordinates(
        ", ".join(
            [
                _("{degrees}° N", degrees=north)
                if latitude >= 0
                else _("{degrees}° S", degrees=north),
                _("{degrees}° E", degrees=east)
                if longitude >= 0
                else _("{degrees}° W", degrees=east),
            ]
        ),
        f"{latitude:.5f},{longitude:.5f}",
        "https://www.openstreetmap.org/"
        f"?mlat={latitude:.5f}&mlon={longitude:.5f}#map=15/{latitude:.5f}/{longitude:.5f}",
    )


def sentence(text: str) -> str:
    """Translate a message; add a capital, unless it begins with a file's name, and a full stop."""
    text = _(text)
    if not _NAME_FIRST.match(text):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def reason(hit: Hit) -> str:
    """Return why a hit matched, in a few words."""
    similar = KIND_LABELS[hit.segment.kind].similar
    reasons = ", ".join(dict.fromkeys(_(_REASONS.get(why, similar)) for why in hit.why[:2]))
    return reasons[:1].upper() + reasons[1:]


def further_places(item: MediaItem, places: Sequence[Segment]) -> str:
    """Return how many places of a file match beside the first: "+21 pages", "+3 moments"."""
    n, first = len(places) - 1, places[0]
    if n < 1:
        return ""
    noun = page_noun(item.path) if first.page else "passage" if first.start is None else "moment"
    match noun:
        case "slide":
            return ngettext("+{n} slide", "+{n} slides", n)
        case "sheet":
            return ngettext("+{n} sheet", "+{n} sheets", n)
        case "section":
            return ngettext("+{n} section", "+{n} sections", n)
        case "message":
            return ngettext("+{n} message", "+{n} messages", n)
        case "contact":
            return ngettext("+{n} contact", "+{n} contacts", n)
        case "entry":
            return ngettext("+{n} entry", "+{n} entries", n)
        case "moment":
            return ngettext("+{n} moment", "+{n} moments", n)
        case "passage":
            return ngettext("+{n} passage", "+{n} passages", n)
        case _:
            return ngettext("+{n} page", "+{n} pages", n)


def absence(path: Path, missing: Path | None) -> str:
    """Return why a file cannot be opened, in a few words; empty if it can be.

    Args:
        path: The file.
        missing: The disk or folder that is not connected; the file itself if that alone is gone.
    """
    if missing is None:
        return ""
    if missing == path:
        return _("file is missing")
    return _("not connected: {name}", name=readable(missing.name or str(missing)))


def unavailable(item: MediaItem, missing: Path) -> str:
    """Return a sentence that says why a file cannot be opened, and what to do."""
    if missing == item.path:
        return _(
            "{name} no longer exists. Add its folder again to bring the library up to date.",
            name=readable(item.name),
        )
    return _(
        "{name} cannot be opened: {disk} is not connected, was deleted, or may not be read.",
        name=readable(item.name),
        disk=readable(missing.name or str(missing)),
    )


def folder_name(path: Path, *, trusted: bool) -> str:
    """Return the folder of a file, without those above it unless users may see these."""
    return readable(str(path.parent) if trusted else path.parent.name)


def kind_name(item: MediaItem) -> str:
    """Return the kind of a file in a word."""
    return _(KIND_LABELS[item.kind].name) if item.kind else _("File")


def place(segment: Segment, file: Path) -> str:
    """Return where a segment is in its file: page 3, slide 3, 0:10–0:20 or nothing."""
    if segment.kind is Kind.AUDIO:
        return clock(segment.end) if segment.end else ""
    if segment.page is None:
        return segment.place_in(file)
    return _(_PAGES[page_noun(file)], n=segment.page)


def fact(value: str) -> str:
    """Return a fact about a file, such as 800 × 600 pixels; names and numbers are as they were."""
    for pattern, text in _FACTS:
        if found := pattern.fullmatch(value):
            return _(text, **found.groupdict())
    return value


# ---- folders

_MAX_FOLDERS = 500
_MAX_IDS = 1 << 16


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """A folder that can be searched in.

    Attributes:
        id: A hash, which does not reveal where the folder is.
        name: Its path relative to the folder above that is shown.
        files: Files in it and below it.
        is_parent: Whether there are folders to choose in it.
    """

    id: str
    name: str
    files: int
    is_parent: bool = False


def folder_choices(library: Library) -> list[FolderChoice]:
    """Return folders with files, and their parents up to the common one, in order of paths."""
    shown = sorted(library.catalog.branches())[:_MAX_FOLDERS]
    if not shown:
        return []
    try:
        shared = Path(os.path.commonpath([path for path, _ in shown]))
    except ValueError:  # They are on different drives.
        shared = None
    return [FolderChoice(folder_id(path), _name(path, shared), files) for path, files in shown]


def folders_within(library: Library, folder: str, filters: Filters) -> list[FolderChoice]:
    """Return the folders in another one that have files which satisfy the filters.

    Args:
        library: Whose folders.
        folder: Id of the other one; empty for the folders that are in none.
        filters: What the files must be.

    Raises:
        QueryError: if the library has no such folder.
    """
    above = folder_of(library, folder) if folder else None
    shown = dict(sorted(library.catalog.branches(filters)))
    parents = {path: next((one for one in path.parents if one in shown), None) for path in shown}
    having = set(parents.values())
    return [
        FolderChoice(folder_id(path), _name(path, above), files, path in having)
        for path, files in shown.items()
        if parents[path] == above
    ]


def folder_of(library: Library, wanted: str) -> Path:
    """Return the library's folder with that id.

    Raises:
        QueryError: if the library has no such folder.
    """
    for path, _files in library.catalog.branches():
        if folder_id(path) == wanted:
            return path
    raise QueryError(_("the library has no such folder: choose another one"))


def _name(folder: Path, shared: Path | None) -> str:
    if shared is None or folder == shared:
        return readable(folder.name or str(folder))
    return readable(" / ".join(folder.relative_to(shared).parts))


@lru_cache(_MAX_IDS)
def folder_id(folder: Path) -> str:
    """Return the id of a folder."""
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
