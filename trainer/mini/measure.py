"""Measure and calibrate weights of `mini`: retrieval metrics, and comparable scores.

    python -m trainer.mini.measure [--weights FOLDER] [--against FOLDER]

measures drawings, stamps, photos, copies of a photo, and texts. Nothing here is trained on, except
that the unlabelled pictures of `copies` also hold photos in place. Compared weights need the same
`vision.onnx`.

    python -m trainer.mini --only calibration [--out embedder/mini/weights]

fits, for each pair of a query's modality and a document's, Platt scaling: the midpoint and slope of
logit = slope · (cosine − midpoint) by weighted logistic regression over all pairs of topics; pairs
of one family are left out. A topic is a text, a picture, a clip and a page: one of Tux Paint's
captioned stamps with glosses of WordNet, a noun of WordNet with the glosses of its kinds, or a
Debian package with its summary and its long description. Relevant and unrelated pairs are weighted
as if one document in twenty were relevant: a hit has to be likelier than not in a library that is
mostly about other things.

Calibrated on 62 stamps of things that the classifier knows, 300 nouns, 150 packages and 476
pictures without a query: 98 relevant pairs where a picture takes part (stamps of one name count for
each other), 548 between texts, against 31 thousand to 275 thousand unrelated ones. At log-odds
above 0 lie 85 % of the relevant pairs and 0.4 % of the unrelated ones for a text that looks for
texts or for pictures. Every pair of modalities is in settings.json with its counts. The weakest:
a picture that looks for a text (42 % and 0.9 %). These are figures on the data of the fit.
"""

