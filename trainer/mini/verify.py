"""Compares the converted towers with the originals.

A conversion can ruin a model without any error: rounding this vision tower to bfloat16 took its
top-1 on ImageNet from 90 % of the original's answers to 13 %.
"""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trainer.mini.text import model_folder
from trainer.mini.vision import load_vision

LEAST_COSINE = 0.999
LEAST_AGREEMENT = 0.98
Floats = NDArray[np.float32]


class ConversionError(Exception):
    """A converted tower does not compute what the original does."""


class TextReader:
    """Texts to unit vectors (n, 384) by the converted tower, each alone, cut at 256 pieces."""

    def __init__(self, folder: Path) -> None:
        self._session = onnxruntime.InferenceSession(folder / "text.onnx")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)

    def __call__(self, texts: list[str]) -> Floats:
        """See the class."""
        rows = []
        for encoding in self._tokenizer.encode_batch(texts):
            ids = np.array([encoding.ids], dtype=np.int64)
            rows.append(self._session.run(None, {"ids": ids, "mask": np.ones_like(ids)})[0][0])
        return np.stack(rows)


def run_vision(path: Path, pixels: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Pixels (n, 260, 260, 3) to pooled features (n, 1280) and logits (n, 1000)."""
    session = onnxruntime.InferenceSession(path)
    batches = [pixels[i : i + 16] for i in range(0, len(pixels), 16)]
    results = [session.run(None, {"pixels": batch}) for batch in batches]
    return np.concatenate([r[0] for r in results]), np.concatenate([r[1] for r in results])


def verify_vision(path: Path, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """The converted tower against the packaged one on real pictures.

    Raises:
        ConversionError: features point elsewhere, or the most likely class is another one.
    """
    with torch.inference_mode():
        features, scores = (x.numpy() for x in load_vision()(torch.from_numpy(pixels)))
    pooled, logits = run_vision(path, pixels)
    found = {
        "n": len(pixels),
        "least cosine": _least_cosine(pooled, features),
        "top-1 agreement": float((logits.argmax(1) == scores.argmax(1)).mean()),
    }
    if found["least cosine"] < LEAST_COSINE or found["top-1 agreement"] < LEAST_AGREEMENT:
        raise ConversionError(f"{path.name} differs from the original: {found}")
    return found


def verify_text(folder: Path, texts: list[str]) -> dict[str, float]:
    """The converted tower against transformers running the packaged one.

    Raises:
        ConversionError: vectors point elsewhere.
    """
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(model_folder()).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state
        kept = inputs["attention_mask"][..., None].float()
        expected = ((states * kept).sum(1) / kept.sum(1)).numpy()
    found = {"n": len(texts), "least cosine": _least_cosine(TextReader(folder)(texts), expected)}
    if found["least cosine"] < LEAST_COSINE:
        raise ConversionError(f"text.onnx differs from the original: {found}")
    return found


def _least_cosine(ours: Floats, theirs: Floats) -> float:
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return float(((ours * theirs).sum(axis=1) / lengths).min())
