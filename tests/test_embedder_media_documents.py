"""Documents of office programs, books and notebooks: their words, pages, properties and reasons."""
# ruff: noqa: RUF001

import io
import json
import re
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import documents
import pytest
from documents import drawn, opendocument, paragraph, relations, slides, word, zipped
from hostile_documents import COMPOUND, declared, encrypted
from openpyxl import Workbook
from openpyxl.comments import Comment

from embedder.media import (
    Details,
    Kind,
    Limits,
    MediaError,
    UnsupportedMedia,
    cut,
    detect,
    read_text,
)


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def text_of(folder: Path, name: str, data: str | bytes) -> str:
    path = written(folder / name, data)
    assert detect(path) is Kind.TEXT
    return read_text(path)


def details_of(folder: Path, name: str, data: str | bytes) -> Details:
    details = next(cut(written(folder / name, data), Kind.TEXT)).details
    assert details is not None
    return details


TEXT_BOX = paragraph("In a box.")
ODD_WORD = f"""
<w:p><w:pPr><w:tabs><w:tab w:pos="9"/></w:tabs></w:pPr><w:r><w:t>Left</w:t><w:tab/><w:t>right</w:t>
</w:r></w:p>
<w:p><w:ins><w:r><w:t>Added. </w:t></w:r></w:ins>
<w:del><w:r><w:delText>Gone.</w:delText></w:r></w:del>
<w:moveFrom><w:r><w:t>Elsewhere.</w:t></w:r></w:moveFrom><w:hyperlink><w:r><w:t>A link</w:t></w:r>
</w:hyperlink><w:r><w:noBreakHyphen/><w:t>end</w:t></w:r></w:p>
<w:sdt><w:sdtContent>{paragraph("In a content control.")}</w:sdtContent></w:sdt>
<w:p><w:r><w:t>Anchor of</w:t></w:r><w:r><mc:AlternateContent>
<mc:Choice><wp:docPr descr="Two otters"/><pic:pic><pic:cNvPr descr="Two otters"/></pic:pic>
<w:txbxContent>{TEXT_BOX}</w:txbxContent></mc:Choice>
<mc:Fallback><w:txbxContent>{TEXT_BOX}</w:txbxContent></mc:Fallback>
</mc:AlternateContent><w:t xml:space="preserve"> a box.</w:t></w:r></w:p>
<w:tbl><w:tr><w:tc>{paragraph("Name")}</w:tc><w:tc>{paragraph("Born")}{paragraph("where")}</w:tc>
</w:tr><w:tr><w:tc>{paragraph("Ada")}</w:tc><w:tc>{paragraph("London")}</w:tc></w:tr></w:tbl>
{paragraph("Last.")}
"""


def test_word_document_gives_all_that_its_reader_sees_once(tmp_path: Path) -> None:
    text = text_of(tmp_path, "a.docx", word(ODD_WORD))
    assert text == (
        "Left\tright\n\nAdded. A link-end\n\nIn a content control.\n\nTwo otters\n\n"
        "Anchor of a box.\n\nIn a box.\n\nName\tBorn where\nAda\tLondon\n\nLast."
    )


def test_notes_comments_and_headers_follow_the_text(tmp_path: Path) -> None:
    beside = {
        "header": paragraph("Otter Society"),
        "footnotes": f"<w:footnote>{paragraph('See Byron.')}</w:footnote>",
        "comments": f"<w:comment>{paragraph('Really?')}</w:comment>",
        "settings": paragraph("no text of the document"),
    }
    text = text_of(tmp_path, "a.docx", word(paragraph("Body."), beside))
    assert text == "Body.\n\nSee Byron.\n\nReally?\n\nOtter Society"


def test_pages_of_html_within_a_document_are_read(tmp_path: Path) -> None:
    parts = {
        "word__a.htm": "<meta charset=utf-8><p>An <b>otter</b></p>",
        "word__b.mht": "MIME-Version: 1.0\nContent-Type: text/html\n\n<p>A walrus</p>",
        "word___rels__document.xml.rels": relations(("aFChunk", "a.htm"), ("aFChunk", "b.mht")),
    }
    body = f"<w:document {documents.SPACES}><w:body>{paragraph('Seen:')}</w:body></w:document>"
    data = documents.office("word/document.xml", body, **parts)
    assert text_of(tmp_path, "a.docx", data) == "Seen:\n\nAn otter\n\nA walrus"


