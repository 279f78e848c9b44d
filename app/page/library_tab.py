"""What the library holds, as HTML for its tab: counts, and the table of files."""

from collections.abc import Sequence

from app.jobs import JobState
from app.models import ActiveModel, Offer, offer_id, short_name
from app.page import labels
from app.page.labels import escape
from app.page.results import notice, problem
from embedder.media import Kind
from indexer import Failure, IngestReport, LibraryStats, MediaItem, Progress, ReembedReport, Status


def stats(counts: LibraryStats) -> str:
    """How much there is of each kind."""
    tiles = "".join(
        f'<div class="rz-tile" data-kind="{kind}">{labels.KINDS[kind]}'
        f"<b>{counts.items.get(kind, 0):,}</b><span>{labels.KIND_PLURALS[kind]}</span></div>"
        for kind in Kind
    )
    extra = [labels.size(counts.bytes)]
    if counts.failed:
        extra.append(f"{labels.counted(counts.failed, 'file')} failed")
    if counts.skipped:
        extra.append(f"{counts.skipped:,} skipped")
    return f'<div class="rz-tiles">{tiles}</div><p class="rz-fine">{" · ".join(extra)}</p>'


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
        f"<td>{labels.kind_name(item)}</td><td>{labels.size(item.size)}</td><td>{told}</td></tr>"
    )


def _contents(item: MediaItem) -> str:
    nouns = {Kind.VIDEO: "clip", Kind.PDF: "page", Kind.TEXT: "passage"}
    return labels.counted(item.segments, nouns[item.kind]) if item.kind in nouns else "1 picture"


def _pager(offset: int, shown: int, more: bool) -> str:
    if not more and not offset:
        return ""
    back = f'data-files="{max(0, offset - 50)}"' if offset else "disabled"
    on = f'data-files="{offset + shown}"' if more else "disabled"
    return (
        f'<nav class="rz-turn" aria-label="Files"><button type="button" class="rz-icon" '
        f'aria-label="Previous files" {back}>{labels.BACK}</button><span>{offset + 1:,} – '
        f'{offset + shown:,}</span><button type="button" class="rz-icon" aria-label="Next files" '
        f"{on}>{labels.FORWARD}</button></nav>"
    )


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
    told = f"{labels.counted(count, 'file')} removed from the library."
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
        return f"Looking through folders: {labels.counted(progress.total, 'file')} so far"
    noun = "segment" if progress.stage == "reembed" else "file"
    told = [f"{progress.done:,} of {labels.counted(progress.total, noun)}"]
    if progress.rate >= 0.05:
        told.append(f"{progress.rate:.1f} per second")
    if progress.remaining is not None:
        told.append(f"about {labels.duration(progress.remaining)} left")
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
    took = labels.duration(report.seconds)
    near = report.near_duplicates
    look_alike = f" {labels.counted(near, 'group')} of pictures look the same." if near else ""
    sentence = f"{lead}{told[0].upper()}{told[1:]} in {took}.{look_alike}"
    tone = "plain" if report.failures or report.cancelled else "good"
    heading = "Stopped" if report.cancelled else f"{title}: done"
    body = notice(heading, sentence, tone=tone)
    return ended(body + _failures(report.failures, "These files did not get in", _RETRY))


def _reembedded(report: ReembedReport) -> str:
    model = short_name(report.model)
    kept = f", {report.reused:,} of them before" if report.reused else ""
    computed = f"{labels.counted(report.segments, 'vector')} computed{kept}"
    took = labels.duration(report.seconds)
    if report.switched:
        sentence = f"{computed} in {took}."
        if report.failures:
            files = labels.counted(len(report.failures), "file")
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
    count = labels.counted(len(report.failures), "file")
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


def chip(active: ActiveModel, *, trusted: bool) -> str:
    """Which model searches; its mark and its instruction are there for the script.

    Args:
        active: The library's model.
        trusted: Tell where on this machine it lies.
    """
    name = short_name(active.spec)
    told = f"The library's model: {active.spec if trusted else name}"
    dim = ""
    if active.info is not None:
        told += f". Its vectors have {active.info.dim:,} dimensions"
        dim = f"<span> · {active.info.dim:,} dimensions</span>"
    instruction = active.instruction
    data = f' data-instruction="{escape(instruction)}"' if instruction is not None else ""
    return (
        f'<span class="rz-model" data-model="{active.mark}"{data} title="{escape(told)}">'
        f"<b>{escape(name)}</b>{dim}</span>"
    )


