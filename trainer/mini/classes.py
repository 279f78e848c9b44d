"""The thousand ImageNet classes: WordNet id, names and gloss, in the order of the classifier.

    python -m trainer.mini.classes SYNSETS.txt [--wordnet /usr/share/wordnet]

writes classes.tsv beside this file. SYNSETS.txt is imagenet_synsets.txt of timm (Apache-2.0);
names and glosses are WordNet 3.0's (Debian package wordnet-base).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

CLASSES = Path(__file__).with_name("classes.tsv")


@dataclass(frozen=True, slots=True)
class ImageClass:
    """A class of the classifier.

    Attributes:
        wordnet_id: "n" and the eight digits of the synset's offset in WordNet 3.0.
        names: All names of the synset, the most usual first.
        gloss: Its definition.
    """

    wordnet_id: str
    names: tuple[str, ...]
    gloss: str


def read_classes(path: Path = CLASSES) -> list[ImageClass]:
    """The classes in the order of the logits."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [ImageClass(wnid, tuple(names.split(", ")), gloss) for wnid, names, gloss in rows]


def read_nouns(wordnet: Path) -> dict[str, ImageClass]:
    """Every noun synset of WordNet's data.noun by its id; glosses without their examples."""
    nouns = {}
    for line in (wordnet / "data.noun").read_text("latin-1").splitlines():
        if line.startswith("  "):
            continue  # the licence at the top
        fields, _, gloss = line.partition(" | ")
        head = fields.split(" ")
        names = tuple(head[4 + 2 * i].replace("_", " ") for i in range(int(head[3], 16)))
        definition = gloss.split('; "')[0].strip()
        nouns[f"n{head[0]}"] = ImageClass(f"n{head[0]}", names, definition)
    return nouns


def main() -> None:
    """Writes classes.tsv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("synsets", type=Path, help="one WordNet id a line")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    arguments = parser.parse_args()
    nouns = read_nouns(arguments.wordnet)
    found = [nouns[wnid] for wnid in arguments.synsets.read_text("utf-8").split()]
    lines = ["\t".join([c.wordnet_id, ", ".join(c.names), c.gloss]) + "\n" for c in found]
    CLASSES.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
