"""Measure weights of `mini`: retrieval metrics.

    python -m trainer.mini.measure [--weights FOLDER] [--against FOLDER]

measures drawings, stamps, photos, copies of a photo, and texts. Nothing here is trained on, except
that the unlabelled pictures of `copies` also hold photos in place. Compared weights need the same
`vision.onnx`.
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from embedder import Content, Modality
from embedder.interface import Vectors
from embedder.mini.embedder import FOLDER, MiniEmbedder, Weights
from trainer.evaluation.metrics import all_metrics, means, ranked_grades
from trainer.mini import CACHE
from trainer.mini.calibrate import noun_topics, package_topics, thing
from trainer.mini.features import Features, PictureFeatures
from trainer.mini.pictures import (
    drawings,
    limited,
    open_photos,
    read_captions,
    read_photos,
    recompressed,
    scenes,
    stamps,
)
from trainer.mini.teach import VERSION, drawing_texts, see_drawings

logger = logging.getLogger(__name__)
SHOWN = ("hit@1", "hit@5", "hit@10", "mrr")
_MAX_OF_A_GROUP = 3  # held-out drawings of one name
_NOUNS, _PACKAGES = 1000, 300
_COPIED_SCENES_EVERY = 4


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Queries and documents, each of one modality.

    Attributes:
        name: Of the set.
        queries: Texts, or features of pictures.
        documents: Texts, or features of pictures.
        wanted: The name of each query; documents of that name are relevant.
        names: Of the documents.
    """

    name: str
    queries: PictureFeatures | list[str]
    documents: PictureFeatures | list[str]
    wanted: list[str]
    names: list[str]


def main() -> None:
    """Print a table, one line a set."""
    parser = argparse.ArgumentParser(description="Measure weights of mini.")
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


def scores(folder: Path, asked: Sequence[RetrievalSet]) -> dict[str, Mapping[str, float]]:
    """Return the metrics of weights, by set."""
    with MiniEmbedder(Weights(folder)) as embedder:
        space = embedder._loaded().space

        def vectors(given: PictureFeatures | list[str]) -> Vectors:
            if isinstance(given, PictureFeatures):
                return space.pictures(given.pooled, given.logits)
            return embedder.embed([Content(text=text) for text in given], role="query")

        return {one.name: measure(one, vectors) for one in asked}


def measure(
    asked: RetrievalSet, vectors: Callable[[PictureFeatures | list[str]], Vectors]
) -> dict[str, float]:
    """Return the means over the queries of a set."""
    similar = vectors(asked.queries) @ vectors(asked.documents).T
    names = np.array(asked.names)
    rows = [
        all_metrics(ranked_grades(row, names == wanted))
        for row, wanted in zip(similar, asked.wanted, strict=True)
    ]
    return means(rows)


def all_sets(features: Features) -> Iterator[RetrievalSet]:
    """Yield every set, in the order of the table."""
    yield from drawing_sets(features)
    yield stamp_set(features)
    yield from photo_sets(features)
    yield from copy_sets(features)
    for name, topics in (
        ("word → passage", list(noun_topics(_NOUNS))),
        ("summary → description", list(package_topics(_PACKAGES))),
    ):
        queries = [topic.queries[Modality.TEXT][0].text or "" for topic in topics]
        passages = [topic.documents[Modality.TEXT].text or "" for topic in topics]
        names = [topic.name for topic in topics]
        yield RetrievalSet(name, queries, passages, names, names)


def drawing_sets(features: Features) -> Iterator[RetrievalSet]:
    """Yield held-out drawings on white, queried by title, and by title and keywords."""
    given = drawings()
    seen = see_drawings(features, given)[0]
    places = {name: row for row, name in enumerate(seen.names)}
    held = [one for one in given if one.held_out and str(one.path) in places]
    held = limited(held, _MAX_OF_A_GROUP)
    documents = seen[[places[str(one.path)] for one in held]]
    groups = [one.group for one in held]
    yield RetrievalSet("drawing by title", [one.title for one in held], documents, groups, groups)
    words = [drawing_texts(one)[1] for one in held]
    yield RetrievalSet("drawing by all words", words, documents, groups, groups)


def stamp_set(features: Features) -> RetrievalSet:
    """Return Tux Paint's stamps, queried by caption; stamps of one thing all count."""
    given = list(stamps(least=1))
    seen = features.of("stamps", ((one.source, one.image) for one in given), VERSION)
    captions = [one.caption for one in given]
    things = [thing(one) for one in captions]
    return RetrievalSet("stamp by caption", captions, seen, things, things)


def photo_sets(features: Features) -> Iterator[RetrievalSet]:
    """Yield our own photos of people, scenes and things, and by translated captions."""
    given = list(open_photos(read_photos()))
    pictures = ((photo.source, image) for photo, image in given)
    seen = features.of("photos", pictures, f"{VERSION} {len(given)}")
    for kind in ("people", "scene", "thing", ""):
        asked = [photo for photo, _ in given if kind in ("", photo.kind)]
        captions, sources = [one.caption for one in asked], [one.source for one in asked]
        yield RetrievalSet(f"photo, {kind or 'all'}", captions, seen, sources, seen.names)
    source_of = {photo.caption: photo.source for photo, _ in given}
    translated = read_captions()
    for language, captions in translated.items():
        pairs = zip(captions, translated["en"], strict=True)
        sources_of = {own: source_of[one] for own, one in pairs if one in source_of}
        wanted = list(sources_of.values())
        yield RetrievalSet(f"photo, {language}", [*sources_of], seen, wanted, seen.names)


def copy_sets(features: Features) -> Iterator[RetrievalSet]:
    """Yield sets in which copies of photos look for the original among all photos."""
    originals = list(scenes(every=_COPIED_SCENES_EVERY))
    names = [one.source for one in originals]
    documents = features.of(
        "originals", zip(names, (one.image for one in originals), strict=True), VERSION
    )
    for kind, change in COPIES.items():
        copies = ((one.source, change(one.image)) for one in originals)
        queries = features.of(f"copies-{kind.replace(' ', '-')}", copies, VERSION)
        yield RetrievalSet(f"copy, {kind}", queries, documents, names, names)


def _cut(image: Image.Image) -> Image.Image:
    return image.crop((0, 0, max(1, image.width * 4 // 5), max(1, image.height * 4 // 5)))


def _small(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 4), max(1, image.height // 4)))


def _recoloured(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(1.15)).enhance(0.85)


COPIES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "cut to 80 %": _cut,
    "a quarter as large": _small,
    "JPEG at 30": lambda image: recompressed(image, 30),
    "recoloured": _recoloured,
}


if __name__ == "__main__":
    main()
