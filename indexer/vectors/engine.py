"""FAISS, imported when it is first needed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def faiss() -> Any:
    """The library; its stubs do not know its Python layer."""
    import faiss

    return faiss


def bitmap(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A bit for each number from 0 to the highest, as FAISS tests them without hashing."""
    bits = np.zeros(int(numbers.max()) + 1, dtype=np.bool_)
    bits[numbers] = True
    return np.packbits(bits, bitorder="little")
