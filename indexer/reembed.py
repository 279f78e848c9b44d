"""`python -m indexer.reembed`: gives a library another model.

Exit status: 0 when the library has the model, 1 if files are missing and it did not switch, 2 if
the command cannot be carried out, 130 if it was stopped before the end (what was computed stays;
run it again to continue).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from indexer import cli
from indexer.cli import (
    ProgressBar,
    add_model_flags,
    count,
    go_last,
    opening,
    placement,
    print_any_name,
    print_json,
    stop_on_signals,
)
from indexer.config import default_library

if TYPE_CHECKING:
    from indexer.library import Library


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="rzen-reembed",
        description="Give a library another model: compute all its vectors anew, then switch over "
        "at once. It can be searched all the while, and a run that was stopped is continued by "
        "the next one.",
    )
    parser.add_argument("--model", metavar="SPEC", help="the model that the library is to have")
    parser.add_argument("--library", metavar="DIR", type=Path, help="the library's folder")
    add_model_flags(parser)
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="switch though some files cannot be read: they leave the library",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and change nothing"
    )
    parser.add_argument(
        "--discard", action="store_true", help="drop what a run that was stopped has computed"
    )
    parser.add_argument("--workers", type=count, metavar="N", help="files decoded at a time")
    parser.add_argument("--json", action="store_true", help="print the summary as an object")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = parser().parse_args(arguments)
    print_any_name()
    if problem := _usage_problem(given):
        return _refuse(problem)
    from embedder.interface import EmbedderError
    from indexer.errors import IndexerError
    from indexer.library import Library

    go_last()
    cancel = Event()
    stop_on_signals(cancel, "the vectors in progress")
    directory = given.library or default_library()
    try:
        with Library.open(directory, create=False, **placement(given)) as library:
            if given.discard:
                return _discard(library, as_json=given.json)
            return _dry_run(library, given) if given.dry_run else _reembed(library, given, cancel)
    except (IndexerError, EmbedderError) as error:
        return _refuse(str(error))


def _usage_problem(given: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, in a sentence."""
    if given.discard and (given.model or given.dry_run or given.leave_out):
        return "--discard only drops what a stopped run has computed: give it without the others"
    if not given.model and not given.discard:
        return "name the model that the library is to have with --model"
    return None


def _refuse(sentence: str) -> int:
    print(f"rzen-reembed: {sentence}", file=sys.stderr)
    return 2


def _discard(library: "Library", *, as_json: bool) -> int:
    discarded = library.discard_pending()
    if as_json:
        print_json({"discarded": discarded})
    else:
        print(cli.of_discard(discarded, library.model))
    return 0


def _dry_run(library: "Library", given: argparse.Namespace) -> int:
    plan = library.plan_reembed(given.model, instructions=opening(given)["instructions"])
    if given.json:
        print_json(asdict(plan))
    else:
        print("\n".join(cli.of_reembed_plan(plan)))
    return 1 if plan.failures else 0


def _reembed(library: "Library", given: argparse.Namespace, cancel: Event) -> int:
    before = library.model
    with ProgressBar("segments", shown=not given.json) as bar:
        report = library.reembed(
            given.model,
            instructions=opening(given)["instructions"],
            leave_out=given.leave_out,
            workers=given.workers,
            on_progress=bar.show,
            cancel=cancel,
        )
    if given.json:
        print_json(asdict(report))
    else:
        print("\n".join(cli.of_reembedding(report, before)), flush=True)
    if report.cancelled:
        return 130
    return 1 if report.failures and not report.switched else 0


if __name__ == "__main__":
    sys.exit(main())
