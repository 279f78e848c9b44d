"""`python -m indexer.ingest`: takes files and folders into a library.

Exit status: 0 when all is well, 1 if some files failed, 2 if the command cannot be carried out,
130 if it was stopped before the end (what was done stays; run it again to continue).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from glob import glob, has_magic
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
    print_any_name,
    print_json,
    stop_on_signals,
)
from indexer.config import IngestOptions, default_library, typed_path

if TYPE_CHECKING:
    from indexer.library import Library
    from indexer.types import IngestReport


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="rzen-ingest",
        description="Take pictures, videos, PDFs and texts into a library, so that they can be "
        "found. Run it again to keep the library in step: what has not changed is not read.",
    )
    parser.add_argument("paths", metavar="PATH", nargs="*", help="files, folders or patterns")
    parser.add_argument("--library", metavar="DIR", type=Path, help="the library's folder")
    parser.add_argument("--model", metavar="SPEC", help="the model of a new library (mini)")
    add_model_flags(parser)
    parser.add_argument(
        "--exclude",
        metavar="GLOB",
        action="append",
        default=[],
        help="leave out files and folders with this name or path; may be repeated",
    )
    parser.add_argument("--watch", action="store_true", help="keep running, follow changes")
    parser.add_argument(
        "--retry-failed", action="store_true", help="try failed files again though unchanged"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done and change nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as an object")
    parser.add_argument("--workers", type=count, metavar="N", help="files decoded at a time")
    for name, what in (
        ("pixels", "largest picture, in pixels"),
        ("seconds", "longest video, in seconds"),
        ("pages", "longest PDF, in pages"),
    ):
        parser.add_argument(
            f"--max-{name}",
            type=count,
            metavar="N",
            help=f"{what}; failed files are tried again",
        )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = parser().parse_args(arguments)
    print_any_name()
    if problem := _usage_problem(given):
        return _refuse(problem)
    from embedder.interface import EmbedderError
    from indexer.errors import IndexerError

    go_last()
    cancel = Event()
    stop_on_signals(cancel, "the files in progress")
    try:
        return _dry_run(given) if given.dry_run else _ingest(given, cancel)
    except (IndexerError, EmbedderError) as error:
        return _refuse(str(error))


def _usage_problem(given: argparse.Namespace) -> str | None:
    """What is wrong with the arguments, in a sentence."""
    if not given.paths and not given.retry_failed:
        return "nothing to ingest: name files or folders, or use --retry-failed"
    if given.watch and (given.dry_run or not given.paths):
        return "--watch needs paths to watch and cannot be a --dry-run"
    for path in given.paths:
        if os.path.lexists(typed_path(path)):
            continue
        if not has_magic(path):
            return f"there is no file or folder {path}"
        if not glob(str(typed_path(path)), recursive=True):  # noqa: PTH207
            return f"no file matches the pattern {path}"
    return None


def _refuse(sentence: str) -> int:
    print(f"rzen-ingest: {sentence}", file=sys.stderr)
    return 2


def _options(given: argparse.Namespace) -> IngestOptions:
    options = IngestOptions(exclude=tuple(given.exclude))
    raised = {
        name: getattr(given, f"max_{name}")
        for name in ("pixels", "seconds", "pages")
        if getattr(given, f"max_{name}") is not None
    }
    return replace(
        options,
        retry_failed=given.retry_failed or bool(raised),
        workers=given.workers or options.workers,
        limits=replace(options.limits, **raised),
    )


def _ingest(given: argparse.Namespace, cancel: Event) -> int:
    from indexer.library import Library

    paths, options = [Path(path) for path in given.paths], _options(given)
    directory = given.library or default_library()
    with Library.open(directory, model=given.model, **opening(given)) as library:
        with ProgressBar("files", shown=not given.json) as bar:
            report = library.ingest(paths, options, on_progress=bar.show, cancel=cancel)
        _print_report(library, report, as_json=given.json)
        if not given.watch or cancel.is_set():
            return _status(report)
        _watch(library, paths, options, cancel, as_json=given.json)
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

    print("Watching for changes; Ctrl-C ends it.", file=sys.stderr, flush=True)
    options = replace(options, retry_failed=False)
    for report in watch(library, paths, options, cancel=cancel):
        if replace(report, unchanged=0, seconds=0, near_duplicates=0) != _nothing():
            _print_report(library, report, as_json=as_json)


def _nothing() -> "IngestReport":
    from indexer.types import IngestReport

    return IngestReport()


def _status(report: "IngestReport") -> int:
    if report.cancelled:
        return 130
    return 1 if report.failures else 0


def _dry_run(given: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from indexer.config import holds_library
    from indexer.library import Library

    directory = typed_path(given.library or default_library())
    paths = [Path(path) for path in given.paths]
    with TemporaryDirectory(prefix="rzen-") as empty:
        place = directory if holds_library(directory) else Path(empty)
        with Library.open(place, model=given.model, **opening(given)) as library:
            plan = library.plan(paths, _options(given))
    if given.json:
        print_json(asdict(plan))
    else:
        print("\n".join(cli.of_plan(plan)))
    return 1 if plan.failures else 0


def _print_report(library: "Library", report: "IngestReport", *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report))
    else:
        print("\n".join(cli.of_report(report, library.stats().failed)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
