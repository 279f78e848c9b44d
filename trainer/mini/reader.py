"""Texts to vectors by the converted text tower alone, before there is a space."""

from collections.abc import Sequence

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from embedder.interface import Vectors
from embedder.mini.embedder import WINDOW, _run_text
from embedder.mini.weights import Weights

_AT_ONCE = 2000


class Reader:
    """Texts to unit rows (n, 384); of a long text the first 256 pieces."""

    def __init__(self, weights: Weights, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = onnxruntime.InferenceSession(weights.read("text.onnx"), options)
        self._tokenizer = Tokenizer.from_str(weights.read("tokenizer.json").decode("utf-8"))
        self._tokenizer.enable_truncation(WINDOW)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """See the class."""
        rows = []
        for start in range(0, len(texts), _AT_ONCE):
            encodings = self._tokenizer.encode_batch(list(texts[start : start + _AT_ONCE]))
            rows.append(_run_text(self._session, [encoding.ids for encoding in encodings]))
        return np.concatenate(rows)
