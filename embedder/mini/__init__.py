"""`mini`: the small model whose weights are part of this package."""

import os
from typing import Any

from embedder.interface import Backend, Embedder

# Official builds of onnxruntime send usage data to Microsoft unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def _open(argument: str, **_options: Any) -> Embedder:
    from embedder.mini.embedder import MiniEmbedder

    return MiniEmbedder()


BACKEND = Backend(family="mini", summary="small, part of this program", open=_open)
