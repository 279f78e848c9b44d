"""All families of models in one table, and what opens a model by its specification."""

from collections.abc import Mapping

from embedder import dual, mini, mllm, toy
from embedder.content import Modality
from embedder.hub import HubModel
from embedder.interface import Backend, Embedder, EmbedderUnavailable, ModelSpec, Reranker
from embedder.mllm import reranker

BACKENDS: Mapping[str, Backend] = {
    backend.family: backend
    for backend in (
        mini.BACKEND,
        dual.SIGLIP2_BACKEND,
        dual.CLIP_BACKEND,
        *mllm.BACKENDS.values(),
        toy.BACKEND,
    )
}
"""Every backend by its family, in the order in which they are offered."""


def open_embedder(
    spec: str = "mini",
    *,
    device: str | None = None,
    dtype: str | None = None,
    instructions: Mapping[Modality, str] | None = None,
) -> Embedder:
    """Open an embedder by its specification; its weights load on first use.

    Args:
        spec: "mini", the model inside this package; "siglip2", "siglip2:base16", "siglip2:so400m"
            and "clip", dual encoders that were downloaded to this machine; "rzen", RzenEmbed, and
            "qwen3-vl" and "qwen3-vl:8b", Qwen3-VL-Embedding, from the Hugging Face hub; each of
            these families with ":FOLDER-OR-HUB-ID", another one; or "toy", a tiny
            deterministic one for tests.
        device: Where to run, for backends that can choose ("cpu", "cuda", "cuda:1", "mps").
        dtype: Precision, for backends that can choose ("float32", "bfloat16").
        instructions: Replace the model's own for documents of some modalities; they change the
            vectors and so the fingerprint.

    Raises:
        EmbedderUnavailable: the family is unknown, its extra or weights are missing or of another
            kind, or it takes no instructions.
    """
    backend, argument = _parsed(spec)
    if instructions and not backend.takes_instructions:
        raise EmbedderUnavailable(
            f"the model {backend.family} takes no instructions: leave them out"
        )
    return backend.open(argument, device=device, dtype=dtype, instructions=instructions or {})


def open_reranker(spec: str, *, device: str | None = None, dtype: str | None = None) -> Reranker:
    """Open a reranker by its specification; its weights load on first use.

    Args:
        spec: "qwen3-vl-reranker" or "qwen3-vl-reranker:8b", from the Hugging Face hub, or
            "qwen3-vl-reranker:FOLDER-OR-HUB-ID".
        device: Where to run ("cpu", "cuda", "cuda:1", "mps").
        dtype: Precision ("float32", "bfloat16").

    Raises:
        EmbedderUnavailable: there is no such reranker, or its extra or weights are missing.
    """
    parsed = ModelSpec.parse(spec)
    if parsed.family != reranker.FAMILY.name:
        raise EmbedderUnavailable(
            f"unknown reranker {spec!r}: choose one of {reranker.FAMILY.name}, "
            f"{reranker.FAMILY.name}:8b, {reranker.FAMILY.name}:FOLDER-OR-HUB-ID"
        )
    return reranker.open_reranker(parsed.argument, device, dtype)


def hub_model(spec: str) -> HubModel | None:
    """Return what a specification stands for on the hub; None if it needs no download.

    Raises:
        EmbedderUnavailable: the family is unknown.
    """
    parsed = ModelSpec.parse(spec)
    if parsed.family == reranker.FAMILY.name:
        return reranker.FAMILY.hub_model(parsed.argument)
    backend, argument = _parsed(spec)
    return backend.hub_model(argument)


def _parsed(spec: str) -> tuple[Backend, str]:
    """Return the backend of a specification, and what it is to open."""
    parsed = ModelSpec.parse(spec)
    backend = BACKENDS.get(parsed.family)
    if backend is None:
        forms = [form for one in BACKENDS.values() if one.listed for form in one.forms]
        raise EmbedderUnavailable(f"unknown model {spec!r}: choose one of {', '.join(forms)}")
    if parsed.argument and backend.argument is None:
        raise EmbedderUnavailable(
            f"unknown model {spec!r}: nothing may follow the name {backend.family}"
        )
    return backend, parsed.argument
