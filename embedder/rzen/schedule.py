"""In which order the contents of a call go through the model, and with which others."""

import hashlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from embedder.rzen.template import Picture, TokenSequence

Name = Hashable
"""Equal for pictures that look the same to the model."""

_FILLED = 0.8
_SLACK = 8
_PROBE = (8, 8)


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """A sequence, of one content or several that are the same.

    Attributes:
        sequence: What the model reads.
        pictures: The names of its pictures.
        positions: Of the contents in the call.
    """

    sequence: TokenSequence
    pictures: tuple[Name, ...]
    positions: list[int] = field(default_factory=list)


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Members that go through the language model together.

    Attributes:
        members: Of about the same length.
        fresh: Pictures of theirs that no group before has.
        last: Pictures that no later group has.
    """

    members: tuple[Member, ...]
    fresh: Mapping[Name, Picture]
    last: tuple[Name, ...]


def schedule(sequences: Sequence[TokenSequence], budget: int) -> list[Group]:
    """Groups what is to be computed, each picture and each content once.

    Args:
        sequences: In the order of the contents.
        budget: Most tokens of a group, padding included; a longer sequence is alone.
    """
    members = _members(sequences)
    groups = groups_of([len(member.sequence) for member in members], budget)
    used = Counter(name for member in members for name in set(member.pictures))
    met: set[Name] = set()
    found = []
    for group in groups:
        chosen = tuple(members[i] for i in group)
        named = {
            name: picture
            for member in chosen
            for name, picture in zip(member.pictures, member.sequence.pictures, strict=True)
        }
        used.subtract(name for member in chosen for name in set(member.pictures))
        fresh = {name: picture for name, picture in named.items() if name not in met}
        met.update(named)
        found.append(Group(chosen, fresh, tuple(name for name in named if not used[name])))
    return found


def groups_of(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Groups numbers of about the same size, so that little of a padded batch is padding.

    Args:
        lengths: Tokens of each sequence.
        budget: Most tokens of a group, padding included.

    Returns:
        Indexes into `lengths`, every one once, the longest first: if memory does not suffice,
        that shows at once.
    """
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = lengths[index]
        fits = groups and (len(groups[-1]) + 1) * longest <= budget
        if not fits or length + _SLACK < _FILLED * longest:
            groups.append([])
            longest = length
        groups[-1].append(index)
    return groups


def _members(sequences: Sequence[TokenSequence]) -> list[Member]:
    """The different sequences, in order."""
    names = iter(_names([picture for one in sequences for picture in one.pictures]))
    found: dict[Hashable, Member] = {}
    for position, sequence in enumerate(sequences):
        pictures = tuple(next(names) for _ in sequence.pictures)
        key = (sequence.ids.tobytes(), pictures)
        found.setdefault(key, Member(sequence, pictures)).positions.append(position)
    return list(found.values())


def _names(pictures: Sequence[Picture]) -> list[Name]:
    """A name for each picture; all pixels are hashed only of those that a few cannot tell apart."""
    probes = [
        (picture.plan, picture.frame.size, picture.frame.resize(_PROBE, 0).tobytes())
        for picture in pictures
    ]
    occurs = Counter(probes)
    names: list[Name] = []
    for picture, probe in zip(pictures, probes, strict=True):
        if occurs[probe] == 1:
            names.append(probe)
        else:
            names.append((probe, hashlib.sha256(picture.frame.tobytes()).digest()))
    return names
