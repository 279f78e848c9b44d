"""The command `python -m indexer.admin`, also installed as `rzen-admin`: maintain a library.

Exit status: 0 on success, 1 if there are faults (after a repair: still), 2 if the command cannot be
carried out, 130 if it was stopped.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.cli import (
    CommandParser,
    ProgressBar,
    add_options,
    note,
    prepare_output,
    print_result,
    refuse,
)
from indexer.config import default_library

if TYPE_CHECKING:
    from indexer.maintenance.backup import BackupReport
    from indexer.maintenance.check import Finding
    from indexer.maintenance.stats import LibraryInventory, Probabilities
    from indexer.progress import Progress
    from indexer.vectors import Description

    OnProgress = Callable[[Progress], None] | None

_PROGRAM = "rzen-admin"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = CommandParser(
        prog=_PROGRAM, description="Check, repair, compact and back up a library."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        description = f"{summary[0].upper()}{summary[1:]}."
        added = commands.add_parser(name, help=summary, description=description)
        add_options(added, "--library", "--json")
        return added

    def add_files_option(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--files",
            action="store_true",
            help="also read all files and compare them with what was indexed",
        )

    command("stats", "show what the library contains and how much disk space it uses")
    add_files_option(command("check", "look for faults without changing anything"))
    repair = command("repair", "repair what a check finds; never deletes your files")
    add_files_option(repair)
    repair.add_argument("--dry-run", action="store_true", help="only print what would be repaired")
    command("compact", "reclaim unused disk space")
    backup = command("backup", "copy the library, which may be in use meanwhile")
    backup.add_argument("target", metavar="TARGET", type=Path, help="folder to create")
    restore = command("restore", "verify a backup and restore it")
    restore.add_argument("source", metavar="SOURCE", type=Path, help="folder of the backup")
    restore.add_argument(
        "--replace",
        action="store_true",
        help="replace an existing library, which is kept under another name",
    )
    restore.add_argument("--dry-run", action="store_true", help="only verify the backup")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    arguments = parser().parse_args(argv)
    prepare_output()
    from indexer.errors import IndexerError

    try:
        with ProgressBar("steps", shown=not arguments.json) as bar:
            status, lines, answer = _COMMANDS[arguments.command](arguments, bar.show)
    except IndexerError as error:
        return refuse(_PROGRAM, error)
    except KeyboardInterrupt:
        note(f"{_PROGRAM}: stopped; the library is consistent")
        return 130
    print_result(answer, lines, as_json=arguments.json)
    return status


_Answer = tuple[int, list[str], dict[str, Any]]
"""Exit status, lines for a person, and an object for `--json`."""


def _stats(arguments: argparse.Namespace, _on_progress: "OnProgress") -> _Answer:
    from indexer.maintenance.stats import inventory
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(arguments), read_only=True) as files:
        found = inventory(files)
    return 0, _inventory_lines(found), asdict(found)


def _inventory_lines(found: "LibraryInventory") -> list[str]:
    holdings = found.holdings
    unusable = [(holdings.skipped, "skipped"), (holdings.failed, "failed")]
    counts = [f"{sum(holdings.items.values()):,} indexed{_by_kind(holdings.items)}"]
    counts += [f"{count:,} {what}" for count, what in unusable if count]
    sizes = [f"{name} {_size(size)}" for name, size in found.bytes.items()]
    lines = [
        f"library     {found.directory}",
        f"files       {', '.join(counts)}",
        f"segments    {sum(holdings.segments.values()):,}{_by_kind(holdings.segments)}",
        f"model       {found.model or 'none yet'}"
        + (f", {found.dim} dimensions" if found.dim else ""),
        f"on disk     {_size(sum(found.bytes.values()))}: {', '.join(sizes)}",
        f"generation  {found.generation}; schema version {found.schema}",
    ]
    if found.saved_generation is None and found.dim:
        lines.append("index       not saved; the next search builds it")
    elif found.saved_generation != found.generation and found.dim:
        lines.append(
            f"index       saved at generation {found.saved_generation}; the next search updates it"
        )
    lines += [
        f"search      {kind}: {_how_searched(one)}" for kind, one in sorted(found.searching.items())
    ]
    lines += [f"probability {_how_likely(one)}" for one in found.probabilities]
    if found.dim and not found.probabilities:
        lines.append("probability unknown: the model is not on this machine, or of another version")
    if found.pending:
        lines.append(f"unfinished  {found.pending:,} vectors of another model; see rzen-reembed")
    if found.removals:
        lines.append(f"tombstones  {found.removals:,} removed segments")
    lines.append(f"reclaimable {_size(found.reclaimable)} in the database, by rzen-admin compact")
    return lines


def _how_searched(description: "Description") -> str:
    """Return how the vectors of a kind are searched, and the recall measured at its build."""
    if description.tuning is None:
        return f"exact, {description.vectors:,} vectors"
    return (
        f"{description.tuning.probes:,} of {description.lists:,} lists of "
        f"{description.vectors:,} vectors, {description.tuning.candidates[0]:,} compared exactly; "
        f"recall@10 {100 * description.tuning.recall[0]:.1f} % when it was built"
    )


def _how_likely(one: "Probabilities") -> str:
    """Return where the probabilities of a pair come from, and how good they were found to be."""
    pair, measured = f"{one.query} → {one.kind}: {one.origin}", one.reliability
    if measured is None:
        return pair
    return (
        f"{pair}; strong hits for {100 * measured.false:.1f} % of {measured.absent:,} queries "
        f"without a match and {100 * measured.found:.0f} % of {measured.present:,} with one; "
        f"calibration error {measured.error:.3f}"
    )


def _by_kind(counts: Mapping[Any, int]) -> str:
    listed = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()) if count)
    return f" ({listed})" if listed else ""


def _check(arguments: argparse.Namespace, on_progress: "OnProgress") -> _Answer:
    from indexer.maintenance.check import check
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(arguments), read_only=True) as files:
        report = check(files, read_files=arguments.files, on_progress=on_progress)
    summary = f"{_kinds(report.faults)} found" if report.faults else "no faults found"
    lines = [*_finding_lines(report.findings), f"{summary} in {report.seconds:.1f} s"]
    return int(bool(report.faults)), lines, asdict(report) | _objects(findings=report.findings)


def _finding_lines(findings: "Sequence[Finding]") -> list[str]:
    lines: list[str] = []
    for one in findings:
        level = "left over" if one.fault.harmless else "FAULT"
        level = "note" if one.fault == "files-not-connected" else level
        counted = f"{one.count:,} {one.fault.what}" if one.count > 1 else one.fault.what
        lines.append(f"{level}: {counted}")
        lines += [f"    {example}" for example in one.examples]
        if one.examples and one.count > len(one.examples):
            lines.append(f"    and {one.count - len(one.examples):,} more")
        lines.append(f"    fix: {one.fault.remedy}")
    return lines


def _kinds(faults: "Sequence[Finding]") -> str:
    return f"{len(faults)} {'kind' if len(faults) == 1 else 'kinds'} of faults"


def _objects(**findings: "Sequence[Finding]") -> dict[str, Any]:
    return {
        name: [
            asdict(one)
            | {"what": one.fault.what, "remedy": one.fault.remedy, "harmless": one.fault.harmless}
            for one in some
        ]
        for name, some in findings.items()
    }


def _repair(arguments: argparse.Namespace, on_progress: "OnProgress") -> _Answer:
    from indexer.maintenance.repair import repair
    from indexer.maintenance.storage import open_storage

    dry = arguments.dry_run
    with open_storage(_directory(arguments), read_only=dry) as files:
        report = repair(files, read_files=arguments.files, dry=dry, on_progress=on_progress)
    faults = [one for one in (report.found if dry else report.left) if not one.fault.harmless]
    if dry:
        lines = [*_finding_lines(report.found), "nothing was written"]
    else:
        left = {one.fault for one in report.left}
        lines = [f"repaired: {one.fault.what}" for one in report.found if one.fault not in left]
        if report.marked:
            lines.append(
                f"{report.marked:,} files have to be indexed again: rzen-ingest --retry-failed"
            )
        lines += [*_finding_lines(report.left), f"{_kinds(faults)} left"]
    answer = asdict(report) | _objects(found=report.found, left=report.left)
    return int(bool(faults)), lines if report.found else ["no faults found"], answer


def _compact(arguments: argparse.Namespace, on_progress: "OnProgress") -> _Answer:
    from indexer.maintenance.compact import compact
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(arguments)) as files:
        report = compact(files, on_progress=on_progress)
    counts = {
        "tombstones": report.removals,
        "vectors of a former model": report.vectors,
        "contents without a file": report.contents,
        "orphaned thumbnails": report.thumbnails,
    }
    dropped = [f"{count:,} {what}" for what, count in counts.items() if count]
    lines = [f"deleted {', '.join(dropped)}"] if dropped else []
    lines.append(
        f"{_size(report.before)} before, {_size(report.after)} now, in {report.seconds:.1f} s"
        + ("" if report.rewritten else "; the database has too little free space to rewrite it")
    )
    return 0, lines, asdict(report)


def _backup(arguments: argparse.Namespace, on_progress: "OnProgress") -> _Answer:
    from indexer.maintenance.backup import back_up
    from indexer.maintenance.storage import open_storage

    with open_storage(_directory(arguments), read_only=True) as files:
        report = back_up(files, arguments.target, on_progress=on_progress)
    lines = [f"{_backup_size(report)} copied to {report.target} and verified"]
    lines += [f"    missing: {name}" for name in report.missing]
    return int(bool(report.missing)), lines, asdict(report)


def _restore(arguments: argparse.Namespace, on_progress: "OnProgress") -> _Answer:
    from indexer.maintenance.backup import restore, verify

    source, directory = arguments.source, _directory(arguments)
    if arguments.dry_run:
        report = verify(source, on_progress=on_progress)
        return 0, [f"{_backup_size(report)}: the backup is intact"], asdict(report)
    report = restore(source, directory, replace=arguments.replace, on_progress=on_progress)
    lines = [f"{_backup_size(report)} restored to {report.target}"]
    if report.kept:
        lines.append(f"The former library is now in {report.kept}")
    return 0, lines, asdict(report)


def _backup_size(report: "BackupReport") -> str:
    return f"a library of {report.items:,} files ({_size(report.bytes)}, {report.seconds:.1f} s)"


def _directory(arguments: argparse.Namespace) -> Path:
    directory: Path = arguments.library or default_library()
    return directory


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Any], _Answer]] = {
    "stats": _stats,
    "check": _check,
    "repair": _repair,
    "compact": _compact,
    "backup": _backup,
    "restore": _restore,
}


if __name__ == "__main__":
    sys.exit(main())
