"""Words for pictures: WordNet's nouns, ImageNet's classes and their relatives, emoji.

- WordNet 3.0 as Debian's wordnet-base installs it (WordNet 3.0 licence).
- The thousand ImageNet classes in the order of the classifier (classes.tsv): WordNet id, names and
  gloss of each id in imagenet_synsets.txt of timm (Apache-2.0).
- Relatives: a donkey is no class of ImageNet, but WordNet says that it is an equine, like sorrels
  and zebras. So of all photos those of sorrels and zebras are the ones to show for "donkey".
- Noto Color Emoji (SIL Open Font License 1.1) with Unicode's English names and keywords (Unicode
  licence): `apt-get install fonts-noto-color-emoji unicode-cldr-core`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainer.data.examples import Unreadable

FOLDER = Path("/usr/share/wordnet")
CLASSES = Path(__file__).with_name("classes.tsv")
_FIELDS = ("05", "06", "13", "17", "20")  # animals, artifacts, food, objects, plants
_MAX_CLASSES = 30  # below an ancestor that is a word for them; "animal" is too general
_MAX_STEPS = 3  # from a noun up to an ancestor that it shares with a class
FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
WORDS = Path("/usr/share/unicode/cldr/common")
_SIZE = 109  # the one size that the font has
_SIDE = 150  # pixels of a picture
_CORNER = (7, 16)


@dataclass(frozen=True, slots=True)
class Synset:
    """Nouns that mean the same thing.

    Attributes:
        wordnet_id: "n" and the eight digits of its offset in data.noun.
        names: Its nouns, the most usual first.
        gloss: Its definition, without examples.
        parents: Ids of the more general synsets it belongs to.
        field: Number of the lexicographer's file it is in: "05" are animals; see lexnames(5).
    """

    wordnet_id: str
    names: tuple[str, ...]
    gloss: str
    parents: tuple[str, ...] = ()
    field: str = ""


class Nouns:
    """All noun synsets, by id and by word.

    Attributes:
        synsets: By WordNet id.
        senses: Ids of a word's synsets by lower-case word, the most usual first.
        attested: Words in the texts that WordNet's authors tagged, so not rare ones.
        children: Ids of the more specific synsets.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        """Read data.noun and index.noun."""
        self.synsets: dict[str, Synset] = {}
        self.senses: dict[str, list[str]] = {}
        self.attested: set[str] = set()
        self.children: dict[str, list[str]] = {}
        for line in records(folder / "data.noun"):
            synset = _parsed(line)
            self.synsets[synset.wordnet_id] = synset
            for parent in synset.parents:
                self.children.setdefault(parent, []).append(synset.wordnet_id)
        for line in records(folder / "index.noun"):
            word, _, count, *rest = line.split()
            word = word.replace("_", " ")
            self.senses[word] = [f"n{offset}" for offset in rest[-int(count) :]]
            if rest[-int(count) - 1] != "0":
                self.attested.add(word)

    def usual(self, phrase: str) -> Synset | None:
        """Return the most usual sense of a phrase, also of a plural in -s."""
        for form in (phrase.lower(), phrase.lower().removesuffix("s")):
            if form in self.senses:
                return self.synsets[self.senses[form][0]]
        return None

    def above(self, wordnet_id: str) -> set[str]:
        """Return a synset's id and those of its ancestors."""
        found: set[str] = set()
        waiting = [wordnet_id]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.synsets[one].parents
        return found


def records(path: Path) -> list[str]:
    """Return the lines of a file of WordNet below its licence."""
    return [line for line in path.read_text("latin-1").splitlines() if not line.startswith("  ")]


def _parsed(line: str) -> Synset:
    """Parse one line of data.noun; see wndb(5)."""
    fields, _, gloss = line.partition(" | ")
    head = fields.split()
    words = int(head[3], 16)
    names = tuple(head[4 + 2 * i].replace("_", " ") for i in range(words))
    pointers = head[5 + 2 * words :]
    quads = [pointers[i : i + 4] for i in range(0, 4 * int(head[4 + 2 * words]), 4)]
    parents = tuple(f"n{q[1]}" for q in quads if q[0] in ("@", "@i") and q[2] == "n")
    return Synset(f"n{head[0]}", names, gloss.split('; "')[0].strip(), parents, head[1])


def read_classes(path: Path = CLASSES) -> list[Synset]:
    """Return the classes in the order of the logits."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [Synset(wnid, tuple(names.split(", ")), gloss) for wnid, names, gloss in rows]


def class_words(classes: Sequence[Synset], nouns: Nouns) -> list[list[str]]:
    """Return, for each class, its names, its kinds and its relatives.

    Args:
        classes: Of ImageNet.
        nouns: All of WordNet.

    Returns:
        Lists of words, the class's own first. A noun that is no class is a word for the classes
        that it shares its nearest ancestor with, if these are few.
    """
    above = [nouns.above(one.wordnet_id) for one in classes]
    below: dict[str, list[int]] = {}
    for number, ancestors in enumerate(above):
        for ancestor in ancestors:
            below.setdefault(ancestor, []).append(number)
    words = [dict.fromkeys(one.names) for one in classes]
    for number, ancestors in enumerate(above):
        for ancestor in sorted(ancestors):
            if len(below[ancestor]) <= _MAX_CLASSES:
                words[number] |= dict.fromkeys(nouns.synsets[ancestor].names)
    for one in nouns.synsets.values():
        if one.field in _FIELDS and one.wordnet_id not in below:
            for number in _nearest(one, nouns, below):
                words[number] |= dict.fromkeys(_usual(one))
    return [list(each) for each in words]


def _nearest(noun: Synset, nouns: Nouns, below: dict[str, list[int]]) -> list[int]:
    """Return the classes under the nearest ancestor with any; none where too many."""
    level = [noun.wordnet_id]
    for _ in range(_MAX_STEPS):
        level = [parent for one in level for parent in nouns.synsets[one].parents]
        found = sorted({number for one in level for number in below.get(one, [])})
        if found:
            return found if len(found) <= _MAX_CLASSES else []
    return []


def _usual(noun: Synset) -> list[str]:
    """Return its names without Latin ones, which begin with a capital."""
    return [name for name in noun.names if name == name.lower()]


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
    """Return all emoji with an English name, one of each set of skin tones.

    Raises:
        Unreadable: the package is not installed.
    """
    names, keywords = dict[str, str](), dict[str, str]()
    for folder in ("annotations", "annotationsDerived"):
        try:
            tree = ET.parse(words / folder / "en.xml")
        except OSError as error:
            raise Unreadable(
                f"{error.filename} is missing: apt-get install unicode-cldr-core"
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
    """Yield emoji that the font draws in one cell, as RGB, 150 × 150 pixels on white.

    Raises:
        Unreadable: the package is not installed.
    """
    try:
        colours = ImageFont.truetype(str(font), _SIZE)
    except OSError as error:
        raise Unreadable(f"{font} is missing: apt-get install fonts-noto-color-emoji") from error
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
