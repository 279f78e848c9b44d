"""Moving copies of files to the system's trash."""

import os
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from app.texts import N_
from indexer import Library, MediaItem
from indexer.catalog.writer import storable_time

Mover = Callable[[str], None]
"""Moves a file to the trash; raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was not moved, and why, in one sentence."""

    item: MediaItem
    reason: str


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of some files: the ids of those that are in the trash, and the others."""

    item_ids: tuple[int, ...]
    kept: tuple[Kept, ...]


def trash_copies(library: Library, item_ids: Sequence[int], move: Mover | None = None) -> Moved:
    """Move files of which others hold the same to the trash, and take them out of the library.

    A file stays unless it is as it was when it was indexed, and so is another one that holds the
    same thing, is not among these files, and is not this file under another name.

    Raises:
        LibraryBusy: if an ingest is running and does not end within ten seconds; files that were
            moved leave the library when their folder is scanned.
    """
    move = move or _system_trash
    alike: dict[int, set[MediaItem]] = {}
    for group in library.duplicates.of(item_ids):
        items = {file.item for file in group.files}
        for item in items:
            alike.setdefault(item.id, set()).update(items)
    chosen, moved, kept = set(item_ids), list[int](), list[Kept]()
    for item in library.catalog.files(item_ids):
        others = {one for one in alike.get(item.id, ()) if one.id not in chosen}
        refusal = _refusal(item, others) if item.id in alike else N_("no other file holds the same")
        try:
            if not refusal:
                move(str(item.path))
                moved.append(item.id)
        except OSError as error:
            reason = error.strerror or str(error)
            refusal = N_("the trash did not take it: {reason}", reason=reason)
        if refusal:
            kept.append(Kept(item, refusal))
    if moved:
        library.remove(moved)
    return Moved(tuple(moved), tuple(kept))


def _refusal(item: MediaItem, others: Collection[MediaItem]) -> str:
    """Return why a file must stay, given those alike that stay; empty if it may go."""
    own = _unchanged(item)
    if isinstance(own, str):
        return own
    if not others:
        return N_("it would be the last copy: keep another one")
    found = [one for one in map(_unchanged, others) if not isinstance(one, str)]
    if not found:
        return N_("no other copy is there as it was indexed")
    if not any(_identity(one) != _identity(own) for one in found):
        return N_("the copy to keep is a link to this file")
    return ""


def _unchanged(item: MediaItem) -> os.stat_result | str:
    """Return the status of a file that is as it was indexed; else why it is not."""
    try:
        status = item.path.stat()
    except NotADirectoryError:
        return N_("it is attached to a mail, which stays as it is")
    except FileNotFoundError:
        return N_("it is not there: its disk may not be connected")
    except OSError as error:
        return N_("it cannot be looked at: {reason}", reason=error.strerror or str(error))
    known = item.size, item.mtime_ns
    if not stat.S_ISREG(status.st_mode) or (
        (status.st_size, storable_time(status.st_mtime_ns)) != known
    ):
        return N_("it was changed since it was indexed: scan its folder again")
    return status


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _system_trash(path: str) -> None:
    from send2trash import send2trash

    send2trash(path)
