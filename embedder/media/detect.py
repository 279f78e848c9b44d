"""The table of kinds, and which kind a file is: by its first bytes, checked against its name."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from embedder.media.kinds import (
    Kind,
    MediaError,
    MediaKind,
    UnsupportedMedia,
    first_bytes,
    translated_os_errors,
)
from embedder.media.pdf import PDF
from embedder.media.picture import IMAGE
from embedder.media.text import TEXT, looks_binary
from embedder.media.video import VIDEO, is_animated

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
_AUDIO = first_bytes(rb"OggS", rb"fLaC", rb"ID3[\x03\x04]", rb"RIFF.{4}WAVE", rb".{4}ftypM4[ABP] ")


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
        if promised is None or _AUDIO.match(head):
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
    records = sorted(MEDIA_KINDS.values(), key=lambda record: record.kind is not promised)
    for record in records:
        named = record.kind is promised and record.named_signature.match(head)
        if named or record.signature.match(head):
            return record.kind
    if not looks_binary(head):
        return Kind.TEXT
    if _AUDIO.match(head):
        return None
    return next((one.kind for one in records if one.weak_signature.match(head)), None)


def _unsupported() -> UnsupportedMedia:
    *nouns, last = (record.noun for record in MEDIA_KINDS.values())
    return UnsupportedMedia(f"the file is not a {', '.join(nouns)} or {last} file")
