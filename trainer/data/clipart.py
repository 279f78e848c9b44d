"""The Open Clip Art Library as Debian packages it: some 8,000 drawings with titles and keywords.

    apt-get install openclipart-svg openclipart-png

All of it is in the public domain. Titles and keywords are as people wrote them: in several
languages, some the name of a whole collection, some wrong; hundreds of drawings differ from another
by a colour or a number.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree as ET

from PIL import Image

from embedder.media import Limits, read_picture
from trainer.data.ledger import Unreadable

LIBRARY = Path("/usr/share/openclipart")
PACKAGES = "openclipart-svg openclipart-png"

_DC = "{http://purl.org/dc/elements/1.1/}"
_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_COLLECTION = 20  # as many drawings with one title are a collection, and the title is its name
_BY = re.compile(r"^(clip\s?art by|part of) .*? - ", re.IGNORECASE)
_NO_WORD = re.compile(r"^(hash.*|0x[0-9a-f]+|unsorted|special|\W*|\d+)$", re.IGNORECASE)
_NOT_LETTERS = re.compile(r"[\W\d_]+")
_HELD_OUT = 15  # of 100 groups


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing and what is said of it.

    Attributes:
        path: Of the PNG; its background is transparent.
        title: Its own, or its file name where the title is that of a collection.
        keywords: Without those that are no words, in lower case.
        category: The folder, such as "animals/birds".
        group: Equal for drawings of the same name, whatever their number: variants of one another.
    """

    path: Path
    title: str
    keywords: tuple[str, ...]
    category: str
    group: str

    @property
    def held_out(self) -> bool:
        """Whether it is for measuring; all of a group are, or none. Never changes."""
        digest = hashlib.blake2b(self.group.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % 100 < _HELD_OUT

    def image(self, side: int = 1024) -> Image.Image:
        """The drawing on white, RGB, its longest side at most `side` pixels.

        Raises:
            MediaError: it cannot be decoded, or has hundreds of megapixels, as one of them has.
        """
        return read_picture(self.path, Limits(frame_side=side))


def drawings(library: Path = LIBRARY) -> list[Drawing]:
    """All drawings that there are as SVG and as PNG, in the order of their names.

    Args:
        library: With the folders `svg` and `png`.

    Raises:
        Unreadable: it is not there.
    """
    if not (library / "svg").is_dir() or not (library / "png").is_dir():
        raise Unreadable(f"{library} is not there: apt-get install {PACKAGES}")
    names = sorted(one.relative_to(library / "svg") for one in (library / "svg").rglob("*.svg"))
    found = [
        _read(library / "svg" / name, png, name.parent.as_posix())
        for name in names
        if (png := (library / "png" / name).with_suffix(".png")).exists()
    ]
    common = Counter(one.title for one in found)
    return [_named(one, common[one.title]) for one in found]


def limited(given: Sequence[Drawing], most: int) -> list[Drawing]:
    """At most so many of a group, those first in order."""
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
        pass  # A drawing without words, but for its file name.
    words = (" ".join(one.replace("_", " ").split()).lower() for one in keywords)
    said = tuple(dict.fromkeys(one for one in words if not _NO_WORD.match(one)))
    return Drawing(png, " ".join(title.replace("_", " ").split()), said, category, "")


def _named(drawing: Drawing, same: int) -> Drawing:
    """With a title of its own, and the group of that."""
    title = _BY.sub("", drawing.title)
    if same >= _COLLECTION or _NO_WORD.match(title):
        title = " ".join(_NOT_LETTERS.sub(" ", drawing.path.stem).split())
    group = " ".join(_NOT_LETTERS.sub(" ", title).split()).lower() or drawing.category
    return replace(drawing, title=title or drawing.category.rpartition("/")[2], group=group)
