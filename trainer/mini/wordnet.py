"""The nouns of WordNet 3.0, as Debian's wordnet-base installs them (WordNet 3.0 licence)."""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/usr/share/wordnet")


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
        attested: Words that WordNet's authors met in the texts they tagged, so not rare ones.
        children: Ids of the more special synsets.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        """Reads data.noun and index.noun."""
        self.synsets: dict[str, Synset] = {}
        self.senses: dict[str, list[str]] = {}
        self.attested: set[str] = set()
        self.children: dict[str, list[str]] = {}
        for line in _records(folder / "data.noun"):
            synset = _parsed(line)
            self.synsets[synset.wordnet_id] = synset
            for parent in synset.parents:
                self.children.setdefault(parent, []).append(synset.wordnet_id)
        for line in _records(folder / "index.noun"):
            word, _, count, *rest = line.split()
            word = word.replace("_", " ")
            self.senses[word] = [f"n{offset}" for offset in rest[-int(count) :]]
            if rest[-int(count) - 1] != "0":
                self.attested.add(word)

    def usual(self, phrase: str) -> Synset | None:
        """The most usual sense of a phrase, also where it is a plural in -s."""
        for form in (phrase.lower(), phrase.lower().removesuffix("s")):
            if form in self.senses:
                return self.synsets[self.senses[form][0]]
        return None

    def above(self, wordnet_id: str) -> set[str]:
        """A synset's id and those of everything more general."""
        found: set[str] = set()
        waiting = [wordnet_id]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.synsets[one].parents
        return found


def _records(path: Path) -> list[str]:
    """The lines below the licence."""
    return [line for line in path.read_text("latin-1").splitlines() if not line.startswith("  ")]


def _parsed(line: str) -> Synset:
    """One line of data.noun; see wndb(5)."""
    fields, _, gloss = line.partition(" | ")
    head = fields.split()
    words = int(head[3], 16)
    names = tuple(head[4 + 2 * i].replace("_", " ") for i in range(words))
    pointers = head[5 + 2 * words :]
    quads = [pointers[i : i + 4] for i in range(0, 4 * int(head[4 + 2 * words]), 4)]
    parents = tuple(f"n{q[1]}" for q in quads if q[0] in ("@", "@i") and q[2] == "n")
    return Synset(f"n{head[0]}", names, gloss.split('; "')[0].strip(), parents, head[1])
