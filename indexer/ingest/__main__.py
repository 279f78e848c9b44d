"""The command `python -m indexer.ingest`, also installed as `rzen-ingest`.

Exit status: 0 on success, 1 if some files failed, 2 if the command cannot be carried out, 130 if
it was stopped early (what was done is kept; run it again to continue).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from glob import glob, has_magic
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from indexer import cli
from indexer.cli import (
    CommandParser,
    ProgressBar,
    add_options,
    count,
    instructions,
    lower_priority,
    placement,
    prepare_output,
    print_result,
    refuse,
    stop_on_signals,
)
from indexer.config import default_library, holds_library, typed_path
from indexer.types import IngestOptions

if TYPE_CHECKING:
    from indexer.library import Library
    from indexer.types import IngestReport

_PROGRAM = "rzen-ingest"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = CommandParser(
        prog=_PROGRAM,
        description="Index images, videos, PDFs and text files. Run it again to update the "
        "library: unchanged files are not read.",
    )
    parser.add_argument(
        "paths", metavar="PATH", nargs="*", help="files, folders or patterns to index"
    )
    parser.add_argument("--model", metavar="SPEC", help="model of a new library (default: mini)")
    add_options(
        parser,
        *("--library", "--device", "--dtype", "--instruction", "--workers", "--dry-run", "--json"),
    )
    parser.add_argument(
        "--exclude",
        metavar="GLOB",
        action="append",
        default=[],
        help="skip files and folders with this name or path; repeatable",
    )
    parser.add_argument("--watch", action="store_true", help="keep running and index changes")
    parser.add_argument(
        "--retry-failed", action="store_true", help="retry failed files even if they are unchanged"
    )
    for name, what in (
        ("pixels", "largest image to decode, in pixels"),
        ("seconds", "longest video to decode, in seconds"),
        ("pages", "longest PDF to decode, in pages"),
    ):
        parser.add_argument(
            f"--max-{name}",
            type=count,
            metavar="N",
            help=f"{what}; implies --retry-failed",
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

    lower_priority()
    cancel = Event()
    stop_on_signals(cancel, "the files in progress")
    try:
        return _dry_run(arguments) if arguments.dry_run else _ingest(arguments, cancel)
    except (IndexerError, EmbedderError) as error:
        return refuse(_PROGRAM, error)


def _usage_problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments, or None."""
    if not arguments.paths and not arguments.retry_failed:
        return "nothing to ingest: give files or folders, or --retry-failed"
    if arguments.watch and (arguments.dry_run or not arguments.paths):
        return "--watch needs paths and excludes --dry-run"
    for path in arguments.paths:
        if os.path.lexists(typed_path(path)):
            continue
        if not has_magic(path):
            return f"no such file or folder: {path}"
        if not glob(str(typed_path(path)), recursive=True):  # noqa: PTH207
            return f"no file matches the pattern {path}"
    return None


def _options(arguments: argparse.Namespace) -> IngestOptions:
    options = IngestOptions(exclude=tuple(arguments.exclude))
    raised = {
        name: getattr(arguments, f"max_{name}")
        for name in ("pixels", "seconds", "pages")
        if getattr(arguments, f"max_{name}") is not None
    }
    return replace(
        options,
        retry_failed=arguments.retry_failed or bool(raised),
        workers=arguments.workers or options.workers,
        limits=replace(options.limits, **raised),
    )


def _model(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {"model": arguments.model, "instructions": instructions(arguments)}
    return given | placement(arguments)


def _ingest(arguments: argparse.Namespace, cancel: Event) -> int:
    from embedder.registry import open_embedder
    from indexer.library import Library

    paths, options = [Path(path) for path in arguments.paths], _options(arguments)
    directory = arguments.library or default_library()
    if arguments.model and not holds_library(directory):
        # A model that cannot be opened must not leave an empty library behind.
        open_embedder(
            arguments.model, instructions=instructions(arguments), **placement(arguments)
        ).close()
    with Library.open(directory, **_model(arguments)) as library:
        with ProgressBar("files", shown=not arguments.json) as bar:
            report = library.ingest(paths, options, on_progress=bar.show, cancel=cancel)
        _print_report(library, report, as_json=arguments.json)
        if not arguments.watch or cancel.is_set():
            return _status(report)
        _watch(library, paths, options, cancel, as_json=arguments.json)
    return 0


def _watch(
    library: "Library",
    paths: Sequence[Path],
    options: IngestOptions,
    cancel: Event,
    *,
    as_json: bool,
) -> None:
    from indexer.ingest.watch import watch
    from indexer.types import IngestReport

    cli.note("Watching for changes; press Ctrl-C to stop.")
    options = replace(options, retry_failed=False)
    nothing = known = IngestReport()
    for report in watch(library, paths, options, cancel=cancel):
        if replace(report, unchanged=0, seconds=0, near_duplicates=0) not in (nothing, known):
            _print_report(library, report, as_json=as_json)
            known = IngestReport(failures=report.failures)  # Listed again each time.


def _status(report: "IngestReport") -> int:
    if report.cancelled:
        return 130
    return 1 if report.failures else 0


def _dry_run(arguments: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from indexer.library import Library

    directory = typed_path(arguments.library or default_library())
    paths = [Path(path) for path in arguments.paths]
    with TemporaryDirectory(prefix="rzen-") as empty:
        target = directory if holds_library(directory) else Path(empty)
        with Library.open(target, **_model(arguments)) as library:
            plan = library.plan(paths, _options(arguments))
    print_result(asdict(plan), cli.plan_lines(plan), as_json=arguments.json)
    return 1 if plan.failures else 0


def _print_report(library: "Library", report: "IngestReport", *, as_json: bool) -> None:
    lines = cli.report_lines(report, library.catalog.stats().failed)
    print_result(asdict(report), lines, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
