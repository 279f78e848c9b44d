"""What a command did, or would do, in lines for the person who asked for it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.reports import Failure, IngestPlan, IngestReport, ReembedPlan, ReembedReport

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
