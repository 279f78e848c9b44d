"""Command-line parsing that several commands share."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path


def positive_int(text: str) -> int:
    """Parse a positive integer argument."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return count


def run_stage(
    name: str, about: str | None, *, instructions: bool, arguments: Sequence[str] | None
) -> int:
    """Run a training stage and return its exit status: 0, or 2 where it cannot run.

    Args:
        name: Of the module.
        about: Its docstring.
        instructions: Whether contents get instructions.
        arguments: Of the command line.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=(about or "").splitlines()[0].partition(":")[0] + "."
    )
    parser.add_argument("config", metavar="CONFIG.toml", type=Path)
    parser.add_argument("--resume", action="store_true", help="continue from the latest checkpoint")
    given = parser.parse_args(arguments)
    from embedder import EmbedderError
    from trainer.checkpoints import ResumeError
    from trainer.config import BadConfig, Run
    from trainer.data.examples import TooManyBroken, Unreadable
    from trainer.loop import train
    from trainer.output import BadOutput

    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        out = train(Run.read(given.config), instructions=instructions, resume=given.resume)
    except (
        *(BadConfig, BadOutput, ResumeError, EmbedderError),
        *(TooManyBroken, Unreadable, ValueError),
    ) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    print(f"The trained model is in {out}: use it with --model rzen:{out}")
    return 0
