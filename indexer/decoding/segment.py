"""How a file is cut into segments, as decoder processes do it."""

from embedder.media import Draft, cut

__all__ = ["Draft", "cut"]
