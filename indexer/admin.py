"""`python -m indexer.admin`: looks after a library.

Exit status: 0 when all is well, 1 if there are faults (after a repair: still), 2 if the command
cannot be carried out, 130 if it was stopped.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.cli import ProgressBar, print_any_name, print_json
from indexer.config import default_library

if TYPE_CHECKING:
    from indexer.maintenance.backup import BackupReport
    from indexer.maintenance.check import Finding
    from indexer.maintenance.stats import Inventory
    from indexer.types import Progress
    from indexer.vectors import Description

    Tell = Callable[[Progress], None] | None


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="rzen-admin", description="Look after a library: check, mend, shrink, back it up."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--library", metavar="DIR", type=Path, help="the library's folder")
    common.add_argument("--json", action="store_true", help="print the result as an object")
    read_files = argparse.ArgumentParser(add_help=False)
    read_files.add_argument(
        "--files",
        action="store_true",
        help="also read all files again and compare them with what was taken in",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, does: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=does, description=f"{does[0].upper()}{does[1:]}.", parents=[common, *parents]
        )

    command("stats", "say what the library holds and how much room it takes")
    command("check", "look for faults; reads only, beside whatever else is going on", read_files)
    repair = command("repair", "mend what a check finds; deletes no file of yours", read_files)
    repair.add_argument("--dry-run", action="store_true", help="only say what would be mended")
    command("compact", "give back the room that nothing needs any more")
    backup = command("backup", "copy the library, which may be in use meanwhile")
    backup.add_argument("target", metavar="TARGET", type=Path, help="a folder that does not exist")
    restore = command("restore", "read a backup, and put it back if it is as it was written")
    restore.add_argument("source", metavar="SOURCE", type=Path, help="the backup's folder")
    restore.add_argument(
        "--replace",
        action="store_true",
        help="put aside the library that is there, under another name",
    )
    restore.add_argument("--dry-run", action="store_true", help="only read and check the backup")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = parser().parse_args(arguments)
    print_any_name()
    from indexer.errors import IndexerError

    try:
        with ProgressBar("steps", shown=not given.json) as bar:
            status, lines, answer = _COMMANDS[given.command](given, bar.show)
    except IndexerError as error:
        print(f"rzen-admin: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rzen-admin: stopped; the library is whole", file=sys.stderr)
        return 130
    if given.json:
        print_json(answer)
    else:
        print("\n".join(lines), flush=True)
    return status


_Answer = tuple[int, list[str], dict[str, Any]]


def _stats(given: argparse.Namespace, _tell: "Tell") -> _Answer:
    from indexer.maintenance.stats import inventory
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(given), read_only=True) as place:
        found = inventory(place)
    return 0, _told_inventory(found), asdict(found)


def _told_inventory(found: "Inventory") -> list[str]:
    holdings = found.holdings
    others = [(holdings.skipped, "skipped"), (holdings.failed, "failed")]
    files = [f"{sum(holdings.items.values()):,} indexed{_by_kind(holdings.items)}"]
    files += [f"{count:,} {what}" for count, what in others if count]
    sizes = [f"{name} {_size(size)}" for name, size in found.bytes.items()]
    lines = [
        f"library     {found.directory}",
        f"files       {', '.join(files)}",
        f"segments    {sum(holdings.segments.values()):,}{_by_kind(holdings.segments)}",
        f"model       {found.model or 'none yet'}"
        + (f", {found.dim} numbers a vector" if found.dim else ""),
        f"on disk     {_size(sum(found.bytes.values()))}: {', '.join(sizes)}",
        f"generation  {found.generation}; tables at step {found.schema}",
    ]
    if found.saved_generation is None and found.dim:
        lines.append("index       not saved; the next search makes it")
    elif found.saved_generation != found.generation and found.dim:
        lines.append(f"index       of generation {found.saved_generation}; it is caught up")
    lines += [f"searched    {kind}: {_how(one)}" for kind, one in sorted(found.searching.items())]
    if found.pending:
        lines.append(f"unfinished  {found.pending:,} vectors of another model; see rzen-reembed")
    if found.removals:
        lines.append(f"removals    {found.removals:,} noted")
    lines.append(f"to be freed {_size(found.reclaimable)} in the database, by rzen-admin compact")
    return lines


def _how(said: "Description") -> str:
    """How a kind is searched, and how thoroughly, as was measured when its index was built."""
    if said.tuning is None:
        return f"each of {said.vectors:,} vectors is compared"
    return (
        f"{said.tuning.probes:,} of {said.lists:,} lists of {said.vectors:,} vectors, then "
        f"{said.tuning.candidates[0]:,} vectors exactly; found at least "
        f"{100 * said.tuning.recall[0]:.1f} % of the nearest 10 when it was built"
    )


def _by_kind(counts: Any) -> str:
    told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()) if count)
    return f" ({told})" if told else ""


def _check(given: argparse.Namespace, tell: "Tell") -> _Answer:
    from indexer.maintenance.check import check
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(given), read_only=True) as place:
        report = check(place, read_files=given.files, on_progress=tell)
    if report.faults:
        end = f"{_kinds(report.faults)} found in {report.seconds:.1f} s"
    else:
        end = f"no faults found in {report.seconds:.1f} s"
    lines = [*_told(report.findings), end]
    return int(bool(report.faults)), lines, asdict(report) | _objects(findings=report.findings)


def _told(findings: "Sequence[Finding]") -> list[str]:
    lines: list[str] = []
    for one in findings:
        level = "left over" if one.harmless else "FAULT"
        lines.append(
            f"{level}: {one.count:,} {one.what}" if one.count > 1 else f"{level}: {one.what}"
        )
        lines += [f"    {example}" for example in one.examples]
        if one.examples and one.count > len(one.examples):
            lines.append(f"    and {one.count - len(one.examples):,} more")
        lines.append(f"    mended by: {one.remedy}")
    return lines


def _kinds(faults: "Sequence[Finding]") -> str:
    return f"{len(faults)} {'kind' if len(faults) == 1 else 'kinds'} of faults"


def _objects(**findings: "Sequence[Finding]") -> dict[str, Any]:
    return {
        name: [
            asdict(one) | {"what": one.what, "remedy": one.remedy, "harmless": one.harmless}
            for one in some
        ]
        for name, some in findings.items()
    }


def _repair(given: argparse.Namespace, tell: "Tell") -> _Answer:
    from indexer.maintenance.repair import repair
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(given), read_only=given.dry_run) as place:
        report = repair(place, read_files=given.files, dry=given.dry_run, on_progress=tell)
    remaining = report.found if report.dry else report.left
    faults = [one for one in remaining if not one.harmless]
    if report.dry:
        lines = [*_told(report.found), "nothing was written"]
    else:
        lines = [f"mended: {one.what}" for one in _without(report.found, report.left)]
        if report.marked:
            lines.append(
                f"{report.marked:,} files have to be taken in again: rzen-ingest --retry-failed"
            )
        lines += [*_told(report.left), f"{_kinds(faults)} left"]
    answer = asdict(report) | _objects(found=report.found, left=report.left)
    return int(bool(faults)), lines if report.found else ["no faults found"], answer


def _without(found: "Sequence[Finding]", left: "Sequence[Finding]") -> "list[Finding]":
    remaining = {one.fault for one in left}
    return [one for one in found if one.fault not in remaining]


def _compact(given: argparse.Namespace, tell: "Tell") -> _Answer:
    from indexer.maintenance.compact import compact
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(given)) as place:
        report = compact(place, on_progress=tell)
    counts = {
        "notes of removals": report.removals,
        "vectors of a former model": report.vectors,
        "contents without a file": report.contents,
        "left-over thumbnails": report.thumbnails,
    }
    dropped = [f"{count:,} {what}" for what, count in counts.items() if count]
    lines = [f"dropped {', '.join(dropped)}"] if dropped else []
    lines.append(
        f"{_size(report.before)} before, {_size(report.after)} now, in {report.seconds:.1f} s"
        + ("" if report.rewritten else "; the database had no room worth giving back")
    )
    return 0, lines, asdict(report)


def _backup(given: argparse.Namespace, tell: "Tell") -> _Answer:
    from indexer.maintenance.backup import back_up
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(given), read_only=True) as place:
        report = back_up(place, given.target, on_progress=tell)
    lines = [f"{_told_backup(report)} copied to {report.target} and compared"]
    lines += [f"    was not there: {name}" for name in report.missing]
    return int(bool(report.missing)), lines, asdict(report)


def _restore(given: argparse.Namespace, tell: "Tell") -> _Answer:
    from indexer.maintenance.backup import restore, verify

    if given.dry_run:
        report = verify(given.source, on_progress=tell)
        return 0, [f"{_told_backup(report)}: the backup is as it was written"], asdict(report)
    report = restore(given.source, _directory(given), replace=given.replace, on_progress=tell)
    lines = [f"{_told_backup(report)} restored to {report.target}"]
    if report.kept:
        lines.append(f"The library that was there is now {report.kept}")
    return 0, lines, asdict(report)


def _told_backup(report: "BackupReport") -> str:
    return f"a library of {report.items:,} files ({_size(report.bytes)}, {report.seconds:.1f} s)"


def _directory(given: argparse.Namespace) -> Path:
    directory: Path = given.library or default_library()
    return directory


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


_COMMANDS: dict[str, Callable[[argparse.Namespace, Any], _Answer]] = {
    "stats": _stats,
    "check": _check,
    "repair": _repair,
    "compact": _compact,
    "backup": _backup,
    "restore": _restore,
}


if __name__ == "__main__":
    sys.exit(main())
