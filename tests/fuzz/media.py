"""Targets for media: bytes of files, and answers of decoding processes."""

import codecs
import json
import math

from embedder.content import Content
from embedder.media import Details, Draft, Limits, MediaError, detect, read_text
from embedder.media.encodings import decode
from embedder.media.metadata import (
    date_in_name,
    front_matter_details,
    html_details,
    pdf_details,
    sidecar_details,
    sidecars_in,
)
from embedder.media.metadata.iptc import iptc_details
from embedder.media.metadata.values import decoded
from embedder.media.text import _UNIT, passages
from indexer.decoding import protocol

from . import world

_LIMITS = Limits(frame_side=8, video_side=8, clip_frames=2, thumbnail_side=4, passage_words=5)
_DRAFT = {
    "text": "a page",
    "modality": "page",
    "sizes": [[2, 1], [1, 1]],
    "thumbnail": True,
    "page": 3,
    "start": None,
    "end": None,
    "span": [0, 6],
    "words": [["a", 0.0, 0.25, 0.5, 1.0]],
    "picture_hash": -1,
}


def _draft(pixels: bytes = b"\n" + bytes(9), **changes: object) -> bytes:
    return json.dumps({"drafts": [_DRAFT | changes]}).encode() + pixels


DRAFTS = [
    _draft(),
    _draft(sizes=[], modality="text", pixels=b""),
    _draft(sizes=[], thumbnail=False, modality="text", pixels=b"\n"),
    _draft(sizes=[[2, 1], [1, 1]], thumbnail=False, modality="video", start=0, end=1e9),
    _draft(page=10**400, start=10**400),
    _draft(text="\ud800", words=[["\udfff", 0, 0, 0, 0]]),
    json.dumps({"drafts": [_DRAFT, _DRAFT]}).encode() + b"\n" + bytes(18),
    b"[" * 3000,
    b'{"drafts": [[]]}',
    b'{"drafts": 3}',
    b"9" * 5000,
]
_PICTURES = [
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a\1\0\1\0",
    b"RIFF\0\0\0\0WEBP",
    b"BM",
]
_OTHERS = [b"\0\0\0\x18ftypheic", b"\x1a\x45\xdf\xa3", b"%PDF-1.7", b"OggS" + bytes(30) + b"theora"]
KINDS = [
    name + b"\n" + start + bytes(range(40))
    for name, start in zip(
        b"jpg png gif webp bmp heic webm pdf ogv".split(), _PICTURES + _OTHERS, strict=True
    )
]
KINDS += [
    b"txt\nwords",
    b"\n",
    b"p\0f\nx",
    b"jpg\n" + b"\x47" * 1000,
    b"TXT\n\xff\xfea\0",
    b"/a\nx",
]
TEXTS = [
    b"txt\nOne two three. Four five six seven!\n\n# A heading\nEight nine ten eleven twelve",
    "txt\n東京都は日本の首都です。人口は約千四百万人。\n\nçà et là… «fin»",
    b"html\n<title>T</title><p>a <b>b</b><pre>  x\n   y</pre><script>no</script><br>c",
    b"html\n<![if x]><p>a",
    b"html\n<![x[y<p>a<!doctype [<!entity",
    b'html\n<meta charset="idna"><p>\xe9',
    b'html\n<meta charset="unicode_escape"><p>\\ud800\\x\xe9',
    b'html\n<?xml encoding="utf-7"?>+2AA-\xe9',
    b'html\n<meta charset="punycode">\xe9-\xff',
    b"txt\n\xff\xfea\0b\0\0\xd8c",
    b"txt\na\0b\0c\0d\0\xe9\0",
    b"txt\n\x93caf\xe9\x94 \x81",
    b"txt\n" + b"." * 3000,
    b"html\n<pre>" + b" " * 3000 + b"x",
]

