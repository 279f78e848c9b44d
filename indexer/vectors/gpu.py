"""What FAISS can have of a GPU.

Where CUDA itself fails, FAISS ends the process, also where a GPU is so full that it cannot begin:
so much is left free that it can.
"""

import ctypes
from typing import Any

from indexer.vectors.engine import faiss

SCRATCH_BYTES = 64 << 20
LEFT_BYTES = 1 << 30
_ROOM = 2  # While rows are added, FAISS may hold them twice.


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


def has_room(size: int) -> bool:
    """Whether so many bytes of rows fit."""
    return _ROOM * size + SCRATCH_BYTES + LEFT_BYTES < gpu_memory()


def resources() -> Any:
    """What an index on the GPU computes with; it has to live as long as the index."""
    made = faiss().StandardGpuResources()
    made.setTempMemory(SCRATCH_BYTES)
    return made
