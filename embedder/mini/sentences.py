"""The text side of `mini`: texts in any order and number → rows that compare by their words."""

from collections.abc import Sequence

import numpy as np

from embedder.interface import Vectors
from embedder.mini.text import SentenceEncoder

SENTENCE_FILES = ("text.onnx", "tokenizer.json")
"""What it is made of, in the weights of `mini`."""

DIM = 384


class Sentences:
    """Embeds texts; equal ones in a call are computed once. Thread-safe.

    Args:
        encoder: all-MiniLM-L6-v2 with mean pooling.
        threads: CPU threads to use.
    """

    def __init__(self, encoder: SentenceEncoder, threads: int) -> None:
        self.encoder = encoder
        self._threads = threads

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows (n, 384), in order."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return np.empty((0, DIM), dtype=np.float32)
        tokens = self.encoder.tokenize(unique)
        rows = self.encoder.embed(tokens, self._threads)
        position = {text: row for row, text in enumerate(unique)}
        return rows[[position[text] for text in texts]]
