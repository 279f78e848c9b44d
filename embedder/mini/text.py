"""Sentence encoders of `mini`: from texts to unit vectors, by windows in batches.

A text longer than 256 tokens is cut into windows of about equal length, whose vectors are averaged.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedder.interface import Vectors, normalised

if TYPE_CHECKING:
    from onnxruntime import InferenceSession
    from tokenizers import Tokenizer


WINDOW = 256
"""Tokens of a text that are embedded at once, with the two around them."""

_MAX_BATCH_TOKENS = 2048
_MIN_DIVIDED_TOKENS = 128  # fewer are not worth dividing among threads


@dataclass(frozen=True, slots=True)
class SentenceEncoder:
    """A text tower and its tokenizer.

    Attributes:
        session: Maps "ids" and "mask", int64 (n, tokens), to float32 unit vectors (n, width).
        tokenizer: Cuts a text into tokens; adds none, truncates nothing.
        around: Ids of the tokens before and behind a window.
        width: Length of a vector.
    """

    session: "InferenceSession"
    tokenizer: "Tokenizer"
    around: tuple[int, int]
    width: int

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of the tokens of texts, of any length and with any characters."""
        valid = [valid_unicode(text) for text in texts]
        encodings = self.tokenizer.encode_batch_fast(valid, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def embed(self, texts: Sequence[Sequence[int]], threads: int = 1) -> Vectors:
        """Embed texts, given as ids of their tokens, as unit rows (n, width)."""
        windows: list[list[int]] = []
        owners: list[int] = []
        first, last = self.around
        for owner, ids in enumerate(texts):
            for window in cut(ids):
                windows.append([first, *window, last])
                owners.append(owner)
        sums = np.zeros((len(texts), self.width), dtype=np.float32)
        np.add.at(sums, owners, self.run(windows, threads))
        return normalised(sums)

    def run(self, windows: Sequence[Sequence[int]], threads: int = 1) -> Vectors:
        """Embed windows of token ids as unit rows (n, width), in batches with little padding."""
        vectors = np.empty((len(windows), self.width), dtype=np.float32)
        batches = list(_batches(windows, threads))

        def run(batch: Sequence[int]) -> None:
            longest = len(windows[batch[-1]])
            ids = np.zeros((len(batch), longest), dtype=np.int64)
            mask = np.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, : len(windows[i])] = windows[i]
                mask[row, : len(windows[i])] = 1
            vectors[batch] = self.session.run(None, {"ids": ids, "mask": mask})[0]

        if len(batches) == 1:
            run(batches[0])  # a single query does not wait for a thread
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, batches))
        return vectors


def valid_unicode(text: str) -> str:
    """Replace lone surrogates, which broken file names have and tokenizers refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def cut(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut tokens into windows of about equal length, so that each has the same weight."""
    room = WINDOW - 2
    count = max(1, -(-len(ids) // room))
    bounds = [len(ids) * i // count for i in range(count + 1)]
    for start, end in itertools.pairwise(bounds):
        yield ids[start:end]


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
