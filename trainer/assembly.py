"""Rows in a given order → batches without equal keys."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def assembled(keys: Numbers, size: int, least: int) -> tuple[list[Numbers], int]:
    """Put rows into batches in which no key comes twice.

    A row whose key is in the batch already waits for the next one, where waiting rows come first,
    one of each key: a key that n rows have needs n batches. If in the end only the last batch is
    too small, one before gives it rows. It takes a time proportional to the number of rows.

    Args:
        keys: Int64 (rows,), in the order in which they are to be taken.
        size: Rows of a full batch.
        least: Rows of the smallest.

    Returns:
        The batches as places in `keys`, each row in at most one of them, and how many are in none
        because fewer than `least` different keys were left.
    """
    # Keys only come to wait while the batch has them, and those that wait are in the next batch:
    # there are never more than `size`.
    waiting: dict[int, deque[int]] = {}
    batches: list[list[int]] = []
    listed: Sequence[int] = keys.tolist()
    place = 0
    while True:
        taken = set(waiting)
        batch = [places.popleft() for places in waiting.values()]
        waiting = {key: places for key, places in waiting.items() if places}
        while place < len(listed) and len(batch) < size:
            key = listed[place]
            if key in taken:
                waiting.setdefault(key, deque()).append(place)
            else:
                taken.add(key)
                batch.append(place)
            place += 1
        if len(batch) < least:
            rest = len(batch) + sum(map(len, waiting.values()))
            fill = (_filled(batch, before, listed, least) for before in reversed(batches))
            if rest == len(batch) and any(fill):
                batches.append(batch)
                rest = 0
            return [np.array(places, dtype=np.int64) for places in batches], rest
        batches.append(batch)


def _filled(batch: list[int], before: list[int], keys: Sequence[int], least: int) -> bool:
    """Fill up a batch with rows of one before, if both then have at least `least`."""
    taken = {keys[place] for place in batch}
    spare = [place for place in before if keys[place] not in taken]
    wanted = least - len(batch)
    if not batch or wanted > min(len(spare), len(before) - least):
        return False
    for place in spare[-wanted:]:
        before.remove(place)
        batch.append(place)
    return True
