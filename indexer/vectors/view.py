"""The vectors of one kind, searched exactly or through inverted lists, with a filter or without.

Each vector has a position: the place of its row, its id and its holders. Vectors are only added
behind the others; one that is replaced or removed leaves a gap. So a search works on a `View`,
which no change touches, and waits for nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import faiss as library
import numpy as np
from numpy.typing import DTypeLike, NDArray

from embedder.interface import Vectors
from indexer.vectors.interface import NOTHING, Found, Ids, SearchFilter
from indexer.vectors.storage import (
    Positions,
    StoredFile,
    Write,
    append_to_file,
    map_file,
    write_file,
)

if TYPE_CHECKING:
    from indexer.vectors.ivf import Lists
    from indexer.vectors.partition import IndexPolicy

faiss: Any = library
"""FAISS, whose stubs do not know its Python layer; `faiss_index` is imported when it is needed."""

Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]

_BLOCK = 128
_CHUNK_ROWS = 1 << 13
_FILTERED_PROBES = 8
"""What a filter keeps may lie far from the query, where centroids tell less of it: a range of dates
that kept 5 % of 500,000 made-up vectors found 0.80 of the nearest with twice the lists.
"""
_FILTERED_CANDIDATES = 8
_MAX_FILTERED_CANDIDATES = 2_000


@dataclass(frozen=True, eq=False)
class Column:
    """Values by position, of which the saved ones are mapped and the others are in memory.

    Never changed. Columns that come from one another share memory, so only the latest of them may
    be appended to.

    Attributes:
        saved: Values in the file, (n, *width).
        fresh: Those behind them that are not saved, of the same dtype and width.
        stored: The file; None if there is none, or others may have written to it.
    """

    saved: NDArray[Any]
    fresh: NDArray[Any]
    stored: StoredFile | None = None
    _buffer: NDArray[Any] | None = None  # The fresh values, and room for more.

    def __len__(self) -> int:
        return len(self.saved) + len(self.fresh)

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        return (self.fresh if self._buffer is None else self._buffer).nbytes

    @classmethod
    def empty(cls, dtype: DTypeLike, width: tuple[int, ...] = ()) -> Self:
        """Return a column without values, which have this shape each."""
        nothing = np.empty((0, *width), dtype=dtype)
        return cls(nothing, nothing)

    def all(self) -> NDArray[Any]:
        """Return a copy of all values."""
        return np.concatenate([self.saved, self.fresh])

    def take(self, positions: Positions) -> NDArray[Any]:
        """Return the values at some positions."""
        if not len(self.fresh) or not len(self.saved):
            return (self.saved if len(self.saved) else self.fresh)[positions]
        found = np.empty((len(positions), *self.saved.shape[1:]), dtype=self.saved.dtype)
        late = positions >= len(self.saved)
        found[~late] = self.saved[positions[~late]]
        found[late] = self.fresh[positions[late] - len(self.saved)]
        return found

    def appended(self, values: NDArray[Any]) -> Self:
        """Return this column with more values of shape (n, *width)."""
        count, buffer = len(self.fresh), self._buffer
        total = count + len(values)
        if buffer is None or total > len(buffer):
            room = (max(total, 3 * count // 2), *self.fresh.shape[1:])
            buffer = np.empty(room, dtype=self.fresh.dtype)
            buffer[:count] = self.fresh
        buffer[count:total] = values
        return replace(self, fresh=buffer[:total], _buffer=buffer)

    def written(self, directory: Path, name: str) -> Self:
        """Append to the file what it lacks, or write a new one; return the column mapped.

        Args:
            directory: Where to.
            name: Of a new file.

        Raises:
            LibraryError: if it cannot be written.
        """
        if self.stored is None or not self.stored.is_in(directory):
            return self._copied(directory, name)
        if not len(self.fresh):
            return self
        data = np.ascontiguousarray(self.fresh).data.cast("B")
        return self.mapped(directory, append_to_file(directory, self.stored, data))

    def _copied(self, directory: Path, name: str) -> Self:
        def fill(write: Write) -> None:
            for block in (self.saved, self.fresh):
                for start in range(0, len(block), _CHUNK_ROWS):
                    chunk = block[start : start + _CHUNK_ROWS]
                    write(np.ascontiguousarray(chunk).data.cast("B"))

        return self.mapped(directory, write_file(directory / name, fill))

    def mapped(self, directory: Path, stored: StoredFile) -> Self:
        """Return a column of the same dtype and width from its file; raises as `map_file`."""
        nothing = self.fresh[:0]
        saved = map_file(directory, stored).view(nothing.dtype).reshape(-1, *nothing.shape[1:])
        return type(self)(saved, nothing.copy(), stored)


class View:
    """The vectors of a partition at one moment. Thread-safe, and never changed.

    Attributes:
        ids: By position.
        rows: Float16 (dim,) by position.
        holders: Position, folder and date, int64 (3,), of each file that holds a segment.
        gone: Which positions are gaps, a boolean for each.
        lists: Inverted lists of the first positions; None where every vector is compared.
    """

    def __init__(
        self,
        policy: "IndexPolicy",
        columns: tuple[Column, Column, Column],
        gone: Mask,
        ascending: int,
        lists: "Lists | None",
    ) -> None:
        """Combine the parts of a partition.

        Args:
            policy: How to search.
            columns: Ids, rows and holders.
            gone: See above.
            ascending: Length of the longest prefix of the saved ids that ascends.
            lists: See above.
        """
        self._policy = policy
        self.ids, self.rows, self.holders = columns
        self.gone, self.lists = gone, lists
        self.gaps = int(np.count_nonzero(gone))
        self._ascending = ascending
        self._count = len(self.ids)
        self._masked: tuple[SearchFilter, Mask] | None = None

    def __len__(self) -> int:
        """Return the number of positions, gaps included."""
        return self._count

    @property
    def size(self) -> int:
        """The number of vectors."""
        return self._count - self.gaps

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return int(self.rows.saved.shape[1])

    @property
    def covered(self) -> int:
        """The first position that is in no list."""
        return self.lists.covered if self.lists else 0

    # Searching.

    def search(
        self, vector: NDArray[np.float32], k: int, where: SearchFilter | None, ids: Ids | None
    ) -> Found:
        """See `VectorIndex.search`.

        Args:
            vector: Shape (1, dim).
            k: At least 1.
            where: See there.
            ids: See there.
        """
        # One query has nothing to share out: waking other threads takes longer than searching
        # 5,000 vectors. The setting is of the calling thread.
        faiss.omp_set_num_threads(1)
        if where is None and ids is None:
            scores, positions = self._unfiltered(vector, min(k, self.size))
        else:
            scores, positions = self._filtered(vector, k, where, ids)
        return scores, self.ids.take(positions)

    def _unfiltered(self, vector: NDArray[np.float32], k: int) -> tuple[Scores, Positions]:
        if self.lists is None or k < 1:
            return self.scanned(vector, k)
        tuning = self.lists.tuning
        near = self._probed(vector, tuning.candidates_for(k), tuning.probes_for(k), k, self._there)
        return _best(k, self.ranked(vector, k, near), self.scanned(vector, k, self.covered))

    def _filtered(
        self, vector: NDArray[np.float32], k: int, where: SearchFilter | None, ids: Ids | None
    ) -> tuple[Scores, Positions]:
        if ids is None:
            assert where is not None
            mask = self._mask(where)
        else:
            kept = self.find(ids)[1]
            mask = np.zeros(self._count, dtype=np.bool_)
            mask[kept if where is None else kept[self._mask(where)[kept]]] = True
        count = int(np.count_nonzero(mask))
        k = min(k, count)
        if count <= max(self._policy.gathered, 2 * k):
            return self.ranked(vector, k, np.flatnonzero(mask))
        if self.lists is None:
            return self.scanned(vector, k, 0, mask)
        spread = _FILTERED_PROBES * len(mask) / count
        probes = min(len(self.lists), ceil(spread * self.lists.tuning.probes_for(k)))
        if count <= self._policy.filtered * probes:
            return self.scanned(vector, k, 0, mask)
        return self._filtered_by_lists(vector, k, self.lists, mask, probes)

    def _filtered_by_lists(
        self, vector: NDArray[np.float32], k: int, lists: "Lists", mask: Mask, probes: int
    ) -> tuple[Scores, Positions]:
        covered = mask[: lists.covered]
        count = int(np.count_nonzero(covered))
        usual = lists.tuning.candidates_for(k)
        wanted = min(count, max(usual, min(_FILTERED_CANDIDATES * usual, _MAX_FILTERED_CANDIDATES)))
        near = _NOWHERE
        if count:
            near = self._probed(vector, wanted, probes, wanted, _selector(covered))
        late = self.scanned(vector, k, lists.covered, mask)
        return _best(k, self.ranked(vector, k, near), late)

    def _probed(
        self, vector: NDArray[np.float32], count: int, probes: int, least: int, selector: Any
    ) -> Positions:
        """Return candidates from as many lists as hold the least number of them."""
        assert self.lists is not None
        while True:
            found = self.lists.candidates(vector, count, probes, selector)
            if len(found) >= least or probes >= len(self.lists):
                return np.unique(found)  # Where the file is damaged, some may come twice.
            probes *= 2

    def ranked(
        self, vector: NDArray[np.float32], k: int, positions: Positions
    ) -> tuple[Scores, Positions]:
        """Return scores and positions of the k nearest of some positions, best first."""
        return _best(k, (self.scores(positions, vector[0]), positions))

    def scanned(
        self,
        vector: NDArray[np.float32],
        k: int,
        start: int = 0,
        mask: Mask | None = None,
    ) -> tuple[Scores, Positions]:
        """Return scores and positions of the k nearest of all from a position on, best first.

        Args:
            vector: Shape (1, dim).
            k: Most results.
            start: The first position.
            mask: Which of all positions to consider; None for all that are no gaps.
        """
        found = [NOTHING]
        for first, index, selector in self._flat(start) if k > 0 else ():
            if mask is not None:
                selector = _selector(mask[first : first + index.ntotal])
            params = selector and faiss.SearchParameters(sel=selector)
            scores, at = index.search(vector, min(k, index.ntotal), params=params)
            there = at[0] >= 0
            found.append((scores[0][there], at[0][there] + first))
        return found[1] if len(found) == 2 else _best(k, *found)

    def scores(self, positions: Positions, vector: NDArray[np.float32]) -> Scores:
        """Return the inner products (n,) of some rows with a vector (dim,).

        A few rows at a time stay in the cache. Not by BLAS: it would wake threads for a query that
        takes a millisecond, and those of several queries would get in each other's way.
        """
        found = np.empty(len(positions), dtype=np.float32)
        for start in range(0, len(positions), _BLOCK):
            rows = self.rows_at(positions[start : start + _BLOCK])
            np.einsum("ij,j->i", rows, vector, out=found[start : start + _BLOCK])
        return found

    def rows_at(self, positions: Positions) -> Vectors:
        """Return rows as float32 (n, dim)."""
        return floats(self.rows.take(positions))

    def sample(self, count: int) -> Vectors:
        """Return at most `count` rows, evenly spread over the positions."""
        positions = np.unique(np.linspace(0, len(self) - 1, count if len(self) else 0, dtype=int))
        return self.rows_at(positions[~self.gone[positions]])

    def _flat(self, start: int) -> list[tuple[int, Any, Any]]:
        """Return first position, FAISS index and selector of each block from a position on."""
        if start == self.covered:
            return self._late
        return list(self._indexes(start))

    @cached_property
    def _late(self) -> list[tuple[int, Any, Any]]:
        return list(self._indexes(self.covered))

    def _indexes(self, start: int) -> Iterator[tuple[int, Any, Any]]:
        first = 0
        for block in (self.rows.saved, self.rows.fresh):
            at, end = max(first, start), first + len(block)
            if at < end:
                yield at, _flat_index(block[at - first :]), _none_of(self.gone[at:end])
            first = end

    @cached_property
    def _there(self) -> Any:
        """What lets FAISS pass over gaps; None without any."""
        return _none_of(self.gone)

    # Filters.

    def _mask(self, where: SearchFilter) -> Mask:
        """Return which positions pass a filter and are no gaps; kept for the next search."""
        masked = self._masked
        if masked is None or masked[0] != where:
            mask = np.zeros(self._count, dtype=np.bool_)
            for holders in (self.holders.saved, self.holders.fresh):
                positions = holders[_passes(holders[:, 1], holders[:, 2], where), 0]
                # Where the file is damaged, positions may be any numbers.
                mask[positions[(positions >= 0) & (positions < self._count)]] = True
            mask &= ~self.gone
            if where.segments is not None:
                chosen = np.zeros_like(mask)
                chosen[self.find(np.array(sorted(where.segments), dtype=np.int64))[1]] = True
                mask &= chosen
            self._masked = masked = where, mask
        return masked[1]

    def matching(self, ids: Ids, where: SearchFilter) -> Mask:
        """See `VectorIndex.matching`."""
        positions = self.located(ids)
        matches = self.present(positions)
        matches[matches] = self._mask(where)[positions[matches]]
        return matches

    # Ids.

    def find(self, ids: Ids) -> tuple[Ids, Positions]:
        """Return those of some ids that there are, ascending and each once, and their positions."""
        ids = ids if _ascend(ids) else np.unique(ids)
        positions = self.located(ids)
        present = self.present(positions)
        return ids[present], positions[present]

    def alive(self) -> Positions:
        """Return all positions that are no gaps."""
        if not self.gaps:
            return np.arange(self._count)
        return np.flatnonzero(~self.gone)

    def located(self, ids: Ids) -> Positions:
        """Return the last position of each id, also if it is a gap now; -1 for unknown ids."""
        found = np.full(len(ids), -1, dtype=np.int64)
        keys = self.ids.saved[: self._ascending]
        if len(keys):
            at = np.minimum(np.searchsorted(keys, ids), len(keys) - 1)
            found = np.where(keys[at] == ids, at, found)
        keys, positions = self._tail
        if len(keys):
            at = np.searchsorted(keys, ids, side="right") - 1
            found = np.where((at >= 0) & (keys[at] == ids), positions[at], found)
        return found

    def present(self, positions: Positions) -> Mask:
        """Return which of some positions, as `located` returns them, hold a vector."""
        present = positions >= 0
        present[present] = ~self.gone[positions[present]]
        return present

    @cached_property
    def _tail(self) -> tuple[Ids, Positions]:
        """The ids behind those that ascend, in order, with their positions."""
        late, fresh = self.ids.saved[self._ascending :], self.ids.fresh
        keys = np.concatenate([late, fresh]) if len(late) else fresh
        if _ascend(keys):
            return keys, np.arange(self._ascending, self._ascending + len(keys))
        order = np.argsort(keys, kind="stable")
        return keys[order], order + self._ascending


_NOWHERE = np.empty(0, dtype=np.int64)
_SIGN_AND_SIZE = np.int32(-0x70002000)  # 0x8FFFE000: all bits of a half, 13 places to the left.
_EXPONENTS_APART = np.float32(2.0 ** (127 - 15))


def floats(halves: NDArray[np.float16]) -> Vectors:
    """Return finite halves as float32, the same numbers, in a third of the time of `astype`.

    NumPy converts them one by one. What is neither finite nor a number, as in a damaged file,
    becomes a number above those that a half can be.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_SIZE
    found: Vectors = bits.view(np.float32)
    found *= _EXPONENTS_APART
    return found


