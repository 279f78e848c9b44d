"""Fit what makes cosines of `mini` comparable, and measure it: the constants in settings.json.

    python -m trainer.mini --only calibration [--out embedder/mini/weights]

For each pair of a query's modality and a document's, logit = slope · (cosine − midpoint).

Topics belong to one of two libraries, things and places: what is present in one is absent from the
other. Constants are fitted to one half of the queries and measured on the other half.

- Midpoint: the cosine that one query in fifty, or of words for pictures and clips one in ten,
  exceeds with its best document in the library that its topic is not in. People see the best hits
  of a library, not a random pair.
- Slope: Platt scaling, a weighted logistic regression over all pairs, with weights as if one
  document in twenty were relevant.

Topics are photos with captions in eight languages (photos.tsv, captions.tsv), Tux Paint's stamps
with glosses of WordNet, nouns of WordNet with the glosses of their kinds, Debian packages with
their summary and long description, and random letters, which are nowhere. The packages that hold
them are named in trainer/mini/pictures.py and trainer/mini/words.py.
"""

import itertools
import json
import logging
import random
import re
import string
import textwrap
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from embedder import Content, Embedder, Modality
from embedder.interface import Calibration, Reliability, Vectors
from embedder.mini.embedder import MiniEmbedder, Weights
from trainer.mini.pictures import (
    STAMPS,
    alter,
    open_photos,
    read_captions,
    read_photos,
    stamps,
)
from trainer.mini.words import Nouns, Synset

DPKG_STATUS = Path("/var/lib/dpkg/status")
PRIOR = 0.05
"""Share of relevant documents that probabilities are calibrated for."""

MAX_FALSE = 0.02
"""Share of absent queries that may have a hit of p ≥ ½ among the documents of one modality."""

MAX_FALSE_LOOKS = 0.1
"""The same for words that look for pictures and clips. What `mini` guesses of looks separates
little: at 0.02, hardly any right picture would be left, and all would stand behind texts, of which
those that have the words are surer."""

