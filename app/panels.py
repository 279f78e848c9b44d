"""What the library holds, as HTML for its tab: counts, and the table of files."""

from collections.abc import Sequence

from app import icons, wording
from app.wording import escape
from embedder.media import Kind
from indexer import LibraryStats, MediaItem, Status


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
