"""`mini`: the small model whose weights are part of this package."""

from typing import Any

from embedder.interface import Backend, Embedder


def _open(argument: str, **_options: Any) -> Embedder:
    from embedder.mini.embedder import MiniEmbedder

    return MiniEmbedder()


BACKEND = Backend(family="mini", summary="small, part of this program", open=_open)
