"""The one place that knows the names of embedders."""

from embedder.interface import Embedder, EmbedderUnavailable


def open_embedder(
    spec: str = "mini", *, device: str | None = None, dtype: str | None = None
) -> Embedder:
    """Opens an embedder by name; its weights load on first use.

    Args:
        spec: "mini", the model inside this package, or "toy", a tiny deterministic one for tests.
        device: Where to run, for backends that can choose ("cpu", "cuda", "cuda:1", "mps").
        dtype: Precision, for backends that can choose ("float32", "bfloat16").

    Raises:
        EmbedderUnavailable: nobody knows the name, or its extra or weights are missing.
    """
    name, _, _argument = spec.partition(":")
    if name == "mini":
        from embedder.mini import MiniEmbedder

        return MiniEmbedder()
    if name == "toy":
        from embedder.toy import ToyEmbedder

        return ToyEmbedder()
    raise EmbedderUnavailable(f"unknown model {spec!r}: this version has mini (the default)")
