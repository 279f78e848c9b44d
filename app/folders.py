"""The library's folders as choices: named by ids, shown by the end of their path."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from app.wording import readable
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
    shown = sorted(library.branches(_MOST))
    if not shown:
        return []
    try:
        shared = Path(os.path.commonpath([path for path, _ in shown]))
    except ValueError:  # On different drives.
        shared = None
    return [FolderChoice(_id(path), _name(path, shared), files, path) for path, files in shown]


def folder_of(library: Library, wanted: str) -> Path:
    """The library's folder of that id.

    Raises:
        QueryError: if the library has no such folder.
    """
    for path, _ in library.branches(_MOST):
        if _id(path) == wanted:
            return path
    raise QueryError("the library has no such folder any more: choose another one")


def _name(folder: Path, shared: Path | None) -> str:
    if shared is None or folder == shared:
        return readable(folder.name or str(folder))
    return readable(" / ".join(folder.relative_to(shared).parts))


def _id(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
