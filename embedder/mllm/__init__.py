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
from embedder.mllm.families import QWEN3_VL, RZEN


def _open_rzen(argument: str, **options: Any) -> Embedder:
    from embedder.mllm.embedder import open_mllm

    return open_mllm(RZEN, argument, **options)


def _open_qwen3_vl(argument: str, **options: Any) -> Embedder:
    from embedder.mllm.embedder import open_mllm

    return open_mllm(QWEN3_VL, argument, **options)


BACKENDS: Mapping[str, Backend] = {
    backend.family: backend
    for backend in (
        Backend(
            family="rzen",
            summary="RzenEmbed, downloaded when first used",
            open=_open_rzen,
            argument="FOLDER-OR-HUB-ID",
            requires=("torch", "transformers"),
            takes_instructions=True,
            hub_model=RZEN.hub_model,
        ),
        Backend(
            family="qwen3-vl",
            summary="Qwen3-VL-Embedding, downloaded when first used",
            open=_open_qwen3_vl,
            argument="FOLDER-OR-HUB-ID",
            variants=("2b", "8b"),
            requires=("torch", "transformers"),
            takes_instructions=True,
            hub_model=QWEN3_VL.hub_model,
        ),
    )
}
"""Those of this package by their family."""
