"""The library's folders as HTML, and how they are kept up to date."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.jobs import JobState
from app.page import labels, macros
from app.texts import _, ngettext
from indexer import IndexedFolder, IngestReport

if TYPE_CHECKING:
    from app.folder_watch import FolderWatch

_html = macros("folders.html")


def folders(indexed: Sequence[IndexedFolder], watch: "FolderWatch", job: JobState) -> str:
    """Return the folders that the library remembers, with what can be done with them.

    Args:
        indexed: The folders.
        watch: Keeps them up to date.
        job: What runs: no other job can be started then, unless that gives way.
    """
    busy = job.running and not job.background
    return _html.folders(
        [_folder(one) for one in indexed], watch.is_on, _watch_lines(watch, job), busy, job.version
    )


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder as the list shows it.

    Attributes:
        id: Its id.
        path: Where it is.
        facts: What there is to say of it, in a few words each.
        absence: What is wrong with it, if anything.
        exclude: The patterns of what is left out.
        question: What to ask before it is removed.
    """

    id: str
    path: str
    facts: list[str]
    absence: str
    exclude: list[str]
    question: str


def _folder(folder: IndexedFolder) -> _Folder:
    path = labels.readable(str(folder.path))
    scanned = folder.scanned_at and _("scanned {when}", when=labels.ago(folder.scanned_at))
    question = ngettext(
        "Remove {path} and its {n} file from the library? On disk it stays. It has to be indexed "
        "again if you add the folder later.",
        "Remove {path} and its {n} files from the library? On disk they stay. They have to be "
        "indexed again if you add the folder later.",
        folder.files,
        path=path,
    )
    return _Folder(
        id=labels.folder_id(folder.path),
        path=path,
        facts=[
            ngettext("{n} file", "{n} files", folder.files),
            scanned or _("not scanned to the end yet"),
        ],
        absence=_absence(folder),
        exclude=[labels.readable(one) for one in folder.exclude],
        question=question,
    )


def _absence(folder: IndexedFolder) -> str:
    if folder.missing:
        return _("missing: renamed or deleted")
    return "" if folder.reachable else _("not connected")


def _watch_lines(watch: "FolderWatch", job: JobState) -> list[str]:
    """Return what keeping the folders up to date has done, and what was wrong, in sentences."""
    if not watch.is_on and not watch.problem:
        return []
    lines = [watch.problem, watch.warning]
    if job.running and job.background:
        lines.append(_("Looking for changes now"))
    elif watch.latest is not None:
        what = " · ".join(_changes(watch.latest.report))
        lines.append(f"{what}, {labels.ago(watch.latest.ended_at)}")
    else:
        lines.append(_("No changes since the page was started"))
    return [labels.sentence(one) for one in lines if one]


def _changes(report: IngestReport) -> list[str]:
    counts = (
        ngettext("{n} file added", "{n} files added", report.added + report.copies),
        ngettext("{n} file updated", "{n} files updated", report.updated),
        ngettext("{n} file moved", "{n} files moved", report.moved),
        ngettext("{n} file removed", "{n} files removed", report.removed),
        ngettext("{n} file failed", "{n} files failed", len(report.failures)),
    )
    numbers = (
        *(report.added + report.copies, report.updated, report.moved, report.removed),
        len(report.failures),
    )
    return [text for text, number in zip(counts, numbers, strict=True) if number]