def test_slides_are_pages_in_the_order_of_the_show(tmp_path: Path) -> None:
    table = f"<a:tbl><a:tr><a:tc>{drawn('a')}</a:tc><a:tc>{drawn('b')}</a:tc></a:tr></a:tbl>"
    group = f'<p:grpSp><p:pic><p:cNvPr descr="A gull"/></p:pic>{drawn("Grouped")}</p:grpSp>'
    number = '<a:p><a:fld type="slidenum"><a:t>7</a:t></a:fld></a:p>'
    data = slides(drawn("First"), "", group + table + number, notes=drawn("Speak slowly") + number)
    pages = text_of(tmp_path, "a.pptx", data).split("\f")
    assert pages == ["First\n\nSpeak slowly", "", "A gull\n\nGrouped\n\na\tb"]
    drafts = list(cut(tmp_path / "a.pptx", Kind.TEXT))
    assert [draft.page for draft in drafts] == [1, 3]
    assert [draft.content.text for draft in drafts] == [pages[0], pages[2]]


def workbook() -> bytes:
    book = Workbook()
    sheet = book.active
    sheet.title = "Invoices"
    sheet.append(["Paid on", "Amount", "Rate", "Late", "Number"])
    moment = datetime.fromisoformat("2011-12-24T18:30")
    sheet.append([date(2011, 12, 24), 1234.5, 0.075, True, 4006381333931])
    sheet.append([moment, 0.1 + 0.2, "0042", timedelta(hours=30), None])
    sheet["B2"].number_format, sheet["C2"].number_format = '#,##0.00 "€"', "0.0%"
    sheet["A3"].number_format, sheet["D3"].number_format = "dd.mm.yyyy hh:mm", "[h]:mm"
    sheet["A2"].comment = Comment("Paid twice?", "Ada")
    hidden = book.create_sheet("Old")
    hidden.sheet_state = "hidden"
    hidden["XFD1048576"] = "far away"
    hidden["A1"] = "=1+1"  # without a value, since no program has computed it
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def test_sheets_are_pages_with_cells_as_they_are_shown(tmp_path: Path) -> None:
    before = time.process_time()
    first, second = text_of(tmp_path, "a.xlsx", workbook()).split("\f")
    assert time.process_time() - before < 5, "a cell in the last corner costs no more than another"
    assert first.startswith("Invoices\n\nPaid on\tAmount\tRate\tLate\tNumber\n")
    assert "2011-12-24\t1234.50\t7.5%\tTRUE\t4006381333931" in first
    assert "2011-12-24 18:30:00\t0.3\t0042\t30:00:00" in first
    assert "Paid twice?" in first
    assert second == "Old\n\nfar away"


def test_cells_of_any_kind_are_shown_or_left_out(tmp_path: Path) -> None:
    cells = (
        "<c t='s'><v>0</v></c><c t='s'><v>7</v></c><c t='e'><v>#REF!</v></c>"
        "<c s='1'><v>0.75</v></c>"
        "<c t='inlineStr'><is><t>in </t><t>line</t></is></c><c t='str'><f>A1</f><v>found</v></c>"
        "<c><v>1E-3</v></c><c/>"
    )
    text = text_of(tmp_path, "a.xlsx", documents.workbook(f"<a><row>{cells}</row></a>"))
    assert text == "Sheet\n\nOne\t18:00:00\tin line\tfound\t0.001"


