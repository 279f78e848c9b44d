"""Finding the nearest vectors; the only package that knows FAISS, which it loads when needed."""

from indexer.vectors.files import STATE_FILE, damaged, saved_descriptions, saved_generation
from indexer.vectors.gpu import gpu_memory
from indexer.vectors.growth import Description, Growth, Tuning
from indexer.vectors.interface import VectorStore
from indexer.vectors.partition import Ids
from indexer.vectors.store import FaissStore

__all__ = [
    "STATE_FILE",
    "Description",
    "FaissStore",
    "Growth",
    "Ids",
    "Tuning",
    "VectorStore",
    "damaged",
    "gpu_memory",
    "saved_descriptions",
    "saved_generation",
]
