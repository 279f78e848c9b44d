"""Vectors by position, as they are stored: float16, mapped from files as far as they are saved."""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from indexer.vectors.files import written

Halves = NDArray[np.float16]
Scores = NDArray[np.float32]

_CHUNK = 1 << 14
_BLOCK = 128
_PARTS = 8
_PROBES = 64
_PROBE_BYTES = 4096


class Rows:
    """Rows of float16 that are only ever added to; a row keeps its position.

    What was saved is mapped and takes no memory that the system could not take back. Reading may go
    on while rows are added or saved.
    """

    def __init__(self, dim: int, rows: Halves | None = None) -> None:
        self._dim = dim
        self._mapped: tuple[Halves, ...] = ()
        self._saved: list[dict[str, Any]] = []
        self._fresh = np.empty((0, dim), dtype=np.float16) if rows is None else rows
        self._count = len(self._fresh)
        self._blocks: tuple[Halves, ...] = (self._fresh,)

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
            larger = np.empty((max(total, 3 * self._count // 2), self._dim), dtype=np.float16)
            larger[: self._count] = self._fresh[: self._count]
            self._fresh = larger
        self._fresh[self._count : total] = rows
        self._count = total
        self._blocks = (*self._mapped, self._fresh[:total])

    def take(self, positions: NDArray[np.int64]) -> Vectors:
        """Rows by position, float32 of shape (len(positions), dim)."""
        blocks = [block for block in self._blocks if len(block)]
        if len(blocks) == 1:
            return blocks[0][positions].astype(np.float32)
        found = np.empty((len(positions), self._dim), dtype=np.float32)
        start = 0
        for block in blocks:
            here = (positions >= start) & (positions < start + len(block))
            found[here] = block[positions[here] - start]
            start += len(block)
        return found

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
        copy = Rows(self._dim, self._fresh[: self._count])
        copy._mapped, copy._saved = self._mapped, list(self._saved)
        copy._blocks = (*copy._mapped, copy._fresh)
        return copy

    def write(self, directory: Path, stem: str) -> list[dict[str, Any]]:
        """Writes what is not in files yet, or all anew once there are many files; then maps it.

        Returns:
            What `read` needs.
        """
        there = all((directory / part["file"]).is_file() for part in self._saved)
        blocks: tuple[Halves, ...]
        blocks, kept, mapped = (self._fresh[: self._count],), self._saved, self._mapped
        if not there or len(self._saved) >= _PARTS:
            blocks, kept, mapped = self._blocks, [], ()
        if count := sum(map(len, blocks)):
            path = directory / f"{stem}.rows"

            def fill(write: Any) -> None:
                for block in blocks:
                    for offset in range(0, len(block), _CHUNK):
                        write(np.ascontiguousarray(block[offset : offset + _CHUNK]).data.cast("B"))

            part = written(path, fill)
            del part["crc32"]  # Reading it all would take as long as the library is large.
            part |= {"vectors": count, "probes": _probes(path)}
            kept, mapped = [*kept, part], (*mapped, _map(path, self._dim))
            self._fresh, self._count = np.empty((0, self._dim), dtype=np.float16), 0
            self._mapped, self._saved = mapped, kept
            self._blocks = (*mapped, self._fresh)
        return self._saved

    @classmethod
    def read(cls, directory: Path, parts: Sequence[Mapping[str, Any]], dim: int) -> Self:
        """Maps what `write` wrote; its length and a sample of its pages are checked.

        Raises:
            OSError: it is not there.
            ValueError: it is truncated, or damaged where it was looked at.
        """
        rows = cls(dim)
        mapped = []
        for part in parts:
            path = directory / Path(part["file"]).name
            if not path.stat().st_size == part["bytes"] == part["vectors"] * dim * 2:
                raise ValueError(f"{path.name} is not {part['bytes']} bytes long")
            if _probes(path) != part["probes"]:
                raise ValueError(f"{path.name} is damaged")
            mapped.append(_map(path, dim))
        rows._mapped, rows._saved = tuple(mapped), [dict(part) for part in parts]
        rows._blocks = (*mapped, rows._fresh)
        return rows


def _map(path: Path, dim: int) -> Halves:
    # Without the class memmap, whose indexing is slower.
    return np.asarray(np.memmap(path, dtype=np.float16, mode="r")).reshape(-1, dim)


def _probes(path: Path) -> int:
    """A checksum over pages spread evenly over a file, the first and the last among them."""
    checksum = 0
    with path.open("rb") as file:
        last = max(0, os.fstat(file.fileno()).st_size - _PROBE_BYTES)
        for offset in np.unique(np.linspace(0, last, _PROBES, dtype=np.int64)).tolist():
            file.seek(offset)
            checksum = zlib.crc32(file.read(_PROBE_BYTES), checksum)
    return checksum
