"""Drawn shapes to train a tiny model on: `python -m benchmarks.miniature.shapes DIR`.

Everything that both stages need, without a download: pictures and short films of coloured shapes
with captions, questions and answers, an untrained Qwen2-VL of a million parameters, and a
configuration for each stage. The same seed gives the same folder.

A quarter of all combinations, such as "three red stars", is never shown in training, though red
stars are, and three of other things (`held_out`). The evaluation sets in DIR/held-out contain only
those: a model that scores there has learned what the words mean, and not the pictures by heart.
"""

import argparse
import json
import random
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import cos, hypot, pi, sin
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image, ImageDraw

from benchmarks.untrained import Shape, build
from embedder.mllm.settings import Settings
from trainer.cli import positive_int

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
"""Pixels of a picture and of a film's frame (9 tokens and 4), and the frames of a film."""
_SUPERSAMPLING = 4  # Drawn larger by this factor and reduced, for smooth edges.
Point = tuple[float, float]
# Corners around the origin, as far as 1 from it.
_ARM = ((-0.32, -0.32), (-0.32, -0.95), (0.32, -0.95))
Row = Mapping[str, Any]
Value = TypeVar("Value")
SHAPE = Shape(hidden=128, intermediate=256, vision_hidden=64)
"""About 640,000 parameters, in two layers of vision and two of language."""
CONFIGS = ("stage1-tiny.toml", "stage2-tiny.toml")
FIND_PICTURE = "Find the picture: "
FIND_FILM = "Find the film: "
ANSWER = "Look and answer: "
WHICH_SHAPE, WHICH_COLOUR, HOW_MANY = (
    "What shape is it?",
    "What colour is it?",
    "How many are there?",
)
REPETITIONS = 5
"""Pictures and films of each combination."""
_WORDS = 2  # Repetitions of each word.


