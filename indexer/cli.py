"""What the commands share: options, a progress bar, orderly stopping, and printing of reports."""

import argparse
import json
import logging
import os
import re
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, Self

from embedder.content import Modality

if TYPE_CHECKING:
    from indexer.progress import Progress
    from indexer.types import (
        Failure,
        IndexedFolder,
        IngestPlan,
        IngestReport,
        Kept,
        ReadingReport,
        ReembedPlan,
        ReembedReport,
    )


_NICE = 15
_LINE_SECONDS = 30.0
_MAX_SKIPS_BY_NAME = 5
_MAX_SUFFIXES = 8
_LIMIT_FLAGS = {"pixels": "--max-pixels", "minutes": "--max-seconds", "pages": "--max-pages"}
_DEFAULT_INSTRUCTION = "default"
# What a terminal obeys instead of showing it: control characters, which move the cursor, colour or
# send keys; separators of lines; and what reverses the order of the characters that follow.
_CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Return a line with control characters as escapes: names of files may hold any."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors show the control characters of the arguments that they name."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit with status 2."""
        super().error(visible(message))


class VisibleFormatter(logging.Formatter):
    """Formats what is logged with control characters as escapes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- overridden
        """Format the message."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 -- overridden
        """Format the traceback."""
        return "\n".join(map(visible, super().formatException(ei).split("\n")))


def count(text: str) -> int:
    """Parse a number of at least 1, for `argparse`."""
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def document_instruction(argument: str) -> tuple[Modality, str] | None:
    """Parse MODALITY=TEXT, for `argparse`; return None for "default"."""
    name, equals, text = argument.partition("=")
    if argument == _DEFAULT_INSTRUCTION:
        return None
    if not equals or name not in set(Modality):
        raise argparse.ArgumentTypeError(
            f"cannot parse {argument!r}: write MODALITY=TEXT with one of "
            f'{", ".join(Modality)}, or "{_DEFAULT_INSTRUCTION}"'
        )
    return Modality(name), text


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--library": {"metavar": "DIR", "type": Path, "help": "folder of the library"},
    "--device": {
        "metavar": "D",
        "help": 'run the model on this device: "cpu", "cuda", "cuda:1", "mps"',
    },
    "--dtype": {"metavar": "T", "help": 'run the model in this precision: "float32", "bfloat16"'},
    "--instruction": {
        "metavar": "MODALITY=TEXT",
        "dest": "instructions",
        "type": document_instruction,
        "action": "append",
        "help": f"embed documents of a modality ({', '.join(Modality)}) with this instruction; "
        f'repeatable; "{_DEFAULT_INSTRUCTION}" restores the model\'s own',
    },
    "--workers": {"metavar": "N", "type": count, "help": "decode N files in parallel"},
    "--dry-run": {"action": "store_true", "help": "print what would be done without doing it"},
    "--json": {"action": "store_true", "help": "print the report as JSON"},
}
"""The options that several commands have, by flag."""


def add_options(parser: argparse.ArgumentParser, *flags: str) -> None:
    """Add options that several commands have."""
    for flag in flags:
        parser.add_argument(flag, **_OPTIONS[flag])


def placement(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return `--device` and `--dtype` as arguments of `Library.open`."""
    return {"device": arguments.device, "dtype": arguments.dtype}


def instructions(arguments: argparse.Namespace) -> dict[Modality, str] | None:
    """Return what `--instruction` says; the last one for a modality counts."""
    pairs: list[tuple[Modality, str] | None] = arguments.instructions or []
    return dict(pair for pair in pairs if pair is not None) if pairs else None


_STAGES = {"words": "words read in"}
"""What precedes the numbers of a stage, where that is not its name."""


