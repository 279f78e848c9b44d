"""Finding the nearest vectors; the only package that knows FAISS, which it loads when needed."""

from indexer.vectors.files import STATE_FILE, damaged, saved_descriptions, saved_generation
from indexer.vectors.gpu import gpu_memory
from indexer.vectors.growth import Description, Growth, Tuning
from indexer.vectors.interface import VectorIndex
from indexer.vectors.partition import Ids
from indexer.vectors.store import FaissIndex

__all__ = [
    "STATE_FILE",
    "Description",
    "FaissIndex",
    "Growth",
    "Ids",
    "Tuning",
    "VectorIndex",
    "damaged",
    "gpu_memory",
    "saved_descriptions",
    "saved_generation",
]
