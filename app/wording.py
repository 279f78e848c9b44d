"""Names, numbers, times and kinds in words: how the page says things."""

import html
import re
from datetime import datetime

from embedder.media.kinds import Kind
from indexer import Hit, MediaItem, Reason

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
