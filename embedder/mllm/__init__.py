"""Multimodal language models that embed texts, pictures, videos, pages and mixes of them.

settings    prompts, positions and limits of a checkpoint (rzen.json)
checkpoint  files on disk or the hub, checked and named
pictures    sizes and patches
template    a content → a sequence of tokens
backbone    the model: pictures and sequences → embeddings    (the only one that loads torch)
embedder    all of it behind the project's interface, in groups of contents that run together
"""

from typing import Any

from embedder.hub import HubModel
from embedder.interface import Backend, Embedder


def _open(argument: str, **options: Any) -> Embedder:
    from embedder.mllm.embedder import open_rzen

    return open_rzen(argument, **options)


def _hub_model(argument: str) -> HubModel | None:
    from embedder.mllm.checkpoint import hub_model

    return hub_model(argument)


BACKEND = Backend(
    family="rzen",
    summary="RzenEmbed, downloaded when first used",
    open=_open,
    argument="FOLDER-OR-HUB-ID",
    requires=("torch", "transformers"),
    takes_instructions=True,
    hub_model=_hub_model,
)
