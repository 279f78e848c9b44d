"""The thousand ImageNet classes: WordNet id, names and gloss, in the order of the classifier.

    python -m trainer.mini.classes SYNSETS.txt [--wordnet /usr/share/wordnet]

writes classes.tsv beside this file. SYNSETS.txt is imagenet_synsets.txt of timm (Apache-2.0);
names and glosses are WordNet 3.0's.
"""

import argparse
from pathlib import Path

from trainer.mini import wordnet
from trainer.mini.wordnet import Nouns, Synset

CLASSES = Path(__file__).with_name("classes.tsv")


def read_classes(path: Path = CLASSES) -> list[Synset]:
    """The classes in the order of the logits."""
    rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
    return [Synset(wnid, tuple(names.split(", ")), gloss) for wnid, names, gloss in rows]


def main() -> None:
    """Writes classes.tsv."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("synsets", type=Path, help="one WordNet id a line")
    parser.add_argument("--wordnet", type=Path, default=wordnet.FOLDER)
    arguments = parser.parse_args()
    nouns = Nouns(arguments.wordnet)
    found = [nouns.synsets[wnid] for wnid in arguments.synsets.read_text("utf-8").split()]
    lines = ["\t".join([c.wordnet_id, ", ".join(c.names), c.gloss]) + "\n" for c in found]
    CLASSES.write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
