"""The library tab as HTML: counts, progress, what an ingest did, and the table of files."""

from collections.abc import Sequence
from html import escape

from app import icons, wording
from app.cards import notice, problem
from app.jobs import IngestState
from embedder.media import Kind
from indexer import Failure, IngestReport, LibraryStats, MediaItem, Progress, Status

_MOST_FAILURES = 200


def stats(counts: LibraryStats) -> str:
    """How much there is of each kind."""
    tiles = "".join(
        f'<div class="rz-tile" data-kind="{kind}">{icons.KINDS[kind]}'
        f"<b>{counts.items.get(kind, 0):,}</b><span>{wording.KIND_PLURALS[kind]}</span></div>"
        for kind in Kind
    )
    extra = [wording.size(counts.bytes)]
    if counts.failed:
        extra.append(f"{wording.counted(counts.failed, 'file')} failed")
    if counts.skipped:
        extra.append(f"{counts.skipped:,} skipped")
    return f'<div class="rz-tiles">{tiles}</div><p class="rz-fine">{" · ".join(extra)}</p>'


def ingest(state: IngestState) -> str:
    """How far the running ingest is, or how the last one ended."""
    if state.running:
        return _running(state)
    if state.error is not None:
        return f'<div data-ingest="ended">{problem(state.error)}</div>'
    if state.report is not None:
        return _report(state.title, state.report)
    return '<div data-ingest="idle"></div>'


def _running(state: IngestState) -> str:
    progress = state.progress
    share = progress.done / progress.total if progress and progress.total else 0.0
    known = progress is not None and progress.stage != "scan" and progress.total > 0
    bar = f'style="width:{100 * share:.1f}%"' if known else 'class="rz-unknown"'
    aria = f'aria-valuenow="{100 * share:.0f}"' if known else ""
    button = "Stopping…" if state.cancelling else "Cancel"
    disabled = " disabled" if state.cancelling else ""
    return (
        '<section class="rz-progress" data-ingest="running" aria-label="Adding files">'
        f'<header><h3>{escape(state.title)}</h3><button type="button" class="rz-button" '
        f'data-cancel="ingest"{disabled}>{button}</button></header>'
        f'<div class="rz-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" {aria}>'
        f"<i {bar}></i></div>"
        f'<p class="rz-fine">{_numbers(progress)}</p>'
        f'<p class="rz-fine rz-current">{_current(progress)}</p></section>'
    )


def _numbers(progress: Progress | None) -> str:
    if progress is None:
        return "Starting…"
    if progress.stage == "scan":
        return f"Looking through folders: {wording.counted(progress.total, 'file')} so far"
    if progress.stage == "finish":
        return "Finishing…"
    told = [f"{progress.done:,} of {wording.counted(progress.total, 'file')}"]
    if progress.rate >= 0.05:
        told.append(f"{progress.rate:.1f} per second")
    if progress.remaining is not None:
        told.append(f"about {wording.duration(progress.remaining)} left")
    if progress.failures:
        told.append(f"{progress.failures:,} failed")
    return " · ".join(told)


def _current(progress: Progress | None) -> str:
    return escape(progress.path.name) if progress and progress.path else "&nbsp;"


def _report(title: str, report: IngestReport) -> str:
    counts = [
        (report.added, "added"),
        (report.updated, "updated"),
        (report.moved, "moved"),
        (report.copies, "copies of files already here"),
        (report.removed, "no longer there"),
        (report.unchanged, "unchanged"),
        (len(report.skipped), "skipped"),
        (len(report.failures), "failed"),
    ]
    told = ", ".join(f"{count:,} {what}" for count, what in counts if count) or "nothing to do"
    lead = "Stopped early; add the files again to go on. " if report.cancelled else ""
    took = wording.duration(report.seconds)
    near = report.near_duplicates
    look_alike = f" {wording.counted(near, 'group')} of pictures look the same." if near else ""
    sentence = f"{lead}{told[0].upper()}{told[1:]} in {took}.{look_alike}"
    tone = "plain" if report.failures or report.cancelled else "good"
    heading = "Stopped" if report.cancelled else f"{title}: done"
    body = notice(heading, sentence, tone=tone)
    return f'<div data-ingest="ended">{body}{failures(report.failures)}</div>'


