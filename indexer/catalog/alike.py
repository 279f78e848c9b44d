"""Pictures that look nearly alike: of a burst, of other sizes, a RAW file beside its JPEG."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.catalog.listing import MAX_HASH_DISTANCE, MAX_TINT_DISTANCE, Look
from indexer.types import MediaItem

BURST_NS = 60 * 10**9
"""Nanoseconds within which pictures of a folder may be of one burst."""

BURST_HASH_DISTANCE, BURST_TINT_DISTANCE = 12, 48
"""Bits of 64 and steps of 255 by which two of them may differ: what moves, the hand and the light
change more than a copy does."""

Picture = tuple[MediaItem, Look]
"""A file and how it looks."""


def leaders(pictures: Sequence[Picture]) -> list[int]:
    """Return for each picture the position of the one that stands for it.

    That is the first that it looks nearly like and that stands for itself, or the picture itself;
    it does not depend on pictures after it.
    """
    found: list[int] = []
    for position, row in enumerate(nearly_alike(pictures) if pictures else ()):
        before = (one for one in np.flatnonzero(row[:position]).tolist() if found[one] == one)
        found.append(next(before, position))
    return found


def nearly_alike(pictures: Sequence[Picture]) -> NDArray[np.bool_]:
    """Return which pairs (n, n) of some pictures look nearly alike.

    They look the same, or they are of one folder and minute and look similar or have the same name
    apart from its suffix.
    """
    bits = np.array([look.bits for _, look in pictures], dtype=np.int64).view(np.uint64)
    distance = np.bitwise_count(bits[:, None] ^ bits)
    apart = np.full(distance.shape, 255, dtype=np.int16)
    rows, columns = np.nonzero(distance <= BURST_HASH_DISTANCE)
    tints = np.array([list(look.tint) for _, look in pictures], dtype=np.int16)
    apart[rows, columns] = np.abs(tints[rows] - tints[columns]).max(axis=1, initial=0)
    dates = np.array([item.date_ns for item, _ in pictures], dtype=np.float64)
    stems = [str(item.path.with_suffix("")) for item, _ in pictures]
    together = _equal([str(item.path.parent) for item, _ in pictures])
    together &= np.abs(dates[:, None] - dates) <= BURST_NS
    same = (distance <= MAX_HASH_DISTANCE) & (apart <= MAX_TINT_DISTANCE)
    found: NDArray[np.bool_] = same | together & ((apart <= BURST_TINT_DISTANCE) | _equal(stems))
    return found


def _equal(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which pairs (n, n) are equal."""
    numbers = {text: number for number, text in enumerate(texts)}
    known = np.array([numbers[text] for text in texts], dtype=np.int64)
    return np.equal.outer(known, known)
