"""The two towers of a dual encoder: pictures → embeddings, texts → embeddings."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.dual.checkpoint import Checkpoint, Resizing
from embedder.interface import EmbedderUnavailable, Vectors, normalised
from embedder.mini.text import valid_unicode
from embedder.onnx_runtime import run_pictures

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ACCELERATED_BATCH = 16
_MAX_RATIO = 16


class VisionTower:
    """The vision model of a checkpoint, loaded. Thread-safe.

    Args:
        checkpoint: Where it is, and how pictures are prepared.
        device: Where to run; None for the best there is.
        threads: CPU threads to use.

    Raises:
        EmbedderUnavailable: the model is damaged or another one, or there is no such device.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | None, threads: int) -> None:
        self._session = checkpoint.session(checkpoint.vision, device)
        self._output = checkpoint.family.outputs[0]
        side = checkpoint.resizing.side
        _check(self._session, checkpoint.vision, (3, side, side), self._output, checkpoint.dim)
        self._resizing = checkpoint.resizing
        self._half = self._session.get_inputs()[0].type == "tensor(float16)"
        # A quantised model scales activations by the largest of the batch, so that a row would
        # depend on its neighbours. On a CPU, batches are no faster anyway.
        on_cpu = self._session.get_providers()[0] == "CPUExecutionProvider"
        self._batch = 1 if on_cpu or checkpoint.quantised else _ACCELERATED_BATCH
        self._threads = threads

    def embed(self, frames: Sequence[Image.Image]) -> Vectors:
        """Return unit rows (n, dim) of RGB pictures, at least one."""
        (rows,) = run_pictures(
            self._session, frames, self._pixels, self._threads, self._batch, [self._output]
        )
        return normalised(rows)

    def _pixels(self, frame: Image.Image) -> NDArray[Any]:
        pixels = pixels_of(frame, self._resizing)
        return pixels.astype(np.float16) if self._half else pixels


class TextTower:
    """The text model of a checkpoint with its tokenizer, loaded. Thread-safe.

    Args:
        checkpoint: Where they are.
        device: Where to run; None for the best there is.
        threads: CPU threads to use.

    Raises:
        EmbedderUnavailable: a file is damaged or another one, or there is no such device.
    """

    def __init__(self, checkpoint: Checkpoint, device: str | None, threads: int) -> None:
        self._tokenizer = checkpoint.tokenizer()
        self._session = checkpoint.session(checkpoint.text, device)
        self._output = checkpoint.family.outputs[1]
        length = checkpoint.length if checkpoint.family.padding else None
        _check(self._session, checkpoint.text, (length,), self._output, checkpoint.dim)
        self._inputs = [given.name for given in self._session.get_inputs()]
        self._threads = threads

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit rows (n, dim) of texts, at least one; one that is too long loses its end."""
        encodings = self._tokenizer.encode_batch_fast([valid_unicode(text) for text in texts])
        if len(texts) == 1:
            return normalised(self._run(encodings[0].ids))  # it does not wait for a thread
        with ThreadPoolExecutor(self._threads) as pool:
            rows = list(pool.map(self._run, [encoding.ids for encoding in encodings]))
        return normalised(np.concatenate(rows))

    def _run(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Embed one text as a row (1, dim); alone, for the reason given for pictures."""
        # Some exports have a mask as well. SigLIP was trained without one, over all the padding,
        # and what is not padded has nothing to mask.
        given = {name: np.ones((1, len(ids)), dtype=np.int64) for name in self._inputs}
        given["input_ids"] = np.array([ids], dtype=np.int64)
        (row,) = self._session.run([self._output], given)
        return np.asarray(row, dtype=np.float32)


def pixels_of(frame: Image.Image, resizing: Resizing) -> NDArray[np.float32]:
    """Prepare a picture for a vision model.

    Args:
        frame: An RGB picture of any size.
        resizing: How to.

    Returns:
        Float32 array (3, side, side).
    """
    side = resizing.side
    if resizing.crop:
        frame = _middle(frame)
        short = min(frame.size)
        width, height = (int(side * length / short) for length in frame.size)
        left, top = (width - side) // 2, (height - side) // 2
        small = frame.resize((width, height), resizing.resample)
        small = small.crop((left, top, left + side, top + side))
    else:
        small = frame.resize((side, side), resizing.resample)
    values = np.asarray(small, dtype=np.float32) * np.float32(resizing.scale)
    mean, std = (np.array(one, dtype=np.float32) for one in (resizing.mean, resizing.std))
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))


def _middle(frame: Image.Image) -> Image.Image:
    """Cut a very long picture, of which a square is seen, but all of it would be made larger."""
    most = _MAX_RATIO * min(frame.size)
    if max(frame.size) <= most:
        return frame
    width, height = (min(length, most) for length in frame.size)
    left, top = (frame.width - width) // 2, (frame.height - height) // 2
    return frame.crop((left, top, left + width, top + height))


def _check(
    session: "InferenceSession",
    path: Path,
    shape: Sequence[int | None],
    output: str,
    dim: int,
) -> None:
    """Check what a model takes and returns, as far as it states that.

    Args:
        session: Of the model.
        path: Its file, for messages.
        shape: Of one of its inputs; None for any length.
        output: The output that is wanted.
        dim: Length of its rows.

    Raises:
        EmbedderUnavailable: it is another model than the files beside it describe.
    """
    outputs = {one.name: one.shape for one in session.get_outputs()}
    if output not in outputs:
        raise EmbedderUnavailable(
            f"{path} has no output {output}, but {', '.join(outputs)}: export it as the models of "
            "onnx-community on the Hugging Face hub are"
        )
    stated = (*session.get_inputs()[0].shape[1:], outputs[output][-1])
    for number, wanted in zip(stated, (*shape, dim), strict=False):
        if isinstance(number, int) and wanted is not None and number != wanted:
            raise EmbedderUnavailable(
                f"{path} is not the model that config.json and preprocessor_config.json beside it "
                f"describe: it has {number} where they have {wanted}"
            )
