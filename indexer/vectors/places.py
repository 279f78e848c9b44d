"""Which id stands at which position."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.blocks import taken
from indexer.vectors.files import Stored, mapped, written
from indexer.vectors.gone import Gone, Positions
from indexer.vectors.partition import Ids, each_once, is_ascending

Lists = NDArray[np.int32]

PLACE_BYTES = 12
"""Of an id and a list."""

_CHUNK = 1 << 17


class Places:
    """Ids by position, with the number of a list for each; positions of ids that go stay empty.

    All but the latest are mapped from a file once they were written. Reading may go on meanwhile.
    """

    def __init__(self, gone: Gone | None = None) -> None:
        self.gone = gone or Gone()
        self._ids, self._lists = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        self._blocks = _Block(self._ids, self._lists), _Block(self._ids, self._lists)

    def __len__(self) -> int:
        """How many positions there are, empty ones included."""
        return sum(len(block.ids) for block in self._blocks)

    @property
    def start(self) -> int:
        """The first position that is not in the file."""
        return len(self._blocks[0].ids)

    @property
    def memory(self) -> int:
        """Bytes of what is not mapped."""
        return self._ids.nbytes + self._lists.nbytes + self.gone.memory

    @property
    def mapped(self) -> int:
        """Bytes of the file."""
        return self._blocks[0].bytes

    @property
    def ids(self) -> Ids:
        """By position."""
        return np.concatenate([block.ids for block in self._blocks])

    @property
    def fresh(self) -> tuple[Ids, Lists]:
        """Ids and lists from `start` on."""
        return self._blocks[1].ids, self._blocks[1].lists

    def ids_at(self, positions: Positions) -> Ids:
        """The ids at some positions."""
        return taken([block.ids for block in self._blocks], positions)

    def lists_at(self, positions: Positions) -> Lists:
        """The lists of some positions."""
        return taken([block.lists for block in self._blocks], positions)

    def append(self, ids: Ids, lists: Lists) -> Positions:
        """Gives ids that have no place the next positions; returns them."""
        saved, fresh = self._blocks
        count = len(fresh.ids)
        total = count + len(ids)
        if total > len(self._ids):
            more = max(total, 9 * count // 8) - count
            self._ids = np.pad(fresh.ids, (0, more))
            self._lists = np.pad(fresh.lists, (0, more))
        self._ids[count:total], self._lists[count:total] = ids, lists
        ascending = fresh.ascending and is_ascending(self._ids[max(0, count - 1) : total])
        self._blocks = saved, _Block(self._ids[:total], self._lists[:total], ascending)
        return np.arange(self.start + count, self.start + total)

    def find(self, ids: Ids) -> Positions:
        """The positions of those ids that there are, each once, ascending."""
        saved, fresh, start = self._located(ids)
        found = np.concatenate([saved[saved >= 0], fresh[fresh >= 0] + start])
        return each_once(found[~self.gone.among(found)])

    def confirm(self, ids: Ids, positions: Positions) -> NDArray[np.bool_]:
        """Which ids are found at these positions; in a file that is not damaged, all are."""
        saved, fresh, start = self._located(ids)
        at: NDArray[np.bool_] = np.where(fresh >= 0, fresh + start, saved) == positions
        return at

    def _located(self, ids: Ids) -> tuple[Positions, Positions, int]:
        saved, fresh = self._blocks  # At once: they are exchanged while searches go on.
        return saved.located(ids), fresh.located(ids), len(saved.ids)

    def write(self, path: Path) -> Stored:
        """Writes all positions, and maps them."""
        saved, fresh = self._blocks
        ids, lists = self.ids, np.concatenate([saved.lists, fresh.lists])
        stored = written(path, _Block(ids, lists, is_ascending(ids)).write)
        self._map(path.parent, stored, len(ids))
        return stored

    @classmethod
    def read(cls, directory: Path, stored: Stored, count: int, gone: Gone) -> "Places":
        """Maps so many positions; raises what `files.mapped` does."""
        places = cls(gone)
        places._map(directory, stored, count)
        return places

    def _map(self, directory: Path, stored: Stored, count: int) -> None:
        block = _Block.over(mapped(directory, stored), count)
        self._ids, self._lists = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        self._blocks = block, _Block(self._ids, self._lists)


class _Block:
    """Ids and lists by position, and the ids in order too where they did not come in order."""

    def __init__(
        self,
        ids: Ids,
        lists: Lists,
        ascending: bool = True,
        order: tuple[Ids, Positions] | None = None,
    ) -> None:
        self.ids, self.lists, self.ascending = ids, lists, ascending
        self._order = order

    @property
    def bytes(self) -> int:
        """Its length in a file."""
        return (PLACE_BYTES if self.ascending else PLACE_BYTES + 16) * len(self.ids)

    @classmethod
    def over(cls, data: NDArray[np.uint8], count: int) -> "_Block":
        """What `write` wrote; `ValueError` if it is not of its length."""
        lists = data[len(data) - 4 * count :].view(np.int32)
        if len(data) == PLACE_BYTES * count:
            return cls(data[: 8 * count].view(np.int64), lists)
        if len(data) == (PLACE_BYTES + 16) * count:
            ids, keys, at = data[: 24 * count].view(np.int64).reshape(3, count)
            return cls(ids, lists, False, (keys, at))
        raise ValueError("the table of places is not of its length")

    def write(self, write: Callable[[Any], int]) -> None:
        """Ids, perhaps again in order with their positions, lists."""
        order = () if self.ascending else self._ordered()
        for column in (self.ids, *order, self.lists):
            for start in range(0, len(column), _CHUNK):
                write(np.ascontiguousarray(column[start : start + _CHUNK]).data.cast("B"))

    def located(self, ids: Ids) -> Positions:
        """The last position of each id; -1 for those that are not here."""
        if not len(self.ids):
            return np.full(len(ids), -1)
        if self.ascending:
            at = np.searchsorted(self.ids, ids, side="right") - 1
        else:
            keys, positions = self._ordered()
            at = positions[np.searchsorted(keys, ids, side="right") - 1]
        # Where the file is damaged, positions may be any numbers.
        here = self.ids[np.clip(at, 0, len(self.ids) - 1)] == ids
        return np.where(here & (at >= 0) & (at < len(self.ids)), at, -1)

    def _ordered(self) -> tuple[Ids, Positions]:
        if self._order is None:
            at = np.argsort(self.ids, kind="stable")
            self._order = self.ids[at], at
        return self._order