ODD_TEXT = """
<text:tracked-changes><text:deletion><text:p>Gone.</text:p></text:deletion></text:tracked-changes>
<text:h>A  heading
 in two lines</text:h>
<text:p>Left<text:tab/>right<text:note><text:note-citation>1</text:note-citation><text:note-body
><text:p>A note.</text:p></text:note-body></text:note>, and on<text:s/>and<text:line-break/>on.
<office:annotation><dc:creator>Ben</dc:creator><text:p>Really?</text:p></office:annotation></text:p>
<draw:frame><svg:desc>Two otters</svg:desc><draw:text-box><text:p>In a box.</text:p></draw:text-box>
</draw:frame>
<table:table table:name="Table1"><table:table-row><table:table-cell><text:p>Ada</text:p>
</table:table-cell><table:table-cell table:number-columns-repeated="900000"><text:p>London</text:p>
</table:table-cell></table:table-row></table:table>
"""


def test_opendocument_text_is_read_as_it_is_seen(tmp_path: Path) -> None:
    header = "<style:header><text:p>Otter Society</text:p></style:header><text:p>no</text:p>"
    data = opendocument("text", ODD_TEXT, styles=documents.open_xml("styles", header))
    expected = (
        "A heading in two lines\n\nLeft\tright, and on and\non.\n\nA note.\n\nReally?\n\n"
        "Two otters\n\nIn a box.\n\nAda\tLondon"
    )
    assert text_of(tmp_path, "a.odt", data) == f"{expected}\n\nOtter Society"
    flat = documents.open_xml("document", f"<office:body>{ODD_TEXT}</office:body>")
    assert text_of(tmp_path, "a.fodt", flat) == expected


def test_sheets_and_slides_of_opendocument_are_pages(tmp_path: Path) -> None:
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>"
    rows = f"<table:table-row>{cell.format('a')}{cell.format('1.5 €')}</table:table-row>"
    tables = "".join(f'<table:table table:name="{n}">{rows}</table:table>' for n in ("Old", "New"))
    ods = text_of(tmp_path, "a.ods", opendocument("spreadsheet", tables))
    assert ods == "Old\n\na\t1.5 €\fNew\n\na\t1.5 €"
    notes = "<presentation:notes><text:p>Speak slowly</text:p></presentation:notes>"
    show = "<draw:page/><draw:page><draw:g><text:p>Hello</text:p></draw:g>" + notes + "</draw:page>"
    assert text_of(tmp_path, "a.odp", opendocument("presentation", show)) == (
        "\fHello\n\nSpeak slowly"
    )


def test_book_is_read_in_its_order(tmp_path: Path) -> None:
    data = documents.epub("", "<h1>One</h1><p>It r&aelig;ned.</p>", "<p>Two &amp; more.</p>")
    assert text_of(tmp_path, "a.epub", data) == "One\n\nIt ræned.\fTwo & more."
    assert [draft.page for draft in cut(tmp_path / "a.epub", Kind.TEXT)] == [1, 2]


@pytest.mark.parametrize("codec", ["windows-1251", "utf-8", "utf-16"])
def test_book_in_any_encoding_is_read(tmp_path: Path, codec: str) -> None:
    page = f"<?xml version='1.0' encoding='{codec}'?><html><body><p>Выдра плывёт</p></body></html>"
    data = documents.epub("", **{"OEBPS__text__c 0.xhtml": page.encode(codec)})
    assert text_of(tmp_path, "a.epub", data) == "Выдра плывёт"


def test_fictionbook_in_a_legacy_encoding_is_read(tmp_path: Path) -> None:
    book = """<?xml version="1.0" encoding="windows-1251"?>
    <FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><description><title-info>
    <author><first-name>Анна</first-name><last-name>Каренина</last-name></author>
    <book-title>Выдра</book-title><annotation><p>Жизнь</p></annotation></title-info></description>
    <body><title><p>Выдра</p><p>Роман</p></title>
    <section><title><p>Глава 1</p></title><p>Шёл <emphasis>дождь</emphasis>.</p>
    <section><subtitle>***</subtitle><p>Лыжи.</p></section></section><section><p>Снег.</p></section></body>
    <binary id="c">AAAA</binary></FictionBook>""".encode("cp1251")
    text = text_of(tmp_path, "a.fb2", book)
    assert text.split("\f") == ["Выдра\n\nРоман", "Глава 1\n\nШёл дождь.\n\n***\n\nЛыжи.", "Снег."]
    details = details_of(tmp_path, "a.fb2", book)
    assert details.words == (
        *(("Title", "Выдра"), ("Author", "Анна Каренина")),
        ("Description", "Жизнь"),
    )


