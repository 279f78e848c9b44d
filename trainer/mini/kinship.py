"""Words for the classes of ImageNet that are not their names: what WordNet puts near them.

A donkey is no class of ImageNet. But WordNet says that it is an equine, as sorrels and zebras are,
so of all photos those of sorrels and zebras are the ones to show to who asks for a donkey.
"""

from collections.abc import Sequence

from trainer.mini.wordnet import Nouns, Synset

_FIELDS = ("05", "06", "13", "17", "20")  # animals, artifacts, food, objects, plants
_MOST_CLASSES = 30  # below what is still a word for a class; "animal" says too little
_MOST_STEPS = 3  # from a noun up to what it shares with a class


def class_words(classes: Sequence[Synset], nouns: Nouns) -> list[list[str]]:
    """For each class: its names, what it is a kind of, and its relatives.

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
            if len(below[ancestor]) <= _MOST_CLASSES:
                words[number] |= dict.fromkeys(nouns.synsets[ancestor].names)
    for one in nouns.synsets.values():
        if one.field in _FIELDS and one.wordnet_id not in below:
            for number in _nearest(one, nouns, below):
                words[number] |= dict.fromkeys(_usual(one))
    return [list(each) for each in words]


def _nearest(noun: Synset, nouns: Nouns, below: dict[str, list[int]]) -> list[int]:
    """The classes under the nearest ancestor that has any; none where they are too many."""
    level = [noun.wordnet_id]
    for _ in range(_MOST_STEPS):
        level = [parent for one in level for parent in nouns.synsets[one].parents]
        found = sorted({number for one in level for number in below.get(one, [])})
        if found:
            return found if len(found) <= _MOST_CLASSES else []
    return []


def _usual(noun: Synset) -> list[str]:
    """Its names without Latin ones, which are written with a capital."""
    return [name for name in noun.names if name == name.lower()]
