"""A file of codes and positions, list by list, that FAISS searches where it lies."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.engine import faiss
from indexer.vectors.files import Stored, mapped, written
from indexer.vectors.gone import Positions

Entries = tuple[NDArray[np.uint8], Positions]
"""Codes of shape (n, code size) and the positions of their vectors."""

POSITION_BYTES = 8


class ListFile:
    """Of each list the codes, then the positions; nothing lies between.

    Attributes:
        bytes: Its length.
    """

    def __init__(
        self, directory: Path, stored: Stored, sizes: NDArray[np.uint64], code_size: int
    ) -> None:
        """Maps it.

        Args:
            directory: Where it is.
            stored: What it is called.
            sizes: How many entries each list has.
            code_size: Bytes of a code.

        Raises:
            OSError: it is not there.
            ValueError: it is not of its length, or damaged where it was looked at.
        """
        self._ends = np.cumsum(sizes.astype(np.int64)) * (code_size + POSITION_BYTES)
        self._sizes, self._code_size = sizes, code_size
        self._data = mapped(directory, stored)
        self.bytes = len(self._data)
        if self.bytes != (self._ends[-1] if len(sizes) else 0):
            raise ValueError(f"{stored.name} is not as long as its lists")
        self._path = stored.path(directory)

    def entries(self, number: int) -> Entries:
        """What a list holds; damaged positions may be any number."""
        size, end = int(self._sizes[number]), int(self._ends[number])
        middle = end - size * POSITION_BYTES
        codes = self._data[middle - size * self._code_size : middle]
        return codes.reshape(size, self._code_size), self._data[middle:end].view(np.int64)

    def put_into(self, index: Any) -> None:
        """Makes it the inverted lists of a FAISS index that has none."""
        if not self.bytes:
            return
        if _can_map(self._path):
            lists = faiss().OnDiskInvertedLists(len(self._sizes), self._code_size, str(self._path))
            lists.set_all_lists_sizes(faiss().swig_ptr(self._sizes))
            lists.totsize, lists.read_only = self.bytes, True
            lists.do_mmap()
            index.replace_invlists(lists, True)
            lists.this.disown()
        else:
            for number in np.flatnonzero(self._sizes).tolist():
                codes, positions = map(np.ascontiguousarray, self.entries(number))
                put(index, number, codes, positions)
        index.ntotal = int(self._sizes.sum())


def put(index: Any, number: int, codes: NDArray[np.uint8], positions: Positions) -> None:
    """Adds entries to a list of an index that is in memory."""
    pointer = faiss().swig_ptr
    index.invlists.add_entries(number, len(positions), pointer(positions), pointer(codes))


def write_lists(path: Path, lists: Iterable[Entries]) -> tuple[Stored, NDArray[np.uint64]]:
    """Writes what `ListFile` maps, of each list in turn; returns their sizes too."""
    sizes: list[int] = []

    def fill(write: Callable[[Any], int]) -> None:
        for codes, positions in lists:
            write(codes.tobytes())
            write(positions.tobytes())
            sizes.append(len(positions))

    return written(path, fill), np.array(sizes, dtype=np.uint64)


def _can_map(path: Path) -> bool:
    """Not on Windows, nor where FAISS cannot be told the name."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return hasattr(faiss(), "OnDiskInvertedLists")
