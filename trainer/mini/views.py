"""Views of a picture: what its head is to recognise whatever is done to the picture.

Every view is a function of the picture and a name, from which the random numbers are drawn, so
the views of one picture do not depend on which others there are.
"""

import io
import random
import zlib
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from trainer.mini.topics import alter

MOST_SIDE = 640  # pixels
_HUGE = 2000  # pixels; larger ones are made smaller before anything else

RGB = tuple[int, int, int]
WHITE: RGB = (255, 255, 255)


def drawing_view(path: Path, name: str, view: int) -> Image.Image:
    """A drawing with a transparent background, RGB.

    Args:
        path: Of a PNG.
        name: What the random numbers are drawn from, with the number of the view.
        view: 0 is the drawing on white as it is; others are on white or on a colour, moved about
            in a square, cut, mirrored, recoloured and compressed, each with some chance.

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
        image = _cut(image, chance)
    if chance.random() < 0.5:
        image = ImageOps.mirror(image)
    image = ImageEnhance.Brightness(image).enhance(chance.uniform(0.8, 1.2))
    image = ImageEnhance.Color(image).enhance(chance.uniform(0.7, 1.3))
    if chance.random() < 0.3:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=chance.choice([30, 60, 90]))
        image = Image.open(file).convert("RGB")
    return image


def scene_views(image: Image.Image, name: str) -> list[Image.Image]:
    """A photo whole, two corners that overlap, and an altered copy."""
    width, height = image.size
    return [
        image,
        image.crop((0, 0, round(0.7 * width), round(0.7 * height))),
        image.crop((round(0.3 * width), round(0.3 * height), width, height)),
        alter(image, random.Random(zlib.crc32(name.encode()))),
    ]


def _flattened(path: Path, ground: RGB) -> Image.Image:
    with Image.open(path) as opened:
        if max(opened.size) > _HUGE:
            opened.thumbnail((_HUGE // 2, _HUGE // 2))
        drawn = opened.convert("RGBA")
    drawn.thumbnail((MOST_SIDE, MOST_SIDE))
    under = Image.new("RGBA", drawn.size, (*ground, 255))
    under.alpha_composite(drawn)
    return under.convert("RGB")


def _colour(chance: random.Random) -> RGB:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


def _placed(image: Image.Image, ground: RGB, chance: random.Random) -> Image.Image:
    """Somewhere in a square that is up to 1.3 times as large."""
    side = int(max(image.size) * chance.uniform(1, 1.3))
    square = Image.new("RGB", (side, side), ground)
    left = chance.randint(0, side - image.width)
    square.paste(image, (left, chance.randint(0, side - image.height)))
    return square


def _cut(image: Image.Image, chance: random.Random) -> Image.Image:
    """A part of 75 % to 100 % of each side."""
    kept = chance.uniform(0.75, 1)
    width, height = image.size
    left, top = chance.uniform(0, 1 - kept) * width, chance.uniform(0, 1 - kept) * height
    right = max(int(left) + 1, int(left + kept * width))
    return image.crop((int(left), int(top), right, max(int(top) + 1, int(top + kept * height))))
