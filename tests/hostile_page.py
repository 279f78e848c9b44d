"""A folder whose names and words would run scripts if the page took them for mark-up."""

import os
from pathlib import Path

import pymupdf
from PIL import Image

_DEED = "window.pwned=(window.pwned||0)+1"
IMAGE = f"<img src=x onerror={_DEED}>"
NAMES = (
    IMAGE,
    f'"><svg onload={_DEED}>',
    f"'onfocus='{_DEED}' autofocus='",
    f"javascript:{_DEED}",
    "${" + _DEED + "}",
    "{{" + _DEED + "}}",
    "&lt;script&gt;" + _DEED,
    f"<script>{_DEED}",
    "a`${" + _DEED + "}`",
    "\u202egpj.<b onmouseover=1>",
)
TEXT = (
    f"Marmalade <script>{_DEED}</script> {IMAGE} "
    f'<a href="javascript:{_DEED}">x</a> ${{{_DEED}}} {{{{{_DEED}}}}} "onload={_DEED} marmalade.'
)


def make_hostile_media(folder: Path) -> None:
    """Texts, pictures, a PDF, HTML and broken files, all with such names and words."""
    inside = folder / IMAGE
    inside.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (inside / f"{name}.txt").write_text(f"{TEXT} Number {number}.")
        Image.new("RGB", (60, 60), (210, 20 * number, 40)).save(inside / f"{name}.png")
        (inside / f"{name}.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"no picture" * 20)
        (inside / f"{name}.bin").write_bytes(b"\0\1\2\3")
    (inside / "page.html").write_text(
        f"<html><title>{IMAGE}</title><body onload={_DEED}>{TEXT}<script>{_DEED}</script></body>"
    )
    document = pymupdf.open()
    page = document.new_page(width=500, height=200)
    page.insert_textbox(pymupdf.Rect(20, 20, 480, 180), TEXT)
    document.set_metadata({"title": IMAGE, "author": IMAGE})
    script = document.get_new_xref()
    document.update_object(script, f"<</S/JavaScript/JS(app.alert\\(1\\);{_DEED})>>")
    document.xref_set_key(document.pdf_catalog(), "OpenAction", f"{script} 0 R")
    document.save(inside / f"{IMAGE}.pdf")
    document.close()


def make_media_of_odd_bytes(folder: Path) -> None:
    """A folder and files named in Latin-1, of which UTF-8 knows nothing; for Linux only."""
    inside = folder / os.fsdecode(b"stra\xdfe")
    inside.mkdir(parents=True)
    Image.new("RGB", (90, 60), (210, 40, 40)).save(inside / os.fsdecode(b"caf\xe9.png"))
    (inside / os.fsdecode(b"r\xe9sum\xe9.txt")).write_text("Marmalade by the harbour.")
    (inside / os.fsdecode(b"d\xe9fect.jpg")).write_bytes(b"\xff\xd8\xff\xe0" + b"no picture" * 20)
    (inside / os.fsdecode(b"o\xf9.bin")).write_bytes(b"\0\1\2\3")
