"""What an ingest did, or would do, in lines for the person who asked for it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.reports import Failure, IngestPlan, IngestReport

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
