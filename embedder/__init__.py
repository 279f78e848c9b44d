"""Content in, unit vectors out, behind one small interface."""

import os

# NumPy's BLAS would keep a thread on each CPU busy while it waits for the next small product: an
# ingest on two CPUs was no faster for it than on one. It is read when NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


from embedder.content import Content, Modality, Role
from embedder.interface import (
    Calibration,
    Embedder,
    EmbedderError,
    EmbedderInfo,
    EmbedderUnavailable,
    EmbedError,
)
from embedder.registry import open_embedder

__all__ = [
    "Calibration",
    "Content",
    "EmbedError",
    "Embedder",
    "EmbedderError",
    "EmbedderInfo",
    "EmbedderUnavailable",
    "Modality",
    "Role",
    "open_embedder",
]