@dataclass(frozen=True, slots=True)
class Thing:
    """A coloured shape."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def one(self) -> str:
        """Return the name with its article."""
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self}"


THINGS = tuple(Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES))


def several(thing: Thing, count: int, draw: random.Random) -> Image.Image:
    """Draw a picture of several things of a kind."""
    radii = [draw.uniform(11, 15) for _ in range(count)]
    places: list[Point] = []
    while len(places) < count:
        radius = radii[len(places)]
        place = (draw.uniform(radius, SIDE - radius), draw.uniform(radius, SIDE - radius))
        pairs = zip(places, radii, strict=False)
        if all(hypot(place[0] - x, place[1] - y) > radius + r + 1 for (x, y), r in pairs):
            places.append(place)
        elif draw.random() < 0.02:  # There may be no space left for the last ones.
            places.clear()
    parts = [(thing, place, radius) for place, radius in zip(places, radii, strict=True)]
    return _canvas(SIDE, parts, _ground(draw), [draw.uniform(-0.3, 0.3) for _ in parts])


def moving(thing: Thing, direction: str, draw: random.Random) -> list[Image.Image]:
    """Draw the frames of a film in which a thing crosses the picture."""
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
    """Choose a pale colour."""
    return tuple(draw.randint(205, 255) for _ in range(3))


def _canvas(
    side: int,
    parts: Sequence[tuple[Thing, Point, float]],
    ground: tuple[int, ...],
    tilts: Sequence[float],
) -> Image.Image:
    picture = Image.new("RGB", (side * _SUPERSAMPLING, side * _SUPERSAMPLING), ground)
    pen = ImageDraw.Draw(picture)
    for (thing, (x, y), radius), tilt in zip(parts, tilts, strict=True):
        x, y, radius = x * _SUPERSAMPLING, y * _SUPERSAMPLING, radius * _SUPERSAMPLING
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


_CORNERS: Mapping[str, list[Point]] = {
    "square": _turned(_spiked(1, 1, 1, 1), pi / 4),
    "triangle": _spiked(1, 1, 1),
    "star": _spiked(*(1, 0.42) * 5),
    "cross": [point for quarter in range(4) for point in _turned(_ARM, quarter * pi / 2)],
}


def held_out(thing: Thing, number: int) -> bool:
    """Return whether training never shows this combination.

    It is one value of four for each thing, and another for its neighbours: a colour or a shape
    alone says little about the number.
    """
    place = list(COLOURS).index(thing.colour) + SHAPES.index(thing.shape)
    return place % len(COUNTS) == number


def _split(values: Iterable[Value], *, out: bool) -> list[tuple[Thing, Value]]:
    """Return what is held out, or what is not: things with one of four values."""
    pairs = product(THINGS, enumerate(values))
    return [(thing, value) for thing, (number, value) in pairs if held_out(thing, number) is out]


class Album:
    """Draws pictures into a folder, numbered from 0."""

    def __init__(self, folder: Path, names: str, draw: random.Random) -> None:
        folder.mkdir(parents=True)
        self._folder, self._names, self._draw, self._count = folder, names, draw, 0

    def __call__(self, how: Callable[..., Any], *what: Any) -> Row:
        """Draw a picture or film as a side of a row."""
        made = how(*what, self._draw)
        frames = made if isinstance(made, list) else [made]
        names = []
        for frame in frames:
            name = f"{self._count:05}.png"
            frame.save(self._folder / name, compress_level=1)
            names.append(f"{self._names}/{name}")
            self._count += 1
        if isinstance(made, list):
            return {"images": names, "modality": "video"}
        return {"images": names}


def captions(thing: Thing, count: int) -> tuple[str, ...]:
    """Return captions of several things of a kind, the plainest first."""
    number, many = COUNTS[count - 1], "" if count == 1 else "es" if thing.shape == "cross" else "s"
    return (
        f"{number} {thing}{many}",
        f"a picture of {number} {thing}{many}",
        f"{number} {thing.shape}{many} in {thing.colour}",
    )


def film_captions(thing: Thing, direction: str) -> tuple[str, ...]:
    """Return captions of a film."""
    return (
        f"{thing.one} moves {direction}",
        f"a film of {thing.one} that goes {direction}",
        f"{direction} goes {thing.one}",
    )


def words() -> list[tuple[str, str]]:
    """Return each word that will be an answer, with synonymous phrases.

    Stage 2's mask leaves out negatives that the model cannot distinguish from the positive, and
    answers are single words, which captions are not: so stage 1 has to separate them.
    """
    phrases = {colour: (f"the colour {colour}", f"something {colour}") for colour in COLOURS}
    phrases |= {shape: (f"the shape of a {shape}", f"a {shape}") for shape in SHAPES}
    phrases |= {count: (f"the number {count}", f"{count} things") for count in COUNTS}
    return [(phrase, word) for word, same in phrases.items() for phrase in same] * _WORDS


def write(directory: Path, seed: int = 0, repetitions: int = REPETITIONS) -> None:
    """Write data, an untrained model and configurations.

    Args:
        directory: Must be empty or not exist yet.
        seed: Of the pictures and the untrained weights.
        repetitions: Pictures and films of each combination in a set for training.
    """
    draw = random.Random(seed)
    training = Album(directory / "pictures", "pictures", draw)
    sets = [make(training, draw, repetitions) for make in (stage1_sets, stage2_sets)]
    for name, rows in chain.from_iterable(sets):
        _write_lines(directory / name, rows)
    _write_held_out(directory / "held-out", draw)
    settings = []
    for name in CONFIGS:
        shutil.copyfile(Path(__file__).with_name(name), directory / name)
        stated = tomllib.loads((directory / name).read_text(encoding="utf-8"))
        settings.append(Settings.of_values(stated["settings"]))
    untrained = build(directory / "untrained", SHAPE, texts=_texts(directory, settings), seed=seed)
    _spread(untrained)
    settings[0].save(untrained)  # To measure it before training.


def _spread(checkpoint: Path) -> None:
    """Scale the random weights up to what a narrow model needs.

    Qwen2-VL's have a deviation of 0.02, which suits widths of thousands. At a width of 128 (0.1 is
    about 1/√128) the layers would add next to nothing to what is the same in every sequence: all
    vectors alike, and a loss that stays at the log of the batch's size.
    """
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    for name, weight in weights.items():
        if weight.ndim > 1 and "embed_tokens" not in name:
            weight *= 5
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def stage1_sets(
    album: Album, draw: random.Random, repetitions: int
) -> Iterable[tuple[str, list[Row]]]:
    """Yield sets of pairs that mean the same."""
    scenes = _split(range(1, 5), out=False) * repetitions
    yield (
        "stage1-captions.jsonl",
        [_pair(draw.choice(captions(*scene)), album(several, *scene)) for scene in scenes],
    )
    films = _split(DIRECTIONS, out=False) * repetitions
    yield (
        "stage1-films.jsonl",
        [_pair(draw.choice(film_captions(*film)), album(moving, *film)) for film in films],
    )
    yield "stage1-words.jsonl", [_pair(*pair) for pair in words()]


def stage2_sets(
    album: Album, draw: random.Random, repetitions: int
) -> Iterable[tuple[str, list[Row]]]:
    """Yield tasks with instructions, except for the default, which finds pictures."""
    scenes = _split(range(1, 5), out=False) * repetitions
    yield (
        "stage2-captions.jsonl",
        [
            _pair(draw.choice(captions(*scene)), album(several, *scene), FIND_PICTURE)
            for scene in scenes
        ],
    )
    rows_by_set: dict[str, list[Row]] = {"shape": [], "colour": [], "count": []}
    for thing, count in scenes:
        for name, question, answer in _questions(thing, count):
            picture = {**album(several, thing, count), "text": question}
            rows_by_set[name].append(_pair(picture, answer, ANSWER))
    for name, rows in rows_by_set.items():
        yield f"stage2-{name}.jsonl", rows
    films = _split(DIRECTIONS, out=False) * repetitions
    yield (
        "stage2-films.jsonl",
        [
            _pair(draw.choice(film_captions(*film)), album(moving, *film), FIND_FILM)
            for film in films
        ],
    )


def _questions(thing: Thing, count: int) -> tuple[tuple[str, str, str], ...]:
    return (
        ("shape", WHICH_SHAPE, thing.shape),
        ("colour", WHICH_COLOUR, thing.colour),
        ("count", HOW_MANY, COUNTS[count - 1]),
    )


def _pair(query: Row | str, positive: Row | str, instruction: str | None = None) -> Row:
    row: dict[str, Any] = {"query": query, "positive": positive}
    return row if instruction is None else {**row, "instruction": instruction}


def _write_held_out(directory: Path, draw: random.Random) -> None:
    album = Album(directory / "pictures", "../pictures", draw)
    scenes = _split(range(1, 5), out=True)
    sets: dict[str, list[Row]] = {
        "captions": [_pair(captions(*scene)[0], album(several, *scene)) for scene in scenes],
        "films": [
            _pair(film_captions(*film)[0], album(moving, *film))
            for film in _split(DIRECTIONS, out=True)
        ],
    }
    for thing, count in scenes:
        for name, question, answer in _questions(thing, count):
            picture = {**album(several, thing, count), "text": question}
            sets.setdefault(name, []).append(_pair(picture, answer))
    for name, pairs in sets.items():
        _write_set(directory / name, pairs)


def _write_set(directory: Path, pairs: Sequence[Row]) -> None:
    """Write a set in which each query is ranked among the positives of all."""
    directory.mkdir()
    candidates: dict[str, Row] = {}
    queries, right = [], []
    for number, pair in enumerate(pairs):
        positive = _side(pair["positive"])
        name = positive.get("text") or f"c{number}"
        candidates[name] = {"id": name, **positive}
        queries.append({"id": f"q{number}", **_side(pair["query"])})
        right.append({"query": f"q{number}", "candidate": name})
    _write_lines(directory / "queries.jsonl", queries)
    _write_lines(directory / "candidates.jsonl", list(candidates.values()))
    _write_lines(directory / "qrels.jsonl", right)


def _side(stated: Row | str) -> Row:
    return {"text": stated} if isinstance(stated, str) else stated


def _write_lines(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _texts(directory: Path, settings: Sequence[Settings]) -> list[str]:
    """Return all that the model will read."""
    texts = []
    for one in settings:
        texts += [f"system\n{one.system}", one.text_prompt, one.visual_prompt, "user\nassistant\n"]
        texts += [*one.query_instructions.values(), *one.document_instructions.values()]
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts += [_side(row[side]).get("text", "") for side in ("query", "positive")]
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.miniature.shapes",
        description="Write drawn shapes, an untrained tiny model, and the configurations for both.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--repetitions",
        type=positive_int,
        default=REPETITIONS,
        metavar="N",
        help=f"pictures and films of each combination (default: {REPETITIONS})",
    )
    given = parser.parse_args(arguments)
    directory: Path = given.directory
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        print(f"{directory} is not empty: choose a new folder", file=sys.stderr)
        return 2
    write(directory, given.seed, given.repetitions)
    print(
        f"Written to {directory}. What follows:\n"
        f"  python -m trainer.stage1 {directory / CONFIGS[0]}\n"
        f"  python -m trainer.stage2 {directory / CONFIGS[1]}\n"
        f"  python -m trainer.evaluate --spec rzen:{directory / 'stage2' / 'model'} "
        f"--data {directory / 'held-out'} --out {directory / 'scores'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
