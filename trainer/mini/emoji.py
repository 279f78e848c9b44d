"""The emoji of Noto Color Emoji with Unicode's English names and keywords for them.

    apt-get install fonts-noto-color-emoji unicode-cldr-core

The font is under the SIL Open Font License 1.1, the words under the Unicode licence.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.data.ledger import Unreadable

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
WORDS = Path("/usr/share/unicode/cldr/common")
_SIZE = 109  # the one size that the font has
_SIDE = 150  # pixels of a picture
_CORNER = (7, 16)


@dataclass(frozen=True, slots=True)
class Emoji:
    """One emoji.

    Attributes:
        characters: Its code points.
        name: "person surfing".
        keywords: "ocean", "sport".
    """

    characters: str
    name: str
    keywords: tuple[str, ...]


def named_emoji(words: Path = WORDS) -> list[Emoji]:
    """All that have an English name, without those that only differ by the tone of the skin.

    Raises:
        Unreadable: the package is not installed.
    """
    names, keywords = dict[str, str](), dict[str, str]()
    for folder in ("annotations", "annotationsDerived"):
        try:
            tree = ET.parse(words / folder / "en.xml")
        except OSError as error:
            raise Unreadable(
                f"{error.filename} is not there: apt-get install unicode-cldr-core"
            ) from error
        for entry in tree.iter("annotation"):
            found = names if entry.get("type") == "tts" else keywords
            found[entry.get("cp", "")] = entry.text or ""
    return [
        Emoji(characters, name, _split(keywords.get(characters, "")))
        for characters, name in names.items()
        if "skin tone" not in name
    ]


def drawn_emoji(given: list[Emoji], font: Path = FONT) -> Iterator[tuple[Emoji, Image.Image]]:
    """Those that the font draws in one cell, with RGB pictures of 150 × 150 pixels on white.

    Raises:
        Unreadable: the package is not installed.
    """
    try:
        colours = ImageFont.truetype(str(font), _SIZE)
    except OSError as error:
        raise Unreadable(f"{font} is not there: apt-get install fonts-noto-color-emoji") from error
    for one in given:
        if colours.getlength(one.characters) >= _SIDE:
            continue
        image = Image.new("RGB", (_SIDE, _SIDE), (255, 255, 255))
        draw = ImageDraw.Draw(image)
        draw.text(_CORNER, one.characters, font=colours, embedded_color=True)
        if (np.asarray(image) != 255).any():
            yield one, image


def _split(keywords: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in keywords.split("|") if part.strip())