class ProgressBar:
    """Shows progress on standard error: a bar on a terminal, a line now and then elsewhere.

    Args:
        unit: What is counted, in the plural.
        shown: False to show nothing.
    """

    def __init__(self, unit: str, *, shown: bool) -> None:
        self._unit, self._shown, self._printed_at = unit, shown, monotonic()
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=0, unit=f" {unit}", dynamic_ncols=True, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def show(self) -> "Callable[[Progress], None] | None":
        """The function to call with progress, or None."""
        if not self._shown:
            return None
        return self._print_line if self._bar is None else self._update_bar

    def _print_line(self, progress: "Progress") -> None:
        if monotonic() - self._printed_at < _LINE_SECONDS:
            return
        self._printed_at = monotonic()
        stage = _STAGES.get(progress.stage, f"{progress.stage}:")
        line = f"{stage} {progress.done:,} of {progress.total:,} {self._unit}"
        if progress.failures:
            line += f", {progress.failures:,} failed"
        if progress.remaining is not None:
            line += f", {progress.rate:.1f}/s, {timedelta(seconds=round(progress.remaining))} left"
        note(line)

    def _update_bar(self, progress: "Progress") -> None:
        self._bar.total = max(progress.total, progress.done)
        self._bar.initial = progress.reused  # took no time now, so it must not count in the rate
        self._bar.n = progress.done
        failed = f", {progress.failures} failed" if progress.failures else ""
        stage = _STAGES.get(progress.stage, progress.stage)
        self._bar.set_description_str(f"{stage}{failed}", refresh=False)
        self._bar.refresh()


def lower_priority() -> None:
    """Lower this process's priority, so that searches and other programs go first."""
    if sys.platform != "win32":
        os.nice(_NICE)


