"""The command `python -m indexer.ingest`, also installed as `rzen-ingest`.

Exit status: 0 on success, 1 if some files failed or folders are missing, 2 if the command cannot be
carried out, 130 if it was stopped early (what was done is kept; run it again to continue).
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
from indexer.presence import is_empty, vanished
from indexer.types import IngestOptions, Root

if TYPE_CHECKING:
    from indexer.library import Library
    from indexer.types import IngestReport, ReadingReport

_PROGRAM = "rzen-ingest"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = CommandParser(
        prog=_PROGRAM,
        description="Index images, videos, PDFs and text files. Run it again to update the "
        "library: unchanged files are not read.",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="files, folders or patterns to index; default: all folders that were indexed before",
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
        help="skip files and folders with this name or path, from now on; repeatable",
    )
    parser.add_argument(
        "--include",
        metavar="GLOB",
        action="append",
        default=[],
        help="stop skipping what an earlier --exclude has named; repeatable",
    )
    parser.add_argument(
        "--no-ocr",
        action="store_true",
        default=bool(os.environ.get("RZEN_NO_OCR")),
        help="do not read the words in pictures afterwards",
    )
    parser.add_argument("--watch", action="store_true", help="keep running and index changes")
    parser.add_argument(
        "--list", action="store_true", help="list the folders that are indexed, and change nothing"
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="remove the files at or below each PATH from the library; on disk they stay",
    )
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
        if arguments.list or arguments.forget:
            return _list(arguments) if arguments.list else _forget(arguments)
        return _dry_run(arguments) if arguments.dry_run else _ingest(arguments, cancel)
    except (IndexerError, EmbedderError) as error:
        return refuse(_PROGRAM, error)


def _usage_problem(arguments: argparse.Namespace) -> str | None:
    """Return what is wrong with the arguments, or None."""
    paths, retrying = arguments.paths, arguments.retry_failed
    if arguments.list and arguments.forget:
        return "--list and --forget exclude each other"
    if arguments.forget and not paths:
        return "--forget needs the paths whose files are to leave the library"
    if arguments.list or arguments.forget:
        patterns = arguments.exclude or arguments.include
        if arguments.watch or arguments.dry_run or retrying or patterns:
            return (
                "--list and --forget exclude --dry-run, --watch, --exclude, --include and "
                "--retry-failed"
            )
        return "--list takes no paths" if arguments.list and paths else None
    if arguments.watch and (arguments.dry_run or (retrying and not paths)):
        return "--watch needs paths with --retry-failed, and excludes --dry-run"
    for flag in ("exclude", "include"):
        if getattr(arguments, flag) and not paths:
            return f"--{flag} needs the paths of the folders that it is for"
    return None


def _missing(path: str) -> str | None:
    """Return why there is nothing to ingest at a path, or None."""
    if os.path.lexists(typed_path(path)) or not vanished(typed_path(path)):
        return None
    if not has_magic(path):
        return f"no such file or folder: {path}"
    found = glob(str(typed_path(path)), recursive=True)  # noqa: PTH207
    return None if found else f"no file matches the pattern {path}"


def _refusal(arguments: argparse.Namespace, directory: Path) -> str | None:
    """Return why there is nothing to ingest, or None; before a library is made in a folder."""
    from indexer.ingest.roots import base_of
    from indexer.library import Library

    paths = arguments.paths
    problems = [_missing(path) for path in paths]
    if not all(problems) or (arguments.retry_failed and not paths):
        return None
    if holds_library(directory):
        bases = [base_of(Root(Path(path))) for path in paths]
        gone = [base for base in bases if vanished(base) or is_empty(base)]
        with Library.open(directory, create=False) as library:
            if any(map(library.knows, gone)) or (not paths and library.catalog.roots()):
                return None
    return problems[0] if problems else "nothing to ingest: name the files or folders to index"


def _pattern(typed: str) -> str:
    """Return a pattern to exclude; a path from the current folder as one that stays true."""
    return os.path.abspath(typed) if typed.startswith(("./", "../")) else typed


def _options(arguments: argparse.Namespace) -> IngestOptions:
    exclude, include = (tuple(map(_pattern, one)) for one in (arguments.exclude, arguments.include))
    options = IngestOptions(exclude=exclude, include=include)
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
    directory = typed_path(arguments.library or default_library())
    if problem := _refusal(arguments, directory):
        return refuse(_PROGRAM, problem)
    if arguments.model and not holds_library(directory):
        # A model that cannot be opened must not leave an empty library behind.
        open_embedder(
            arguments.model, instructions=instructions(arguments), **placement(arguments)
        ).close()
    with Library.open(directory, **_model(arguments)) as library:
        with ProgressBar("files", shown=not arguments.json) as bar:
            report = library.ingest(paths, options, on_progress=bar.show, cancel=cancel)
        if arguments.watch and not cancel.is_set():
            _print_report(library, report, as_json=arguments.json)
            _watch(library, paths, options, cancel, arguments)
            return 0
        if not arguments.json:  # Everything can be found now.
            _print_report(library, report, as_json=False)
        skipped = arguments.no_ocr or cancel.is_set()
        reading = None if skipped else _read_words(library, cancel, shown=not arguments.json)
        if arguments.json:
            words = {"words": asdict(reading) if reading else None}
            print_result(asdict(report) | words, [], as_json=True)
        elif reading:
            print_result(asdict(reading), cli.reading_lines(reading), as_json=False)
    stopped = reading is not None and reading.cancelled
    return 130 if stopped else _status(report)


def _read_words(library: "Library", cancel: Event, *, shown: bool) -> "ReadingReport | None":
    """Read the words in pictures; None if another program does so already."""
    from indexer.errors import LibraryBusy

    with ProgressBar("files", shown=shown) as bar:
        try:
            return library.read_words(on_progress=bar.show, cancel=cancel)
        except LibraryBusy:
            return None


def _watch(
    library: "Library",
    paths: Sequence[Path],
    options: IngestOptions,
    cancel: Event,
    arguments: argparse.Namespace,
) -> None:
    from indexer.ingest.background_ocr import BackgroundOcr
    from indexer.ingest.watch import watch
    from indexer.types import IngestReport

    cli.note("Watching for changes; press Ctrl-C to stop.")
    options = replace(options, include=(), retry_failed=False)
    nothing = known = IngestReport()
    words = BackgroundOcr(library)
    if not arguments.no_ocr:
        words.start()
    try:
        for report in watch(library, paths, options, cancel=cancel):
            if replace(report, unchanged=0, seconds=0, near_duplicates=0) not in (nothing, known):
                _print_report(library, report, as_json=arguments.json)
                known = IngestReport(failures=report.failures)  # Listed again each time.
    finally:
        words.close()


def _status(report: "IngestReport") -> int:
    if report.cancelled:
        return 130
    return 1 if report.failures else 0


def _dry_run(arguments: argparse.Namespace) -> int:
    from tempfile import TemporaryDirectory

    from indexer.library import Library

    directory = typed_path(arguments.library or default_library())
    if problem := _refusal(arguments, directory):
        return refuse(_PROGRAM, problem)
    paths = [Path(path) for path in arguments.paths]
    with TemporaryDirectory(prefix="rzen-") as empty:
        target = directory if holds_library(directory) else Path(empty)
        with Library.open(target, **_model(arguments)) as library:
            plan = library.plan(paths, _options(arguments))
    print_result(asdict(plan), cli.plan_lines(plan), as_json=arguments.json)
    return 1 if plan.failures else 0


def _list(arguments: argparse.Namespace) -> int:
    from indexer.library import Library

    with Library.open(arguments.library, create=False) as library:
        folders = library.indexed_folders()
    lines = cli.folder_lines(folders)
    print_result([asdict(one) for one in folders], lines, as_json=arguments.json)
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from indexer.library import Library

    paths = [Path(os.path.abspath(typed_path(path))) for path in arguments.paths]
    with Library.open(arguments.library, create=False) as library:
        removed, roots = library.forget(paths), library.catalog.roots()
    files = "file" if removed == 1 else "files"
    lines = [f"{removed:,} {files} removed from the library; on disk nothing has changed"]
    lines += [
        f"{path} is still there: the next ingest of {root.path} adds it again unless it is excluded"
        for path in paths
        for root in roots
        if path.is_relative_to(root.path) and not vanished(path)
    ]
    print_result({"removed": removed}, lines, as_json=arguments.json)
    return 0


def _print_report(library: "Library", report: "IngestReport", *, as_json: bool) -> None:
    lines = cli.report_lines(report, library.catalog.stats().failed)
    print_result(asdict(report), lines, as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
