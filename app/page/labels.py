"""Names, numbers, times and kinds in words: how the page says things."""

import hashlib
import html
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from embedder.media.kinds import Kind
from indexer import Hit, Library, MediaItem, QueryError, Reason

KIND_NAMES = {Kind.IMAGE: "Photo", Kind.VIDEO: "Video", Kind.PDF: "PDF", Kind.TEXT: "Text"}
KIND_PLURALS = {Kind.IMAGE: "Photos", Kind.VIDEO: "Videos", Kind.PDF: "PDFs", Kind.TEXT: "Texts"}

_REASONS = {
    (Kind.IMAGE, Reason.PICTURE): "looks like it",
    (Kind.VIDEO, Reason.PICTURE): "this moment looks like it",
    (Kind.PDF, Reason.PICTURE): "the page looks like it",
    (Kind.PDF, Reason.TEXT): "the page is about it",
    (Kind.TEXT, Reason.TEXT): "the passage is about it",
    (Kind.PDF, Reason.WORDS): "the page says it",
    (Kind.TEXT, Reason.WORDS): "the text says it",
}

_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


def readable(name: str) -> str:
    """A name that can be written as text.

    Bytes of a file's name that are no UTF-8 are half characters in Python, which neither JSON nor
    HTML can hold: they become �.
    """
    return _HALF_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", name)


def escape(name: str) -> str:
    """A name or any other text as HTML."""
    return html.escape(readable(name))


def duration(seconds: float) -> str:
    """How long something takes, as people say it: "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def size(count: float) -> str:
    """Bytes, with a unit that keeps the number short."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            digits = 0 if unit == "bytes" or count >= 10 else 1
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def day(moment: datetime) -> str:
    """A date without a time: 3 May 2024."""
    return f"{moment.day} {moment:%b %Y}"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """How many of something: 1 file, 12 files, 3,400 files."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def sentence(text: str) -> str:
    """A message with a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def reason(hit: Hit) -> str:
    """Why a hit matched, in a few words."""
    told = [_REASONS.get((hit.segment.kind, why), "named like it") for why in hit.why[:2]]
    return ", ".join(dict.fromkeys(told))


def kind_name(item: MediaItem) -> str:
    """What a file is, in a word."""
    return KIND_NAMES[item.kind] if item.kind else "File"


def _line(paths: str, size: int = 18) -> str:
    return (
        f'<svg width="{size}" height="{size}" viewBox="0 0 24 24" fill="none" aria-hidden="true" '
        'stroke="currentColor" stroke-width="1.8" stroke-linecap="round" '
        f'stroke-linejoin="round">{paths}</svg>'
    )


_IMAGE = (
    '<rect x="3" y="4" width="18" height="16" rx="3"/><circle cx="8.5" cy="9.5" r="1.6"/>'
    '<path d="m4 17 5-4.5 4 3.5 3-2.5 4 3.5"/>'
)
_VIDEO = '<rect x="3" y="5" width="18" height="14" rx="3"/><path d="m10 9 5 3-5 3z"/>'
_PDF = '<path d="M6 3h8l4 4v14H6z"/><path d="M14 3v4h4M9 12h6M9 16h6"/>'
_TEXT = '<path d="M5 6h14M5 10h14M5 14h9M5 18h11"/>'

KINDS = {
    Kind.IMAGE: _line(_IMAGE, 14),
    Kind.VIDEO: _line(_VIDEO, 14),
    Kind.PDF: _line(_PDF, 14),
    Kind.TEXT: _line(_TEXT, 14),
}
SEARCH = _line('<circle cx="11" cy="11" r="6.5"/><path d="m20 20-4.2-4.2"/>', 22)
ATTACH = _line(_IMAGE, 20)
CLOSE = _line('<path d="m6 6 12 12M18 6 6 18"/>')
BACK = _line('<path d="m15 5-7 7 7 7"/>', 22)
FORWARD = _line('<path d="m9 5 7 7-7 7"/>', 22)
CHEVRON = _line('<path d="m6 9 6 6 6-6"/>')
SLIDERS = _line(
    '<path d="M4 7h10M18 7h2M4 17h2M10 17h10"/><circle cx="16" cy="7" r="2"/>'
    '<circle cx="8" cy="17" r="2"/>'
)
COPY = _line(
    '<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h8"/>', 16
)
DOWNLOAD = _line('<path d="M12 4v11M7 11l5 5 5-5M5 20h14"/>', 16)
SIMILAR = _line('<circle cx="9" cy="12" r="5.5"/><circle cx="15" cy="12" r="5.5"/>', 16)
FOLDER = _line(
    '<path d="M3 7a2 2 0 0 1 2-2h4l2 2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2z"/>', 20
)
UPLOAD = _line('<path d="M12 16V5M7 9l5-5 5 5M5 20h14"/>', 22)
PLAY = (
    '<svg width="14" height="14" viewBox="0 0 24 24" fill="currentColor" aria-hidden="true">'
    '<path d="M8 5.5v13l11-6.5z"/></svg>'
)
STACK = _line(
    '<rect x="3" y="7" width="14" height="13" rx="2.5"/><path d="M7 4h11a3 3 0 0 1 3 3v9"/>'
    '<path d="m4 17 4-4 3 3 2-2 4 4"/><circle cx="8" cy="11" r="1.3"/>',
    56,
)
LOGO = (
    '<svg width="26" height="26" viewBox="0 0 32 32" aria-hidden="true">'
    '<rect width="32" height="32" rx="9" fill="var(--rz-accent)"/>'
    '<circle cx="14" cy="14" r="6" fill="none" stroke="#fff" stroke-width="2.6"/>'
    '<path d="m18.6 18.6 5 5" stroke="#fff" stroke-width="2.8" stroke-linecap="round"/></svg>'
)


_MOST = 500


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """A folder that can be searched in.

    Attributes:
        id: Tells nothing about where the folder lies.
        name: Its path below what all folders have in common.
        files: Files in it and below it.
        path: Never leaves the server.
    """

    id: str
    name: str
    files: int
    path: Path


def folder_choices(library: Library) -> list[FolderChoice]:
    """Folders with files, and those above them as far as they differ, in order of their paths."""
    shown = sorted(library.branches(_MOST))
    if not shown:
        return []
    try:
        shared = Path(os.path.commonpath([path for path, _ in shown]))
    except ValueError:  # On different drives.
        shared = None
    return [FolderChoice(_id(path), _name(path, shared), files, path) for path, files in shown]


def folder_of(library: Library, wanted: str) -> Path:
    """The library's folder of that id.

    Raises:
        QueryError: if the library has no such folder.
    """
    for path, _ in library.branches(_MOST):
        if _id(path) == wanted:
            return path
    raise QueryError("the library has no such folder any more: choose another one")


def _name(folder: Path, shared: Path | None) -> str:
    if shared is None or folder == shared:
        return readable(folder.name or str(folder))
    return readable(" / ".join(folder.relative_to(shared).parts))


def _id(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
