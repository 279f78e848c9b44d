"""Multimodal language models that embed texts, pictures, videos, pages and mixes of them.

settings    prompts, positions and limits of a checkpoint, in a file beside it
pictures    sizes and patches
families    what the models of one kind have in common
checkpoint  files on disk or the hub, checked and named
template    a content → a sequence of tokens
backbone    the model: pictures and sequences → embeddings    (the only one that loads torch)
reranker    a model of this kind that judges pages by the words of a query
embedder    all of it behind the project's interface, in groups of contents that run together
"""

from collections.abc import Mapping
from typing import Any

from embedder.interface import Backend, Embedder
from embedder.mllm.families import QWEN3_VL, RZEN, Family


def _backend(family: Family, summary: str) -> Backend:
    def open_model(argument: str, **options: Any) -> Embedder:
        from embedder.mllm.embedder import open_mllm

        return open_mllm(family, argument, **options)

    return Backend(
        family=family.name,
        summary=summary,
        open=open_model,
        argument="FOLDER-OR-HUB-ID",
        variants=tuple(name for name in family.models if name),
        requires=("torch", "transformers"),
        takes_instructions=True,
        hub_model=family.hub_model,
    )


BACKENDS: Mapping[str, Backend] = {
    backend.family: backend
    for backend in (
        _backend(RZEN, "RzenEmbed, downloaded when first used"),
        _backend(QWEN3_VL, "Qwen3-VL-Embedding, downloaded when first used"),
    )
}
"""Those of this package by their family."""