def section(active: ActiveModel, offers: Sequence[Offer], segments: int, *, running: bool) -> str:
    """The library's model and, below it, what it can be exchanged for.

    Args:
        active: The library's model.
        offers: The others.
        segments: How many vectors would have to be computed.
        running: Whether a job runs, so that another cannot be started.
    """
    options = "".join(_option(offer, offers) for offer in offers)
    none = not any(offer.missing is None for offer in offers)
    disabled = " disabled" if running or none else ""
    hints = dict.fromkeys(offer.missing for offer in offers if offer.missing)
    hint = "".join(f'<p class="rz-fine">{escape(labels.sentence(one))}</p>' for one in hints)
    return (
        '<section class="rz-change" aria-labelledby="rz-change-title">'
        f'<h2 id="rz-change-title">Model</h2><p>{_present(active, segments)}</p>'
        '<form id="rz-reembed" class="rz-inline"><label class="rz-field"><span>Change to</span>'
        f'<select id="rz-offer"{disabled}>{options}</select></label>'
        f'<button class="rz-button"{disabled}>Compute all vectors anew</button></form>'
        '<p class="rz-fine">The new model has to look at everything again, which takes as long as '
        "adding it did. Search goes on meanwhile with the present model, and changes to the new "
        "one at the end. It can be cancelled, and goes on later where it was.</p>"
        f"{hint}</section>"
    )


def _present(active: ActiveModel, segments: int) -> str:
    told = f"The library was made with <b>{escape(active.spec)}</b>"
    counted = labels.counted(segments, "segment")
    if active.info is None:
        why = escape(labels.sentence(active.problem or "it cannot be opened"))
        return f'{told}: {counted}. <span class="rz-trouble">{why}</span>'
    return f"{told}: {counted}, each a vector of {active.info.dim:,} dimensions."


def _option(offer: Offer, offers: Sequence[Offer]) -> str:
    name = short_name(offer.spec)
    if sum(short_name(other.spec) == name for other in offers) > 1:
        name = offer.spec
    about = "not installed" if offer.missing else offer.summary
    told = f"{name} ({about})" if about else name
    return (
        f'<option value="{offer.id}" title="{escape(offer.spec)}"'
        f"{' disabled' if offer.missing else ''}>{escape(told)}</option>"
    )


def header(model: str = "") -> str:
    """The product's name, and which model searches, as trusted HTML."""
    return f'<header class="rz-header">{labels.LOGO}<h1>RzenEmbed Search</h1>{model}</header>'


def search_bar() -> str:
    """Words, a file, the weight between them, and the filters."""
    return (
        '<form id="rz-form" role="search" autocomplete="off" novalidate>'
        f'<div class="rz-ask">{labels.SEARCH}'
        '<div id="rz-attached" class="rz-attached" hidden><span class="rz-preview"></span>'
        '<span class="rz-attached-name"></span><button type="button" class="rz-icon" '
        f'data-detach aria-label="Remove the file">{labels.CLOSE}</button></div>'
        '<input id="rz-text" name="text" type="text" enterkeyhint="search" maxlength="20000" '
        'aria-label="What are you looking for?" placeholder="Describe it, or drop a picture">'
        f'<button type="button" class="rz-icon" data-clear hidden aria-label="Clear the search">'
        f"{labels.CLOSE}</button>"
        '<label class="rz-attach" title="Search with a picture, video, PDF or text">'
        '<input id="rz-file" type="file" aria-label="Search with a picture, video, PDF or text" '
        f'accept="image/*,video/*,application/pdf,text/*,.md,.heic">{labels.ATTACH}'
        "<span>File</span></label>"
        '<button type="submit" class="rz-go">Search</button></div>'
        f"{_balance()}{_filters()}</form>"
    )


