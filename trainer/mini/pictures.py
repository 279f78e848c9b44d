r"""Pictures with and without captions from Debian packages, and views of them.

    apt-get install tuxpaint-stamps-default tuxpaint-data gcompris-qt-data mate-backgrounds \
        gnome-backgrounds plasma-workspace-wallpapers lxqt-themes lomiri-wallpapers \
        lomiri-wallpapers-16.04 ukui-wallpapers opencv-doc scratch openclipart-svg openclipart-png

- Stamps and scenes: only statistics of them (a mean, a covariance, two numbers for each pair of
  modalities) end in the weights. Folders that are not installed are skipped, with a warning.
- Photos of people, scenes and things, with our own captions: photos.tsv names each with its kind
  and a caption written after looking at it. For measuring and choosing; never trained on.
- Drawings: the Open Clip Art Library as Debian packages it, some 8,000 with titles and keywords,
  all in the public domain. Titles and keywords are as people wrote them: in several languages, some
  the name of a whole collection, some wrong; hundreds of drawings differ from another by a colour
  or a number.
- Views: what a head must recognise whatever is done to the picture. Every view is a function of
  the picture and a name that seeds the random numbers, so views of one picture do not depend on
  which others there are.
"""

import hashlib
import io
import itertools
import logging
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from PIL import Image, ImageEnhance, ImageOps

from trainer.data.examples import Unreadable

logger = logging.getLogger(__name__)
STAMPS = Path("/usr/share/tuxpaint/stamps")
FOLDERS = (
    Path("/usr/share/wallpapers"),
    Path("/usr/share/backgrounds"),
    Path("/usr/share/lxqt/wallpapers"),
    Path("/usr/share/doc/opencv-doc"),
)
BUNDLES = Path("/usr/share/gcompris-qt/rcc")
MIN_SIDE, MAX_SIDE = 96, 640  # pixels
MIN_BYTES = 20_000
_MAX_DRAWN_SIDE = 2000  # pixels; larger drawings are reduced before anything else
_WEBP = re.compile(rb"RIFF(....)WEBPVP8", re.DOTALL)
RGB = tuple[int, int, int]
WHITE: RGB = (255, 255, 255)
TABLE = Path(__file__).with_name("photos.tsv")
TRANSLATIONS = Path(__file__).with_name("captions.tsv")
LIBRARY = Path("/usr/share/openclipart")
PACKAGES = "openclipart-svg openclipart-png"
_DC = "{http://purl.org/dc/elements/1.1/}"
_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_MIN_COLLECTION = 20  # drawings with one title are a collection, and the title is its name
_BY = re.compile(r"^(clip\s?art by|part of) .*? - ", re.IGNORECASE)
_NO_WORD = re.compile(r"^(hash.*|0x[0-9a-f]+|unsorted|special|\W*|\d+)$", re.IGNORECASE)
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_HELD_OUT = 15  # of 100 groups


@dataclass(frozen=True, slots=True)
class Picture:
    """An RGB picture, its source, and its caption (or "")."""

    image: Image.Image
    source: str
    caption: str


def stamps(least: int = MIN_SIDE) -> Iterator[Picture]:
    """Yield Tux Paint's stamps that have an English caption, on white, without letters.

    Args:
        least: Pixels of the shorter side; smaller ones are left out.
    """
    for path in _files(STAMPS, (".png",)):
        text = path.with_suffix(".txt")
        if "symbols" in path.parts or not text.exists():
            continue
        caption = text.read_text("utf-8", errors="replace").splitlines()[0].strip()
        image = _opened(path.read_bytes(), least)
        if image is None or not caption:
            continue
        yield Picture(centred(image, max(image.size)), str(path), caption)


def centred(image: Image.Image, side: int) -> Image.Image:
    """Paste a picture into the middle of a white square."""
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def scenes(every: int = 1) -> Iterator[Picture]:
    """Yield wallpapers, figures of manuals and the pictures of GCompris, without captions.

    Args:
        every: Use only each n-th file of a folder and each n-th picture of a bundle.
    """
    for folder in FOLDERS:
        for path in _files(folder, (".jpg", ".jpeg", ".png", ".webp"))[::every]:
            if path.stat().st_size < MIN_BYTES or path.is_symlink():
                continue
            image = _opened(path.read_bytes())
            if image is not None:
                yield Picture(image, str(path), "")
    for path in _files(BUNDLES, (".rcc",)):
        for number, content in itertools.islice(enumerate(_bundled(path)), 0, None, every):
            image = _opened(content)
            if image is not None:
                yield Picture(image, f"{path}@{number}", "")


