"""The library tab's table of files as HTML."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from app.page import labels, macros
from app.texts import _
from indexer import MediaItem, Status

if TYPE_CHECKING:
    from app.files import FileQuery

_html = macros("files.html")


def table(
    items: Sequence[MediaItem],
    segments: Mapping[int, int],
    counts: Mapping[Status, int],
    asked: "FileQuery",
) -> str:
    """Return a page of the table.

    Args:
        items: The files on it.
        segments: The first segments of the indexed ones, by the ids of the files.
        counts: How many files there are in each state, under the same filters.
        asked: What the page is of.
    """
    listed = json.dumps({"counts": counts, "total": counts[asked.status], "shown": len(items)})
    if not items:
        return _html.no_files(_no_files(asked), listed)
    return _html.table(
        items, segments, asked, listed, counts[asked.status], labels.kind_name, _contents
    )


def _contents(item: MediaItem) -> str:
    return labels.KIND_LABELS[item.kind].counted(item.segments) if item.kind else ""


def _no_files(asked: "FileQuery") -> str:
    if asked.name or asked.kind or asked.folder:
        return _("No file fits these filters.")
    return {
        Status.INDEXED: _("No files yet. Add a folder above."),
        Status.FAILED: _("No file has failed."),
        Status.SKIPPED: _("No file was skipped."),
    }[asked.status]
