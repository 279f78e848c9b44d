"""PDFs that contradict themselves or are far more work than they look, byte by byte."""

from collections.abc import Mapping


def objects(given: dict[int, str | tuple[str, bytes]], trailer: str = "") -> bytes:
    """A PDF of these objects and a catalogue, object 1, that has 2 for its pages."""
    data = bytearray(b"%PDF-1.7\n")
    places = {}
    for number, value in {1: "<</Type/Catalog/Pages 2 0 R>>", **given}.items():
        places[number] = len(data)
        data += b"%d 0 obj\n" % number
        if isinstance(value, str):
            data += value.encode()
        else:
            entries, stream = value
            data += b"<</Length %d%s>>stream\n" % (len(stream), entries.encode())
            data += stream + b"\nendstream"
        data += b"\nendobj\n"
    start = len(data)
    data += b"xref\n0 1\n0000000000 65535 f \n"
    for number, place in places.items():
        data += b"%d 1\n%010d 00000 n \n" % (number, place)
    data += f"trailer\n<</Size {max(places) + 1}/Root 1 0 R{trailer}>>\n".encode()
    return bytes(data + b"startxref\n%d\n%%%%EOF\n" % start)


def one_page(
    entries: str,
    more: Mapping[int, str | tuple[str, bytes]] | None = None,
    box: str = "0 0 200 200",
) -> bytes:
    page = f"<</Type/Page/Parent 2 0 R/MediaBox[{box}]{entries}>>"
    return objects({2: "<</Type/Pages/Kids[3 0 R]/Count 1>>", 3: page, **(more or {})})


def shared_pages(count: int) -> bytes:
    """Each page is an object of its own; all have the same contents."""
    page = "<</Type/Page/Parent 2 0 R/Contents 3 0 R>>"
    pages = dict.fromkeys(range(4, count + 4), page)
    kids = " ".join(f"{number} 0 R" for number in pages)
    tree = f"<</Type/Pages/MediaBox[0 0 99 99]/Count {count}/Kids[{kids}]>>"
    return objects({2: tree, 3: ("", b"0 0 m 9 9 l S"), **pages})


def forms_of_forms(depth: int) -> bytes:
    """Each form draws the next ten times: one page is as much work as 10 ** depth."""
    head = "/Type/XObject/Subtype/Form/BBox[0 0 9 9]"
    resources = "/Resources<</XObject<</A {} 0 R>>>>"
    forms = {
        number: (head + resources.format(number + 1), b"/A Do " * 10)
        for number in range(5, 5 + depth)
    }
    last = {5 + depth: (head, b"0 0 m 9 9 l S")}
    start = {4: ("", b"/A Do")}
    return one_page("/Contents 4 0 R" + resources.format(5), {**start, **forms, **last})


def loop_of_tables() -> bytes:
    """The table of objects names itself as the one before it."""
    plain = objects({2: "<</Type/Pages/Kids[]/Count 0>>"})
    return objects({2: "<</Type/Pages/Kids[]/Count 0>>"}, f"/Prev {plain.index(b'xref')}")
