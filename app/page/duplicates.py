"""The section of duplicates as HTML: groups of files that hold the same thing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.page import macros
from indexer.catalog.duplicates import DuplicateFile, DuplicateGroup, DuplicateKind, DuplicatePage

_html = macros("duplicates.html")
_MAX_SHOWN = 60
"""Files of a group that are shown; what they are replaced by comes when they have left."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A group as the page shows it.

    Attributes:
        key: The group's.
        files: The first of its files.
        kept: The id of the file to keep unless another one is chosen: the best of those there.
        more: How many further files it has.
        copies_bytes: Bytes of all files but the one to keep.
    """

    key: str
    files: tuple[DuplicateFile, ...]
    kept: int
    more: int
    copies_bytes: int


def groups(
    kind: DuplicateKind,
    page: DuplicatePage,
    offset: int,
    missing: Mapping[Path, Path],
    *,
    trusted: bool,
) -> str:
    """Return groups and, if there are more, a button for them.

    Args:
        kind: In what their files are the same.
        page: The groups.
        offset: How many come before.
        missing: What is not connected, by the paths of files that are not there.
        trusted: Whether to show folders, and offer the trash.
    """
    shown = [_shown(one, missing) for one in page.groups]
    end = offset + len(page.groups)
    next_offset = end if page.groups and end < page.total else None
    return _html.groups(kind.value, shown, page.total, offset, next_offset, missing, trusted)


def _shown(group: DuplicateGroup, missing: Mapping[Path, Path]) -> _Shown:
    there = (one.item for one in group.files if one.item.path not in missing)
    kept = next(there, group.files[0].item)
    total = sum(one.item.size for one in group.files)
    files, more = group.files[:_MAX_SHOWN], max(0, len(group.files) - _MAX_SHOWN)
    return _Shown(group.key, files, kept.id, more, total - kept.size)
