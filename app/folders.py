"""The library's folders as choices: named by ids, shown by the end of their path."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from indexer import Library, QueryError

_MOST = 500


@dataclass(frozen=True, slots=True)
class FolderChoice:
    """A folder that can be searched in.

    Attributes:
        id: Tells nothing about where the folder lies.
        name: Its path below what all folders have in common.
        files: Files in it and below it.
        path: Never leaves the server.
    """

    id: str
    name: str
    files: int
    path: Path


def folder_choices(library: Library) -> list[FolderChoice]:
    """Folders with files, and those above them as far as they differ, in order of their paths."""
    counts = dict(library.folders())
    if not counts:
        return []
    try:
        shared = Path(os.path.commonpath(counts))
    except ValueError:  # On different drives.
        shared = None
    below: Counter[Path] = Counter()
    for folder, files in counts.items():
        for path in (folder, *folder.parents):
            below[path] += files
            if path == shared:
                break
    # A folder that only holds one other folder adds nothing to choose.
    shown = sorted(p for p in below if p in counts or not _passes_on(p, below))
    return [FolderChoice(_id(p), _name(p, shared), below[p], p) for p in shown][:_MOST]


def folder_of(library: Library, wanted: str) -> Path:
    """The library's folder of that id.

    Raises:
        QueryError: if the library has no such folder.
    """
    for choice in folder_choices(library):
        if choice.id == wanted:
            return choice.path
    raise QueryError("the library has no such folder any more: choose another one")


def _passes_on(folder: Path, below: Counter[Path]) -> bool:
    return any(other.parent == folder and below[other] == below[folder] for other in below)


def _name(folder: Path, shared: Path | None) -> str:
    if shared is None or folder == shared:
        return folder.name or str(folder)
    return " / ".join(folder.relative_to(shared).parts)


def _id(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
