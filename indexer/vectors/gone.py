"""Positions that are empty."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexer.vectors.engine import faiss

Positions = NDArray[np.int64]


class Gone:
    """A set of positions, a bit for each up to the highest."""

    def __init__(self) -> None:
        self._bits = np.zeros(0, dtype=np.uint8)
        self.count = 0

    @property
    def memory(self) -> int:
        """Bytes it takes."""
        return self._bits.nbytes

    def add(self, positions: Positions) -> None:
        """Takes in positions that it does not have, each once."""
        if not positions.size:
            return
        size = int(positions.max()) // 8 + 1
        if size > len(self._bits):
            self._bits = np.pad(self._bits, (0, size - len(self._bits)))
        ones = np.left_shift(1, positions & 7).astype(np.uint8)
        np.bitwise_or.at(self._bits, positions >> 3, ones)
        self.count += positions.size

    def among(self, positions: Positions) -> NDArray[np.bool_]:
        """Which of some positions it has."""
        if not self.count:
            return np.zeros(positions.shape, dtype=np.bool_)
        within = (positions >= 0) & (positions < 8 * len(self._bits))
        at = np.where(within, positions, 0)
        there: NDArray[np.bool_] = (self._bits[at >> 3] >> (at & 7).astype(np.uint8)) & 1 == 1
        return within & there

    def others(self) -> Any:
        """What lets FAISS pass over these positions; None if there are none."""
        return faiss().IDSelectorNot(faiss().IDSelectorBitmap(self._bits)) if self.count else None

    def packed(self) -> bytes:
        """What `unpacked` reads."""
        return self._bits.tobytes()

    @classmethod
    def unpacked(cls, data: bytes) -> Self:
        """The set that was packed."""
        gone = cls()
        gone._bits = np.frombuffer(data, dtype=np.uint8).copy()
        gone.count = int(np.bitwise_count(gone._bits).sum())
        return gone
