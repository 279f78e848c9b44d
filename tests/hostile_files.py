"""A folder of hostile files, the same each time it is built.

Beside sound files of every format lie damaged and mislabelled ones, files that grow when they are
decoded, PDFs and videos that contradict themselves, odd names, and what is no file at all.
"""

import io
import os
import random
import socket
import struct
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import documents
import hostile_documents
import numpy as np
import pymupdf
from hostile_pdfs import loop_of_tables, objects, one_page, shared_pages
from PIL import Image, ImageOps
from raw_files import dng

from embedder.media.picture import prepare_decoders

BASE = Image.effect_noise((48, 36), 60).convert("RGB")
MOVED = [BASE.rotate(30 * n) for n in range(5)]
_SUFFIXES = "jpg png gif webp bmp tif jp2 ppm heic avif ico icns tga dds pcx sgi qoi jxl"
_NAMES = "JPEG PNG GIF WEBP BMP TIFF JPEG2000 PPM HEIF AVIF ICO ICNS TGA DDS PCX SGI QOI JXL"
STILL = dict(zip(_SUFFIXES.split(), _NAMES.split(), strict=True))
MOVING = {"gif": "GIF", "png": "PNG", "webp": "WEBP", "avif": "AVIF"}
VIDEOS = {"mp4": "mp4v", "avi": "MJPG", "mkv": "mp4v"}
FORMATS = [
    *STILL,
    "dng",
    "svg",
    *(f"moving.{suffix}" for suffix in MOVING),
    *(f"film.{suffix}" for suffix in VIDEOS),
    "pdf",
    "html",
    "txt",
    "docx",
    "epub",
]
SECRET = "kryptonite"
PAGES = 50_000


def whole(name: str, folder: Path) -> bytes:
    """An undamaged file of a format."""
    suffix = name.rpartition(".")[2]
    path = folder / f"whole.{suffix}"
    prepare_decoders()
    if name in STILL:
        BASE.save(path, STILL[name])
    elif name.startswith("moving"):
        MOVED[0].save(path, MOVING[suffix], save_all=True, append_images=MOVED[1:], duration=90)
    elif name.startswith("film"):
        film(path, VIDEOS[suffix], 15)
    elif name == "pdf":
        path.write_bytes(pdf())
    elif name == "svg":
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="48" height="36"><style>.a{fill:red}'
            '</style><rect class="a" width="30" height="30"/><text y="20">words</text></svg>'
        )
    elif name == "dng":
        path.write_bytes(dng(BASE, (640, 480), None))
    elif name == "docx":
        path.write_bytes(documents.word(documents.paragraph("Otters swim.") * 9))
    elif name == "epub":
        path.write_bytes(documents.epub("<p>Otters swim.</p>" * 9))
    elif name == "html":
        path.write_bytes(b"<html><title>T</title><body><p>Hello <b>x</b><br>y</body></html>" * 4)
    else:
        path.write_bytes("Grüße an alle.\n\n世界。".encode() * 9)
    return path.read_bytes()


def film(path: Path, code: str, frames: int) -> None:
    """A video at ten frames a second."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*code), 10, BASE.size
    )
    for number in range(frames):
        writer.write(np.asarray(MOVED[number % len(MOVED)]))
    writer.release()


def pdf(**saving: Any) -> bytes:
    """Two pages with words and a picture; always the same bytes, unless they are encrypted."""
    document: Any = pymupdf.open()
    picture = io.BytesIO()
    BASE.save(picture, "JPEG")
    for number in range(2):
        page = document.new_page(width=200, height=200)
        page.insert_text((20, 50), f"page {number}")
        page.insert_image((50, 60, 150, 160), stream=picture.getvalue())
    return bytes(document.tobytes(no_new_id=not saving, **saving))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Cut off, with bits flipped, with a header overwritten, or with a stretch replaced."""
    damaged = bytearray(data)
    how = rng.randrange(4)
    if how == 0:
        return truncated(data, rng)
    if how == 1:
        return flipped(data, rng)
    if how == 2:
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(min(len(damaged), 300))] = rng.choice([0, 255, 127, 128, 1])
    else:
        start = rng.randrange(len(damaged))
        damaged[start : start + rng.randrange(1, 60)] = rng.randbytes(rng.randrange(60))
    return bytes(damaged)


def truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def flipped(data: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randrange(1, 12)):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@dataclass
class Corpus:
    """What was built.

    Attributes:
        folder: What is to be ingested.
        outside: A folder beside it, of which the ingest must see nothing but what a link names.
        sound: Files in the folder that are as good as any.
        hopeless: Files that cannot be indexed, and a part of the expected reason.
        files: All regular files of the folder.
    """

    folder: Path
    outside: Path
    sound: list[Path] = field(default_factory=list)
    hopeless: dict[Path, str] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        found = (Path(root, name) for root, _, names in os.walk(self.folder) for name in names)
        return [path for path in found if path.is_file() and not path.is_symlink()]

    def add(self, name: str, data: bytes, *, sound: bool = False, why: str | None = None) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        if sound:
            self.sound.append(path)
        if why is not None:
            self.hopeless[path] = why
        return path


def build(place: Path, seed: int = 1) -> Corpus:
    """Builds the folder below `place`; some twenty megabytes."""
    corpus = Corpus(place / "media", place / "outside")
    for folder in (corpus.folder, corpus.outside, place / "whole"):
        folder.mkdir(parents=True)
    rng = random.Random(seed)
    samples = {name: whole(name, place / "whole") for name in FORMATS}
    _damaged(corpus, samples, rng)
    _mislabelled(corpus, samples)
    _bombs(corpus)
    _pdfs(corpus)
    _videos(corpus, samples)
    _texts(corpus)
    cells = "<a><row><c s='1'><v>41000</v></c><c t='s'><v>1</v></c></row></a>"
    corpus.add("sound/sheet.xlsx", documents.workbook(cells), sound=True)
    corpus.add("sound/letter.rtf", b"{\\rtf1\\ansicpg932 \\'93\\'fa\\'96\\'7b otters}", sound=True)
    for name, (data, why) in hostile_documents.files(corpus.outside / "secret.txt").items():
        corpus.add(f"documents/{name}", data, why=why)
    _names(corpus)
    _references(corpus)
    _no_files(corpus)
    return corpus


def _damaged(corpus: Corpus, samples: dict[str, bytes], rng: random.Random) -> None:
    for number, (name, data) in enumerate(samples.items()):
        suffix = name.rpartition(".")[2]
        stem = name.replace(".", "-")
        sound = data + (b" " * number if suffix in ("txt", "html", "pdf") else b"")
        corpus.add(f"sound/{stem}.{suffix}", sound, sound=True)
        for turn in range(4 if name != "icns" else 1):  # a megapixel each
            corpus.add(f"damaged/{stem}-cut-{turn}.{suffix}", truncated(data, rng))
            corpus.add(f"damaged/{stem}-bits-{turn}.{suffix}", flipped(data, rng))
        corpus.add(f"damaged/{stem}-empty.{suffix}", b"", why="empty")
        corpus.add(f"damaged/{stem}-zeros.{suffix}", bytes(4096))
        corpus.add(f"damaged/{stem}-head.{suffix}", data[:24])


def _mislabelled(corpus: Corpus, samples: dict[str, bytes]) -> None:
    kinds = {"png": "picture", "pdf": "PDF", "film.mp4": "video", "txt": "text"}
    others = {"jpg": "picture", "mkv": "video", "pdf": "PDF", "html": "text"}
    for name, kind in kinds.items():
        for suffix, promised in others.items():
            why = None if kind == promised else f"named .{suffix}, but its bytes are"
            stem = name.replace(".", "-")
            corpus.add(f"mislabelled/{stem}.{suffix}", samples[name], why=why)
    corpus.add("mislabelled/program.jpg", b"\x7fELF" + bytes(range(256)) * 8)
    corpus.add("mislabelled/archive.png", b"PK\x03\x04" + bytes(range(256)) * 8)
    corpus.add("mislabelled/sound.mp4", b"ID3\x04" + bytes(400))
    corpus.add("mislabelled/random.pdf", random.Random(3).randbytes(5000))
    corpus.add("mislabelled/unknown.xyz", random.Random(4).randbytes(5000), why="not a picture")


