"""Documents that grow when they are unpacked, contradict themselves, or name other files."""

import io
import zipfile
from pathlib import Path

import documents
from documents import drawn, opendocument, paragraph, relations, slides, word, workbook, zipped

_PACKAGE = """<package><manifest><item id="a" href="../../../etc/passwd"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)


def encrypted(name: str) -> bytes:
    """An archive with one part, which is encrypted by the flags in its headers."""
    data = bytearray(zipped({name: "x" * 50}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def declared(data: bytes, name: bytes, size: int) -> bytes:
    """An archive of which a part is said to unpack to that size."""
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(name))
    return data[: entry + 24] + size.to_bytes(4, "little") + data[entry + 28 :]


def entities(secret: Path) -> dict[str, str]:
    """XML that expands without end, or to another file."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return {
        "laughs": f"<!DOCTYPE a [{laughs}]><a>&l9;</a>",
        "secret": f'<!DOCTYPE a [<!ENTITY b SYSTEM "file://{secret}">]><a><p>&b;</p></a>',
        "parameter": f'<!DOCTYPE a [<!ENTITY % b SYSTEM "file://{secret}"> %b;]><a>&c;</a>',
    }


def files(secret: Path) -> dict[str, tuple[bytes, str | None]]:
    """Documents by their names, with a part of the reason for which each fails, if it must."""
    body = paragraph("Otters swim.")
    many = zipped({f"{number}": b"" for number in range(3_000)})
    nested = "".join(f"<{tag}>" * 50_000 for tag in ("tbl", "tr", "tc", "p"))
    found: dict[str, tuple[bytes, str | None]] = {
        "declared.docx": (declared(word(body), b"word/document.xml", 2**31), "unpacks to more"),
        "spaces.docx": (word(" " * 60_000_000), "no text"),
        "deep.docx": (documents.office("word/document.xml", nested), "damaged"),
        "parts.odt": (many, "zip archive, but not"),
        "encrypted.docx": (encrypted("_rels/.rels"), "protected by a password"),
        "old.docx": (COMPOUND, "old binary document"),
        "old.doc": (COMPOUND, "old binary Word format"),
        "slides.docx": (slides(drawn("x")), "a PowerPoint presentation, not a Word document"),
        "text.ods": (opendocument("text", "<text:p>x</text:p>"), "OpenDocument text"),
        "outside.docx": (_with_names("/etc/passwd", "../../a", "..\\b", "a\0b"), None),
        "twice.docx": (word(body) + word(body), None),
        "loop.pptx": (_loop(), None),
        "far.fods": (_flat('<table:table-cell table:number-columns-repeated="2147483647"/>'), None),
        "style.xlsx": (
            workbook('<a><row><c s="99999999999" t="s"><v>-7</v></c><c><v>1e999</v></c></row></a>'),
            None,
        ),
        "date.xlsx": (
            workbook('<a><row><c s="1"><v>-1e300</v></c><c s="1"><v>nan</v></c></row></a>'),
            None,
        ),
        "pictures.rtf": (b"{\\rtf1 words \\bin999999999 " + b"\\pict" * 9_000, None),
        "groups.rtf": (b"{\\rtf1 " + b"{" * 90_000, "no text"),
        "characters.rtf": (b"{\\rtf1 \\u-99999999999? \\u1114112? \\'zz \\uc-5 a}", "damaged"),
        "deep.ipynb": (b'{"cells":' + b"[" * 90_000, "damaged"),
        "odd.ipynb": (b'{"cells": [7, null, {"source": {"a": 1}, "outputs": 3}]}', "damaged"),
        "parts.eml": (_mail("mixed") + b"--b\n\nx\n" * 100_000, "more than 10,000 parts"),
        "nested.eml": (b"".join(map(_mail, map(str, range(9_000)))), "parts of parts"),
        "messages.eml": (b"Content-Type: message/rfc822\n\n" * 9_000, "damaged"),
        "head.eml": (b"X-A: b\n" * 200_000, "the head of the mail is longer"),
        "words.eml": (b"Subject: " + b"=?utf-8?Q?a?= =?x?B?/?=" * 50_000 + b"\n\nx", None),
        "comments.eml": (b"From: " + b"(\\" * 100_000 + b"\nDate: 9e9 (\n\nx", None),
        "encodings.eml": (b"Content-Type: text/plain; charset*=a'b'%zz\n\n\xff", None),
        "lines.mbox": (b"From \n\n" * 50_000, "no text"),
        "folds.vcf": (b"BEGIN:VCARD\nFN;ENCODING=QUOTED-PRINTABLE:a" + b"=\n " * 200_000, None),
        "deep.ics": (b"BEGIN:VEVENT\nBEGIN:VALARM\n" * 50_000, "no text"),
        "up.epub": (documents.epub("x", **{"OEBPS__a.opf": _PACKAGE}), "no text"),
    }
    for name, xml in entities(secret).items():
        found[f"{name}.fodt"] = (xml.encode(), "XML entities")
        found[f"{name}.docx"] = (documents.office("word/document.xml", xml), "XML entities")
    return found


def _mail(kind: str) -> bytes:
    """The beginning of a mail in parts."""
    return b'Content-Type: multipart/%s; boundary="b"\n\n' % kind.encode()


def _with_names(*names: str) -> bytes:
    """A Word document with parts whose names lead out of it."""
    made = io.BytesIO(word(paragraph("Otters swim.")))
    with zipfile.ZipFile(made, "a") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), "x")
    return made.getvalue()


def _loop() -> bytes:
    """A presentation that shows one slide very often; its slide is its own notes."""
    xml = "<p xmlns:r='r'>" + "<sldId r:id='rId1'/>" * 50_000 + "</p>"
    return documents.office(
        "ppt/presentation.xml",
        xml,
        **{
            "ppt___rels__presentation.xml.rels": relations(("slide", "s.xml")),
            "ppt___rels__s.xml.rels": relations(("notesSlide", "s.xml"), ("chart", "s.xml")),
            "ppt__s.xml": "<a><p><t>Otters swim.</t></p></a>",
        },
    )


def _flat(cells: str) -> bytes:
    table = f'<table:table><table:table-row table:number-rows-repeated="99999999">{cells}'
    xml = f"{table}<table:table-cell><text:p>x</text:p></table:table-cell></table:table-row>"
    return documents.open_xml("document", f"{xml}</table:table>").encode()
