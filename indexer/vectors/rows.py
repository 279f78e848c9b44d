"""Vectors by position, as they are stored: float16, mapped from files as far as they are saved."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.blocks import taken
from indexer.vectors.files import Stored, mapped, written

Halves = NDArray[np.float16]
Scores = NDArray[np.float32]

_CHUNK = 1 << 14
_BLOCK = 128
_SMALL = 4096
_TIMES = 8
_SIGN_AND_SIZE = np.int32(-0x70002000)  # 0x8FFFE000: all bits of a half, 13 places to the left.
_EXPONENTS_APART = np.float32(2.0 ** (127 - 15))


def floats(halves: Halves) -> Vectors:
    """Finite halves as float32, the same numbers, in a third of the time of `astype`.

    NumPy converts them one by one. What is neither finite nor a number, as in a damaged file,
    becomes a number above those that a half can be.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_SIZE
    found: Vectors = bits.view(np.float32)
    found *= _EXPONENTS_APART
    return found


class Rows:
    """Rows of float16 that are only ever added to; a row keeps its position.

    What was saved is mapped and takes no memory that the system could not take back. Reading may go
    on while rows are added or saved.

    Attributes:
        dim: Their length.
    """

    def __init__(self, dim: int, rows: Halves | None = None) -> None:
        self.dim = dim
        self._mapped: tuple[Halves | _Chosen, ...] = ()
        self._saved: list[Stored] = []
        self._fresh = np.empty((0, dim), dtype=np.float16) if rows is None else rows
        self._count = len(self._fresh)
        self._blocks: tuple[Halves | _Chosen, ...] = (self._fresh,)

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    @property
    def memory(self) -> int:
        """Bytes of what is not mapped."""
        return self._fresh.nbytes

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows of shape (n, dim) at the end."""
        total = self._count + len(rows)
        if total > len(self._fresh):
            larger = np.empty((max(total, 3 * self._count // 2), self.dim), dtype=np.float16)
            larger[: self._count] = self._fresh[: self._count]
            self._fresh = larger
        self._fresh[self._count : total] = rows
        self._count = total
        self._blocks = (*self._mapped, self._fresh[:total])

    def take(self, positions: NDArray[np.int64]) -> Vectors:
        """Rows by position, float32 of shape (len(positions), dim)."""
        return floats(taken(self._blocks, positions))

    def scores(self, positions: NDArray[np.int64], vector: NDArray[np.float32]) -> Scores:
        """Inner products of rows with a vector (dim,), float32 of shape (len(positions),).

        A few rows at a time stay in the cache. Not by BLAS: it would wake threads for a query that
        takes a millisecond, and those of several queries would get in each other's way.
        """
        found = np.empty(len(positions), dtype=np.float32)
        for start in range(0, len(positions), _BLOCK):
            rows = self.take(positions[start : start + _BLOCK])
            np.einsum("ij,j->i", rows, vector, out=found[start : start + _BLOCK])
        return found

    def chunks(self) -> Iterator[tuple[int, Vectors]]:
        """All rows, some thousands at a time, each time with the position of the first."""
        start = 0
        for block in self._blocks:
            for offset in range(0, len(block), _CHUNK):
                yield start + offset, block[offset : offset + _CHUNK].astype(np.float32)
            start += len(block)

    def frozen(self) -> "Rows":
        """The rows there are now; what is added to either is not added to the other."""
        copy = Rows(self.dim, self._fresh[: self._count])
        copy._mapped, copy._saved = self._mapped, list(self._saved)
        copy._blocks = (*copy._mapped, copy._fresh)
        return copy

    def chosen(self, positions: NDArray[np.int64]) -> "Rows":
        """Some of the rows there are now, in a given order; they are not copied."""
        copy = Rows(self.dim)
        copy._mapped = (_Chosen(self._blocks, positions),)
        copy._blocks = (*copy._mapped, copy._fresh)
        return copy

    def write(self, directory: Path, stem: str) -> list[Stored]:
        """Writes what is not in files yet, and then maps it.

        Files that are not much larger than what is added to them are written anew with it: so there
        are few of them, and a large one is seldom written again.

        Returns:
            What `read` needs.
        """
        kept = len(self._saved) if all(p.path(directory).is_file() for p in self._saved) else 0
        fresh = self._fresh[: self._count]
        count = len(fresh) + sum(map(len, self._mapped[kept:]))
        while count and kept and len(self._mapped[kept - 1]) <= max(_SMALL, _TIMES * count):
            kept -= 1
            count += len(self._mapped[kept])
        if count:

            def fill(write: Any) -> None:
                for block in (*self._mapped[kept:], fresh):
                    for offset in range(0, len(block), _CHUNK):
                        write(np.ascontiguousarray(block[offset : offset + _CHUNK]).data.cast("B"))

            stored = written(directory / f"{stem}.rows", fill)
            self._mapped = (*self._mapped[:kept], _map(directory, stored, self.dim))
            self._saved = [*self._saved[:kept], stored]
            self._fresh, self._count = np.empty((0, self.dim), dtype=np.float16), 0
            self._blocks = (*self._mapped, self._fresh)
        return self._saved

    @classmethod
    def read(cls, directory: Path, parts: Sequence[Stored], dim: int) -> Self:
        """Maps what `write` wrote; raises what `files.mapped` does."""
        rows = cls(dim)
        rows._mapped = tuple(_map(directory, part, dim) for part in parts)
        rows._saved = list(parts)
        rows._blocks = (*rows._mapped, rows._fresh)
        return rows


class _Chosen:
    """Rows of other blocks that are gathered whenever they are read."""

    def __init__(self, blocks: Sequence[Any], positions: NDArray[np.int64]) -> None:
        self._blocks, self._positions = blocks, positions
        self.dtype = blocks[0].dtype
        self.shape = (len(positions), *blocks[0].shape[1:])

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Halves:
        return taken(self._blocks, self._positions[index])


def _map(directory: Path, stored: Stored, dim: int) -> Halves:
    return mapped(directory, stored).view(np.float16).reshape(-1, dim)