def test_rich_text_in_any_code_page_is_read(tmp_path: Path) -> None:
    picture = "{\\pict\\jpegblip " + "ffd8ffe0" * 4000 + "}"
    source = (
        "{\\rtf1\\ansi\\ansicpg1251{\\info{\\title \\'c2\\'fb\\'e4\\'f0\\'e0}{\\author Ada}}"
        "{\\header Otter Society\\par}\\'cf\\'f0\\'e8\\'e2\\'e5\\'f2, \\u19990?\\u30028? and"
        " \\ldblquote fur\\rdblquote .{\\footnote A note.}\\par " + picture + "End\\cell x\\row}"
    )
    text = text_of(tmp_path, "a.rtf", source)
    for part in ("Otter Society", "Привет, 世界 and “fur”.", "A note.", "End\tx"):
        assert part in text, part
    assert "ffd8" not in text
    broken = source.replace("\\pict", "\\unknown")
    assert "ffd8" not in text_of(tmp_path, "b.rtf", broken)
    details = details_of(tmp_path, "a.rtf", source)
    assert details.words == (("Title", "Выдра"), ("Author", "Ada"))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (rb"{\rtf1\mac Gr\'9f\'a7e}", "Grüße"),
        (rb"{\rtf1\pc Gr\'81\'e1e}", "Grüße"),
        (rb"{\rtf1\pca 5 \'9b}", "5 ø"),
        ("{\\rtf1\\ansi Größe, Выдра}".encode(), "Größe, Выдра"),
        ("{\\rtf1\\ansi\\ansicpg1250 Żółć}".encode("cp1250"), "Żółć"),
        (rb"{\rtf1\ansi A cake: \u-10180?\u-8366?}", "A cake: 🍒"),
        (rb"{\rtf1\ansi Half: \u-10180?}", "Half: \ufffd"),
    ],
)
def test_rich_text_of_other_programs_is_read(tmp_path: Path, source: bytes, text: str) -> None:
    assert text_of(tmp_path, "a.rtf", source).strip() == text


def notebook(*cells: dict[str, object]) -> str:
    return json.dumps({"nbformat": 4, "cells": cells})


def test_notebook_gives_cells_and_texts_but_no_pictures(tmp_path: Path) -> None:
    outputs = [
        {"output_type": "stream", "text": ["3 otters\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": "<Figure>"}},
        {"output_type": "error", "ename": "KeyError", "evalue": "'fur'", "traceback": ["\x1b[31m"]},
    ]
    cells = (
        {"cell_type": "markdown", "source": ["# Rivers\n", "of Wales"]},
        {"cell_type": "code", "source": "count()", "outputs": outputs},
    )
    expected = "# Rivers\nof Wales\n\ncount()\n\n3 otters\n\n\n<Figure>\n\nKeyError: 'fur'"
    assert text_of(tmp_path, "a.ipynb", notebook(*cells)) == expected
    old = {"nbformat": 3, "worksheets": [{"cells": [{"input": "x = 1"}, {"source": "words"}]}]}
    assert text_of(tmp_path, "b.ipynb", json.dumps(old)) == "x = 1\n\nwords"


def test_properties_are_words_dates_and_facts(tmp_path: Path) -> None:
    details = details_of(tmp_path, "a.docx", word(paragraph("Body.")))
    assert details.captured_at == datetime(2011, 3, 4, 10, 20, 30, tzinfo=UTC)
    assert details.words == (
        ("Title", "The otter's year"),
        ("Author", "Ada Byron"),
        ("Keywords", "river; fur"),
    )
    assert details.facts == (("Pages", "3"), ("Words", "1,200"))
    data = opendocument("text", "<text:p>Body.</text:p>")
    written_at = datetime.fromisoformat("2011-03-04T10:20:30.123456")
    assert details_of(tmp_path, "a.odt", data) == Details(
        captured_at=written_at,
        words=details.words,
        facts=details.facts,
    )
    book = details_of(tmp_path, "a.epub", documents.epub("<p>Body.</p>"))
    assert book.captured_at == datetime.fromisoformat("2011-03-04")
    assert dict(book.words) == {
        "Title": "The otter's year",
        "Author": "Ada Byron; Ben Ezra",
        "Subject": "Rivers",
        "Description": "Of water",
    }
    show = details_of(tmp_path, "a.pptx", slides(drawn("a"), drawn("b")))
    assert dict(show.facts)["Slides"] == "2"


