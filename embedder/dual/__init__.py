"""Dual encoders on ONNX Runtime: SigLIP 2 and CLIP, beside the sentence encoder of `mini`.

families     what models of one kind have in common, and those that have a name here
checkpoint   files on this machine, checked and named
towers       pictures and texts → embeddings
embedder     all of it behind the project's interface, in rows of two parts
"""

from typing import Any

from embedder.dual.families import CLIP, SIGLIP2
from embedder.interface import Backend, Embedder


def _open_siglip2(argument: str, **options: Any) -> Embedder:
    from embedder.dual.embedder import open_dual

    return open_dual(SIGLIP2, argument, **options)


def _open_clip(argument: str, **options: Any) -> Embedder:
    from embedder.dual.embedder import open_dual

    return open_dual(CLIP, argument, **options)


SIGLIP2_BACKEND = Backend(
    family="siglip2",
    summary="SigLIP 2: people, scenes and things, in over 100 languages",
    open=_open_siglip2,
    argument="FOLDER-OR-HUB-ID",
    variants=tuple(SIGLIP2.models)[1:],
    hub_model=SIGLIP2.hub_model,
)
CLIP_BACKEND = Backend(
    family="clip",
    summary="CLIP, in English",
    open=_open_clip,
    argument="FOLDER-OR-HUB-ID",
    hub_model=CLIP.hub_model,
)