def _bombs(corpus: Corpus) -> None:
    many = "million pixels"
    corpus.add("bombs/declared.png", png(60_000, 60_000, b"\0" * 64), why=many)
    corpus.add("bombs/most.png", png(2**31 - 1, 2**31 - 1, b"\0" * 64), why="")
    corpus.add("bombs/all-zero.png", png(9_000, 9_000, bytes(9_001 * 9_000)))
    corpus.add("bombs/too-much-data.png", png(8, 8, bytes(60_000_000)))
    corpus.add("bombs/words.png", png(8, 8, bytes(9 * 8), (b"zTXt", zipped(b"a\0\0", 1 << 26))))
    corpus.add("bombs/profile.png", png(8, 8, bytes(9 * 8), (b"iCCP", zipped(b"a\0\0", 1 << 26))))
    corpus.add("bombs/screen.gif", gif(65_535, 65_535, 2), why=many)
    corpus.add("bombs/frames.gif", gif(1_500, 1_500, 60))
    corpus.add("bombs/strips.tif", tiff(9_000, 9_000, zlib.compress(bytes(81_000_000), 1)))
    corpus.add("bombs/declared.tif", tiff(200_000, 200_000, b"\0" * 64), why=many)
    corpus.add("bombs/loop.tif", tiff(8, 8, zlib.compress(bytes(64)), following=8))
    corpus.add("bombs/canvas.webp", webp(16_383, 16_383), why=many)
    corpus.add("bombs/canvas-of-animation.webp", webp_canvas(1 << 14, 1 << 14), why=many)
    corpus.add("bombs/declared.bmp", bmp(200_000, 200_000), why=many)
    corpus.add("bombs/declared.qoi", b"qoif" + struct.pack(">II", 99_999, 99_999) + b"\4\0")
    corpus.add("bombs/declared.ppm", b"P6 99999 99999 255\n" + bytes(99), why=many)
    corpus.add("bombs/nested.ico", icon(png(60_000, 60_000, b"\0")), why=many)
    corpus.add("bombs/declared.psd", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 1, 1, 8, 3))


