"""Finding the nearest vectors: the interface, behind which FAISS is loaded when it is needed."""

from indexer.vectors.interface import Description, Ids, SearchFilter, Tuning, VectorIndex

__all__ = ["Description", "Ids", "SearchFilter", "Tuning", "VectorIndex"]
