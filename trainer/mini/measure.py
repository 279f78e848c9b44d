"""What weights of `mini` find, in numbers: drawings, stamps, photos, copies of a photo, texts.

    python -m trainer.mini.measure [--weights FOLDER] [--against FOLDER]

Nothing here is trained on, except that what is unlabelled in `copies` also fixes photos in place.
Weights are compared in one space each, so they need the same `vision.onnx`.
"""

import argparse
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from embedder import Content
from embedder.interface import Vectors
from embedder.mini.embedder import MiniEmbedder
from embedder.mini.weights import FOLDER, Weights
from trainer.data.clipart import drawings, limited
from trainer.metrics import means, measured, ranked
from trainer.mini.features import Features, Seen
from trainer.mini.lessons import VERSION, drawing_texts, see_drawings
from trainer.mini.photos import open_photos, read_photos
from trainer.mini.pictures import scenes, stamps
from trainer.mini.topics import noun_topics, package_topics

CACHE = Path("var/mini")
SHOWN = ("hit@1", "hit@5", "hit@10", "mrr")
_OF_A_GROUP = 3  # held-out drawings of one name
_NOUNS, _PACKAGES = 1000, 300
_EVERY = 4  # photos of which copies look for the original
_ARTICLE = re.compile(r"^(a|an|some|the|two|one)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries and documents, each of one modality.

    Attributes:
        name: Of the set.
        queries: Texts, or pictures as the tower sees them.
        documents: The same.
        wanted: For each query, its name; documents of that name are relevant.
        names: Of the documents.
    """

    name: str
    queries: Seen | list[str]
    documents: Seen | list[str]
    wanted: list[str]
    names: list[str]


def main() -> None:
    """Prints a table, a line a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=FOLDER, help="folder of the weights")
    parser.add_argument("--against", type=Path, help="folder of others to compare with")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where features are kept")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asked = list(all_sets(Features(Weights(given.weights), given.cache)))
    folders = [one for one in (given.against, given.weights) if one is not None]
    tables = [scores(folder, asked) for folder in folders]
    print(f"{'':24} {'n':>5} " + " ".join(f"{name:>15}" for name in SHOWN))
    for one in asked:
        cells = [" → ".join(f"{table[one.name][name]:.3f}" for table in tables) for name in SHOWN]
        print(f"{one.name:24} {len(one.wanted):5} " + " ".join(f"{cell:>15}" for cell in cells))


def scores(folder: Path, asked: Sequence[Asked]) -> dict[str, Mapping[str, float]]:
    """The metrics of weights, by set."""
    with MiniEmbedder(Weights(folder)) as embedder:
        space = embedder._loaded().space

        def vectors(given: Seen | list[str]) -> Vectors:
            if isinstance(given, Seen):
                return space.pictures(given.pooled, given.logits)
            return embedder.embed([Content(text=text) for text in given], role="query")

        return {one.name: measure(one, vectors) for one in asked}


def measure(asked: Asked, vectors: Callable[[Seen | list[str]], Vectors]) -> dict[str, float]:
    """The means over the queries of a set."""
    similar = vectors(asked.queries) @ vectors(asked.documents).T
    names = np.array(asked.names)
    rows = [
        measured(ranked(row, names == wanted))
        for row, wanted in zip(similar, asked.wanted, strict=True)
    ]
    return means(rows)


def all_sets(features: Features) -> Iterator[Asked]:
    """Every set, in the order of the table."""
    yield from drawing_sets(features)
    yield stamp_set(features)
    yield from photo_sets(features)
    yield from copy_sets(features)
    for name, topics in (
        ("word → passage", list(noun_topics(_NOUNS))),
        ("summary → description", list(package_topics(_PACKAGES))),
    ):
        asked = [next(iter(topic.queries.values())).text or "" for topic in topics]
        told = [next(iter(topic.documents.values())).text or "" for topic in topics]
        own = [topic.name for topic in topics]
        yield Asked(name, asked, told, own, own)


def drawing_sets(features: Features) -> Iterator[Asked]:
    """Held-out drawings on white, asked for by their titles, and by titles and keywords."""
    given = drawings()
    seen = see_drawings(features, given)[0]
    places = {name: row for row, name in enumerate(seen.names)}
    held = [one for one in given if one.held_out and str(one.path) in places]
    held = limited(held, _OF_A_GROUP)
    documents = seen[[places[str(one.path)] for one in held]]
    groups = [one.group for one in held]
    yield Asked("drawing by title", [one.title for one in held], documents, groups, groups)
    words = [drawing_texts(one)[1] for one in held]
    yield Asked("drawing by all words", words, documents, groups, groups)


def stamp_set(features: Features) -> Asked:
    """Tux Paint's stamps, asked for by their captions; those of one thing count for each other."""
    given = list(stamps(least=1))
    seen = features.of("stamps", ((one.source, one.image) for one in given), VERSION)
    captions = [one.caption for one in given]
    things = [_ARTICLE.sub("", one.rstrip(".!")).split("(")[0].strip().lower() for one in captions]
    return Asked("stamp by caption", captions, seen, things, things)


def photo_sets(features: Features) -> Iterator[Asked]:
    """Our own photos of people, scenes and things, each among all of them."""
    given = list(open_photos(read_photos()))
    pictures = ((photo.source, picture.image) for photo, picture in given)
    seen = features.of("photos", pictures, f"{VERSION} {len(given)}")
    for kind in ("people", "scene", "thing", ""):
        asked = [photo for photo, _ in given if kind in ("", photo.kind)]
        captions, sources = [one.caption for one in asked], [one.source for one in asked]
        yield Asked(f"photo, {kind or 'all'}", captions, seen, sources, seen.names)


def copy_sets(features: Features) -> Iterator[Asked]:
    """Copies of photos look for the original among all photos."""
    originals = list(scenes(every=_EVERY))
    names = [one.source for one in originals]
    documents = features.of(
        "originals", zip(names, (one.image for one in originals), strict=True), VERSION
    )
    for kind, change in COPIES.items():
        copies = ((one.source, change(one.image)) for one in originals)
        queries = features.of(f"copies-{kind.replace(' ', '-')}", copies, VERSION)
        yield Asked(f"copy, {kind}", queries, documents, names, names)


def _cut(image: Image.Image) -> Image.Image:
    return image.crop((0, 0, max(1, image.width * 4 // 5), max(1, image.height * 4 // 5)))


def _small(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 4), max(1, image.height // 4)))


def _compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def _recoloured(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(1.15)).enhance(0.85)


COPIES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "cut to 80 %": _cut,
    "a quarter as large": _small,
    "JPEG at 30": _compressed,
    "recoloured": _recoloured,
}

if __name__ == "__main__":
    main()
