"""The library tab as HTML: counts, the job, and the model, with the page's header."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.jobs import JobState
from app.models import ActiveModel, Offer, described, download_host, offer_id
from app.page import labels, macros
from app.page.results import problem
from app.texts import N_, _, ngettext, number
from embedder.interface import ModelSpec
from indexer import (
    IngestReport,
    LibraryStats,
    Progress,
    ReembedReport,
)

_MAX_FAILURES = 200
_MIN_SHOWN_RATE = 0.05

_page = macros("page.html")
_html = macros("library.html")


# ---- counts


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


def _files(n: int) -> str:
    return ngettext("{n} file", "{n} files", n)


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
            error += " " + _("The library still uses its old model.")
        return f'<div data-ingest="ended">{problem(error)}</div>'
    if isinstance(state.report, IngestReport):
        return _ingested(state.title, state.report)
    if state.report is not None:
        return _reembedded(state.report, state.progress)
    return _html.idle()


def _running(state: JobState) -> str:
    progress = state.progress
    share = None
    if progress is not None and progress.stage != "scan" and progress.total > 0:
        share = progress.done / progress.total
    return _html.running(state, share, _numbers(progress))


def _numbers(progress: Progress | None) -> str:
    if progress is None:
        return _("Starting…")
    match progress.stage:
        case "download":
            return _downloading(progress)
        case "switch":
            return _("Switching over…")
        case "finish":
            return _("Finishing…")
        case "scan":
            return ngettext(
                "Scanning folders: {n} file so far",
                "Scanning folders: {n} files so far",
                progress.total,
            )
    parts = [_done(progress)]
    if progress.rate >= _MIN_SHOWN_RATE:
        parts.append(_("{rate} per second", rate=number(progress.rate, 1)))
    parts += _time_left(progress)
    if progress.failures:
        parts.append(_("{n} failed", n=progress.failures))
    return " · ".join(parts)


def _done(progress: Progress) -> str:
    if progress.stage == "reembed":
        return ngettext(
            "{done} of {n} segment", "{done} of {n} segments", progress.total, done=progress.done
        )
    return ngettext("{done} of {n} file", "{done} of {n} files", progress.total, done=progress.done)


def _downloading(progress: Progress) -> str:
    arrived = _arrived(progress.done, progress.total)
    parts = [_("Step 1 of 2, downloading: {arrived}", arrived=arrived)]
    if progress.rate >= 1:
        parts.append(_("{rate} per second", rate=labels.size(progress.rate)))
    return " · ".join(parts + _time_left(progress))


def _time_left(progress: Progress) -> list[str]:
    if progress.remaining is None:
        return []
    return [_("about {time} left", time=labels.duration(progress.remaining))]


def _arrived(done: int, total: int) -> str:
    """Format how many bytes of all are on this machine; a total of 0 is not known."""
    if not total:
        return labels.size(done)
    return _("{done} of {total}", done=labels.size(done), total=labels.size(total))


def reading(progress: Progress | None, problem: str, *, is_on: bool) -> str:
    """Return how far reading the words in pictures is; nothing where it has nothing to do.

    Args:
        progress: Of the latest pass.
        problem: Why it has stopped by itself; empty if it has not.
        is_on: Whether it goes on.
    """
    if progress is None or not progress.total:
        return ""
    text = ngettext(
        "Words read in {done} of {n} file",
        "Words read in {done} of {n} files",
        progress.total,
        done=number(progress.done),
    )
    is_done = progress.done >= progress.total
    parts = [text, *([] if is_done or not is_on else _time_left(progress))]
    return _html.reading(" · ".join(parts), progress.done / progress.total, problem, is_done, is_on)


def _ingested(title: str, report: IngestReport) -> str:
    counts = [
        (report.added, N_("{n} added")),
        (report.updated, N_("{n} updated")),
        (report.moved, N_("{n} moved")),
        (report.copies, N_("{n} duplicates of files already here")),
        (report.removed, N_("{n} no longer there")),
        (report.unchanged, N_("{n} unchanged")),
        (len(report.skipped), N_("{n} skipped")),
        (len(report.failures), N_("{n} failed")),
    ]
    done = ", ".join(_(what, n=count) for count, what in counts if count) or _("Nothing to do")
    text = [_("{done} in {time}.", done=done, time=labels.duration(report.seconds))]
    if report.cancelled:
        text.insert(0, _("Stopped early."))
    if groups := report.near_duplicates:
        text.append(
            ngettext(
                "{n} group of pictures look the same.",
                "{n} groups of pictures look the same.",
                groups,
            )
        )
    for one in report.kept:
        name = labels.readable(one.path.name or str(one.path))
        text.append(
            ngettext(
                "{n} file kept: {disk} is not connected.",
                "{n} files kept: {disk} is not connected.",
                one.files,
                disk=name,
            )
        )
    return _html.ended(
        _("Stopped") if report.cancelled else _("{job}: done", job=_(title)),
        " ".join(text),
        "plain" if report.failures or report.cancelled else "good",
        report.failures,
        _MAX_FAILURES,
        _("These files could not be added"),
        resumable=report.cancelled,
        added=report.added,
    )


def _reembedded(report: ReembedReport, progress: Progress | None) -> str:
    model = ModelSpec.parse(report.model).short
    downloaded = progress if progress and progress.stage == "download" else None
    if report.cancelled and downloaded:
        return _download_stopped(model, downloaded)
    computed = _computed(report)
    failures = (report.failures, _MAX_FAILURES)
    if report.switched:
        text = _("{computed} in {time}.", computed=computed, time=labels.duration(report.seconds))
        if report.failures:
            text += " " + ngettext(
                "{n} file could not be read: see the failed files.",
                "{n} files could not be read: see the failed files.",
                len(report.failures),
            )
        title = _("The library now uses the model {model}", model=model)
        return _html.ended(title, text, "good", *failures, _("These files were left out"))
    if report.cancelled:
        text = _(
            "{computed} so far. They are kept: choose {model} again to continue. The library still "
            "uses its old model.",
            computed=computed,
            model=model,
        )
        return _html.ended(_("Stopped"), text)
    if not report.failures:
        text = _("The library already uses the model {model}.", model=model)
        return _html.ended(_("Downloaded") if downloaded else _("Nothing to do"), text)
    text = ngettext(
        "{computed}, but {n} file could not be read. The library still uses its old model. Restore "
        "the file and re-embed again to continue from here, or switch without it.",
        "{computed}, but {n} files could not be read. The library still uses its old model. "
        "Restore the files and re-embed again to continue from here, or switch without them.",
        len(report.failures),
        computed=computed,
    )
    title = _("Not switched to {model} yet", model=model)
    caption = _("These files are missing")
    return _html.ended(title, text, "plain", *failures, caption, offer_id(report.model))


def _computed(report: ReembedReport) -> str:
    if report.reused:
        return ngettext(
            "{n} vector computed, {before} of them before",
            "{n} vectors computed, {before} of them before",
            report.segments,
            before=report.reused,
        )
    return ngettext("{n} vector computed", "{n} vectors computed", report.segments)


def _download_stopped(model: str, progress: Progress) -> str:
    text = _(
        "{arrived} are on this machine and are kept: choose {model} again to continue. The library "
        "still uses its old model.",
        arrived=_arrived(progress.done, progress.total),
        model=model,
    )
    return _html.ended(_("The download of {model} was stopped", model=model), text)


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
        return _Choice(offer, name, _("not available"), "")
    if not offer.needs_download:
        return _Choice(offer, name, _("on this machine"), "")
    host, size = download_host(), labels.size(offer.bytes)
    if offer.fetched:
        state = _("{arrived} are on this machine", arrived=_arrived(offer.fetched, offer.bytes))
        traffic = _(
            "{state} already; downloads the rest once from {host}; your files stay here.",
            state=state,
            host=host,
        )
    elif offer.bytes:
        state = _("{size} to download", size=size)
        traffic = _(
            "Downloads {size} once from {host}; your files stay here.", size=size, host=host
        )
    else:
        state = _("to download")
        traffic = _("Downloads its weights once from {host}; your files stay here.", host=host)
    after = _(
        "After that, everything in the library is embedded again with it, while you can search "
        "with the current model."
    )
    question = f"{name}: {offer.summary}. {traffic} {after}"
    return _Choice(offer, name, state, question)