def _flat_index(rows: NDArray[np.float16]) -> Any:
    """Return a FAISS index that compares every row, where it lies: float16 takes half the time.

    FAISS has no call for that. It does the same with the files that it maps: an array that it does
    not own; the caller keeps the rows.
    """
    half = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexScalarQuantizer(rows.shape[1], half, faiss.METRIC_INNER_PRODUCT)
    codes = index.codes
    codes.is_owned = False
    codes.c_ptr = codes.view_data = faiss.swig_ptr(rows.reshape(-1).view(np.uint8))
    codes.c_size = codes.view_size = rows.nbytes
    index.ntotal = len(rows)
    return index


def _selector(mask: Mask) -> Any:
    """Return what lets FAISS consider some positions only: bits, which it tests without hashing."""
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def _none_of(gone: Mask) -> Any:
    """Return what lets FAISS pass over some positions; None if there are none."""
    return _selector(~gone) if gone.any() else None


def _best(k: int, *found: tuple[Scores, Positions]) -> tuple[Scores, Positions]:
    """Return the k best of several results, best first."""
    scores = np.concatenate([one for one, _ in found])
    positions = np.concatenate([one for _, one in found])
    if k < len(scores):
        best = np.argpartition(-scores, k)[:k]
        scores, positions = scores[best], positions[best]
    order = np.argsort(-scores, kind="stable")
    return scores[order], positions[order]


def _ascend(numbers: NDArray[np.int64]) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _passes(folders: NDArray[np.int64], dates: NDArray[np.int64], where: SearchFilter) -> Mask:
    """Return which files (n,) pass a filter."""
    if where.folders is None:
        passes = np.ones(len(folders), dtype=np.bool_)
    else:
        # A table is looked up in a quarter of the time that a search for each takes. Its ends
        # stand for all folders that are not in it.
        table = np.zeros(max(where.folders, default=0) + 2, dtype=np.bool_)
        table[list(where.folders)] = True
        passes = table.take(folders, mode="clip")
    if where.after_ns is not None:
        passes &= dates >= where.after_ns
    if where.before_ns is not None:
        passes &= dates < where.before_ns
    return passes
