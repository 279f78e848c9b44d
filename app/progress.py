"""How far a job is and what it did, as HTML for the library tab."""

from collections.abc import Sequence

from app import wording
from app.cards import notice, problem
from app.jobs import JobState
from app.models import offer_id, short_name
from app.wording import escape
from indexer import Failure, IngestReport, Progress, ReembedReport

_MOST_FAILURES = 200
_RETRY = (
    '<button type="button" class="rz-button" data-retry="failed">Try the failed files again'
    "</button>"
)


def job(state: JobState, refused: str = "") -> str:
    """How far the running job is, or how the last one ended; above it why another did not start."""
    if refused:
        return problem(refused) + (_running(state) if state.running else "")
    if state.running:
        return _running(state)
    if state.error is not None:
        return ended(problem(state.error))
    if isinstance(state.report, IngestReport):
        return _ingested(state.title, state.report)
    if state.report is not None:
        return _reembedded(state.report)
    return '<div data-ingest="idle"></div>'


def removed(count: int) -> str:
    """What a removal did."""
    told = f"{wording.counted(count, 'file')} removed from the library."
    return ended(notice("Removed", told, tone="good"))


def ended(body: str) -> str:
    """What is left to read when nothing runs any more; `body` is trusted HTML."""
    return f'<div data-ingest="ended">{body}</div>'


def _running(state: JobState) -> str:
    progress = state.progress
    share = progress.done / progress.total if progress and progress.total else 0.0
    known = progress is not None and progress.stage != "scan" and progress.total > 0
    bar = f'style="width:{100 * share:.1f}%"' if known else 'class="rz-unknown"'
    aria = f'aria-valuenow="{100 * share:.0f}"' if known else ""
    button = "Stopping…" if state.cancelling else "Cancel"
    disabled = " disabled" if state.cancelling else ""
    title = escape(state.title)
    return (
        f'<section class="rz-progress" data-ingest="running" aria-label="{title}">'
        f'<header><h3>{title}</h3><button type="button" class="rz-button" '
        f'data-cancel="ingest"{disabled}>{button}</button></header>'
        f'<div class="rz-bar" role="progressbar" aria-label="{title}" aria-valuemin="0" '
        f'aria-valuemax="100" {aria}><i {bar}></i></div>'
        f'<p class="rz-fine">{_numbers(progress)}</p>'
        f'<p class="rz-fine rz-current">{_current(progress)}</p></section>'
    )


def _numbers(progress: Progress | None) -> str:
    match progress.stage if progress else None:
        case None:
            return "Starting…"
        case "switch":
            return "Switching over…"
        case "finish":
            return "Finishing…"
    assert progress is not None
    if progress.stage == "scan":
        return f"Looking through folders: {wording.counted(progress.total, 'file')} so far"
    noun = "segment" if progress.stage == "reembed" else "file"
    told = [f"{progress.done:,} of {wording.counted(progress.total, noun)}"]
    if progress.rate >= 0.05:
        told.append(f"{progress.rate:.1f} per second")
    if progress.remaining is not None:
        told.append(f"about {wording.duration(progress.remaining)} left")
    if progress.failures:
        told.append(f"{progress.failures:,} failed")
    return " · ".join(told)


def _current(progress: Progress | None) -> str:
    return escape(progress.path.name) if progress and progress.path else "&nbsp;"


def _ingested(title: str, report: IngestReport) -> str:
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
    return ended(body + _failures(report.failures, "These files did not get in", _RETRY))


def _reembedded(report: ReembedReport) -> str:
    model = short_name(report.model)
    kept = f", {report.reused:,} of them before" if report.reused else ""
    computed = f"{wording.counted(report.segments, 'vector')} computed{kept}"
    took = wording.duration(report.seconds)
    if report.switched:
        sentence = f"{computed} in {took}."
        if report.failures:
            files = wording.counted(len(report.failures), "file")
            sentence += f" {files} could not be read: found among the failed files from now on."
        body = notice(f"The library has the model {model} now", sentence, tone="good")
        return ended(body + _failures(report.failures, "These files were left out", _RETRY))
    if report.cancelled:
        sentence = (
            f"{computed} so far. They are kept: choose {model} again to go on. The library still "
            "has its old model."
        )
        return ended(notice("Stopped", sentence))
    if not report.failures:
        return ended(notice("Nothing to do", f"The library has the model {model} already."))
    count = wording.counted(len(report.failures), "file")
    sentence = (
        f"{computed}, but {count} could not be read. The library still has its old model. Bring "
        "the files back and compute again, which goes on from here; or switch without them."
    )
    without = (
        f'<button type="button" class="rz-button" data-reembed="{offer_id(report.model)}" '
        'data-leave-out="yes">Switch without them</button>'
    )
    body = notice(f"Not switched to {model} yet", sentence)
    return ended(body + _failures(report.failures, "These files are missing", without))


def _failures(found: Sequence[Failure], caption: str, action: str = "") -> str:
    """Files with the reason why not, and what to do; `action` is trusted HTML."""
    if not found:
        return ""
    rows = "".join(
        f'<tr><td class="rz-name">{escape(failure.path.name)}</td>'
        f"<td>{escape(failure.reason)}</td></tr>"
        for failure in found[:_MOST_FAILURES]
    )
    rest = len(found) - _MOST_FAILURES
    more = f'<p class="rz-fine">… and {rest:,} more.</p>' if rest > 0 else ""
    return (
        f'<div class="rz-failures"><table class="rz-table"><caption>{caption}'
        f"</caption><thead><tr><th>File</th><th>Reason</th></tr></thead><tbody>{rows}</tbody>"
        f"</table>{more}{action}</div>"
    )
