"""The command `python -m indexer.reembed`, also installed as `rzen-reembed`.

Exit status: 0 when the library has the model, 1 if files are missing and it did not switch, 2 if
the command cannot be carried out, 130 if it was stopped early (what was computed is kept; run it
again to continue).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING

from indexer import cli
from indexer.cli import (
    CommandParser,
    ProgressBar,
    add_options,
    instructions,
    lower_priority,
    placement,
    prepare_output,
    print_result,
    refuse,
    stop_on_signals,
)
from indexer.config import default_library

if TYPE_CHECKING:
    from indexer.library import Library

_PROGRAM = "rzen-reembed"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = CommandParser(
        prog=_PROGRAM,
        description="Give a library another model: compute all vectors with it, then switch "
        "atomically. The library stays searchable meanwhile, and the next run continues one that "
        "was stopped.",
    )
    parser.add_argument("--model", metavar="SPEC", help="new model of the library")
    add_options(
        parser,
        *("--library", "--device", "--dtype", "--instruction", "--workers", "--dry-run", "--json"),
    )
    parser.add_argument(
        "--leave-out",
        action="store_true",
        help="switch even if files cannot be read; those are removed from the library",
    )
    parser.add_argument(
        "--discard",
        action="store_true",
        help="discard the vectors that an unfinished run has computed",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    prepare_output()
    if problem := _usage_problem(arguments):
        return refuse(_PROGRAM, problem)
    from embedder.interface import EmbedderError
    from indexer.errors import IndexerError
    from indexer.library import Library

    lower_priority()
    cancel = Event()
    stop_on_signals(cancel, "the vectors in progress")
    directory = arguments.library or default_library()
    try:
        with Library.open(directory, create=False, **placement(arguments)) as library:
            if arguments.discard:
                return _discard(library, as_json=arguments.json)
            if arguments.dry_run:
                return _dry_run(library, arguments)
            return _reembed(library, arguments, cancel)
    except (IndexerError, EmbedderError) as error:
        return refuse(_PROGRAM, error)


def _usage_problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments, or None."""
    if arguments.discard and (arguments.model or arguments.dry_run or arguments.leave_out):
        return "--discard cannot be combined with --model, --dry-run or --leave-out"
    if not arguments.model and not arguments.discard:
        return "give the new model with --model"
    return None


def _discard(library: "Library", *, as_json: bool) -> int:
    discarded = library.discard_pending()
    line = f"{discarded:,} vectors discarded; the library still has the model {library.model}."
    print_result({"discarded": discarded}, [line], as_json=as_json)
    return 0


def _dry_run(library: "Library", arguments: argparse.Namespace) -> int:
    plan = library.plan_reembed(arguments.model, instructions=instructions(arguments))
    print_result(asdict(plan), cli.reembed_plan_lines(plan), as_json=arguments.json)
    return 1 if plan.failures else 0


def _reembed(library: "Library", arguments: argparse.Namespace, cancel: Event) -> int:
    before = library.model
    with ProgressBar("segments", shown=not arguments.json) as bar:
        report = library.reembed(
            arguments.model,
            instructions=instructions(arguments),
            leave_out=arguments.leave_out,
            workers=arguments.workers,
            on_progress=bar.show,
            cancel=cancel,
        )
    print_result(asdict(report), cli.reembed_lines(report, before), as_json=arguments.json)
    if report.cancelled:
        return 130
    return 1 if report.failures and not report.switched else 0


if __name__ == "__main__":
    sys.exit(main())
