"""The flags that say how a model is opened, for every program that opens one."""

import argparse
from typing import TypedDict

from embedder.content import Modality

_DEFAULT = "default"


class Placement(TypedDict):
    """Where a model runs, and in which precision: arguments of `Library.open`."""

    device: str | None
    dtype: str | None


class Opening(Placement):
    """All that those flags say of it."""

    instructions: dict[Modality, str] | None


def add_placement_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--device` and `--dtype` to a command line."""
    parser.add_argument(
        "--device", metavar="D", help='where the model runs: "cpu", "cuda", "cuda:1", "mps"'
    )
    parser.add_argument("--dtype", metavar="T", help='its precision: "float32", "bfloat16"')


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Adds those and `--instruction` for documents."""
    add_placement_flags(parser)
    parser.add_argument(
        "--instruction",
        metavar="MODALITY=TEXT",
        dest="instructions",
        type=_instruction,
        action="append",
        help=f"what the model is told of documents of a modality ({', '.join(Modality)}) in place "
        'of its own words; may be repeated; "default" goes back to its own',
    )


def placement(given: argparse.Namespace) -> Placement:
    """What `--device` and `--dtype` say, as arguments of `Library.open`."""
    return Placement(device=given.device, dtype=given.dtype)


def opening(given: argparse.Namespace) -> Opening:
    """What those flags say, as arguments of `Library.open`; nothing said leaves it to the library.

    The last word on a modality counts.
    """
    told: list[tuple[Modality, str] | None] = given.instructions or []
    instructions = dict(one for one in told if one is not None) if told else None
    return Opening(device=given.device, dtype=given.dtype, instructions=instructions)


def _instruction(argument: str) -> tuple[Modality, str] | None:
    """MODALITY=TEXT as a pair; None for "default"."""
    name, equals, text = argument.partition("=")
    if argument == _DEFAULT:
        return None
    if not equals or name not in set(Modality):
        raise argparse.ArgumentTypeError(
            f"{argument!r} is not understood: write MODALITY=TEXT with one of "
            f'{", ".join(Modality)}, or "{_DEFAULT}"'
        )
    return Modality(name), text