def png(width: int, height: int, pixels: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Grey, 8 bits; `pixels` with a filter byte before each row."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(pixels, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def zipped(start: bytes, count: int) -> bytes:
    return start + zlib.compress(bytes(count), 1)


def gif(width: int, height: int, frames: int) -> bytes:
    """Each frame is as large as the screen, and a few bytes."""
    made = io.BytesIO()
    halves = Image.new("L", (min(width, 1_500), min(height, 1_500)))
    halves.paste(255, (0, 0, halves.width // 2, halves.height))
    halves.save(made, "GIF", save_all=True, append_images=[ImageOps.invert(halves)], duration=40)
    data = bytearray(made.getvalue())
    start = 13 + (3 << (data[10] & 7) + 1)  # After the header and the colours.
    data[start:-1] = data[start:-1] * (frames // 2)
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def tiff(width: int, height: int, strip: bytes, following: int = 0) -> bytes:
    """Grey, one strip of zlib data; `following` is where the next directory is said to be."""
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: 0, 277: 1, 278: height, 279: 0}
    tags[273], tags[279] = 8 + 2 + 12 * len(tags) + 4, len(strip)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", 8) + directory + strip


def webp(width: int, height: int) -> bytes:
    """Lossless, of which only the sizes are there."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(64)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def webp_canvas(width: int, height: int) -> bytes:
    """An animation that says how large it is and has no frame."""
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    data = b"\x02\0\0\0" + sizes
    chunks = b"VP8X" + struct.pack("<I", len(data)) + data + b"ANIM" + struct.pack("<I", 6)
    chunks += bytes(6)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head + bytes(99)


def icon(picture: bytes) -> bytes:
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


def _pdfs(corpus: Corpus) -> None:
    corpus.add("pdf/many-pages.pdf", shared_pages(PAGES), why=f"the PDF has {PAGES} pages")
    locked = pdf(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o")
    corpus.add("pdf/locked.pdf", locked, why="protected by a password")
    owned = pdf(encryption=pymupdf.PDF_ENCRYPT_RC4_128, owner_pw="o")
    corpus.add("pdf/owned.pdf", owned, sound=True)
    corpus.add("pdf/loop-of-pages.pdf", objects({2: "<</Type/Pages/Kids[2 0 R]/Count 9>>"}))
    corpus.add(
        "pdf/loop-of-parents.pdf",
        objects(
            {
                2: "<</Type/Pages/Kids[3 0 R]/Count 1/Parent 3 0 R>>",
                3: "<</Type/Pages/Kids[2 0 R 4 0 R]/Count 1/Parent 2 0 R>>",
                4: "<</Type/Page/Parent 3 0 R/MediaBox[0 0 9 9]>>",
            }
        ),
    )
    corpus.add("pdf/count.pdf", objects({2: "<</Type/Pages/Kids[]/Count 2147483647>>"}))
    corpus.add("pdf/negative.pdf", objects({2: "<</Type/Pages/Kids[]/Count -5>>"}))
    corpus.add("pdf/loop-of-contents.pdf", one_page("/Contents 3 0 R"))
    corpus.add("pdf/huge-page.pdf", one_page("", box="0 0 1e9 1e9"))
    corpus.add("pdf/flat-page.pdf", one_page("", box="0 0 1e9 1e-9"))
    corpus.add("pdf/no-page-size.pdf", one_page("", box="0 0 0 0"))
    corpus.add("pdf/odd-page-size.pdf", one_page("", box="(a) null /b 3 0 R"))
    twice = zlib.compress(zlib.compress(b"0 0 m 9 9 l S\n" * 300_000, 9), 9)
    filters = "/Filter[/FlateDecode/FlateDecode]"
    corpus.add("pdf/zipped-twice.pdf", one_page("/Contents 4 0 R", {4: (filters, twice)}))
    zeros = zlib.compress(bytes(1 << 26), 1)
    corpus.add("pdf/spaces.pdf", one_page("/Contents 4 0 R", {4: ("/Filter/FlateDecode", zeros)}))
    image = (
        "/Type/XObject/Subtype/Image/Width 60000/Height 60000/BitsPerComponent 8"
        "/ColorSpace/DeviceRGB/Filter/FlateDecode"
    )
    drawn = ("", b"q 200 0 0 200 0 0 cm /A Do Q")
    corpus.add(
        "pdf/picture.pdf",
        one_page(
            "/Contents 4 0 R/Resources<</XObject<</A 5 0 R>>>>", {4: drawn, 5: (image, zeros)}
        ),
    )
    form = "/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</A 5 0 R>>>>"
    corpus.add(
        "pdf/loop-of-forms.pdf",
        one_page(
            "/Contents 4 0 R/Resources<</XObject<</A 5 0 R>>>>",
            {4: drawn, 5: (form, b"/A Do /A Do")},
        ),
    )
    corpus.add("pdf/deep.pdf", one_page("/A " + "[" * 50_000))
    corpus.add("pdf/loop-of-tables.pdf", loop_of_tables())
    corpus.add("pdf/only-a-head.pdf", b"%PDF-1.7\n")
    corpus.add("pdf/late.pdf", b"\n" * 1_000 + pdf(), sound=True)


def _videos(corpus: Corpus, samples: dict[str, bytes]) -> None:
    mp4, avi, mkv = (samples[f"film.{suffix}"] for suffix in ("mp4", "avi", "mkv"))
    corpus.add("video/no-frames.mp4", without_frames(mp4))
    corpus.add("video/no-frames.avi", avi[: avi.index(b"movi") + 4])
    corpus.add("video/no-frames.mkv", mkv[: mkv.index(b"\x1f\x43\xb6\x75")])
    for value in (0, 1, 2**31 - 1, 2**32 - 1):
        for box, place in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
            data = patched(mp4, box, place, struct.pack(">I", value))
            corpus.add(f"video/{box.decode()}-{value}.mp4", data)
        for box, place in ((b"mdhd", 16), (b"stsz", 12), (b"stts", 12), (b"stsc", 12)):
            data = patched(mp4, box, place, struct.pack(">I", value))
            corpus.add(f"video/{box.decode()}-{place}-{value}.mp4", data)
        corpus.add(f"video/frames-{value}.avi", patched(avi, b"avih", 24, struct.pack("<I", value)))
        corpus.add(f"video/pace-{value}.avi", patched(avi, b"avih", 8, struct.pack("<I", value)))
        corpus.add(f"video/width-{value}.avi", patched(avi, b"strf", 12, struct.pack("<I", value)))
    for value in (0.0, -1.0, 1e300, float("nan"), float("inf")):
        data = patched(mkv, b"\x44\x89\x88", 3, struct.pack(">d", value))
        corpus.add(f"video/length-{value}.mkv", data)


def patched(data: bytes, mark: bytes, place: int, value: bytes) -> bytes:
    """With a value written `place` bytes after the start of a mark."""
    start = data.index(mark) + place
    return data[:start] + value + data[start + len(value) :]


def without_frames(mp4: bytes) -> bytes:
    """The tables of samples say that there are none."""
    for table in (b"stsz", b"stts", b"stsc", b"stco"):
        mp4 = patched(mp4, table, 12 if table == b"stsz" else 8, bytes(4))
    return mp4


def _texts(corpus: Corpus) -> None:
    corpus.add("text/open-tags.html", b"<div><b>" * 50_000 + b"words")
    corpus.add("text/entities.html", b"<p>" + b"&#x110000;&amp" * 20_000)
    corpus.add("text/one-line.txt", b"x" * 1_000_000)
    corpus.add("text/one-word-each.txt", b"a\n\n" * 20_000)
    corpus.add("text/halves.txt", b"\xff\xfe" + b"\x00\xd8" * 2_000)
    corpus.add("text/deep.json", b"[" * 200_000)
    corpus.add("text/wide.csv", b"a," * 100_000)
    corpus.add("text/marks.txt", "\u202e\u0300\ufeff\u0000 a".encode() * 5_000)
    corpus.add("text/blank.txt", b" \n\t" * 5_000, why="no text")


def _names(corpus: Corpus) -> None:
    names = ["two\nlines", "return\r", "tab\t", "bell\x07", "escape\x1b[31m", "\u202egnp.exe"]
    names += [
        "\u200b",
        "quote'\"`$(id)",
        "back\\slash",
        "percent%d%s%n",
        "-rf",
        "--help",
        "~",
        "*?[",
    ]
    names += [" space ", "dot.", "a" * 251, "é" * 125, "\U0001f600" * 62, "e\u0301", "<b>&amp;"]
    for number, name in enumerate(names):
        add_picture(corpus, os.fsencode(name), number)
    for number, name in enumerate([b"caf\xe9", b"\xff\xfe", b"\x80" * 251]):
        if sys.platform == "linux":  # others allow only names in Unicode
            add_picture(corpus, name, 100 + number)
    if sys.platform == "linux":
        for suffix in ("mp4", "pdf", "txt", "heic"):
            data = next((corpus.folder / "sound").glob(f"*.{suffix}")).read_bytes()
            corpus.add(os.fsdecode(b"odd-\xe9." + suffix.encode()), data, sound=True)


def add_picture(corpus: Corpus, name: bytes, number: int) -> None:
    made = io.BytesIO()
    Image.new("RGB", (40, 30), (number, 255 - number, 7)).save(made, "PNG")
    corpus.add(os.fsdecode(b"names/" + name + b".png"), made.getvalue(), sound=True)


def _references(corpus: Corpus) -> None:
    """Files that name another one, which must not be read for them."""
    secret = corpus.outside / "secret.txt"
    secret.write_text(f"{SECRET} is kept here")
    film_outside = corpus.outside / "film.mp4"
    film(film_outside, "mp4v", 12)
    lists: dict[str, Callable[[Path], str]] = {
        "list.mp4": lambda path: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n",
        "list.mkv": lambda path: f"ffconcat version 1.0\nfile '{path}'\n",
        "list.avi": lambda path: f"[playlist]\nFile1={path}\n",
        "list.mov": lambda path: f"v=0\nm=video 0 RTP/AVP 96\na=control:file://{path}\n",
    }
    for name, text in lists.items():
        corpus.add(f"references/{name}", text(film_outside).encode(), why="")
    page = f'<html><body>words<img src="file://{secret}"><iframe src="{secret}"></iframe>'
    corpus.add("references/page.html", page.encode())
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>'
    corpus.add("references/image.svg", drawing.encode())
    entity = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file://{secret}">]><a>&b;</a>'
    corpus.add("references/entity.xml", entity.encode())
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    corpus.add("references/laughs.xml", f"<!DOCTYPE a [{laughs}]><a>&l9;</a>".encode())
    corpus.add(
        "references/laughs.svg", f"<!DOCTYPE a [{laughs}]><svg>&l9;</svg>".encode(), why="SVG"
    )
    stream = (f"/F({secret})/FFilter null", b"")
    corpus.add("references/stream.pdf", one_page("/Contents 4 0 R", {4: stream}))


def _no_files(corpus: Corpus) -> None:
    """Links, pipes and sockets; one link, which leads outside, is as good as a file."""
    folder = corpus.folder / "links"
    folder.mkdir()
    Image.new("RGB", (30, 40), (3, 200, 90)).save(corpus.outside / "linked.png")
    (folder / "out.png").symlink_to(corpus.outside / "linked.png")
    corpus.sound.append(folder / "out.png")
    (folder / "self.jpg").symlink_to("self.jpg")
    (folder / "there.jpg").symlink_to("back.jpg")
    (folder / "back.jpg").symlink_to("there.jpg")
    (folder / "up").symlink_to("..")
    (folder / "nothing.jpg").symlink_to("nowhere.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    (folder / "input.txt").symlink_to("/dev/stdin")
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener, suppress(OSError):
        before = Path.cwd()
        os.chdir(folder)  # the path of a socket must be short
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(before)