_LOOKS = ("text image", "text video")
_STAMPS, _NOUNS, _PACKAGES, _NONSENSE = 200, 200, 100, 100
_FRAMES = 3  # of a clip
THINGS, PLACES = "things", "places"
# body, substance
_FIELDS_OF_THINGS = ("08", "27")
# act, cognition, communication, event, group, place, object, person, phenomenon, possession, state,
# time
_FIELDS_OF_PLACES = ("04", "09", "10", "11", "14", "15", "17", "18", "19", "21", "26", "28")
_STAMPS_OF_PLACES = ("medical", "military", "people", "space", "sports", "town", "vehicles")
_ARTICLE = re.compile(r"^(a|an|some|the|two|one)\s+", re.IGNORECASE)
_BINS = 10
_CONVERGED = 1e-9
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Topic:
    """A thing, as queries and as a document of each modality it has.

    Attributes:
        name: Topics of one name are relevant to each other.
        library: The one whose documents it is among; nothing in the other is relevant.
        queries: By modality; the texts may be in several languages.
        documents: By modality; none for a topic that is nowhere.
    """

    name: str
    library: str
    queries: Mapping[Modality, Sequence[Content]]
    documents: Mapping[Modality, Content]

    @property
    def fitting(self) -> bool:
        """Whether constants are fitted to its queries, and not measured on them."""
        return zlib.crc32(self.name.encode()) % 2 == 0


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Queries of one modality against the documents of one.

    Attributes:
        cosines: Of all pairs (queries, documents).
        relevant: Which pairs match.
        absent: Which documents are of the library that the query's topic is not in.
        fitting: The queries (queries,) to fit to; the others are to measure on.
    """

    cosines: Floats
    relevant: Flags
    absent: Flags
    fitting: Flags

    def half(self, fitting: bool) -> "Trials":
        """Return the trials to fit to, or those to measure on."""
        rows = self.fitting == fitting
        kept = (one[rows] for one in (self.cosines, self.relevant, self.absent, self.fitting))
        return Trials(*kept)

    def pairs(self) -> tuple[Floats, Flags]:
        """Return the cosines of the clear pairs, and which of them are relevant."""
        clear = self.relevant | self.absent
        return self.cosines[clear], self.relevant[clear]

    def best_absent(self) -> Floats:
        """Return, for each query, the best cosine where its topic is absent."""
        return np.asarray(np.where(self.absent, self.cosines, -1).max(axis=1))

    def best_present(self) -> Floats:
        """Return the best cosine of a relevant document, for the queries that have one."""
        rows = self.relevant.any(axis=1)
        return np.asarray(np.where(self.relevant, self.cosines, -1).max(axis=1)[rows])


def calibrate(out: Path) -> None:
    """Fit to cosines by a folder's weights, measure, and write its settings.json."""
    topics = list(all_topics())
    logger.info("%d topics", len(topics))
    with MiniEmbedder(Weights(out)) as embedder:
        table = {}
        for modalities, trials in all_trials(embedder, topics):
            share = MAX_FALSE_LOOKS if modalities in _LOOKS else MAX_FALSE
            constants, held_out = fit(trials.half(fitting=True), share), trials.half(fitting=False)
            measured = measure(constants, held_out)
            table[modalities] = {
                "midpoint": constants.midpoint,
                "slope": constants.slope,
                "reliability": asdict(measured),
            }
            logger.info("%-12s %s %s", modalities, table[modalities], trade_off(held_out))
        settings = {"dim": embedder.info.dim, "prior": PRIOR, "calibration": table}
    (out / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")


def fit(trials: Trials, max_false: float = MAX_FALSE) -> Calibration:
    """Fit the constants of a pair of modalities.

    Args:
        trials: Queries of one against documents of the other.
        max_false: Share of absent queries that may have a hit of p ≥ ½.
    """
    _, slope = platt(*trials.pairs(), PRIOR)
    midpoint = float(np.quantile(trials.best_absent(), 1 - max_false))
    return Calibration(round(midpoint, 4), round(slope, 2))


def measure(constants: Calibration, trials: Trials) -> Reliability:
    """Measure constants on queries that they were not fitted to."""
    found, false = trials.best_present(), trials.best_absent()
    return Reliability(
        present=len(found),
        absent=len(false),
        found=round(float((found >= constants.midpoint).mean()), 3),
        false=round(float((false >= constants.midpoint).mean()), 3),
        error=round(calibration_error(constants, *trials.pairs(), PRIOR), 4),
    )


def trade_off(trials: Trials, shares: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2)) -> str:
    """Return the share of present queries above midpoints that a share of absent ones exceeds."""
    midpoints = np.quantile(trials.best_absent(), [1 - share for share in shares])
    found = [(trials.best_present() >= midpoint).mean() for midpoint in midpoints]
    return ", ".join(f"{s:.0%}: {f:.3f}" for s, f in zip(shares, found, strict=True))


def calibration_error(
    constants: Calibration, cosines: Floats, relevant: Flags, prior: float
) -> float:
    """Return the expected calibration error: |share relevant − mean probability| over ten bins.

    Source: Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".

    Args:
        constants: To measure.
        cosines: Of the pairs (n,).
        relevant: Which of them match (n,).
        prior: Share of the weight that relevant pairs get together.
    """
    weights = _weights(relevant, prior)
    likely = 1 / (1 + np.exp(-constants.slope * (cosines - constants.midpoint)))
    bins = np.minimum((likely * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(bins, weights * (likely - relevant))).sum())