def test_properties_that_cannot_be_read_cost_no_words(tmp_path: Path) -> None:
    data = word(paragraph("Body."), {}).replace(b"docProps/core.xml", b"docProps/core.xmk")
    draft = next(cut(written(tmp_path / "a.docx", data), Kind.TEXT))
    assert draft.content.text == "Body."


HIDDEN = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
SHEET = workbook()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.docx", SHEET, "are an Excel workbook, not a Word document; rename"),
        ("a.xlsx", word(paragraph("x")), "are a Word document, not an Excel workbook; rename"),
        (
            "a.pptx",
            opendocument("text", "<text:p>x</text:p>"),
            "OpenDocument file, not a PowerPoint",
        ),
        ("a.ods", opendocument("text", "<text:p>x</text:p>"), "OpenDocument text; rename"),
        ("a.odt", zipped({"a.txt": "words"}), "zip archive, but not an OpenDocument"),
        ("a.docx", zipped({"a.txt": "words"}), "zip archive, not a Word document"),
        ("a.epub", zipped({"a.txt": "words"}), "zip archive, but not a book"),
        ("a.docx", b"just words\n", "named .docx, but its bytes are not those of a Word document"),
        ("a.docx", b"\xff\xd8\xff\xe0" + bytes(99), "named .docx, but its bytes are a picture"),
        ("a.xlsx", b"%PDF-1.7\n", "named .xlsx, but its bytes are a PDF"),
        ("a.rtf", word(paragraph("x")), "named .rtf, but its bytes are not those of a Rich Text"),
        (
            "a.docx",
            word(paragraph("x" * 999))[:-30],
            "a Word document that is damaged or truncated",
        ),
        ("a.docx", COMPOUND, "named .docx, but its bytes are an old binary document"),
        ("a.docx", COMPOUND + "EncryptedPackage".encode("utf-16-le"), "protected by a password"),
        ("a.docx", encrypted("_rels/.rels"), "protected by a password"),
        (
            "a.odt",
            opendocument("text", "", **{"META-INF__manifest": "<encryption-data/>"}),
            "protected by a password",
        ),
        (
            "a.epub",
            documents.epub("x", **{"META-INF__encryption.xml": "<a URI='OEBPS/text/c 0.xhtml'/>"}),
            "copy protection",
        ),
        ("a.docx", word(" "), "the document holds no text"),
        (
            "a.docx",
            declared(word(paragraph("x")), b"word/document.xml", 2**31),
            "unpacks to more than the limit of 400 MB",
        ),
        ("a.fodt", HIDDEN, "declares XML entities"),
        ("a.ipynb", "[" * 100_000, "not those of a Jupyter notebook"),
        ("a.ipynb", '{"cells": ' + "[" * 100_000, "damaged or truncated"),
    ],
)
def test_reason_is_true(tmp_path: Path, name: str, data: str | bytes, reason: str) -> None:
    path = written(tmp_path / name, data)
    with pytest.raises(MediaError, match=reason):
        list(cut(path, detect(path)))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "a.doc",
            COMPOUND,
            r"the old binary Word format \.doc is not supported: save it as \.docx",
        ),
        ("a.XLS", COMPOUND, r"the old binary Excel format \.xls is not .*save it as \.xlsx"),
        ("a.pps", COMPOUND, r"the old binary PowerPoint format \.pps is not .*as \.pptx"),
        ("a.doc", b"{\\rtf1 words}", r"a Rich Text document: rename it to \.rtf"),
        ("a.xls", b"<table><tr><td>1</table>", r"its bytes are text: rename it to \.html"),
        ("a.xls", b"name\ttown\nZo\xeb\tK\xf6ln\n", r"its bytes are text: rename it to \.txt"),
        ("a.xls", SHEET, r"a zip archive, as newer documents are: rename it to \.xlsx"),
        ("~$a.docx", b"\x03Ada" + b" " * 50, "a lock of Microsoft Office"),
        ("Inbox", b"From a Sat Mar  5 2011\nTo: b\n\nYQ==\n", r"a mailbox: rename it to \.mbox"),
        ("a.xlsb", SHEET, r"\.xlsb is not supported: save it as \.xlsx"),
        ("a.pages", SHEET, "Apple Pages is not supported: export it as .docx or PDF"),
        ("a.mobi", bytes(200), "Kindle books are not supported: convert it to EPUB"),
        ("a.key", SHEET, "Apple Keynote is not supported: export it as .pptx or PDF"),
        ("GPG.KEY", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", r"texts with its ending .*to \.txt"),
        (
            "words.xyz",
            b"words of a format that is not known\n",
            r"texts with its ending .*to \.txt",
        ),
        ("sky.exr", b"\x76\x2f\x31\x01" + bytes(50), "OpenEXR pictures are not supported"),
        ("notes.md.gz", b"\x1f\x8b\x08" + bytes(50), "compressed: unpack it"),
        ("a.zip", SHEET, "an archive or compressed: unpack it"),
    ],
)
def test_other_documents_are_skipped_with_a_reason(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    with pytest.raises(UnsupportedMedia, match=reason):
        detect(written(tmp_path / name, data))


def test_no_more_is_unpacked_than_the_limits_allow(tmp_path: Path) -> None:
    few = Limits(file_bytes=1000)
    long = word(paragraph("otter " * 300))
    for name, data in {
        "a.docx": long,
        "a.pptx": slides(drawn("otter " * 300)),
        "a.epub": documents.epub("<p>" + "otter " * 300),
        "a.rtf": "{\\rtf1 " + "otter " * 300 + "}",
        "a.ipynb": notebook({"source": "otter " * 300}),
    }.items():
        with pytest.raises(MediaError, match=r"(?:larger|more) than the limit"):
            read_text(written(tmp_path / name, data), few)
    with pytest.raises(MediaError, match="more than the limit of 0 MB"):
        read_text(written(tmp_path / "b.docx", word(paragraph("x") * 300)), few)
    assert len(read_text(tmp_path / "a.docx")) > 1000


def test_part_of_any_name_is_found(tmp_path: Path) -> None:
    """Word of the web writes document2.xml; names may differ in case or begin with a slash."""
    types = '<Types><Override PartName="/word/document2.xml" ContentType="ms-word"/></Types>'
    data = zipped(
        {
            "[Content_Types].xml": types,
            "_rels/.rels": relations(("officeDocument", "/Word/Document2.xml")),
            "word\\document2.xml": f"<w:x {documents.SPACES}>{paragraph('Found.')}</w:x>",
        }
    )
    assert text_of(tmp_path, "a.docx", data) == "Found."


def test_passages_never_cross_a_page(tmp_path: Path) -> None:
    texts = [f"Slide {n} says little." for n in range(1, 8)]
    path = written(tmp_path / "a.pptx", slides(*map(drawn, texts)))
    drafts = list(cut(path, Kind.TEXT))
    assert [draft.content.text for draft in drafts] == texts
    assert [draft.page for draft in drafts] == list(range(1, 8))
    whole = read_text(path)
    assert [whole[slice(*(draft.span or ()))] for draft in drafts] == texts
    plain = written(tmp_path / "a.txt", "One.\fTwo.")
    assert [(one.content.text, one.page) for one in cut(plain, Kind.TEXT)] == [
        ("One.", None),
        ("Two.", None),
    ]


def test_macros_and_templates_are_read_as_their_kin(tmp_path: Path) -> None:
    data = word(paragraph("Body."))
    for name in ("a.docm", "a.dotx", "a.DOTM"):
        assert text_of(tmp_path, name, data) == "Body."
    assert re.match("Invoices", text_of(tmp_path, "a.xlsm", SHEET))