def unmeasured_scenes(every: int = 1) -> Iterator[Picture]:
    """Yield scenes without those of photos.tsv, and of wallpapers without any of their sizes."""
    measured = tuple(photo.source.partition("/contents/")[0] for photo in read_photos())
    return (scene for scene in scenes(every) if not scene.source.startswith(measured))


def opened(source: str) -> Image.Image | None:
    """Open the picture of a source named as in `Picture`; None where it is not installed."""
    name, _, number = source.partition("@")
    path = Path(name)
    if not path.is_file():
        logger.warning("%s is not installed and is skipped", source)
        return None
    if not number:
        return _opened(path.read_bytes(), 1)
    return _opened(next(itertools.islice(_bundled(path), int(number), None)), 1)


def _bundled(path: Path) -> Iterator[bytes]:
    """Yield the WebP files in a bundle, in order."""
    content = path.read_bytes()
    for match in _WEBP.finditer(content):
        size = int.from_bytes(match.group(1), "little") + 8
        yield content[match.start() : match.start() + size]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if not folder.is_dir():
        logger.warning("%s is not installed; its pictures are skipped", folder)
        return []
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())


def _opened(content: bytes, least: int = MIN_SIDE) -> Image.Image | None:
    """Decode to RGB on white, at most 640 pixels; None if broken or too small."""
    try:
        image = Image.open(io.BytesIO(content)).convert("RGBA")
    except (OSError, ValueError):
        return None
    if min(image.size) < least:
        return None
    image = _on_ground(image, WHITE)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image


def _on_ground(image: Image.Image, ground: RGB) -> Image.Image:
    under = Image.new("RGBA", image.size, (*ground, 255))
    under.alpha_composite(image)
    return under.convert("RGB")


