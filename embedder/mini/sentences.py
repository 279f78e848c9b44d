"""The text side of `mini`: texts in any order and number → rows that compare by their words."""

from collections.abc import Sequence

import numpy as np

from embedder.interface import Vectors
from embedder.mini.languages import Languages
from embedder.mini.text import SentenceEncoder

SENTENCE_FILES = (
    *("text.onnx", "tokenizer.json"),
    *("multilingual.onnx", "multilingual.json", "languages.npz"),
)
"""What it is made of, in the weights of `mini`."""

DIM = 384


class Sentences:
    """Embeds texts; equal ones in a call are computed once. Thread-safe.

    Args:
        encoder: all-MiniLM-L6-v2 with mean pooling, for English.
        languages: Corrects it for texts that are not English; None for no other language.
        threads: CPU threads to use.
    """

    def __init__(self, encoder: SentenceEncoder, languages: Languages | None, threads: int) -> None:
        self.encoder, self.languages = encoder, languages
        self._threads = threads

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows (n, 384), in order; zeros for a text that is not understood."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return np.empty((0, DIM), dtype=np.float32)
        rows = self.encoder.embed(self.encoder.tokenize(unique), self._threads)
        if self.languages is not None:
            rows = self.languages.corrected(unique, rows, self._threads)
        position = {text: row for row, text in enumerate(unique)}
        return rows[[position[text] for text in texts]]

    def knows_word(self, word: str) -> bool:
        """Return whether this is an English word."""
        return self.languages is not None and bool(self.languages.known.english_words(word).all())
