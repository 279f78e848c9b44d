"""The sentence encoder of `mini`: texts of any length → unit vectors of 384 values.

all-MiniLM-L6-v2 with mean pooling. A text longer than 256 tokens is cut into windows of about
equal length, whose vectors are averaged.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from embedder.interface import EmbedderUnavailable, Vectors, normalised
from embedder.onnx_runtime import open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

SENTENCE_FILES = ("text.onnx", "tokenizer.json")
"""What it is made of, in the weights of `mini`."""

DIM = 384
WINDOW = 256  # tokens of a text that are embedded at once, with [CLS] and [SEP]
_CLS, _SEP = 101, 102  # token ids
_MAX_BATCH_TOKENS = 2048
_MIN_DIVIDED_TOKENS = 128  # fewer are not worth dividing among threads


class SentenceEncoder:
    """Encodes texts; equal ones in a call are computed once. Thread-safe.

    Args:
        model: The ONNX file.
        tokenizer: The tokenizer.json.
        threads: CPU threads to use.

    Raises:
        EmbedderUnavailable: onnxruntime or tokenizers are missing.
    """

    def __init__(self, model: bytes, tokenizer: bytes, threads: int) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EmbedderUnavailable(f"tokenizers cannot be imported: {error}") from error
        self._session = open_session(model)
        self._tokenizer = Tokenizer.from_str(tokenizer.decode("utf-8"))
        self._threads = threads

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows (n, 384), in order."""
        unique = list(dict.fromkeys(texts))
        if not unique:
            return np.empty((0, DIM), dtype=np.float32)
        encodings = self._tokenizer.encode_batch_fast(
            [valid_unicode(text) for text in unique], add_special_tokens=False
        )
        windows: list[list[int]] = []
        owners: list[int] = []
        for owner, encoding in enumerate(encodings):
            for window in _windows(encoding.ids):
                windows.append(window)
                owners.append(owner)
        sums = np.zeros((len(unique), DIM), dtype=np.float32)
        np.add.at(sums, owners, run_windows(self._session, windows, self._threads))
        rows = normalised(sums)
        position = {text: row for row, text in enumerate(unique)}
        return rows[[position[text] for text in texts]]


def valid_unicode(text: str) -> str:
    """Replace lone surrogates, which broken file names have and tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _windows(ids: Sequence[int]) -> Iterator[list[int]]:
    """Cut tokens into windows of about equal length, so that each has the same weight."""
    room = WINDOW - 2
    count = max(1, -(-len(ids) // room))
    bounds = [len(ids) * i // count for i in range(count + 1)]
    for start, end in itertools.pairwise(bounds):
        yield [_CLS, *ids[start:end], _SEP]


def run_windows(
    session: "InferenceSession", windows: Sequence[Sequence[int]], threads: int = 1
) -> Vectors:
    """Embed windows of token ids as unit vectors (n, 384), in batches with little padding."""
    vectors = np.empty((len(windows), DIM), dtype=np.float32)
    batches = list(_batches(windows, threads))

    def run(batch: Sequence[int]) -> None:
        longest = len(windows[batch[-1]])
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, : len(windows[i])] = windows[i]
            mask[row, : len(windows[i])] = 1
        vectors[batch] = session.run(None, {"ids": ids, "mask": mask})[0]

    if len(batches) == 1:
        run(batches[0])  # a single query does not wait for a thread
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, batches))
    return vectors


def _batches(windows: Sequence[Sequence[int]], threads: int) -> Iterator[list[int]]:
    """Yield positions of windows of about equal length, the longest last."""
    by_length = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    share = (
        -(-len(windows) // threads)
        if sum(map(len, windows)) > _MIN_DIVIDED_TOKENS
        else len(windows)
    )
    while by_length:
        longest = len(windows[by_length[-1]])
        size = max(1, min(share, _MAX_BATCH_TOKENS // threads // longest))
        batch = [i for i in by_length[-size:] if len(windows[i]) * 4 >= longest * 3 - 16]
        del by_length[-len(batch) :]
        yield batch
