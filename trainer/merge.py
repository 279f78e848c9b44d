"""Merge one adapter into its base model: `python -m trainer.merge ADAPTER --out DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m trainer.merge", description="Merge an adapter into its base model."
    )
    parser.add_argument("adapter", type=Path, metavar="ADAPTER")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--base", metavar="FOLDER-OR-HUB-ID", help="use this base model")
    given = parser.parse_args(arguments)
    from embedder import EmbedderError
    from trainer.adapters import BadAdapter, merge
    from trainer.output import BadOutput

    try:
        merge(given.adapter, given.out, given.base)
    except (BadAdapter, BadOutput, EmbedderError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written to {given.out}: open it with --model rzen:{given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
