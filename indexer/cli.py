"""What the programs that talk to a terminal share: a progress bar, and stopping in good order."""

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypedDict

from embedder.content import Modality

if TYPE_CHECKING:
    from indexer.types import (
        Failure,
        IngestPlan,
        IngestReport,
        Progress,
        ReembedPlan,
        ReembedReport,
    )


_NICE = 15
_LINE_SECONDS = 30.0


class ProgressBar:
    """A bar with rate and remaining time on standard error; a line now and then if that is a file.

    Args:
        unit: What is counted, in the plural.
        shown: Whether there is anybody to see it.
    """

    def __init__(self, unit: str, *, shown: bool) -> None:
        self._unit, self._shown, self._told = unit, shown, monotonic()
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
        """What is to be called with progress."""
        if not self._shown:
            return None
        return self._tell if self._bar is None else self._show

    def _tell(self, progress: "Progress") -> None:
        if monotonic() - self._told < _LINE_SECONDS:
            return
        self._told = monotonic()
        line = f"{progress.stage}: {progress.done:,} of {progress.total:,} {self._unit}"
        if progress.failures:
            line += f", {progress.failures:,} failed"
        if progress.remaining is not None:
            line += f", {progress.rate:.1f}/s, {timedelta(seconds=round(progress.remaining))} left"
        print(line, file=sys.stderr, flush=True)

    def _show(self, progress: "Progress") -> None:
        self._bar.total = max(progress.total, progress.done)
        self._bar.initial = progress.reused  # It took no time now, so it says nothing of the rate.
        self._bar.n = progress.done
        failed = f", {progress.failures} failed" if progress.failures else ""
        self._bar.set_description_str(f"{progress.stage}{failed}", refresh=False)
        self._bar.refresh()


def go_last() -> None:
    """Lets other programs have the processors first, a page that searches the library above all."""
    if sys.platform != "win32":
        os.nice(_NICE)


def stop_on_signals(cancel: Event, after: str) -> None:
    """The first Ctrl-C asks for an orderly end, the second ends at once: nothing can break.

    Args:
        cancel: Set by the first one.
        after: What is still finished, for the message.
    """

    def stop(_number: int, _frame: object) -> None:
        if cancel.is_set():
            os._exit(130)
        cancel.set()
        os.write(2, f"\nstopping after {after}; press again to quit at once\n".encode())

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def print_any_name() -> None:
    """Lets file names in any encoding be printed."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: dict[str, Any]) -> None:
    """Prints an object."""
    print(json.dumps(value, indent=1, default=str), flush=True)


def count(text: str) -> int:
    """A number of at least 1, for `argparse`."""
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


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


_NAMED_SKIPS = 5
_NAMED_ENDINGS = 8
_FLAG_OF_LIMIT = {"pixels": "--max-pixels", "minutes": "--max-seconds", "pages": "--max-pages"}


def of_report(report: "IngestReport", failed: int) -> list[str]:
    """What an ingest did; `failed` are all files of the library that cannot be used."""
    counts = {
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "copies of known files": report.copies,
        "removed": report.removed,
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
        "failed": len(report.failures),
    }
    said = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    lines = [f"{said or 'nothing to do'} in {report.seconds:.1f} s"]
    if report.near_duplicates:
        groups = "group" if report.near_duplicates == 1 else "groups"
        lines.append(f"{report.near_duplicates:,} {groups} of pictures that look the same")
    lines += [*_skipped("skipped", report.skipped), *_failed("failed", report.failures)]
    if report.cancelled:
        lines.append("Stopped before the end; run the same command again to continue.")
    elif failed and not report.failures:
        files = "file" if failed == 1 else "files"
        lines.append(f"{failed:,} {files} failed in earlier runs; --retry-failed tries again")
    return lines


def of_plan(plan: "IngestPlan") -> list[str]:
    """What an ingest would do, by file."""
    named = {
        "add": plan.added,
        "update": plan.updated,
        "note as copy": plan.copies,
        "remove": plan.removed,
    }
    return [
        *(f"would {what} {path}" for what, paths in named.items() for path in paths),
        *(f"would move {old} to {new}" for old, new in plan.moved),
        *_skipped("would skip", plan.skipped),
        *_failed("would fail", plan.failures),
        f"{plan.unchanged:,} unchanged; nothing was written",
    ]


def of_reembedding(report: "ReembedReport", before: str) -> list[str]:
    """What a re-embedding did; `before` is the model that the library had."""
    model, failures = report.model, len(report.failures)
    files = "file" if failures == 1 else "files"
    computed = f"{report.segments - report.reused:,} vectors computed in {report.seconds:.1f} s"
    if report.reused:
        computed += f", {report.reused:,} kept from an earlier run"
    if report.cancelled:
        return [
            computed,
            f"Stopped before the end: the library has the model {before} as before, and what was "
            "computed is kept. Run the same command again to continue.",
        ]
    if report.switched:
        lines = [computed, f"The library has the model {model} now."]
        if failures:
            lines.append(f"{failures:,} {files} left it; rzen-ingest --retry-failed tries again:")
        return [*lines, *_failed("left out", report.failures)]
    if not failures:
        return [f"The library has the model {model} already; nothing was done."]
    return [
        computed,
        *_failed("missing", report.failures),
        f"{failures:,} {files} could not be read, so the library has the model {before} and its "
        "vectors as before. Run the same command again when they are back, which goes on from "
        "here; or with --leave-out, which switches without them.",
    ]


def of_reembed_plan(plan: "ReembedPlan") -> list[str]:
    """What a re-embedding would do."""
    if plan.same:
        return [f"The library has the model {plan.model} already; nothing would be done."]
    counts = [f"{count:,} {kind}" for kind, count in sorted(plan.segments.items()) if count]
    total = sum(plan.segments.values())
    lines = [f"would compute {total:,} vectors" + (f" ({', '.join(counts)})" if counts else "")]
    if plan.reused:
        lines.append(f"would keep {plan.reused:,} from an earlier run")
    lines += _failed("missing", plan.failures)
    if not plan.failures:
        lines.append("all files that have to be read are there")
    return [*lines, "nothing was written"]


def of_discard(discarded: int, model: str) -> str:
    """What was dropped, and what the library has."""
    return f"{discarded:,} vectors dropped; the library has the model {model} as before."


def _failed(what: str, failures: "Sequence[Failure]") -> Iterator[str]:
    for failure in failures:
        yield f"  {what} {failure.path}: {_with_flag(failure.reason)}"


def _skipped(what: str, skipped: "Sequence[Failure]") -> Iterator[str]:
    """Few by name, many by how they end: a folder of photos may hold as many side files."""
    if len(skipped) <= _NAMED_SKIPS:
        yield from _failed(what, skipped)
        return
    endings: dict[str, Counter[str]] = {}
    for one in skipped:
        endings.setdefault(one.reason, Counter())[one.path.suffix.lower() or "no ending"] += 1
    for reason, counts in endings.items():
        told = [f"{count:,} {ending}" for ending, count in counts.most_common(_NAMED_ENDINGS)]
        told += ["…"] if len(counts) > _NAMED_ENDINGS else []
        yield f"  {what} {counts.total():,} ({', '.join(told)}): {reason}; --json lists them"


def _with_flag(reason: str) -> str:
    """A reason with the flag that raises the limit it speaks of."""
    limit = reason.partition("the limit of")[0]
    flag = next((flag for word, flag in _FLAG_OF_LIMIT.items() if word in limit), None)
    return f"{reason}; raise it with {flag}" if flag and limit != reason else reason
