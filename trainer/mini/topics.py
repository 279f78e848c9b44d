"""Topics in every modality, to calibrate on: each is a text, a picture, a clip and a page.

A topic is one of Tux Paint's captioned stamps with glosses of WordNet, a noun of WordNet with the
glosses of its kinds, or a Debian package with its summary and its long description.
"""

import io
import random
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from embedder import Content, Modality
from trainer.mini.classes import read_classes
from trainer.mini.pictures import Picture, stamps
from trainer.mini.wordnet import Nouns, Synset

PACKAGES = Path("/var/lib/dpkg/status")
# act, body, cognition, communication, event, group, place, object, person, phenomenon,
# possession, state, substance, time
_FIELDS = "04 08 09 10 11 14 15 17 18 19 21 26 27 28".split()
_ARTICLE = re.compile(r"^(a|an|some|the|two|one)\s+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing, as a query and as a document of each modality it has.

    Attributes:
        name: Topics of one name are relevant to each other.
        family: Topics of one family (all birds) are neither relevant to each other nor clearly
            unrelated, so such pairs are left out.
    """

    name: str
    family: str
    queries: Mapping[Modality, Content]
    documents: Mapping[Modality, Content]


def stamp_topics(seed: int = 0) -> Iterator[Topic]:
    """Topics with pictures. A query of a picture is an altered copy of the document's.

    Only photos of things that the classifier can know: an ImageNet class, or what is more general
    than one. For others the picture says nothing, and no constants can make up for that.
    """
    nouns = Nouns()
    known = set().union(*(nouns.above(one.wordnet_id) for one in read_classes()))
    chance = random.Random(seed)
    for stamp in stamps():
        name = _ARTICLE.sub("", stamp.caption.rstrip(".!")).split("(")[0].strip().lower()
        synset = nouns.usual(name)
        if synset and synset.wordnet_id in known and "cartoon" not in Path(stamp.source).parts:
            yield _stamp_topic(stamp, name, _passages(nouns, synset), chance)


def _stamp_topic(
    stamp: Picture, name: str, passages: tuple[str, str], chance: random.Random
) -> Topic:
    asked, told = passages
    words = name if chance.random() < 0.7 else stamp.caption
    page = render_page(told, stamp.image if chance.random() < 0.5 else None)
    altered = alter(stamp.image, chance)
    queries = {
        Modality.TEXT: Content(text=words),
        Modality.IMAGE: Content(frames=(altered,)),
        Modality.VIDEO: Content(frames=[alter(stamp.image, chance) for _ in range(3)]),
        Modality.PAGE: Content(asked, (render_page(asked, altered),), Modality.PAGE),
    }
    documents = {
        Modality.TEXT: Content(text=told),
        Modality.IMAGE: Content(frames=(stamp.image,)),
        Modality.VIDEO: Content(frames=[alter(stamp.image, chance) for _ in range(3)]),
        Modality.PAGE: Content(told, (page,), Modality.PAGE),
    }
    return Topic(name, str(Path(stamp.source).parent), queries, documents)


def _passages(nouns: Nouns, synset: Synset) -> tuple[str, str]:
    """Two passages on one thing: what it is and belongs to; and its kinds, which rarely define it.

    Passages in a library are about a thing without defining it, so the second is the document.
    """
    general = [synset, *(nouns.synsets[one] for one in synset.parents[:1])]
    kinds = [nouns.synsets[one] for one in nouns.children.get(synset.wordnet_id, [])[:5]]
    asked, told = (
        " ".join(f"{one.names[0].capitalize()}: {one.gloss}." for one in part)
        for part in (general, kinds if len(kinds) >= 2 else [synset, *kinds])
    )
    return asked, told


def noun_topics(limit: int, seed: int = 0) -> Iterator[Topic]:
    """Topics without pictures: a word asks for a passage on its kinds.

    Words are from fields in which no stamp is: people, acts, events, places, states and so on.
    Two words of one field are one family.
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
    """Topics without pictures: a summary asks for the long description, as text or as a page."""
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
    """A picture that no query asks for, as a document alone and as a clip."""
    documents = {
        Modality.IMAGE: Content(frames=(picture.image,)),
        Modality.VIDEO: Content(frames=(picture.image, ImageOps.mirror(picture.image))),
    }
    return Topic(picture.source, picture.source, {}, documents)


def alter(image: Image.Image, chance: random.Random) -> Image.Image:
    """A copy as copies are met: cropped, smaller, compressed again, recoloured, mirrored."""
    width, height = image.size
    kept = chance.uniform(0.7, 1.0)
    left, top = (chance.uniform(0, 1 - kept) * side for side in image.size)
    image = image.crop((int(left), int(top), int(left + kept * width), int(top + kept * height)))
    scale = chance.choice([0.25, 0.5, 1.0])
    image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
    image = ImageEnhance.Brightness(image).enhance(chance.uniform(0.85, 1.15))
    image = ImageEnhance.Color(image).enhance(chance.uniform(0.85, 1.15))
    if chance.random() < 0.3:
        image = ImageOps.mirror(image)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=chance.choice([30, 60, 90]))
    return Image.open(file).convert("RGB")


def render_page(text: str, picture: Image.Image | None) -> Image.Image:
    """A white page of 480 × 640 pixels with a picture on top, if given, and the text below."""
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
