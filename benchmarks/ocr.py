"""Word recall, processor time and memory of reading words in pictures.

    python -m benchmarks.ocr [DIR]

Pictures are drawn with a fixed seed: screenshots, scans and photographed pages in several fonts,
with accents and in Chinese, and pictures without text. DIR has more of them and truth.json: by file
name, "cat" (a kind) and "text", empty where there is none. Words are compared as multisets, without
case and accents, a Chinese character as a word each. Exits with 1 where a bound is missed.
"""

import argparse
import io
import json
import re
import resource
import sys
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pymupdf
from PIL import Image, ImageDraw, ImageFont

from embedder.ocr import Reader

PHOTOS = Path(__file__).parent.parent / "tests/media"
WITHOUT_TEXT = "no text"
BOUNDS = {"photographed": 0.9, "sign": 0.9}
OTHER_BOUND = 0.97
LATIN_FONTS = ("helv", "tiro", "cour", "tiit")  # those that PyMuPDF contains
ENGLISH = (
    "Invoice 2026-4471 over 1,820.75 EUR is due on 3 March.",
    "The bakery opens at half past six, except on Sundays.",
    "Connection refused: retry in 30 seconds or check the proxy.",
    "Boil the lentils for twenty minutes and add the cumin.",
    "Train RE16 to Halle departs from platform 11 today.",
    "Please return the borrowed books before the holidays.",
)
ACCENTED = (
    "Les élèves fêtent Noël à la forêt près du château.",
    "Größere Straßen führen über die Brücke nach München.",
    "El niño pequeño soñó con una montaña y un pingüino.",
    "Zażółć gęślą jaźń, powiedział wesoły źrebak.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
)
CHINESE = (
    "今天的会议改到下午四点",
    "请在门口出示您的车票",
    "图书馆周末不开放",
    "这本书的价格是三十元",
)
SIGNS = ("BAKERY", "No parking", "Platform 11", "EXIT 24", "Museum", "Harbour Street 8")


@dataclass(frozen=True)
class Sample:
    """A picture, what it shows, and its kind."""

    kind: str
    picture: Image.Image
    text: str


@dataclass
class Score:
    """Sums over the pictures of a kind."""

    pictures: int = 0
    words: int = 0
    found: int = 0
    read: int = 0
    seconds: list[float] = field(default_factory=list)