def platt(cosines: Floats, relevant: Flags, prior: float) -> tuple[float, float]:
    """Fit Platt scaling by Newton's method.

    Args:
        cosines: Of the pairs (n,).
        relevant: Which of them match (n,).
        prior: Share of the weight that relevant pairs get together.

    Returns:
        Midpoint and slope of the log-odds.
    """
    weights = _weights(relevant, prior)
    inputs = np.stack([cosines, np.ones_like(cosines)], axis=1)
    beta = np.array([20.0, -10.0])
    for _ in range(100):
        likely = 1 / (1 + np.exp(-(inputs @ beta)))
        gradient = inputs.T @ (weights * (likely - relevant))
        curvature = (inputs * (weights * likely * (1 - likely))[:, None]).T @ inputs
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        beta -= step * min(1.0, 10 / np.abs(step).max())
        if np.abs(step).max() < _CONVERGED:
            break
    return float(-beta[1] / beta[0]), float(beta[0])


def _weights(relevant: Flags, prior: float) -> Floats:
    return np.where(relevant, prior / relevant.sum(), (1 - prior) / (~relevant).sum())


def all_trials(embedder: Embedder, topics: Sequence[Topic]) -> Iterator[tuple[str, Trials]]:
    """Yield pairs of modalities, the query's first, and the trials of each."""
    asked = {modality: _queries(embedder, topics, modality) for modality in Modality}
    found = {modality: _documents(embedder, topics, modality) for modality in Modality}
    for query, document in itertools.product(Modality, Modality):
        (askers, queries), (owners, documents) = asked[query], found[document]
        names, libraries = (
            [np.array([getattr(one, field) for one in side]) for side in (askers, owners)]
            for field in ("name", "library")
        )
        inside = libraries[0][:, None] == libraries[1]
        yield (
            f"{query} {document}",
            Trials(
                cosines=(queries @ documents.T).astype(np.float64),
                relevant=inside & (names[0][:, None] == names[1]),
                absent=~inside,
                fitting=np.array([one.fitting for one in askers]),
            ),
        )


def _queries(
    embedder: Embedder, topics: Sequence[Topic], modality: Modality
) -> tuple[list[Topic], Vectors]:
    pairs = [(topic, one) for topic in topics for one in topic.queries.get(modality, ())]
    return [topic for topic, _ in pairs], embedder.embed([one for _, one in pairs], "query")


def _documents(
    embedder: Embedder, topics: Sequence[Topic], modality: Modality
) -> tuple[list[Topic], Vectors]:
    own = [topic for topic in topics if modality in topic.documents]
    return own, embedder.embed([topic.documents[modality] for topic in own], "document")


def all_topics() -> Iterator[Topic]:
    """Yield the topics to calibrate on."""
    yield from photo_topics()
    yield from stamp_topics(_STAMPS)
    yield from noun_topics(_NOUNS)
    yield from package_topics(_PACKAGES)
    yield from nonsense_topics(_NONSENSE)


def photo_topics(seed: int = 0) -> Iterator[Topic]:
    """Yield our own photos, with captions in all languages that they have."""
    chance = random.Random(seed)
    translated = read_captions()
    others = [captions for language, captions in translated.items() if language != "en"]
    in_languages = dict(zip(translated["en"], zip(*others, strict=True), strict=True))
    for photo, image in open_photos(read_photos()):
        captions = [photo.caption, *in_languages.get(photo.caption, ())]
        library = THINGS if photo.kind == "thing" else PLACES
        texts = {Modality.TEXT: [Content(text=caption) for caption in captions]}
        yield Topic(photo.caption, library, texts | _altered(image, chance), _as_pictures(image))


def stamp_topics(limit: int, seed: int = 0) -> Iterator[Topic]:
    """Yield stamps; those that WordNet knows have passages and pages as well."""
    nouns, chance = Nouns(), random.Random(seed)
    for stamp in chance.sample(list(stamps()), limit):
        name = thing(stamp.caption)
        place = Path(stamp.source).relative_to(STAMPS).parts[0] in _STAMPS_OF_PLACES
        altered = _altered(stamp.image, chance)
        queries = {Modality.TEXT: [Content(text=name)]} | altered
        documents = _as_pictures(stamp.image)
        if synset := nouns.usual(name):
            definition, passage = _passages(nouns, synset)
            page = render_page(definition, altered[Modality.IMAGE][0].frames[0])
            queries[Modality.PAGE] = [Content(definition, (page,), Modality.PAGE)]
            documents |= _as_documents(passage, stamp.image if chance.random() < 0.5 else None)
        yield Topic(name, PLACES if place else THINGS, queries, documents)


