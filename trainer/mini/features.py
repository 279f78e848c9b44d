"""What the vision tower sees in many pictures, computed once and kept in a folder.

Features are kept as float16: the towers' weights are float16 too, and heads are trained on noisier
things. A kept file is used again only for the same tower and the same names.
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.interface import Vectors
from embedder.mini.embedder import pixels_of
from embedder.mini.weights import Weights

logger = logging.getLogger(__name__)

_AT_ONCE = 32
_TELL = 60.0  # seconds between two lines of progress


@dataclass(frozen=True, slots=True)
class Seen:
    """What the tower says of pictures.

    Attributes:
        names: Of the pictures (n,); several views of one may have its name.
        pooled: Float32 (n, 1280).
        logits: Float32 (n, 1000).
    """

    names: list[str]
    pooled: Vectors
    logits: Vectors

    def __getitem__(self, rows: Any) -> "Seen":
        chosen = np.arange(len(self.names))[rows]
        names = [self.names[i] for i in chosen]
        return Seen(names, self.pooled[chosen], self.logits[chosen])


class Features:
    """Pictures to what the tower says of them, each set of pictures once.

    Args:
        weights: Whose `vision.onnx` looks.
        folder: Where sets are kept.
        threads: CPU threads; None leaves it to ONNX Runtime. How sums are split among threads
            moves last digits.
    """

    def __init__(self, weights: Weights, folder: Path, threads: int | None = None) -> None:
        self._weights = weights
        self._folder = folder
        self._threads = threads or 0

    def of(self, kind: str, pictures: Iterable[tuple[str, Image.Image]], version: str) -> Seen:
        """The features of a set of pictures.

        Args:
            kind: Name of the set, of letters, digits and hyphens.
            pictures: Names and RGB pictures; opened only where nothing is kept.
            version: Stands for the pictures: where it differs from that kept, all are seen anew.
        """
        stated = f"{self._weights.files['vision.onnx']['sha256']} {version}"
        digest = hashlib.sha256(stated.encode()).hexdigest()[:16]
        path = self._folder / f"{kind}-{digest}.npz"
        if not path.exists():
            self._write(path, kind, pictures)
        with np.load(path, allow_pickle=False) as arrays:
            wide = (arrays[name].astype(np.float32) for name in ("pooled", "logits"))
            return Seen(arrays["names"].tolist(), *wide)

    def _write(self, path: Path, kind: str, pictures: Iterable[tuple[str, Image.Image]]) -> None:
        session = self._session()
        names: list[str] = []
        halves: tuple[list[NDArray[np.float16]], ...] = ([], [])
        told = time.monotonic()
        for batch in _batches(pictures):
            answers = session.run(None, {"pixels": np.stack([pixels for _, pixels in batch])})
            for kept, answer in zip(halves, answers, strict=True):
                kept.append(answer.astype(np.float16))
            names += [name for name, _ in batch]
            if time.monotonic() - told > _TELL:
                told = time.monotonic()
                logger.info("%s: %d seen", kind, len(names))
        logger.info("%s: %d pictures", kind, len(names))
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new.npz")
        pooled, logits = (np.concatenate(kept) for kept in halves)
        np.savez(draft, names=np.array(names), pooled=pooled, logits=logits)
        draft.replace(path)

    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            self._weights.read("vision.onnx"), options, providers=["CPUExecutionProvider"]
        )


def _batches(
    pictures: Iterable[tuple[str, Image.Image]],
) -> Iterator[list[tuple[str, NDArray[np.uint8]]]]:
    batch: list[tuple[str, NDArray[np.uint8]]] = []
    for name, image in pictures:
        batch.append((name, pixels_of(image)))
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
