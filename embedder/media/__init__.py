"""Media files: the table of kinds, which kind a file is, and its frames and text within limits.

Decoders are imported with the first file of their kind: OpenCV for videos, PyMuPDF for PDF,
pillow-heif for pictures. Everything here is thread-safe.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedder.content import Content
from embedder.media.kinds import (
    Draft,
    Kind,
    Limits,
    MediaError,
    MediaKind,
    UnsupportedMedia,
    Word,
    first_bytes,
    open_media,
    translated_os_errors,
)
from embedder.media.pdf import PDF, Page, read_page, read_pages, render_page
from embedder.media.picture import IMAGE, difference_hash, read_picture, thumbnail
from embedder.media.shots import Clip
from embedder.media.text import TEXT, looks_binary, passages, read_text
from embedder.media.video import VIDEO, is_animated, read_clips, sample_video

__all__ = [
    "MEDIA_KINDS",
    "MEDIA_TYPES",
    "Clip",
    "Draft",
    "Kind",
    "Limits",
    "MediaError",
    "MediaKind",
    "Page",
    "UnsupportedMedia",
    "Word",
    "cut",
    "detect",
    "difference_hash",
    "passages",
    "read_clips",
    "read_content",
    "read_page",
    "read_pages",
    "read_picture",
    "read_text",
    "render_page",
    "sample_video",
    "suffix_kind",
    "thumbnail",
]

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

_HEAD_BYTES = 4096

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


def read_content(
    path: str | os.PathLike[str], limits: Limits | None = None, page: int | None = None
) -> Content:
    """Read a whole file as one content, as a query is.

    Args:
        path: A picture, video, PDF or text file.
        limits: What decoding may cost.
        page: Page of a PDF from 1; without it, the first.

    Returns:
        A picture as one frame, a video as evenly spaced frames, a PDF page as its picture and
        its words, a text file as its text.

    Raises:
        MediaError: if the file cannot be used; `UnsupportedMedia` if it is of no known kind.
    """
    return MEDIA_KINDS[detect(path)].read(Path(path), limits or Limits(), page)


def cut(path: str | os.PathLike[str], kind: Kind, limits: Limits | None = None) -> Iterator[Draft]:
    """Cut a file into searchable segments.

    Args:
        path: The file.
        kind: Its kind, as returned by `detect`.
        limits: How finely to cut, and what decoding may cost.

    Yields:
        Drafts in order, at least one. They are decoded one at a time, so memory does not grow
        with the length of the file.

    Raises:
        MediaError: if the file cannot be used, or is truncated.
    """
    yield from MEDIA_KINDS[kind].cut(Path(path), limits or Limits())


def _head(path: Path) -> bytes:
    with translated_os_errors(), open_media(path) as file:
        head = file.read(_HEAD_BYTES)
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
