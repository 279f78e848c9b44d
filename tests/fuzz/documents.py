"""Targets for documents: what is inside them, and their archives."""

from pathlib import Path

from embedder.media import Kind, Limits, MediaError, cut, read_text
from embedder.media.kinds import open_media
from embedder.media.members import members
from tests import documents as made

from . import world

_LIMITS = Limits(file_bytes=100_000, passage_words=5)
_SLIDE = made.drawn("One two", "Three")
DOCUMENTS = [
    b"docx\n<w><p><pPr><tab/></pPr><r><t>One</t><tab/><t>two</t></r></p><tr><tc><p><t>a</t></p></tc>"
    b"<tc><p><t>b</t></p></tc></tr><Fallback><p><t>no</t></p></Fallback></w>",
    b"pptx\n<a><p><t>One</t></p><fld><t>7</t></fld><pic><cNvPr descr='A gull'/></pic></a>",
    b"xlsx\n<a><row><c t='s'><v>0</v></c><c s='1'><v>41000.5</v></c><c t='b'><v>1</v></c>"
    b"<c t='inlineStr'><is><t>x</t></is></c><c t='e'><v>#REF!</v></c></row></a>",
    b"odt\n<text:p>One<text:note><text:p>two</text:p></text:note></text:p><table:table-row>"
    b"<table:table-cell><text:p>a</text:p></table:table-cell></table:table-row>",
    b"ods\n<table:table table:name='A'><table:table-row><table:table-cell><text:p>a</text:p>"
    b"</table:table-cell></table:table-row></table:table>",
    b"epub\n<h1>One</h1><p>two &amp; three<br>four",
    b"zip\n" + made.word(made.paragraph("One two three.")),
    b"zip\n" + made.slides(_SLIDE, _SLIDE, notes=_SLIDE),
    b"fodp\n" + made.open_xml("document", "<draw:page><text:p>One</text:p></draw:page>").encode(),
    b"fb2\n<f><body><section><p>One</p><section><v>two</v></section></section></body></f>",
    b"rtf\n{\\rtf1\\ansi\\ansicpg1251{\\fonttbl{\\f0\\fcharset204 A;}}{\\info{\\title T}}"
    b"{\\header H}\\f0 \\'cf\\'f0 \\u19990? {\\pict ffd8ff}\\bin3 abc\\cell\\row}",
    b'ipynb\n{"cells": [{"source": ["One\\n"], "outputs": [{"text": "two", "data": {}}]}]}',
    b"eml\nFrom: =?koi8-r?Q?=C1?= <a@b.c>, b\nSubject: =?utf-8?B?w7w=?=\nDate: 3 Mar 2025 10:00 +01"
    b'\nContent-Type: multipart/alternative; boundary="x"\n\n--x\n\nOne\n--x\nContent-Type: text/h'
    b"tml; charset=cp1251\nContent-Transfer-Encoding: quoted-printable\n\n<p>=C1\n--x\nContent-T"
    b"ype: a/pdf; name*0*=utf-8''%41; name*1=b.pdf\nContent-Transfer-Encoding: base64\n\nQUJD\n",
    b"mbox\nFrom a\nSubject: One\n\ntwo\n\nFrom b\n\n>From three\n",
    b"vcf\nBEGIN:VCARD\nN;CHARSET=cp1251;ENCODING=QUOTED-PRINTABLE:=C1;=\nb\nPHOTO;BASE64:QUJD\n"
    b' a\nitem1.TEL;TYPE="a:b":1\nORG:a\\;b;c\nBDAY:20010203\nEND:VCARD\n',
    b"ics\nBEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:One\nDTSTART:20250301T120000Z\nATTENDEE;CN=a:m"
    b"ailto:b\nBEGIN:VALARM\nEND:VALARM\nDESCRIPTION:a\\nb\n c\nEND:VEVENT\nEND:VCALENDAR\n",
    b'ipynb\n{"worksheets": [{"cells": [{"input": "x"}]}]}',
]


def documents(data: bytes) -> None:
    """A document gives passages in the order of its pages, or is refused in a sentence."""
    name, _, content = data.partition(b"\n")
    path = world.folder("documents") / f"a.{_suffix(name)}"
    path.write_bytes(_document(name.decode("latin-1"), content))
    if path.suffix == ".eml":
        _check_members(path)
    try:
        drafts = list(cut(path, Kind.TEXT, _LIMITS))
        text = read_text(path, _LIMITS)
    except MediaError as error:
        assert 10 < len(str(error)) < 300
        return
    last = (0, 0)
    for draft in drafts:
        start, end = draft.span or (0, 0)
        place = (draft.page or 0, start)
        assert place >= last
        assert draft.content.text == text[start:end] != ""
        assert "\f" not in text[start:end]
        assert draft.page in (None, 1 + text.count("\f", 0, start))
        last = (draft.page or 0, end)


def _check_members(path: Path) -> None:
    """What is attached to a mail has a name that is one, and can be opened by it."""
    try:
        found = members(path)
    except MediaError as error:
        assert 10 < len(str(error)) < 300
        return
    assert len({name.casefold() for name, _ in found}) == len(found)
    for name, size in found:
        assert Path(name).name == name
        assert not name.startswith(".")
        assert len(name.encode()) < 256
        with open_media(path / name) as file:
            assert len(file.read()) == size


def _suffix(name: bytes) -> str:
    plain = "".join(c for c in name.decode("latin-1") if c.isalnum())[:8]
    return "docx" if plain == "zip" else plain or "docx"


def _document(name: str, content: bytes) -> bytes:
    """Put the content where the text of a document is."""
    text = content.decode("utf-8", "replace")
    match name:
        case "docx":
            return made.office("word/document.xml", text)
        case "pptx":
            return made.slides(text)
        case "xlsx":
            return made.workbook(text)
        case "odt":
            return made.opendocument("text", text)
        case "ods":
            return made.opendocument("spreadsheet", text)
        case "epub":
            return made.epub(text)
    return content
