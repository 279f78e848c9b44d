"""Mix adapters into one checkpoint.

`python -m trainer.soup ADAPTER… --weights … --out DIR` adds the weighted average of what the
adapters add to their base model; a single one is merged. With `--greedy --data DIR…` the weights
come from validation: the adapters are tried in the order of their scores, and one is kept only if
the mixture's score rises.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.cli import positive_int

if TYPE_CHECKING:
    from embedder.mllm.checkpoint import Checkpoint
    from trainer.adapters import Adapter


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.weights is not None and len(given.weights) != len(given.adapters):
        parser.error(f"--weights needs {len(given.adapters)} values, one for each adapter")
    if bool(given.greedy) != bool(given.data):
        parser.error("--greedy needs --data DIR, and the other way round")
    if given.out.exists():
        parser.error(f"{given.out} exists already: choose a new folder")
    from embedder import EmbedderError
    from trainer.adapters import BadAdapter, NoImprovement, normalized, open_adapters, write_mixture
    from trainer.data.examples import Unreadable
    from trainer.evaluation.sets import BadSet
    from trainer.output import BadOutput

    try:
        weights = normalized(given.weights or [1.0] * len(given.adapters))
        adapters, checkpoint = open_adapters(given.adapters, given.base)
        if given.greedy:
            weights = _searched(given, adapters, checkpoint)
        chosen = [(one, part) for one, part in zip(adapters, weights, strict=True) if part]
        write_mixture(
            [one for one, _ in chosen], [part for _, part in chosen], checkpoint, given.out
        )
    except (
        *(BadAdapter, BadOutput, BadSet, EmbedderError),
        *(NoImprovement, OSError, Unreadable, ValueError),
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for adapter, part in zip(adapters, weights, strict=True):
        print(f"{part:.4f}  {adapter.directory}")
    print(f"written to {given.out}: open it with --model rzen:{given.out}")
    return 0


def _searched(
    given: argparse.Namespace, adapters: "Sequence[Adapter]", checkpoint: "Checkpoint"
) -> tuple[float, ...]:
    from trainer.adapters import search_greedily
    from trainer.evaluate import find_sets, validation_score

    pictures = given.out.with_name(f"{given.out.name}-pictures")
    sets = list(find_sets(given.data, given.images, pictures, given.limit))
    weights, trials = search_greedily(
        adapters,
        checkpoint,
        lambda embedder: validation_score(embedder, sets),
        given.weights,
        device=given.device,
        dtype=given.dtype,
    )
    for trial in trials:
        parts = " ".join(f"{part:.3f}" for part in trial.weights)
        print(
            f"{trial.score:.4f}  {parts}  {'kept' if trial.kept else 'left out'}", file=sys.stderr
        )
    return weights


def _parser() -> argparse.ArgumentParser:

    parser = argparse.ArgumentParser(
        prog="python -m trainer.soup",
        description="Mix adapters of one base model into a checkpoint.",
    )
    parser.add_argument("adapters", nargs="+", type=Path, metavar="ADAPTER")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--weights",
        nargs="+",
        type=float,
        metavar="W",
        help="weights of the adapters, normalized (default: equal)",
    )
    parser.add_argument("--base", metavar="FOLDER-OR-HUB-ID", help="use this base model")
    parser.add_argument("--greedy", action="store_true", help="keep an adapter only if it helps")
    parser.add_argument("--data", nargs="+", type=Path, metavar="DIR", help="validation sets")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of MMEB's pictures")
    parser.add_argument(
        "--limit", type=positive_int, metavar="N", help="use only the first N queries of each set"
    )
    parser.add_argument("--device", help="validate on cpu, cuda, cuda:1 or mps")
    parser.add_argument("--dtype", help="validate in float32, bfloat16 or float16")
    return parser


if __name__ == "__main__":
    sys.exit(main())
