"""Irregular plurals of English, which the stemmer of the full-text index does not know."""

from functools import lru_cache

_PAIRS = [
    pair.split("/")
    for pair in (
        "child/children man/men person/people foot/feet tooth/teeth goose/geese mouse/mice "
        "louse/lice leaf/leaves loaf/loaves knife/knives life/lives wife/wives half/halves "
        "calf/calves wolf/wolves shelf/shelves self/selves elf/elves thief/thieves scarf/scarves "
        "hoof/hooves wharf/wharves sheaf/sheaves cactus/cacti fungus/fungi nucleus/nuclei "
        "stimulus/stimuli alumnus/alumni radius/radii bacterium/bacteria curriculum/curricula "
        "phenomenon/phenomena criterion/criteria medium/media analysis/analyses crisis/crises "
        "diagnosis/diagnoses hypothesis/hypotheses synthesis/syntheses thesis/theses oasis/oases "
        "index/indices appendix/appendices matrix/matrices vertex/vertices vortex/vortices "
        "larva/larvae alga/algae formula/formulae antenna/antennae vertebra/vertebrae "
        "corpus/corpora genus/genera quiz/quizzes"
    ).split()
]
_OTHER = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


@lru_cache(maxsize=1024)
def other_numbers(word: str) -> tuple[str, ...]:
    """Return the irregular plural of a word or its singular; none for most words.

    Compounds follow their last part: firemen, grandchildren, bookshelves.
    """
    ends = ((word[:start], _OTHER.get(word[start:])) for start in range(len(word)))
    return tuple(head + other for head, other in ends if other)
