"""Which id stands at which position."""

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.partition import Ids

_NONE = np.empty(0, dtype=np.int64)


class Places:
    """Ids by position, with a number for each; positions of ids that have gone stay empty.

    Ids mostly come in ascending order, as a database hands them out: then they are looked up in the
    order of their positions, and otherwise through an index that is made when it is needed.
    """

    def __init__(
        self, ids: Ids, lists: NDArray[np.int32], gone: NDArray[np.bool_] | None = None
    ) -> None:
        self._ids, self._lists = ids, lists
        self._gone = np.zeros(len(ids), dtype=np.bool_) if gone is None else gone
        self._count = len(ids)
        self._ascending = bool((ids[1:] > ids[:-1]).all())
        self._order: NDArray[np.int64] | None = None
        self.empty = int(self._gone.sum())

    def __len__(self) -> int:
        """How many positions there are, empty ones included."""
        return self._count

    @property
    def memory(self) -> int:
        """Bytes it takes."""
        return self._ids.nbytes + self._lists.nbytes + self._gone.nbytes

    @property
    def ids(self) -> Ids:
        """By position."""
        return self._ids[: self._count]

    @property
    def lists(self) -> NDArray[np.int32]:
        """The number of each position."""
        return self._lists[: self._count]

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Which positions are empty."""
        return self._gone[: self._count]

    def append(self, ids: Ids, lists: NDArray[np.int32]) -> NDArray[np.int64]:
        """Gives unknown ids the next positions; returns them."""
        start, total = self._count, self._count + len(ids)
        if total > len(self._ids):
            size = max(total, 9 * start // 8)
            for name in ("_ids", "_lists", "_gone"):
                old = getattr(self, name)
                larger = np.zeros(size, dtype=old.dtype)
                larger[:start] = old[:start]
                setattr(self, name, larger)
        joint = np.concatenate([self._ids[max(0, start - 1) : start], ids])
        self._ascending = self._ascending and bool((joint[1:] > joint[:-1]).all())
        self._order = None
        self._ids[start:total], self._lists[start:total] = ids, lists
        self._count = total
        return np.arange(start, total)

    def drop(self, positions: NDArray[np.int64]) -> None:
        """Empties positions that were not empty."""
        self._gone[positions] = True
        self.empty += len(positions)

    def find(self, ids: Ids) -> NDArray[np.int64]:
        """The positions of those ids that there are, each once."""
        if not self._count:
            return _NONE
        if self._ascending:
            found = np.minimum(np.searchsorted(self.ids, ids), self._count - 1)
        else:
            if self._order is None:
                self._order = np.argsort(self.ids, kind="stable")
            # Of an id that went and came again, the last position is the one that counts.
            after = np.searchsorted(self.ids, ids, side="right", sorter=self._order)
            found = self._order[np.maximum(after - 1, 0)]
        found = found[(self._ids[found] == ids) & ~self._gone[found]]
        return found if len(found) < 2 or (found[1:] > found[:-1]).all() else np.unique(found)
