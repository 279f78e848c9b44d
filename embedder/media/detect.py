"""The table of kinds, and which kind a file is: by its first bytes, checked against its name."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from embedder.media.file_access import translated_os_errors
from embedder.media.kinds import Kind, Match, MediaError, MediaKind, UnsupportedMedia
from embedder.media.pdf import PDF
from embedder.media.picture import IMAGE
from embedder.media.text import TEXT
from embedder.media.video import AUDIO_BRANDS, VIDEO, is_animated

MEDIA_KINDS: Mapping[Kind, MediaKind] = {
    record.kind: record for record in (IMAGE, VIDEO, PDF, TEXT)
}
"""Every kind with its record, in the order in which kinds are listed."""

MEDIA_TYPES: Mapping[str, str] = {
    suffix: media_type
    for record in MEDIA_KINDS.values()
    for suffix, media_type in record.media_types.items()
}
"""MIME types by suffix, of the files that a browser can show."""

HEAD_BYTES = 4096

_KIND_OF_SUFFIX = {
    suffix: record.kind for record in MEDIA_KINDS.values() for suffix in record.suffixes
}
# Clips saved from the web are often videos that are named .gif.
_MOVING_PICTURES = {".gif", ".webp", ".png", ".apng", ".avif", ".avifs"}
_GIF_STARTS = (b"GIF87a", b"GIF89a")


def suffix_kind(path: str | os.PathLike[str]) -> Kind | None:
    """Return the kind that a file's name promises, without reading it; None for other names."""
    return _KIND_OF_SUFFIX.get(os.path.splitext(path)[1].lower())


def detect(path: str | os.PathLike[str]) -> Kind:
    """Return the kind of a media file, from its first bytes and its extension.

    Animated pictures are VIDEO. A file of one kind that is named as another is refused, since
    other programs would not open it either; a PNG named .jpg is a picture all the same.

    Args:
        path: A regular file.

    Returns:
        The kind by which the file can be read.

    Raises:
        UnsupportedMedia: if it is none of the kinds that are indexed.
        MediaError: if the file is empty, cannot be read, or is not what its name says.
    """
    path = Path(path)
    promised = suffix_kind(path)
    head = _head(path)
    found = _kind_of_bytes(head, promised)
    if found is None:
        if promised is None or _is_audio(head):
            raise _unsupported()
        if promised is Kind.TEXT:
            raise MediaError(f"named {path.suffix}, but its bytes are not text")
        return promised  # formats without a signature; the decoder has the last word
    if promised is None and found is Kind.TEXT:
        raise _unsupported()
    if found is Kind.IMAGE and is_animated(path, head):
        found = Kind.VIDEO
    may_move = found is Kind.VIDEO and path.suffix.lower() in _MOVING_PICTURES
    if promised not in (None, found) and not may_move:
        raise MediaError(
            f"named {path.suffix}, but its bytes are a {MEDIA_KINDS[found].noun}; rename it to "
            "index it"
        )
    return found


def must_be_opened(path: str | os.PathLike[str]) -> bool:
    """Whether `detect` has a decoder open the file, rather than compare its first bytes alone."""
    path = Path(path)
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(6) in _GIF_STARTS
    return False  # `detect` says what is wrong


def _head(path: Path) -> bytes:
    with translated_os_errors():
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would block forever
            raise MediaError("this is a folder or a device, not a file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if not head:
        raise MediaError("the file is empty")
    return head


def _kind_of_bytes(head: bytes, promised: Kind | None) -> Kind | None:
    """Return the kind that fits best, the promised one where several do; None if none fits."""
    fits = {kind: record.match(head, kind is promised) for kind, record in MEDIA_KINDS.items()}
    best = max(fits, key=lambda kind: (fits[kind], kind is promised))
    weak = fits[best] <= Match.HINT
    return None if fits[best] is Match.NONE or (weak and _is_audio(head)) else best


def _is_audio(head: bytes) -> bool:
    return (
        head[:4] in (b"OggS", b"fLaC", b"ID3\x03", b"ID3\x04")
        or (head[:4] == b"RIFF" and head[8:12] == b"WAVE")
        or (head[4:8] == b"ftyp" and head[8:12] in AUDIO_BRANDS)
    )


def _unsupported() -> UnsupportedMedia:
    *nouns, last = (record.noun for record in MEDIA_KINDS.values())
    return UnsupportedMedia(f"the file is not a {', '.join(nouns)} or {last} file")