def stop_on_signals(cancel: Event, after: str) -> None:
    """Set `cancel` on the first Ctrl-C, and exit on the second, which is safe as well.

    Args:
        cancel: Set by the first one.
        after: What is still finished, for the message.
    """

    def stop(_number: int, _frame: object) -> None:
        if cancel.is_set():
            os._exit(130)
        cancel.set()
        os.write(2, f"\nstopping after {after}; press Ctrl-C again to quit now\n".encode())

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def prepare_output() -> None:
    """Let file names in any encoding be printed, and be logged as `visible`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:  # What writes warnings where no logging is configured.
        logging.lastResort.setFormatter(VisibleFormatter())


# Commands print by these functions alone, which the linter sees to.


def print_result(
    value: object, lines: Iterable[str], *, as_json: bool, ensure_ascii: bool = True
) -> None:
    """Print a result as JSON, of ASCII alone by default, or as lines for people."""
    if as_json:
        text = json.dumps(value, indent=1, default=str, ensure_ascii=ensure_ascii)
    else:
        text = "\n".join(map(visible, lines))
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Its reader, such as `head`, has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(line: str) -> None:
    """Print a line for people on standard error."""
    print(visible(line), file=sys.stderr, flush=True)


def refuse(program: str, problem: object) -> int:
    """Print why a command cannot be carried out; return its exit status."""
    note(f"{program}: {problem}")
    return 2


def report_lines(report: "IngestReport", failed: int) -> list[str]:
    """Return what an ingest did, as lines.

    Args:
        report: What it returned.
        failed: How many failed files the library has in all.
    """
    counts = {
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "copies of known files": report.copies,
        "removed": report.removed,
        "kept": sum(one.files for one in report.kept),
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
        "failed": len(report.failures),
    }
    summary = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    lines = [f"{summary or 'nothing to do'} in {report.seconds:.1f} s"]
    if report.near_duplicates:
        groups = "group" if report.near_duplicates == 1 else "groups"
        lines.append(f"{report.near_duplicates:,} {groups} of pictures that look the same")
    lines += [*_skipped("skipped", report.skipped), *_failed("failed", report.failures)]
    lines += _kept("kept", report.kept)
    if report.cancelled:
        lines.append("Stopped early; run the same command again to continue.")
    elif failed and not report.failures:
        files = "file" if failed == 1 else "files"
        lines.append(f"{failed:,} {files} failed in earlier runs; use --retry-failed to retry")
    return lines


def reading_lines(report: "ReadingReport") -> list[str]:
    """Return what reading the words in pictures did, as lines."""
    if not (report.read or report.left):
        return []
    files = "file" if report.read == 1 else "files"
    lines = [
        f"words read in {report.read:,} {files} in {report.seconds:.1f} s, {report.with_text:,} "
        "with text"
    ]
    lines += _failed("not read", report.failures)
    if report.cancelled:
        lines.append(f"Stopped with {report.left:,} left; run the same command again to continue.")
    elif report.left:
        lines.append(f"{report.left:,} left, whose files are not connected")
    return lines


def plan_lines(plan: "IngestPlan") -> list[str]:
    """Return what an ingest would do, a line for each file."""
    paths_by_verb = {
        "add": plan.added,
        "update": plan.updated,
        "record as copy": plan.copies,
        "remove": plan.removed,
    }
    return [
        *(f"would {verb} {path}" for verb, paths in paths_by_verb.items() for path in paths),
        *(f"would move {old} to {new}" for old, new in plan.moved),
        *_skipped("would skip", plan.skipped),
        *_failed("would fail", plan.failures),
        *_kept("would be kept", plan.kept),
        f"{plan.unchanged:,} unchanged; nothing was written",
    ]


def folder_lines(folders: "Sequence[IndexedFolder]") -> list[str]:
    """Return the folders that a library remembers, a line for each."""
    lines = []
    for one in folders:
        files = "file" if one.files == 1 else "files"
        absent = "missing: renamed or deleted" if one.missing else "not connected"
        notes = [] if one.reachable else [absent]
        notes += [f"without {' '.join(map(shlex.quote, one.exclude))}"] if one.exclude else []
        lines.append(", ".join([f"{one.path}  {one.files:,} {files}", *notes]))
    return lines or ["no folder has been indexed yet"]


def reembed_lines(report: "ReembedReport", before: str) -> list[str]:
    """Return what a re-embedding did, as lines.

    Args:
        report: What it returned.
        before: The model that the library had.
    """
    model, failures = report.model, len(report.failures)
    files = "file" if failures == 1 else "files"
    computed = f"{report.segments - report.reused:,} vectors computed in {report.seconds:.1f} s"
    if report.reused:
        computed += f", {report.reused:,} reused from an earlier run"
    if report.cancelled:
        return [
            computed,
            f"Stopped early: the library still has the model {before}; what was computed is kept. "
            "Run the same command again to continue.",
        ]
    if report.switched:
        lines = [computed, f"The library now has the model {model}."]
        if failures:
            lines.append(f"{failures:,} {files} removed; rzen-ingest --retry-failed retries:")
        return [*lines, *_failed("removed", report.failures)]
    if not failures:
        return [f"The library already has the model {model}; nothing was done."]
    return [
        computed,
        *_failed("missing", report.failures),
        f"{failures:,} {files} could not be read, so the library still has the model {before}. Run "
        "the same command again when they are back; it continues from here. Or use --leave-out to "
        "switch without them.",
    ]


def reembed_plan_lines(plan: "ReembedPlan") -> list[str]:
    """Return what a re-embedding would do, as lines."""
    if plan.same:
        return [f"The library already has the model {plan.model}; nothing would be done."]
    counts = [f"{count:,} {kind}" for kind, count in sorted(plan.segments.items()) if count]
    total = sum(plan.segments.values())
    lines = [f"would compute {total:,} vectors" + (f" ({', '.join(counts)})" if counts else "")]
    if plan.reused:
        lines.append(f"would reuse {plan.reused:,} from an earlier run")
    lines += _failed("missing", plan.failures)
    if not plan.failures:
        lines.append("all files that have to be read exist")
    return [*lines, "nothing was written"]


def _failed(what: str, failures: "Sequence[Failure]") -> Iterator[str]:
    for failure in failures:
        yield f"  {what} {failure.path}: {_with_flag(failure.reason)}"


def _kept(what: str, kept: "Sequence[Kept]") -> Iterator[str]:
    for one in kept:
        files = "file" if one.files == 1 else "files"
        yield (
            f"{one.files:,} {files} {what}: {one.path} is not connected, or was deleted; run with "
            f"--forget {shlex.quote(str(one.path))} to remove them"
        )


def _skipped(what: str, skipped: "Sequence[Failure]") -> Iterator[str]:
    """Name few files, and count many by suffix: a folder of photos may hold as many side files."""
    if len(skipped) <= _MAX_SKIPS_BY_NAME:
        yield from _failed(what, skipped)
        return
    suffixes_by_reason: dict[str, Counter[str]] = {}
    for one in skipped:
        suffix = one.path.suffix.lower() or "no ending"
        suffixes_by_reason.setdefault(one.reason, Counter())[suffix] += 1
    for reason, suffixes in suffixes_by_reason.items():
        names = [f"{count:,} {suffix}" for suffix, count in suffixes.most_common(_MAX_SUFFIXES)]
        names += ["…"] if len(suffixes) > _MAX_SUFFIXES else []
        yield f"  {what} {suffixes.total():,} ({', '.join(names)}): {reason}; --json lists them"


def _with_flag(reason: str) -> str:
    """Return a reason with the flag that raises the limit it mentions."""
    limit = reason.partition("the limit of")[0]
    flag = next((flag for word, flag in _LIMIT_FLAGS.items() if word in limit), None)
    return f"{reason}; raise it with {flag}" if flag and limit != reason else reason