import argparse
import itertools
import json
import logging
import random
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from embedder import Content, Modality, Role
from embedder.interface import Vectors
from embedder.mini.embedder import FOLDER, MiniEmbedder, Weights
from trainer.evaluation.metrics import all_metrics, means, ranked_grades
from trainer.mini import CACHE
from trainer.mini.features import Features, PictureFeatures
from trainer.mini.pictures import (
    Picture,
    alter,
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
from trainer.mini.words import Nouns, Synset, read_classes

PACKAGES = Path("/var/lib/dpkg/status")
# act, body, cognition, communication, event, group, place, object, person, phenomenon,
# possession, state, substance, time
_FIELDS = "04 08 09 10 11 14 15 17 18 19 21 26 27 28".split()
_ARTICLE = re.compile(r"^(a|an|some|the|two|one)\s+", re.IGNORECASE)
PRIOR = 0.05
CALIBRATION_NOUNS, CALIBRATION_PACKAGES = 300, 150
Floats = NDArray[np.float64]
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


@dataclass(frozen=True, slots=True)
class Topic:
    """A thing, as a query and as a document of each modality it has.

    Attributes:
        name: Topics of one name are relevant to each other.
        family: Topics of one family (all birds) are neither relevant to each other nor clearly
            unrelated, so such pairs are left out.
    """

    name: str
    family: str
    queries: Mapping[Modality, Content]
    documents: Mapping[Modality, Content]

    def contents(self, role: Role) -> Mapping[Modality, Content]:
        """Return the queries or the documents."""
        return self.queries if role == "query" else self.documents


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
        queries = [next(iter(topic.queries.values())).text or "" for topic in topics]
        passages = [next(iter(topic.documents.values())).text or "" for topic in topics]
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
    things = [_thing(one) for one in captions]
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


def calibrate(out: Path) -> None:
    """Measure cosines with a folder's weights, fit, and write its settings.json."""
    topics = [*stamp_topics(), *noun_topics(CALIBRATION_NOUNS)]
    topics += package_topics(CALIBRATION_PACKAGES)
    topics += [backdrop(picture) for picture in scenes(every=3)]
    logger.info("%d topics", len(topics))
    with MiniEmbedder(Weights(out)) as embedder:
        table = {}
        for modalities, cosines, relevant in _pairs(embedder, topics):
            table[modalities] = _fitted(cosines, relevant)
            logger.info("%-12s %s", modalities, table[modalities])
        settings = {"dim": embedder.info.dim, "prior": PRIOR, "calibration": table}
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def _fitted(cosines: Floats, relevant: NDArray[np.bool_]) -> dict[str, float]:
    """Return a modality pair's constants, and how well they separate the data of the fit."""
    midpoint, slope = fit(cosines, relevant, PRIOR)
    return {
        "midpoint": round(midpoint, 4),
        "slope": round(slope, 2),
        "relevant": int(relevant.sum()),
        "unrelated": int((~relevant).sum()),
        "relevant_above": round(float((cosines[relevant] > midpoint).mean()), 3),
        "unrelated_above": round(float((cosines[~relevant] > midpoint).mean()), 5),
    }


def _pairs(
    embedder: MiniEmbedder, topics: Sequence[Topic]
) -> Iterator[tuple[str, Floats, NDArray[np.bool_]]]:
    """Yield pairs of modalities, cosines of their clear pairs, and which of those are relevant.

    A pair of topics is clear if it is relevant, or of two families.
    """
    vectors = {}
    for role, modality in itertools.product(get_args(Role), Modality):
        own = [one for one in topics if modality in one.contents(role)]
        rows = embedder.embed([one.contents(role)[modality] for one in own], role=role)
        names, families = [one.name for one in own], [one.family for one in own]
        vectors[role, modality] = rows, np.array(names), np.array(families)
    for query, document in itertools.product(Modality, Modality):
        queries, asked, asked_families = vectors["query", query]
        documents, found, found_families = vectors["document", document]
        same = asked[:, None] == found
        clear = same | (asked_families[:, None] != found_families)
        cosines = (queries @ documents.T).astype(np.float64)
        yield f"{query} {document}", cosines[clear], same[clear]


def fit(cosines: Floats, relevant: NDArray[np.bool_], prior: float) -> tuple[float, float]:
    """Fit Platt scaling by Newton's method.

    Args:
        cosines: Of the pairs (n,).
        relevant: Which of them match (n,).
        prior: Share of the weight that relevant pairs get together.

    Returns:
        Midpoint and slope of the log-odds.
    """
    weights = np.where(relevant, prior / relevant.sum(), (1 - prior) / (~relevant).sum())
    inputs = np.stack([cosines, np.ones_like(cosines)], axis=1)
    beta = np.array([20.0, -10.0])
    for _ in range(100):
        likely = 1 / (1 + np.exp(-(inputs @ beta)))
        gradient = inputs.T @ (weights * (likely - relevant))
        curvature = (inputs * (weights * likely * (1 - likely))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        beta -= step * min(1.0, 10 / np.abs(step).max())
    return float(-beta[1] / beta[0]), float(beta[0])


def stamp_topics(seed: int = 0) -> Iterator[Topic]:
    """Yield topics with pictures; a picture's query is an altered copy of the document's.

    Only photos of things that the classifier can know: an ImageNet class or its ancestors. For
    others the features carry no meaning, and no constants can make up for that.
    """
    nouns = Nouns()
    known = set().union(*(nouns.above(one.wordnet_id) for one in read_classes()))
    chance = random.Random(seed)
    for stamp in stamps():
        name = _thing(stamp.caption)
        synset = nouns.usual(name)
        if synset and synset.wordnet_id in known and "cartoon" not in Path(stamp.source).parts:
            yield _stamp_topic(stamp, name, _passages(nouns, synset), chance)


def _stamp_topic(
    stamp: Picture, name: str, passages: tuple[str, str], chance: random.Random
) -> Topic:
    query_passage, passage = passages
    words = name if chance.random() < 0.7 else stamp.caption
    page = render_page(passage, stamp.image if chance.random() < 0.5 else None)
    altered = alter(stamp.image, chance)
    queries = {
        Modality.TEXT: Content(text=words),
        Modality.IMAGE: Content(frames=(altered,)),
        Modality.VIDEO: Content(frames=[alter(stamp.image, chance) for _ in range(3)]),
        Modality.PAGE: Content(
            query_passage, (render_page(query_passage, altered),), Modality.PAGE
        ),
    }
    documents = {
        Modality.TEXT: Content(text=passage),
        Modality.IMAGE: Content(frames=(stamp.image,)),
        Modality.VIDEO: Content(frames=[alter(stamp.image, chance) for _ in range(3)]),
        Modality.PAGE: Content(passage, (page,), Modality.PAGE),
    }
    return Topic(name, str(Path(stamp.source).parent), queries, documents)


def _thing(caption: str) -> str:
    """Return what a stamp shows: its caption without article and parentheses."""
    return _ARTICLE.sub("", caption.rstrip(".!")).split("(")[0].strip().lower()


def _passages(nouns: Nouns, synset: Synset) -> tuple[str, str]:
    """Return two passages on a thing: what it is and belongs to; and its kinds.

    Passages in a library are about a thing without defining it, so the second is the document.
    """
    general = [synset, *(nouns.synsets[one] for one in synset.parents[:1])]
    kinds = [nouns.synsets[one] for one in nouns.children.get(synset.wordnet_id, [])[:5]]
    definition, passage = (
        " ".join(f"{one.names[0].capitalize()}: {one.gloss}." for one in part)
        for part in (general, kinds if len(kinds) >= 2 else [synset, *kinds])
    )
    return definition, passage


def noun_topics(limit: int, seed: int = 0) -> Iterator[Topic]:
    """Yield topics without pictures: a word looks for a passage on its kinds.

    Words are from fields without stamps: people, acts, events, places, states and so on. Words of
    one field are one family.
    """
    nouns = Nouns()
    words = [
        (word, nouns.synsets[senses[0]])
        for word, senses in sorted(nouns.senses.items())
        if word in nouns.attested
        and len(senses) <= 3
        and len(nouns.children.get(senses[0], [])) >= 3
    ]
    words = [(word, synset) for word, synset in words if synset.field in _FIELDS]
    for word, synset in random.Random(seed).sample(words, limit):
        queries = {Modality.TEXT: Content(text=word)}
        yield Topic(word, synset.field, queries, _as_documents(_passages(nouns, synset)[1]))


def package_topics(limit: int, seed: int = 0) -> Iterator[Topic]:
    """Yield topics without pictures: a summary looks for the long description."""
    found = re.findall(
        r"^Section: (.+)$(?:\n(?!Description).+)*\nDescription: (.+)\n((?: .+\n)+)",
        PACKAGES.read_text("utf-8"),
        re.MULTILINE,
    )
    chosen = [one for one in found if len(one[2]) > 300]
    random.Random(seed).shuffle(chosen)
    for section, summary, body in chosen[:limit]:
        passage = " ".join(line.strip(" .") for line in body.splitlines())[:1500]
        queries = {Modality.TEXT: Content(text=summary)}
        yield Topic(summary, section, queries, _as_documents(passage))


def _as_documents(passage: str) -> dict[Modality, Content]:
    page = render_page(passage, None)
    return {
        Modality.TEXT: Content(text=passage),
        Modality.PAGE: Content(passage, (page,), Modality.PAGE),
    }


def backdrop(picture: Picture) -> Topic:
    """Return a picture that no query looks for, as a document and as a clip."""
    documents = {
        Modality.IMAGE: Content(frames=(picture.image,)),
        Modality.VIDEO: Content(frames=(picture.image, ImageOps.mirror(picture.image))),
    }
    return Topic(picture.source, picture.source, {}, documents)


def render_page(text: str, picture: Image.Image | None) -> Image.Image:
    """Render a 480 × 640 page with a picture on top, if given, and the text below."""
    page = Image.new("RGB", (480, 640), (255, 255, 255))
    top = 30
    if picture is not None:
        small = picture.copy()
        small.thumbnail((300, 300))
        page.paste(small, (90, top))
        top += small.height + 20
    lines = "\n".join(textwrap.wrap(text, 62))
    font = ImageFont.load_default(14)
    ImageDraw.Draw(page).multiline_text((30, top), lines, fill=(20, 20, 20), font=font)
    return page


if __name__ == "__main__":
    main()
