"""Arrays that lie one after the other, read as if they were one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def taken(blocks: Sequence[Any], positions: NDArray[np.int64]) -> NDArray[Any]:
    """What lies at some positions.

    Args:
        blocks: Of one type and, but for their lengths, of one shape.
        positions: From 0 to below the sum of the lengths.
    """
    some = [block for block in blocks if len(block)]
    if len(some) == 1:
        only: NDArray[Any] = some[0][positions]
        return only
    found = np.empty((len(positions), *blocks[0].shape[1:]), dtype=blocks[0].dtype)
    start = 0
    for block in some:
        here = (positions >= start) & (positions < start + len(block))
        found[here] = block[positions[here] - start]
        start += len(block)
    return found