def alter(image: Image.Image, chance: random.Random) -> Image.Image:
    """Make a realistic copy: cropped, smaller, compressed again, recoloured, mirrored."""
    image = _cut(image, chance, 0.7)
    scale = chance.choice([0.25, 0.5, 1.0])
    image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    image = ImageEnhance.Brightness(image).enhance(chance.uniform(0.85, 1.15))
    image = ImageEnhance.Color(image).enhance(chance.uniform(0.85, 1.15))
    if chance.random() < 0.3:
        image = ImageOps.mirror(image)
    return recompressed(image, chance.choice([30, 60, 90]))


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    """Return a copy with JPEG's losses."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


@dataclass(frozen=True, slots=True)
class Photo:
    """One line of photos.tsv.

    Attributes:
        kind: "people", "scene" or "thing".
        source: Path of a file, or path and number of a picture in a bundle of GCompris.
        caption: What it shows.
    """

    kind: str
    source: str
    caption: str


def read_photos(table: Path = TABLE) -> list[Photo]:
    """Return all photos, whether their packages are installed or not."""
    return [Photo(*line.split("\t")) for line in table.read_text("utf-8").splitlines()]


def read_captions(table: Path = TRANSLATIONS) -> dict[str, list[str]]:
    """Return captions of every other photo by language; those in one place mean the same."""
    rows = [line.split("\t") for line in table.read_text("utf-8").splitlines()]
    return {language: list(captions) for language, *captions in zip(*rows, strict=True)}


def open_photos(given: list[Photo]) -> Iterator[tuple[Photo, Image.Image]]:
    """Yield the photos that are installed, decoded."""
    for photo in given:
        if (image := opened(photo.source)) is not None:
            yield photo, image


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing and its metadata.

    Attributes:
        path: Of the PNG; its background is transparent.
        title: Its title, or its file name where the title is that of a collection.
        keywords: In lower case, without those that are no words.
        category: The folder, such as "animals/birds".
        group: Shared by variants: drawings of the same name, whatever their number.
    """

    path: Path
    title: str
    keywords: tuple[str, ...]
    category: str
    group: str

    @property
    def held_out(self) -> bool:
        """Return whether its group is held out for measuring. Never changes."""
        digest = hashlib.blake2b(self.group.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % 100 < _HELD_OUT


def drawings(library: Path = LIBRARY) -> list[Drawing]:
    """Return all drawings with both SVG and PNG, by name.

    Args:
        library: With the folders `svg` and `png`.

    Raises:
        Unreadable: the library is not installed.
    """
    if not (library / "svg").is_dir() or not (library / "png").is_dir():
        raise Unreadable(f"{library} is missing: apt-get install {PACKAGES}")
    names = sorted(one.relative_to(library / "svg") for one in (library / "svg").rglob("*.svg"))
    found = [
        _read(library / "svg" / name, png, name.parent.as_posix())
        for name in names
        if (png := (library / "png" / name).with_suffix(".png")).exists()
    ]
    common = Counter(one.title for one in found)
    return [_named(one, common[one.title]) for one in found]


def limited(given: Sequence[Drawing], most: int) -> list[Drawing]:
    """Keep at most `count` of a group, the first in order."""
    seen = Counter[str]()
    kept = []
    for one in given:
        seen[one.group] += 1
        if seen[one.group] <= most:
            kept.append(one)
    return kept


def _read(svg: Path, png: Path, category: str) -> Drawing:
    title, keywords = "", list[str]()
    try:
        for element in ET.parse(svg).iter():
            if element.tag == f"{_DC}title" and not title:
                title = element.text or ""
            elif element.tag == f"{_DC}subject":
                keywords += [item.text or "" for item in element.iter(_ITEM)]
    except ET.ParseError:
        pass  # Its only words are those of its file name.
    words = (" ".join(one.replace("_", " ").split()).lower() for one in keywords)
    kept = tuple(dict.fromkeys(one for one in words if not _NO_WORD.match(one)))
    return Drawing(png, " ".join(title.replace("_", " ").split()), kept, category, "")


def _named(drawing: Drawing, same: int) -> Drawing:
    """Return the drawing with its title and the group of that title."""
    title = _BY.sub("", drawing.title)
    if same >= _MIN_COLLECTION or _NO_WORD.match(title):
        title = " ".join(_NOT_LETTERS.sub(" ", drawing.path.stem).split())
    group = " ".join(_NOT_LETTERS.sub(" ", title).split()).lower() or drawing.category
    return replace(drawing, title=title or drawing.category.rpartition("/")[2], group=group)


def drawing_view(path: Path, name: str, view: int) -> Image.Image:
    """Render a view of a drawing with a transparent background, RGB.

    Args:
        path: Of a PNG.
        name: Seeds the random numbers, with the number of the view.
        view: 0 is the drawing on white as it is; others are on white or on a colour, moved in a
            square, cut, mirrored, recoloured and compressed, each with some probability.

    Raises:
        OSError: the file cannot be read.
        Image.DecompressionBombError: it is too large.
    """
    if view == 0:
        return _flattened(path, WHITE)
    chance = random.Random(zlib.crc32(f"{name} {view}".encode()))
    ground = WHITE if chance.random() < 0.5 else _colour(chance)
    image = _flattened(path, ground)
    if chance.random() < 0.6:
        image = _placed(image, ground, chance)
    if chance.random() < 0.5:
        image = _cut(image, chance, 0.75)
    if chance.random() < 0.5:
        image = ImageOps.mirror(image)
    image = ImageEnhance.Brightness(image).enhance(chance.uniform(0.8, 1.2))
    image = ImageEnhance.Color(image).enhance(chance.uniform(0.7, 1.3))
    if chance.random() < 0.3:
        image = recompressed(image, chance.choice([30, 60, 90]))
    return image


def scene_views(image: Image.Image, name: str) -> list[Image.Image]:
    """Return a photo whole, two corners that overlap, and an altered copy."""
    return [image, *corners(image), alter(image, random.Random(zlib.crc32(name.encode())))]


def corners(image: Image.Image) -> list[Image.Image]:
    """Return the upper left and the lower right corner, which overlap."""
    width, height = image.size
    return [
        image.crop((0, 0, round(0.7 * width), round(0.7 * height))),
        image.crop((round(0.3 * width), round(0.3 * height), width, height)),
    ]


def _flattened(path: Path, ground: RGB) -> Image.Image:
    with Image.open(path) as opened:
        if max(opened.size) > _MAX_DRAWN_SIDE:
            opened.thumbnail((_MAX_DRAWN_SIDE // 2, _MAX_DRAWN_SIDE // 2))
        drawn = opened.convert("RGBA")
    drawn.thumbnail((MAX_SIDE, MAX_SIDE))
    return _on_ground(drawn, ground)


def _colour(chance: random.Random) -> RGB:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


def _placed(image: Image.Image, ground: RGB, chance: random.Random) -> Image.Image:
    """Place the drawing in a square up to 1.3 times as large."""
    side = int(max(image.size) * chance.uniform(1, 1.3))
    square = Image.new("RGB", (side, side), ground)
    left = chance.randint(0, side - image.width)
    square.paste(image, (left, chance.randint(0, side - image.height)))
    return square


def _cut(image: Image.Image, chance: random.Random, least: float) -> Image.Image:
    """Crop to a share of each side, from `least` to 1."""
    kept = chance.uniform(least, 1)
    width, height = image.size
    left, top = chance.uniform(0, 1 - kept) * width, chance.uniform(0, 1 - kept) * height
    right = max(int(left) + 1, int(left + kept * width))
    return image.crop((int(left), int(top), right, max(int(top) + 1, int(top + kept * height))))