def refusal(sentence: str, state: IngestState) -> str:
    """Why nothing was started, above what runs."""
    return f"{problem(sentence)}{ingest(state) if state.running else ''}"


def removed(count: int) -> str:
    """What a removal did."""
    told = f"{wording.counted(count, 'file')} removed from the library."
    return f'<div data-ingest="ended">{notice("Removed", told, tone="good")}</div>'


def failures(found: Sequence[Failure]) -> str:
    """The files that did not get in, with the reason and a way to try again."""
    if not found:
        return ""
    rows = "".join(
        f'<tr><td class="rz-name">{escape(failure.path.name)}</td>'
        f"<td>{escape(failure.reason)}</td></tr>"
        for failure in found[:_MOST_FAILURES]
    )
    rest = len(found) - _MOST_FAILURES
    more = f'<p class="rz-fine">… and {rest:,} more, listed below.</p>' if rest > 0 else ""
    return (
        '<div class="rz-failures"><table class="rz-table"><caption>These files did not get in'
        f"</caption><thead><tr><th>File</th><th>Reason</th></tr></thead><tbody>{rows}</tbody>"
        f'</table>{more}<button type="button" class="rz-button" data-retry="failed">'
        "Try the failed files again</button></div>"
    )


def files(items: Sequence[MediaItem], *, status: Status, name: str, offset: int, more: bool) -> str:
    """A page of the table of files."""
    if not items:
        return f'<p class="rz-empty">{_no_files(status, name, offset)}</p>'
    rows = "".join(map(_row, items))
    last = "Reason" if status is not Status.INDEXED else "Found in it"
    turn = _pager(offset, len(items), more)
    return (
        '<div class="rz-scroll"><table class="rz-table"><thead><tr><th class="rz-check">'
        '<input type="checkbox" data-check="all" aria-label="Select all"></th><th>Name</th>'
        f"<th>Kind</th><th>Size</th><th>{last}</th></tr></thead><tbody>{rows}</tbody></table>"
        f"</div>{turn}"
    )


def _no_files(status: Status, name: str, offset: int) -> str:
    if name:
        return f"No file here has “{escape(name)}” in its name."
    if offset:
        return "There are no further files."
    told = {
        Status.INDEXED: "No files yet. Add a folder above.",
        Status.FAILED: "No file has failed.",
        Status.SKIPPED: "No file was skipped.",
    }
    return told[status]


def _row(item: MediaItem) -> str:
    name = escape(item.name)
    parent = escape(item.path.parent.name)
    told = escape(item.error or "")
    if item.status is Status.INDEXED:
        told = _contents(item)
    return (
        f'<tr><td class="rz-check"><input type="checkbox" data-item="{item.id}" '
        f'aria-label="Select {name}"></td><td class="rz-name">{name}<small>{parent}</small></td>'
        f"<td>{wording.kind_name(item)}</td><td>{wording.size(item.size)}</td><td>{told}</td></tr>"
    )


def _contents(item: MediaItem) -> str:
    nouns = {Kind.VIDEO: "clip", Kind.PDF: "page", Kind.TEXT: "passage"}
    return wording.counted(item.segments, nouns[item.kind]) if item.kind in nouns else "1 picture"


def _pager(offset: int, shown: int, more: bool) -> str:
    if not more and not offset:
        return ""
    back = f'data-files="{max(0, offset - 50)}"' if offset else "disabled"
    on = f'data-files="{offset + shown}"' if more else "disabled"
    return (
        f'<nav class="rz-turn" aria-label="Files"><button type="button" class="rz-icon" '
        f'aria-label="Previous files" {back}>{icons.BACK}</button><span>{offset + 1:,} – '
        f'{offset + shown:,}</span><button type="button" class="rz-icon" aria-label="Next files" '
        f"{on}>{icons.FORWARD}</button></nav>"
    )
