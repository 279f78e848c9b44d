"""Scenes of coloured shapes: what is in them, and pictures of them."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, hypot, pi, sin

from PIL import Image, ImageDraw

COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (214, 30, 36),
    "orange": (245, 140, 20),
    "yellow": (238, 214, 30),
    "green": (40, 150, 60),
    "blue": (35, 80, 200),
    "purple": (130, 40, 160),
    "brown": (110, 70, 35),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COUNTS = ("one", "two", "three", "four")
DIRECTIONS: Mapping[str, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
SIDE, FILM_SIDE, FRAMES = 84, 56, 4
"""Pixels of a picture and of a film's frame: 9 tokens and 4. How many frames a film has."""

_FINE = 4  # Drawn so many times larger and made smaller: smooth edges.

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Thing:
    """A coloured shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def one(self) -> str:
        """With its article."""
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self}"


THINGS = tuple(Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES))


def several(thing: Thing, count: int, draw: random.Random) -> Image.Image:
    """A picture of as many things of a kind, anywhere."""
    radii = [draw.uniform(11, 15) for _ in range(count)]
    places: list[Point] = []
    while len(places) < count:
        radius = radii[len(places)]
        place = (draw.uniform(radius, SIDE - radius), draw.uniform(radius, SIDE - radius))
        pairs = zip(places, radii, strict=False)
        if all(hypot(place[0] - x, place[1] - y) > radius + r + 1 for (x, y), r in pairs):
            places.append(place)
        elif draw.random() < 0.02:  # There may be no room left for the last ones.
            places.clear()
    parts = [(thing, place, radius) for place, radius in zip(places, radii, strict=True)]
    return _canvas(SIDE, parts, _ground(draw), [draw.uniform(-0.3, 0.3) for _ in parts])


def moving(thing: Thing, direction: str, draw: random.Random) -> list[Image.Image]:
    """The frames of a film in which a thing crosses the picture."""
    radius, (dx, dy) = draw.uniform(10, 13), DIRECTIONS[direction]
    across = draw.uniform(radius, FILM_SIDE - radius)
    middle, way = FILM_SIDE / 2, FILM_SIDE / 2 - radius
    ground, tilt = _ground(draw), draw.uniform(0, 2 * pi)
    frames = []
    for number in range(FRAMES):
        along = middle + way * (2 * number / (FRAMES - 1) - 1) * (dx + dy)
        place = (along, across) if dx else (across, along)
        frames.append(_canvas(FILM_SIDE, [(thing, place, radius)], ground, [tilt]))
    return frames


def _ground(draw: random.Random) -> tuple[int, ...]:
    """A pale colour."""
    return tuple(draw.randint(205, 255) for _ in range(3))


def _canvas(
    side: int,
    parts: Sequence[tuple[Thing, Point, float]],
    ground: tuple[int, ...],
    tilts: Sequence[float],
) -> Image.Image:
    picture = Image.new("RGB", (side * _FINE, side * _FINE), ground)
    pen = ImageDraw.Draw(picture)
    for (thing, (x, y), radius), tilt in zip(parts, tilts, strict=True):
        x, y, radius = x * _FINE, y * _FINE, radius * _FINE
        colour, box = COLOURS[thing.colour], (x - radius, y - radius, x + radius, y + radius)
        if thing.shape == "circle":
            pen.ellipse(box, fill=colour)
        elif thing.shape == "ring":
            pen.ellipse(box, outline=colour, width=round(0.35 * radius))
        else:
            corners = _turned(_CORNERS[thing.shape], tilt)
            pen.polygon([(x + radius * a, y + radius * b) for a, b in corners], fill=colour)
    return picture.resize((side, side), Image.Resampling.BOX)


def _turned(points: Sequence[Point], angle: float) -> list[Point]:
    turn, lift = cos(angle), sin(angle)
    return [(x * turn - y * lift, x * lift + y * turn) for x, y in points]


def _spiked(*radii: float) -> list[Point]:
    step = 2 * pi / len(radii)
    return [(r * sin(place * step), -r * cos(place * step)) for place, r in enumerate(radii)]


# Corners around the origin, as far as 1 from it.
_ARM = ((-0.32, -0.32), (-0.32, -0.95), (0.32, -0.95))
_CORNERS: Mapping[str, list[Point]] = {
    "square": _turned(_spiked(1, 1, 1, 1), pi / 4),
    "triangle": _spiked(1, 1, 1),
    "star": _spiked(*(1, 0.42) * 5),
    "cross": [point for quarter in range(4) for point in _turned(_ARM, quarter * pi / 2)],
}
