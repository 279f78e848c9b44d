"""FAISS, imported when it is first needed."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray


def faiss() -> Any:
    """The library; its stubs do not know its Python layer."""
    import faiss

    return faiss


def gpu_memory() -> int:
    """Free bytes on the GPU that FAISS can use; 0 where there is none.

    CUDA, which faiss-gpu has loaded for all to see, is asked before FAISS: some versions end the
    process where faiss-gpu is installed and no driver is.
    """
    if not hasattr(faiss(), "StandardGpuResources"):
        return 0
    count, free, total = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
    try:
        cuda = ctypes.CDLL(None)
        if cuda.cudaGetDeviceCount(ctypes.byref(count)) or faiss().get_num_gpus() < 1:
            return 0
        failed = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
    except (AttributeError, OSError, TypeError):
        return 0
    return 0 if failed else free.value


def bitmap(numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
    """A bit for each number from 0 to the highest, as FAISS tests them without hashing."""
    bits = np.zeros(int(numbers.max()) + 1, dtype=np.bool_)
    bits[numbers] = True
    return np.packbits(bits, bitorder="little")
