"""`mini`: the small model whose weights are part of this package."""

from typing import Any

from embedder.interface import Backend, Embedder


def _open(argument: str, **_options: Any) -> Embedder:
    from embedder.mini.embedder import MiniEmbedder

    return MiniEmbedder()


BACKEND = Backend(
    family="mini",
    summary="everyday things, animals and places; small, and part of this program",
    open=_open,
    facts=("English best, 15 other languages", "70 pictures/s on two CPU cores", "Apache-2.0"),
)
