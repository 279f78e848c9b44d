"""The one place that knows the names of embedders."""

from collections.abc import Mapping

from embedder.content import Modality
from embedder.interface import Embedder, EmbedderUnavailable


def open_embedder(
    spec: str = "mini",
    *,
    device: str | None = None,
    dtype: str | None = None,
    instructions: Mapping[Modality, str] | None = None,
) -> Embedder:
    """Opens an embedder by name; its weights load on first use.

    Args:
        spec: "mini", the model inside this package; "rzen", the released RzenEmbed from the
            Hugging Face hub; "rzen:PATH-OR-HUB-ID", another one; or "toy", a tiny deterministic
            one for tests.
        device: Where to run, for backends that can choose ("cpu", "cuda", "cuda:1", "mps").
        dtype: Precision, for backends that can choose ("float32", "bfloat16").
        instructions: What documents of a modality are told, in place of the model's own; they
            change the vectors and so the fingerprint.

    Raises:
        EmbedderUnavailable: nobody knows the name, its extra or weights are missing or of another
            sort, or it takes no instructions.
    """
    name, _, argument = spec.partition(":")
    if name == "rzen":
        from embedder.rzen import open_rzen

        return open_rzen(argument, device=device, dtype=dtype, instructions=instructions or {})
    if instructions and name in ("mini", "toy"):
        raise EmbedderUnavailable(f"the model {name} takes no instructions: leave them out")
    if name == "mini":
        from embedder.mini.embedder import MiniEmbedder

        return MiniEmbedder()
    if name == "toy":
        from embedder.toy import ToyEmbedder

        return ToyEmbedder()
    raise EmbedderUnavailable(
        f"unknown model {spec!r}: there are mini (the default), rzen, and rzen:PATH-OR-HUB-ID"
    )
