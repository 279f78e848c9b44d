"""Documents of office programs and books, made of their parts."""

import io
import zipfile
from xml.sax.saxutils import escape

_TYPES = {"word": "wordprocessingml", "ppt": "presentationml", "xl": "spreadsheetml"}
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
SPACES = (
    f'xmlns:w="{_WORD}" xmlns:a="{_DRAWING}" xmlns:r="{_OFFICE}" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
    'xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"'
)
_OPEN = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for name in ("office", "text", "table", "style", "meta", "presentation")
)
_OPEN += (
    ' xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
    ' xmlns:svg="urn:oasis:names:tc:opendocument:xmlns:svg-compatible:1.0"'
    ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
)


def zipped(parts: dict[str, str | bytes]) -> bytes:
    """An archive of parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def relations(*targets: tuple[str, str]) -> str:
    """What a part refers to: kinds and parts, as rId1, rId2 and so on."""
    rows = "".join(
        f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="http://example.org/relationships">{rows}</Relationships>'


def office(main: str, xml: str, **parts: str) -> bytes:
    """An Office document whose first part is `main`; names of parts have two underlines for "/"."""
    kind = _TYPES[main.partition("/")[0]]
    types = (
        f'<Types><Override PartName="/{main}" '
        f'ContentType="application/vnd.openxmlformats-officedocument.{kind}.main+xml"/></Types>'
    )
    core = (
        '<cp:coreProperties xmlns:cp="http://example.org/core" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/">'
        "<dc:title>The otter's year</dc:title><dc:creator>Ada Byron</dc:creator>"
        "<cp:keywords>river; fur</cp:keywords>"
        "<dcterms:modified>2012-05-01T08:00:00Z</dcterms:modified>"
        "<dcterms:created>2011-03-04T10:20:30Z</dcterms:created></cp:coreProperties>"
    )
    return zipped(
        {
            "[Content_Types].xml": types,
            "_rels/.rels": relations(
                ("officeDocument", main),
                ("metadata/core-properties", "docProps/core.xml"),
                ("extended-properties", "docProps/app.xml"),
            ),
            "docProps/core.xml": core,
            "docProps/app.xml": "<Properties><Pages>3</Pages><Words>1200</Words></Properties>",
            main: xml,
            **{name.replace("__", "/"): data for name, data in parts.items()},
        }
    )


def word(body: str, beside: dict[str, str] | None = None) -> bytes:
    """A Word document; `beside` has notes, headers and so on by their kind, as paragraphs."""
    kinds = list(beside or {})
    parts = {f"word__{kind}1.xml": f"<w:x {SPACES}>{(beside or {})[kind]}</w:x>" for kind in kinds}
    targets = [(kind, f"{kind}1.xml") for kind in kinds]
    return office(
        "word/document.xml",
        f"<w:document {SPACES}><w:body>{body}</w:body></w:document>",
        **parts,
        **{"word___rels__document.xml.rels": relations(*targets)},
    )


def paragraph(text: str) -> str:
    """A paragraph of a Word document."""
    return f"<w:p><w:r><w:t>{escape(text)}</w:t></w:r></w:p>"


def slides(*shapes: str, notes: str = "") -> bytes:
    """A presentation whose slides are stored in reverse; the notes belong to the first slide."""
    count = len(shapes)
    listed = "".join(f'<p:sldId r:id="rId{number}"/>' for number in range(1, count + 1))
    names = [f"slide{count - number}.xml" for number in range(count)]
    parts = {
        f"ppt__slides__{name}": f"<p:sld {SPACES}><p:cSld>{xml}</p:cSld></p:sld>"
        for name, xml in zip(names, shapes, strict=True)
    }
    parts["ppt__notesSlides__notes.xml"] = f"<p:notes {SPACES}>{notes}</p:notes>"
    parts[f"ppt__slides___rels__{names[0]}.rels"] = relations(
        ("notesSlide", "../notesSlides/notes.xml")
    )
    parts["ppt___rels__presentation.xml.rels"] = relations(
        *(("slide", f"slides/{name}") for name in names)
    )
    xml = f"<p:presentation {SPACES}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>"
    return office("ppt/presentation.xml", xml, **parts)


def drawn(*texts: str) -> str:
    """Paragraphs of a slide."""
    return "".join(f"<a:p><a:r><a:t>{escape(text)}</a:t></a:r></a:p>" for text in texts)


def workbook(sheet: str) -> bytes:
    """A workbook with one sheet, two shared strings, and a second style, which is that of dates."""
    return office(
        "xl/workbook.xml",
        "<a xmlns:r='r'><sheets><sheet name='Sheet' r:id='rId1'/></sheets></a>",
        **{
            "xl___rels__workbook.xml.rels": relations(
                ("worksheet", "a.xml"), ("styles", "b.xml"), ("sharedStrings", "c.xml")
            ),
            "xl__a.xml": sheet,
            "xl__b.xml": "<a><cellXfs><xf numFmtId='0'/><xf numFmtId='14'/></cellXfs></a>",
            "xl__c.xml": "<a><si><t>One</t><rPh><t>wan</t></rPh></si><si><t>Two</t></si></a>",
        },
    )


def opendocument(family: str, body: str, **parts: str) -> bytes:
    """An OpenDocument file; `parts` are further ones without their ending."""
    meta = (
        f"<office:document-meta {_OPEN}><office:meta><dc:title>The otter's year</dc:title>"
        "<meta:keyword>river</meta:keyword><meta:keyword>fur</meta:keyword>"
        "<meta:initial-creator>Ada Byron</meta:initial-creator>"
        "<meta:creation-date>2011-03-04T10:20:30.123456789</meta:creation-date>"
        '<meta:document-statistic meta:page-count="3" meta:word-count="1200"/>'
        "</office:meta></office:document-meta>"
    )
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{family}",
            "meta.xml": meta,
            "content.xml": open_xml("content", f"<office:body>{body}</office:body>"),
            **{f"{name.replace('__', '/')}.xml": data for name, data in parts.items()},
        }
    )


def open_xml(root: str, inside: str) -> str:
    """An XML file of OpenDocument."""
    tag = "office:document" if root == "document" else f"office:document-{root}"
    return f"<{tag} {_OPEN}>{inside}</{tag}>"


def epub(*chapters: str, **parts: str) -> bytes:
    """A book whose chapters are bodies of HTML, listed in the reverse of their order."""
    numbers = range(len(chapters))
    items = "".join(f'<item id="c{n}" href="text/c%20{n}.xhtml"/>' for n in reversed(numbers))
    order = "".join(f'<itemref idref="c{n}"/>' for n in numbers)
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
        "<dc:title>The otter's year</dc:title><dc:creator>Ada Byron</dc:creator>"
        "<dc:creator>Ben Ezra</dc:creator><dc:subject>Rivers</dc:subject>"
        "<dc:description>&lt;p&gt;Of water&lt;/p&gt;</dc:description><dc:date>2011-03-04</dc:date>"
        f"</metadata><manifest>{items}</manifest><spine>{order}</spine></package>"
    )
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OEBPS/a.opf"/>'
            "</rootfiles></container>",
            "OEBPS/a.opf": package,
            **{
                f"OEBPS/text/c {n}.xhtml": f"<html><head/><body>{chapters[n]}</body></html>"
                for n in numbers
            },
            **{name.replace("__", "/"): data for name, data in parts.items()},
        }
    )
