"""The library tab as HTML: counts, files, the job, and the model, with the page's header."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.jobs import JobState
from app.models import ActiveModel, Offer, described, download_host, offer_id
from app.page import labels, macros
from app.page.results import problem
from app.search import FileFilter
from embedder.interface import ModelSpec
from embedder.media import MEDIA_KINDS
from indexer import IngestReport, LibraryStats, MediaItem, Progress, ReembedReport, Status

_MAX_FAILURES = 200
_MIN_SHOWN_RATE = 0.05

_page = macros("page.html")
_html = macros("library.html")


# ---- counts and files


def state(version: int, counts: LibraryStats, folders: Sequence[labels.FolderChoice]) -> str:
    """Return what the script needs to know: counts, and the folders to filter by.

    Args:
        version: Changes when the script has to request the table of files again.
        counts: The library's.
        folders: Its folders.
    """
    known = {
        "version": version,
        "files": sum(counts.items.values()),
        "failed": counts.failed,
        "folders": [{"id": one.id, "name": one.name, "files": one.files} for one in folders],
    }
    return _html.state(json.dumps(known))


def stats(counts: LibraryStats) -> str:
    """Return how much there is of each kind."""
    return _html.stats(counts)


def files(items: Sequence[MediaItem], chosen: FileFilter) -> str:
    """Return a page of the table of files.

    Args:
        items: The files, one more than fits if there are more.
        chosen: Which page it is.
    """
    if not items:
        return _html.no_files(_no_files(chosen))
    indexed, more = chosen.status is Status.INDEXED, len(items) > chosen.limit
    return _html.files(
        items[: chosen.limit],
        indexed,
        labels.kind_name,
        _contents,
        chosen.offset,
        chosen.limit,
        more,
    )


def _no_files(chosen: FileFilter) -> str:
    if chosen.name:
        return f"No file here has “{chosen.name}” in its name."
    if chosen.offset:
        return "There are no further files."
    return {
        Status.INDEXED: "No files yet. Add a folder above.",
        Status.FAILED: "No file has failed.",
        Status.SKIPPED: "No file was skipped.",
    }[chosen.status]


def _contents(item: MediaItem) -> str:
    return labels.counted(item.segments, MEDIA_KINDS[item.kind].unit) if item.kind else ""


# ---- the job


def job(state: JobState, refusal: str = "") -> str:
    """Return the running job's progress, or how the last one ended.

    Args:
        state: The job's.
        refusal: Why another one was not started.
    """
    refused = problem(refusal) if refusal else ""
    if state.running:
        return refused + _running(state)
    if refusal:
        return f'<div data-ingest="ended">{refused}</div>'
    if state.error is not None:
        error = labels.sentence(state.error)
        if state.progress is not None and state.progress.stage == "download":
            error += " The library still uses its old model."
        return f'<div data-ingest="ended">{problem(error)}</div>'
    if isinstance(state.report, IngestReport):
        return _ingested(state.title, state.report)
    if state.report is not None:
        return _reembedded(state.report, state.progress)
    return _html.idle()


def removed(count: int) -> str:
    """Return what a removal did."""
    text = f"{labels.counted(count, 'file')} removed from the library."
    return _html.ended("Removed", text, "good")


def _running(state: JobState) -> str:
    progress = state.progress
    share = None
    if progress is not None and progress.stage != "scan" and progress.total > 0:
        share = progress.done / progress.total
    return _html.running(state, share, _numbers(progress))


def _numbers(progress: Progress | None) -> str:
    if progress is None:
        return "Starting…"
    match progress.stage:
        case "download":
            return _downloading(progress)
        case "switch":
            return "Switching over…"
        case "finish":
            return "Finishing…"
        case "scan":
            return f"Scanning folders: {labels.counted(progress.total, 'file')} so far"
    noun = "segment" if progress.stage == "reembed" else "file"
    parts = [f"{progress.done:,} of {labels.counted(progress.total, noun)}"]
    if progress.rate >= _MIN_SHOWN_RATE:
        parts.append(f"{progress.rate:.1f} per second")
    parts += _time_left(progress)
    if progress.failures:
        parts.append(f"{progress.failures:,} failed")
    return " · ".join(parts)


def _downloading(progress: Progress) -> str:
    parts = [f"Step 1 of 2, downloading: {_arrived(progress.done, progress.total)}"]
    if progress.rate >= 1:
        parts.append(f"{labels.size(progress.rate)} per second")
    return " · ".join(parts + _time_left(progress))


def _time_left(progress: Progress) -> list[str]:
    if progress.remaining is None:
        return []
    return [f"about {labels.duration(progress.remaining)} left"]


def _arrived(done: int, total: int) -> str:
    """Format how many bytes of all are on this machine; a total of 0 is not known."""
    return f"{labels.size(done)} of {labels.size(total)}" if total else labels.size(done)


def _ingested(title: str, report: IngestReport) -> str:
    counts = [
        (report.added, "added"),
        (report.updated, "updated"),
        (report.moved, "moved"),
        (report.copies, "duplicates of files already here"),
        (report.removed, "no longer there"),
        (report.unchanged, "unchanged"),
        (len(report.skipped), "skipped"),
        (len(report.failures), "failed"),
    ]
    summary = ", ".join(f"{count:,} {what}" for count, what in counts if count) or "nothing to do"
    lead = "Stopped early; add the files again to continue. " if report.cancelled else ""
    text = f"{lead}{summary[0].upper()}{summary[1:]} in {labels.duration(report.seconds)}."
    if report.near_duplicates:
        text += f" {labels.counted(report.near_duplicates, 'group')} of pictures look the same."
    return _html.ended(
        "Stopped" if report.cancelled else f"{title}: done",
        text,
        "plain" if report.failures or report.cancelled else "good",
        report.failures,
        _MAX_FAILURES,
        "These files could not be added",
    )


def _reembedded(report: ReembedReport, progress: Progress | None) -> str:
    model = ModelSpec.parse(report.model).short
    downloaded = progress if progress and progress.stage == "download" else None
    if report.cancelled and downloaded:
        return _download_stopped(model, downloaded)
    reused = f", {report.reused:,} of them before" if report.reused else ""
    computed = f"{labels.counted(report.segments, 'vector')} computed{reused}"
    missing = labels.counted(len(report.failures), "file")
    failures = (report.failures, _MAX_FAILURES)
    if report.switched:
        text = f"{computed} in {labels.duration(report.seconds)}."
        if report.failures:
            text += f" {missing} could not be read: see the failed files."
        title = f"The library now uses the model {model}"
        return _html.ended(title, text, "good", *failures, "These files were left out")
    if report.cancelled:
        text = (
            f"{computed} so far. They are kept: choose {model} again to continue. The library "
            "still uses its old model."
        )
        return _html.ended("Stopped", text)
    if not report.failures:
        text = f"The library already uses the model {model}."
        return _html.ended("Downloaded" if downloaded else "Nothing to do", text)
    text = (
        f"{computed}, but {missing} could not be read. The library still uses its old model. "
        "Restore the files and re-embed again to continue from here, or switch without them."
    )
    title = f"Not switched to {model} yet"
    caption = "These files are missing"
    return _html.ended(title, text, "plain", *failures, caption, offer_id(report.model))


def _download_stopped(model: str, progress: Progress) -> str:
    text = (
        f"{_arrived(progress.done, progress.total)} are on this machine and are kept: choose "
        f"{model} again to continue. The library still uses its old model."
    )
    return _html.ended(f"The download of {model} was stopped", text)


# ---- the model


def header(active: ActiveModel | None = None, *, trusted: bool = False) -> str:
    """Return the product's name and the library's model, with what the script needs of it.

    Args:
        active: The library's model, if it is known yet.
        trusted: Show where on this machine it is.
    """
    if active is None:
        return _page.header()
    name = ModelSpec.parse(active.spec).short
    return _html.header(active, name, active.spec if trusted else name)


def model_section(
    active: ActiveModel,
    offers: Sequence[Offer],
    segments: int,
    *,
    suggested: Offer | None = None,
    running: bool,
) -> str:
    """Return the library's model and, below it, those that it can be changed to.

    Args:
        active: The library's model.
        offers: The others.
        segments: How many vectors would have to be computed.
        suggested: The one to recommend, if any.
        running: Whether a job runs, so that another cannot be started.
    """
    choices = [_choice(offer, offers) for offer in offers]
    recommended = next((one for one in choices if one.offer == suggested and not running), None)
    enabled = not running and not all(offer.missing for offer in offers)
    current = described(active.spec)
    return _html.model(active, current, segments, choices, recommended, enabled)


@dataclass(frozen=True, slots=True)
class _Choice:
    """An offer as the list of models shows it.

    Attributes:
        offer: The offer.
        name: What tells it from the others.
        state: Whether it is on this machine, in a few words.
        question: What to ask before anything is downloaded; empty if nothing has to be.
    """

    offer: Offer
    name: str
    state: str
    question: str


def _choice(offer: Offer, offers: Sequence[Offer]) -> _Choice:
    name = ModelSpec.parse(offer.spec).short
    if sum(ModelSpec.parse(other.spec).short == name for other in offers) > 1:
        name = offer.spec
    if offer.missing:
        return _Choice(offer, name, "not available", "")
    if not offer.needs_download:
        return _Choice(offer, name, "on this machine", "")
    if offer.fetched:
        state = f"{_arrived(offer.fetched, offer.bytes)} are on this machine"
        traffic = f"{state} already; downloads the rest"
    elif offer.bytes:
        state = f"{labels.size(offer.bytes)} to download"
        traffic = f"Downloads {labels.size(offer.bytes)}"
    else:
        state, traffic = "to download", "Downloads its weights"
    question = (
        f"{name}: {offer.summary}. {traffic} once from {download_host()}; your files stay here. "
        "After that, everything in the library is embedded again with it, while you can search "
        "with the current model."
    )
    return _Choice(offer, name, state, question)
