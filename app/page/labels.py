"""Labels: kinds, reasons, numbers, times and folders as the page shows them."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedder.media.kinds import Kind
from indexer import Hit, Library, MediaItem, QueryError, Reason


@dataclass(frozen=True, slots=True)
class KindLabel:
    """What the page calls a kind of file.

    Attributes:
        name: One file.
        plural: Several files.
        icon: The macro in icons.html that draws it.
        similar: The reason for a hit whose picture is similar.
    """

    name: str
    plural: str
    icon: str
    similar: str = "Similar picture"


KIND_LABELS: Mapping[Kind, KindLabel] = {
    Kind.IMAGE: KindLabel("Photo", "Photos", "image"),
    Kind.VIDEO: KindLabel("Video", "Videos", "video", similar="Similar frame"),
    Kind.PDF: KindLabel("PDF", "PDFs", "pdf"),
    Kind.TEXT: KindLabel("Text", "Texts", "text"),
}

_REASONS = {
    Reason.WORDS: "Contains your words",
    Reason.FILE_NAME: "File name matches",
    Reason.TEXT: "Similar text",
}

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
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            digits = 0 if unit == "bytes" or count >= 10 else 1
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def day(moment: datetime) -> str:
    """Format a date without a time: 3 May 2024."""
    return f"{moment.day} {moment:%b %Y}"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Format a number with its noun: 1 file, 12 files, 3,400 files."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def sentence(text: str) -> str:
    """Return a message with a capital, unless it begins with a file's name, and a full stop."""
    if not _NAME_FIRST.match(text):
        text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def reason(hit: Hit) -> str:
    """Return why a hit matched, in a few words."""
    similar = KIND_LABELS[hit.segment.kind].similar
    reasons = [_REASONS.get(why, similar) for why in hit.why[:2]]
    return ", ".join(dict.fromkeys(reasons)).capitalize()


def kind_name(item: MediaItem) -> str:
    """Return the kind of a file in a word."""
    return KIND_LABELS[item.kind].name if item.kind else "File"


# ---- folders

_MAX_FOLDERS = 500


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """A folder that can be searched in.

    Attributes:
        id: A hash, which does not reveal where the folder is.
        name: Its path relative to the common parent of all folders.
        files: Files in it and below it.
    """

    id: str
    name: str
    files: int


def folder_choices(library: Library) -> list[FolderChoice]:
    """Return folders with files, and their parents up to the common one, in order of paths."""
    shown = sorted(library.catalog.branches(_MAX_FOLDERS))
    if not shown:
        return []
    try:
        shared = Path(os.path.commonpath([path for path, _ in shown]))
    except ValueError:  # They are on different drives.
        shared = None
    return [FolderChoice(_id(path), _name(path, shared), files) for path, files in shown]


def folder_of(library: Library, folder_id: str) -> Path:
    """Return the library's folder with that id.

    Raises:
        QueryError: if the library has no such folder.
    """
    for path, _ in library.catalog.branches(_MAX_FOLDERS):
        if _id(path) == folder_id:
            return path
    raise QueryError("the library has no such folder: choose another one")


def _name(folder: Path, shared: Path | None) -> str:
    if shared is None or folder == shared:
        return readable(folder.name or str(folder))
    return readable(" / ".join(folder.relative_to(shared).parts))


def _id(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
