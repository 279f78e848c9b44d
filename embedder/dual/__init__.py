"""Dual encoders on ONNX Runtime: SigLIP 2 and CLIP, beside the sentence encoder of `mini`.

families     what models of one kind have in common, and those that have a name here
checkpoint   files on this machine, checked and named
towers       pictures and texts → embeddings
embedder     all of it behind the project's interface, in rows of two parts
"""

from typing import Any

from embedder.dual.families import CLIP, SIGLIP2, Family
from embedder.interface import Backend, Embedder


def _backend(family: Family, summary: str) -> Backend:
    def open_model(argument: str, **options: Any) -> Embedder:
        from embedder.dual.embedder import open_dual

        return open_dual(family, argument, **options)

    return Backend(
        family=family.name,
        summary=summary,
        open=open_model,
        argument="FOLDER-OR-HUB-ID",
        variants=tuple(name for name in family.models if name),
        hub_model=family.hub_model,
    )


SIGLIP2_BACKEND = _backend(SIGLIP2, "SigLIP 2: people, scenes and things, in over 100 languages")
CLIP_BACKEND = _backend(CLIP, "CLIP, in English")