DETAILS = [
    b'json\n{"description": "a race", "photoTakenTime": {"timestamp": "1241605815"}, "people": '
    b'[{"name": "Ada"}], "geoData": {"latitude": 46.8, "longitude": 9.8}}',
    b"json\n" + b"[" * 3000,
    b'json\n{"geoData": {"latitude": 1e999, "longitude": NaN}, "description": "\\ud800"}',
    b"xmp\n<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' "
    b"xmlns:dc='http://purl.org/dc/elements/1.1/' xmlns:exif='http://ns.adobe.com/exif/1.0/'>"
    b"<rdf:Description exif:DateTimeOriginal='2009-05-06T12:30:15+02:00' exif:GPSLatitude='4,5N' "
    b"exif:GPSLongitude='1,2E'><dc:title><rdf:Alt><rdf:li>a race</rdf:li></rdf:Alt></dc:title>"
    b"</rdf:Description></rdf:RDF>",
    b"xmp\n<a xmlns:x='http://ns.adobe.com/xap/1.0/' xmlns:e='http://ns.adobe.com/exif/1.0/' "
    b"x:Rating='inf' e:GPSLatitude='" + b"1," * 400 + b"1N' e:GPSLongitude='1E'/>",
    b"xmp\n<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
    b"xmp\n\xff\xfe<\0a\0/\0>\0",
    b"iptc\n\x1c\2\x05\0\4Race\x1c\2\x37\0\x0820090506\x1c\2\x3c\0\x0b123015+0200",
    b"iptc\n\x1c\2\x05\xff\xff\x7f",
    b"html\n<title>Race</title><meta name=date content='2009-05-06'><meta name=tags content=a>",
    b"html\n<title>Race</title><![x[>",
    b"md\n---\ntitle: a race\ndate: 2009-05-06 12:30\ntags: [a, 'b']\nauthors:\n  - Ada\n---\n",
    b"pdf\nD:20090506123015+02'00'",
    b"name\nIMG_20240501_103000.jpg",
    b"name\nPhoto 2024-05-01 at 1.30.00 PM.png",
    b"name\nmmexport9999999999999.jpg",
    b"names\nIMG_1.jpg\nIMG_1.jpg.supplemental-metadata(1).json\nIMG_1(1).jpg\nIMG_1.xmp\n.json",
]
_PARSERS = {
    b"iptc": iptc_details,
    b"html": lambda data: html_details(decoded(data)),
    b"md": lambda data: front_matter_details(decoded(data)),
    b"pdf": lambda data: pdf_details({"creationDate": decoded(data), "title": decoded(data)}, 1),
    b"name": lambda data: Details(captured_at=date_in_name(decoded(data))),
}


def details(data: bytes) -> None:
    """What metadata say is plausible, survives its way to the program, and sidecars have owners."""
    name, _, content = data.partition(b"\n")
    if name == b"names":
        names = set(decoded(content).split("\n"))
        for owner, sidecars in sidecars_in(names).items():
            assert {owner, *sidecars} <= names
            assert owner not in sidecars
        return
    parse = _PARSERS.get(name) or (lambda _: sidecar_details([_written(data)[0]]))
    said = parse(content)
    assert said.captured_at is None or 1826 <= said.captured_at.year < 3000
    assert all(text.strip() and "\0" not in text for _, text in said.words + said.facts)
    message, _ = protocol.encode_draft(Draft(Content(text="x"), details=said))
    (draft,) = protocol.decode_drafts([json.loads(message)], lambda _: b"", _LIMITS)
    assert draft.details == said


def drafts(data: bytes) -> None:
    """Any answer of a decoder is drafts within the limits, or is refused."""
    text, _, pixels = data.partition(b"\n")

    def receive(count: int) -> bytes:
        assert count <= 3 * 8 * 8
        return pixels[:count]

    try:
        message = protocol.decode(text)
        decoded = protocol.decode_drafts(message.get("drafts"), receive, _LIMITS)
    except protocol.DecoderError as error:
        assert len(str(error)) < 300
        return
    for draft in decoded:
        _check_draft(draft)


def _check_draft(draft: Draft) -> None:
    content = draft.content
    assert len(content.frames) <= 2
    assert all(max(frame.size) <= 8 for frame in content.frames)
    assert draft.thumbnail is None or max(draft.thumbnail.size) <= 4
    (content.text or "").encode()
    for number in (draft.page, draft.picture_hash, *(draft.span or ())):
        assert number is None or -(2**63) <= number < 2**63
    assert draft.page is None or draft.page >= 1
    for seconds in (draft.start, draft.end):
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    for word in draft.words:
        word.text.encode()
        assert all(0 <= edge <= 1 for edge in (word.left, word.top, word.right, word.bottom))


def kinds(data: bytes) -> None:
    """A file has a kind or is refused in a sentence, always with the same result."""
    results = []
    path, _ = _written(data)
    for _ in range(2):
        try:
            results.append(detect(path))
        except MediaError as error:
            results.append(str(error))
            assert results[-1]
    assert results[0] == results[1]


def texts(data: bytes) -> None:
    """Reading a text loses no character, and passages respect their length and order."""
    path, content = _written(data)
    assert isinstance(decode(content).text, str)
    try:
        text = read_text(path)
    except MediaError:
        return
    if path.suffix == ".txt" and not content.startswith(codecs.BOM_UTF8) and _is_utf8(content):
        plain = content.decode().replace("\r\n", "\n").replace("\r", "\n")
        assert text == plain
    end = 0
    for start, after in passages(text, _LIMITS):
        assert not text[end:start].strip()
        assert start < after <= len(text)
        assert not text[start].isspace()
        assert not text[after - 1].isspace()
        assert sum(1 for _ in _UNIT.finditer(text, start, after)) <= _LIMITS.passage_words
        end = after
    assert not text[end:].strip()


def _is_utf8(content: bytes) -> bool:
    if b"\0" in content or content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _written(data: bytes) -> tuple:
    """Write a file; the first line is its extension, the rest its contents."""
    name, _, content = data.partition(b"\n")
    plain = "".join(c for c in name.decode("latin-1") if c.isalnum())[:8]
    path = world.folder("files") / f"file.{plain or 'txt'}"
    path.write_bytes(content)
    return path, content
