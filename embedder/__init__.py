"""Content in, unit vectors out, behind one small interface."""

import os

# The threads of NumPy's BLAS spin on every CPU while they wait for the next small product, so that
# an ingest on two CPUs was no faster than on one. The variable is read when NumPy is loaded.
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
