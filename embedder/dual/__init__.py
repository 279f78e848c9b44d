"""Dual encoders on ONNX Runtime: SigLIP 2 and CLIP, beside the sentence encoder of `mini`.

families     what models of one kind have in common, and those that have a name here
checkpoint   files in a folder or the hub's cache, checked and named
towers       pictures and texts → embeddings
embedder     all of it behind the project's interface, in rows of two parts
"""

from typing import Any

from embedder.interface import Backend, Embedder


def _open_siglip2(argument: str, **options: Any) -> Embedder:
    from embedder.dual.embedder import open_dual
    from embedder.dual.families import SIGLIP2

    return open_dual(SIGLIP2, argument, **options)


def _open_clip(argument: str, **options: Any) -> Embedder:
    from embedder.dual.embedder import open_dual
    from embedder.dual.families import CLIP

    return open_dual(CLIP, argument, **options)


SIGLIP2_BACKEND = Backend(
    family="siglip2",
    summary="SigLIP 2: people, scenes and things, in over 100 languages",
    open=_open_siglip2,
    argument="FOLDER-OR-HUB-ID",
    variants=("base16", "so400m"),
)
CLIP_BACKEND = Backend(
    family="clip",
    summary="CLIP, in English",
    open=_open_clip,
    argument="FOLDER-OR-HUB-ID",
)