def _balance() -> str:
    return (
        '<div id="rz-balance" class="rz-balance" hidden><label for="rz-weight">Words</label>'
        '<input id="rz-weight" type="range" min="0" max="1" step="0.05" value="0.5" '
        'aria-label="Weight between the words and the file">'
        '<label for="rz-weight">File</label></div>'
    )


def _filters() -> str:
    kinds = "".join(
        f'<button type="button" class="rz-chip" data-kind="{kind}" aria-pressed="false">'
        f"{labels.KINDS[kind]}{labels.KIND_PLURALS[kind]}</button>"
        for kind in Kind
    )
    return (
        f'<div class="rz-filters"><div class="rz-kinds" role="group" aria-label="Kinds">{kinds}'
        '<button type="button" class="rz-chip" id="rz-more-filters" aria-expanded="false" '
        f'aria-controls="rz-rest">{labels.SLIDERS}Filters</button></div>'
        '<div class="rz-rest" id="rz-rest">'
        '<label class="rz-field"><span>Folder</span><select id="rz-folder">'
        '<option value="">Any folder</option></select></label>'
        '<label class="rz-field"><span>From</span><input id="rz-after" type="date"></label>'
        '<label class="rz-field"><span>To</span><input id="rz-before" type="date"></label>'
        '<label class="rz-field rz-grow"><span>Not like</span><input id="rz-not-like" type="text" '
        'placeholder="words to stay away from"></label>'
        '<button type="button" class="rz-link" data-reset hidden>Reset filters</button>'
        '<label class="rz-field rz-wide" id="rz-instruction-field" hidden title="What the model '
        'is told to do with the words or the file. Left empty, it is told its own instruction.">'
        '<span>Instruction</span><input id="rz-instruction" type="text" maxlength="2000"></label>'
        "</div></div>"
    )


def add_files(*, named_folders: bool) -> str:
    """Uploading, and naming a folder of this machine where that is allowed."""
    named = (
        '<form id="rz-name-folder" class="rz-name-folder"><label for="rz-path">or add a folder '
        f'of this machine, where it lies</label><div class="rz-inline">{labels.FOLDER}'
        '<input id="rz-path" type="text" placeholder="~/Pictures" spellcheck="false" '
        'autocapitalize="off"><button class="rz-button">Add folder</button></div></form>'
    )
    return (
        f'<section class="rz-drop" id="rz-drop" aria-label="Add files">{labels.UPLOAD}'
        "<h2>Add to your library</h2>"
        "<p>Drop files or whole folders here. Copies are kept in the library.</p>"
        '<div class="rz-inline rz-center"><label class="rz-button rz-primary">'
        '<input id="rz-pick-folder" type="file" webkitdirectory multiple>Choose a folder</label>'
        '<label class="rz-button"><input id="rz-pick-files" type="file" multiple>Choose files'
        f"</label></div>{named if named_folders else ''}</section>"
        '<div id="rz-sending" aria-live="polite"></div>'
    )


def file_filter() -> str:
    """Which files the table shows, and what can be done with those that are ticked."""
    return (
        '<div class="rz-toolbar"><div class="rz-kinds" role="group" aria-label="State">'
        '<button type="button" class="rz-chip" data-status="indexed" aria-pressed="true">Indexed'
        '</button><button type="button" class="rz-chip" data-status="failed" '
        'aria-pressed="false">Failed</button><button type="button" class="rz-chip" '
        'data-status="skipped" aria-pressed="false">Skipped</button></div>'
        '<input id="rz-file-name" type="search" placeholder="Find by name" '
        'aria-label="Find files by name"><span class="rz-spring"></span>'
        '<button type="button" class="rz-button" data-retry="failed" id="rz-retry" hidden>'
        'Try failed files again</button><button type="button" class="rz-button rz-danger" '
        'id="rz-remove" disabled>Remove</button></div>'
    )


def loading() -> str:
    """Cards in waiting, until the library has answered."""
    cards = '<div class="rz-card rz-ghost"><span class="rz-thumb"></span></div>' * 8
    return f'<div class="rz-grid" aria-hidden="true">{cards}</div>'