def main() -> int:
    """Measure, and print a row for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="add these pictures")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    samples = [*drawn(rng), *without_text(rng)]
    passed = report("drawn", measured(samples))
    if given.folder:
        passed &= report(str(given.folder), measured(kept(given.folder)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"peak memory: {peak:.2f} GiB")
    return 0 if passed else 1


def measured(samples: list[Sample]) -> dict[str, Score]:
    """Read all pictures; models are loaded before."""
    reader = Reader()
    reader.read(screenshot(ENGLISH[:1], "helv", dark=False))
    scores: dict[str, Score] = defaultdict(Score)
    for sample in samples:
        start = time.process_time()
        lines = reader.read(sample.picture)
        score = scores[sample.kind]
        score.seconds.append(time.process_time() - start)
        wanted, got = words(sample.text), words(" ".join(line.text for line in lines))
        score.pictures += 1
        score.words += wanted.total()
        score.found += (wanted & got).total()
        score.read += got.total()
    return scores


def report(name: str, scores: dict[str, Score]) -> bool:
    """Print a table, and return whether all bounds are met."""
    passed = True
    print(f"{name:<16} pictures   recall  precision  CPU s each  bound")
    for kind, score in scores.items():
        recall = score.found / max(1, score.words)
        precision = score.found / max(1, score.read)
        row = f"{kind:<16} {score.pictures:>8} "
        if kind == WITHOUT_TEXT:
            met = score.read == 0
            row += f"{score.read:>8} words read  "
        else:
            bound = BOUNDS.get(kind, OTHER_BOUND)
            met = recall >= bound
            row += f"{recall:>8.3f}  {precision:>9.3f}  "
        row += f"{np.mean(score.seconds):>10.2f}  " + ("met" if met else "MISSED")
        print(row, flush=True)
        passed &= met
    return passed


def words(text: str) -> Counter[str]:
    """Return the words of a text as the full text of a library compares them."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(char for char in plain if not unicodedata.combining(char))
    return Counter(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", plain))


def kept(folder: Path) -> list[Sample]:
    """Return the pictures of a folder with truth.json."""
    truth = json.loads((folder / "truth.json").read_text("utf-8"))
    return [
        Sample(one["cat"] if one["text"] else WITHOUT_TEXT, Image.open(folder / name), one["text"])
        for name, one in truth.items()
    ]


def drawn(rng: np.random.Generator) -> Iterator[Sample]:
    """Yield pictures with text."""
    for i, name in enumerate(LATIN_FONTS):
        lines = ENGLISH[i % 2 :]
        yield Sample("screenshot", screenshot(lines, name, dark=i % 2 == 1), "\n".join(lines))
        upside_down = scan(lines, name, rng).rotate(180)
        yield Sample("scan", scan(lines, name, rng), "\n".join(lines))
        yield Sample("upside down", upside_down, "\n".join(lines))
        photographed_page = photographed(page(lines, name), rng)
        yield Sample("photographed", photographed_page, "\n".join(lines))
    for dark in (False, True):
        yield Sample("accents", screenshot(ACCENTED, "tiro", dark=dark), "\n".join(ACCENTED))
        yield Sample("Chinese", screenshot(CHINESE, "china-s", dark=dark), "\n".join(CHINESE))
    for text in SIGNS:
        plate = Image.new("RGB", (900, 260), "#103a80")
        write(plate, (450, 130), text, font("hebo", 90), "white", anchor="mm")
        yield Sample("sign", photographed(plate, rng), text)


def without_text(rng: np.random.Generator) -> Iterator[Sample]:
    """Yield parts of photos, as they are and mirrored, and patterns."""
    for name in ("cat.jpg", "coffee.jpg", "rocket.jpg"):
        with Image.open(PHOTOS / name) as opened:
            photo = opened.convert("RGB")
        for share in (1, 0.7, 0.5, 0.35):
            width, height = round(photo.width * share), round(photo.height * share)
            left = int(rng.integers(0, photo.width - width + 1))
            top = int(rng.integers(0, photo.height - height + 1))
            part = photo.crop((left, top, left + width, top + height))
            yield Sample(WITHOUT_TEXT, part, "")
            yield Sample(WITHOUT_TEXT, part.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "")
    for cell in (1, 4, 16, 64):
        noise = rng.integers(0, 256, (768 // cell, 1024 // cell, 3), np.uint8)
        picture = Image.fromarray(noise).resize((1024, 768), Image.Resampling.NEAREST)
        yield Sample(WITHOUT_TEXT, picture, "")


def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of PyMuPDF."""
    return ImageFont.truetype(io.BytesIO(pymupdf.Font(name).buffer), size)


def write(
    picture: Image.Image,
    at: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont,
    ink: str,
    anchor: str = "la",
) -> None:
    """Draw one line."""
    ImageDraw.Draw(picture).text(at, text, fill=ink, font=font, anchor=anchor)


def screenshot(lines: tuple[str, ...], name: str, *, dark: bool) -> Image.Image:
    """Return 1280 x 720 pixels with letters of 20 to 25."""
    picture = Image.new("RGB", (1280, 720), "#1e1e1e" if dark else "white")
    for i, line in enumerate(lines):
        write(
            picture, (90, 80 + 70 * i), line, font(name, 20 + i), "#dddddd" if dark else "#222222"
        )
    return picture


def page(lines: tuple[str, ...], name: str) -> Image.Image:
    """Return a page of A4 at 150 dpi."""
    picture = Image.new("RGB", (1240, 1754), "white")
    for i, line in enumerate(lines):
        write(picture, (130, 200 + 120 * i), line, font(name, 34), "#202020")
    return picture


def scan(lines: tuple[str, ...], name: str, rng: np.random.Generator) -> Image.Image:
    """Return a page a little askew, with noise and JPEG's artefacts."""
    askew = page(lines, name).rotate(
        rng.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor="white"
    )
    noisy = np.asarray(askew, np.float32) + rng.normal(0, 8, (askew.height, askew.width, 3))
    packed = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(packed, "JPEG", quality=70)
    return Image.open(packed)


def photographed(flat: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a picture seen at an angle on a photo, with shade, blur and noise."""
    with Image.open(PHOTOS / "coffee.jpg") as opened:
        ground = np.asarray(opened.convert("RGB").resize((1600, 1200)), np.float32)
    scale = min(1300 / flat.width, 1080 / flat.height)
    size = np.array([flat.width, flat.height]) * scale
    corner = (np.array([1600, 1200]) - size) / 2
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    there = corner + square * size + rng.uniform(-45, 45, (4, 2))
    here = square * [flat.width, flat.height]
    matrix = cv2.getPerspectiveTransform(here.astype(np.float32), there.astype(np.float32))
    seen = cv2.warpPerspective(
        np.asarray(flat, np.float32), matrix, (1600, 1200), flags=cv2.INTER_AREA
    )
    mask = cv2.warpPerspective(np.ones((flat.height, flat.width), np.float32), matrix, (1600, 1200))
    shade = np.linspace(0.65, 1, 1600, dtype=np.float32)[None, :, None]
    mixed = (ground * (1 - mask[..., None]) + seen * mask[..., None]) * shade
    blurred = cv2.GaussianBlur(mixed, (0, 0), 1.0) + rng.normal(0, 6, mixed.shape)
    return Image.fromarray(np.clip(blurred, 0, 255).astype(np.uint8))


if __name__ == "__main__":
    sys.exit(main())
