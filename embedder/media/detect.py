"""What kind of media a file is: told by its first bytes, checked against its extension."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from embedder.media.io import translated_os_errors
from embedder.media.kinds import Kind, MediaError, UnsupportedMedia

HEAD_BYTES = 4096

_EXTENSIONS: dict[Kind, str] = {
    Kind.IMAGE: "jpg jpeg jpe jfif mpo png apng gif webp bmp dib tif tiff jp2 j2k j2c jpx jpf jpc "
    "pbm pgm ppm pnm pfm heic heif hif avif avifs ico icns psd tga qoi dds pcx sgi xbm xpm",
    Kind.VIDEO: "mp4 m4v mov qt mkv webm avi wmv asf flv f4v mpg mpeg mpe m1v m2v vob ogv "
    "3gp 3g2 m2ts mxf rm rmvb dv divx",
    Kind.PDF: "pdf",
    Kind.TEXT: "txt text md markdown mdown rst adoc asciidoc org tex bib html htm xhtml csv tsv "
    "json jsonl ndjson geojson xml yaml yml log srt vtt sub ass ics vcf eml nfo",
}
_KIND_OF_EXTENSION = {
    f".{name}": kind for kind, names in _EXTENSIONS.items() for name in names.split()
}

_PICTURE_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  \r\n\x87\n",
    b"\xff\x4f\xff\x51",
    b"8BPS\0",
    b"qoif",
    b"icns",
    b"DDS ",
)
_VIDEO_STARTS = (
    b"\x1a\x45\xdf\xa3",
    b"FLV\x01",
    b"\0\0\x01\xba",
    b"\0\0\x01\xb3",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",
    b".RMF\0",
)
# Too short to prove anything against a file that reads as text.
_WEAK_PICTURE_STARTS = (b"BM", b"\0\0\x01\0", b"\x0a\x05\x01", b"\x01\xda\0", b"\x01\xda\x01")
_TEXTUAL_PICTURE_STARTS = (
    *(b"P%d" % n for n in range(1, 8)),
    b"Pf",
    b"PF",
    b"#define",
    b"/* XPM",
    b"qoif",
)
_MP4_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
# Clips saved from the web are often videos that are named .gif.
_MOVING_PICTURES = {".gif", ".webp", ".png", ".apng", ".avif", ".avifs"}
_NAMES = {
    Kind.IMAGE: "a picture",
    Kind.VIDEO: "a video",
    Kind.PDF: "a PDF",
    Kind.TEXT: "text",
}
_UTF_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\b\x1b"))


def suffix_kind(path: str | os.PathLike[str]) -> Kind | None:
    """The kind that a file's name promises, without reading it; None if it promises none."""
    return _KIND_OF_EXTENSION.get(os.path.splitext(path)[1].lower())


def detect(path: str | os.PathLike[str]) -> Kind:
    """Tell what kind of media a file is, from its first bytes and its extension.

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
    with translated_os_errors():
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for without end
            raise MediaError("this is a folder or a device, not a file")
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    if not head:
        raise MediaError("the file is empty")
    found = _kind_of_bytes(head, promised)
    if found is None:
        if promised is None or _is_audio(head):
            raise UnsupportedMedia("the file is not a picture, video, PDF or text file")
        if promised is Kind.TEXT:
            raise MediaError(f"named {path.suffix}, but its bytes are not text")
        return promised  # formats without a signature; the decoder has the last word
    if promised is None and found is Kind.TEXT:
        raise UnsupportedMedia("the file is not a picture, video, PDF or text file")
    if found is Kind.IMAGE:
        from embedder.media.video import is_animated

        found = Kind.VIDEO if is_animated(path, head) else Kind.IMAGE
    may_move = found is Kind.VIDEO and path.suffix.lower() in _MOVING_PICTURES
    if promised not in (None, found) and not may_move:
        raise MediaError(
            f"named {path.suffix}, but its bytes are {_NAMES[found]}; rename it to index it"
        )
    return found


def must_be_opened(path: str | os.PathLike[str]) -> bool:
    """Whether `detect` has a decoder open the file, rather than compare its first bytes alone."""
    path = Path(path)
    with suppress(OSError):
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(6) in (b"GIF87a", b"GIF89a")
    return False  # `detect` says what is wrong


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file's bytes are a picture's, moving or not, whatever its name.

    Raises:
        MediaError: if the file cannot be read.
    """
    with translated_os_errors(), Path(path).open("rb") as file:
        return _kind_of_bytes(file.read(HEAD_BYTES), None) is Kind.IMAGE


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file cannot be the start of a text in any usual encoding."""
    if head.startswith(_UTF_MARKS):
        return False
    if b"\0" in head:
        return not looks_utf16(head)
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls > len(head) // 50


def looks_utf16(head: bytes) -> str | None:
    """The codec of UTF-16 without a mark, told by where the zero bytes are; None if it is not."""
    pairs = len(head) // 2
    if pairs < 2:
        return None
    even, odd = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if odd > pairs * 0.4 and even <= pairs * 0.02:
        return "utf-16-le"
    if even > pairs * 0.4 and odd <= pairs * 0.02:
        return "utf-16-be"
    return None


def _kind_of_bytes(head: bytes, promised: Kind | None) -> Kind | None:
    marked = head[:1024] if promised is Kind.PDF else head.lstrip()[:5]
    if b"%PDF-" in marked:  # readers take a PDF with something before its start
        return Kind.PDF
    if head.startswith(_PICTURE_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return Kind.IMAGE
    if head.startswith(_VIDEO_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI "):
        return Kind.VIDEO
    if head[:4] == b"OggS":
        return Kind.VIDEO if b"theora" in head[:512] or promised is Kind.VIDEO else None
    if head[4:8] == b"ftyp":
        return _kind_of_brand(head)
    if not looks_binary(head):
        textual = promised is Kind.IMAGE and head.startswith(_TEXTUAL_PICTURE_STARTS)
        return Kind.IMAGE if textual else Kind.TEXT
    if head[4:8] in _MP4_ATOMS or _is_transport_stream(head):
        return Kind.VIDEO
    if head.startswith(_WEAK_PICTURE_STARTS + _TEXTUAL_PICTURE_STARTS[:9]):
        return Kind.IMAGE
    return None


def _kind_of_brand(head: bytes) -> Kind | None:
    brand = head[8:12]
    if brand in _PICTURE_BRANDS or brand in _AVIF_BRANDS:
        return Kind.IMAGE
    return None if brand in _AUDIO_BRANDS else Kind.VIDEO


def _is_transport_stream(head: bytes) -> bool:
    """MPEG-TS: a sync byte every 188 bytes, or every 192 with a time code before each."""
    return any(
        len(head) > start + 4 * step and all(head[start + n * step] == 0x47 for n in range(5))
        for start, step in ((0, 188), (4, 192))
    )


def _is_audio(head: bytes) -> bool:
    return (
        head[:4] in (b"OggS", b"fLaC", b"ID3\x03", b"ID3\x04")
        or (head[:4] == b"RIFF" and head[8:12] == b"WAVE")
        or (head[4:8] == b"ftyp" and head[8:12] in _AUDIO_BRANDS)
    )