def thing(caption: str) -> str:
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

    Words are from fields without stamps: people, acts, events, places, states and so on.
    """
    nouns = Nouns()
    words = [
        (word, nouns.synsets[senses[0]])
        for word, senses in sorted(nouns.senses.items())
        if word in nouns.attested
        and len(senses) <= 3
        and len(nouns.children.get(senses[0], [])) >= 3
    ]
    fields = _FIELDS_OF_THINGS + _FIELDS_OF_PLACES
    words = [(word, synset) for word, synset in words if synset.field in fields]
    for word, synset in random.Random(seed).sample(words, limit):
        library = THINGS if synset.field in _FIELDS_OF_THINGS else PLACES
        queries = {Modality.TEXT: [Content(text=word)]}
        yield Topic(word, library, queries, _as_documents(_passages(nouns, synset)[1]))


def package_topics(limit: int, seed: int = 0) -> Iterator[Topic]:
    """Yield topics without pictures: a summary looks for the long description."""
    found = re.findall(
        r"^Section: .+$(?:\n(?!Description).+)*\nDescription: (.+)\n((?: .+\n)+)",
        DPKG_STATUS.read_text("utf-8"),
        re.MULTILINE,
    )
    chosen = [one for one in found if len(one[1]) > 300]
    random.Random(seed).shuffle(chosen)
    for summary, body in chosen[:limit]:
        passage = " ".join(line.strip(" .") for line in body.splitlines())[:1500]
        queries = {Modality.TEXT: [Content(text=summary)]}
        yield Topic(summary, PLACES, queries, _as_documents(passage))


def nonsense_topics(limit: int, seed: int = 0) -> Iterator[Topic]:
    """Yield one to three words of random letters, which are in neither library."""
    chance = random.Random(seed)
    for number in range(limit):
        words = [
            "".join(chance.choices(string.ascii_lowercase, k=chance.randint(4, 9)))
            for _ in range(chance.randint(1, 3))
        ]
        library = (THINGS, PLACES)[number % 2]
        yield Topic(" ".join(words), library, {Modality.TEXT: [Content(text=" ".join(words))]}, {})


def _altered(image: Image.Image, chance: random.Random) -> dict[Modality, list[Content]]:
    """Return an altered copy of a picture, and a clip of three."""
    return {
        Modality.IMAGE: [Content(frames=(alter(image, chance),))],
        Modality.VIDEO: [Content(frames=[alter(image, chance) for _ in range(3)])],
    }


def _as_pictures(image: Image.Image) -> dict[Modality, Content]:
    return {
        Modality.IMAGE: Content(frames=(image,)),
        Modality.VIDEO: Content(frames=panned(image, _FRAMES)),
    }


def _as_documents(passage: str, picture: Image.Image | None = None) -> dict[Modality, Content]:
    page = render_page(passage, picture)
    return {
        Modality.TEXT: Content(text=passage),
        Modality.PAGE: Content(passage, (page,), Modality.PAGE),
    }


def panned(image: Image.Image, count: int) -> list[Image.Image]:
    """Return the frames of a clip in which a window of 80 % moves over a picture."""
    width, height = round(0.8 * image.width), round(0.8 * image.height)
    steps = [i / max(1, count - 1) for i in range(count)]
    corners = [
        (round(s * (image.width - width)), round(s * (image.height - height))) for s in steps
    ]
    return [image.crop((x, y, x + width, y + height)) for x, y in corners]


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
