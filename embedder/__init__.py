"""Content in, unit vectors out, behind one small interface."""

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
