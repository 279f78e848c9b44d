"""Roots: what an ingest goes through, and which folders a library remembers to ingest again."""

# ruff: noqa: PTH110, PTH111, PTH112 -- functions of os.path, which raise nothing.
import glob
import os
from collections.abc import Container, Sequence
from pathlib import Path

from indexer.catalog import Catalog
from indexer.catalog.writer import CatalogWriter
from indexer.config import LIBRARY_FILE
from indexer.errors import LibraryError
from indexer.ingest.discovery import excluder
from indexer.presence import is_empty, vanished
from indexer.types import IndexedFolder, IngestOptions, Root


def base_of(root: Root) -> Path:
    """Return the file or folder of a root; of a pattern, the folder above all that it matches."""
    path = Path(os.path.abspath(os.path.expanduser(root.path)))
    if not os.path.lexists(path):
        while glob.has_magic(str(path)):
            path = path.parent
    return path


def excludes(root: Root, path: Path) -> bool:
    """Return whether a root excludes a path below it, or a folder between the two."""
    base, excluded = base_of(root), excluder(root.exclude)
    if not root.exclude or not path.is_relative_to(base):
        return False
    below = [path, *path.parents][: len(path.relative_to(base).parts)]
    return any(excluded(one.name, str(one)) for one in below)


def roots_of(
    paths: Sequence[Path], options: IngestOptions, catalog: Catalog, writer: CatalogWriter
) -> list[Root]:
    """Return what an ingest of some paths goes through.

    Without paths that is the failed files, if they are to be tried again, or else the remembered
    folders. With a folder that is remembered go those below it that are remembered for themselves,
    since it excludes them.

    Raises:
        ValueError: if there is neither a path nor a remembered folder.
        LibraryError: if none of the paths excludes what is to be included again.
    """
    if not paths and options.retry_failed:
        return [Root(path) for path in writer.failed() if not vanished(path)]
    remembered = catalog.roots()
    if not paths and not remembered:
        raise ValueError("nothing to ingest: the library remembers no folder, so name one")
    if not paths:
        return remembered
    before = {path: _remembered_exclusions(path, remembered) for path in paths}
    excluded = {pattern for patterns in before.values() for pattern in patterns}
    for pattern in options.include:
        if pattern not in excluded:
            known = f": what is excluded is {', '.join(sorted(excluded))}" if excluded else ""
            raise LibraryError(f"{pattern} was not excluded from {paths[0]}{known}")
    roots = [Root(Path(path), _exclude(patterns, options)) for path, patterns in before.items()]
    return roots + [one for root in roots for one in _apart(root, remembered)]


def _apart(root: Root, remembered: Sequence[Root]) -> list[Root]:
    """Return the remembered folders below a root that it excludes, and excluded before."""
    before = next((one for one in remembered if one.path == base_of(root)), None)
    if before is None:
        return []
    return [one for one in remembered if all(excludes(by, one.path) for by in (before, root))]


def _remembered_exclusions(path: Path, remembered: Sequence[Root]) -> tuple[str, ...]:
    """Return what the nearest remembered folder leaves out of a path, but does not leave it out."""
    base = base_of(Root(path))
    above = [one for one in remembered if base.is_relative_to(one.path)]
    return above[-1].exclude if above and not excludes(above[-1], base) else ()


def _exclude(before: Sequence[str], options: IngestOptions) -> tuple[str, ...]:
    """Return what is left out: what was so before and what is added, each once."""
    every = dict.fromkeys((*before, *options.exclude))
    return tuple(pattern for pattern in every if pattern not in options.include)


def remember(roots: Sequence[Root], catalog: Catalog, writer: CatalogWriter, own: Path) -> None:
    """Remember folders, unless they are below one that is remembered and does not exclude them.

    Files and patterns are not remembered, nor are libraries.

    Args:
        roots: What is ingested.
        catalog: Knows what is remembered.
        writer: Remembers.
        own: The folder of the library.
    """
    for root in roots:
        folder = Root(base_of(root), root.exclude)
        remembered = catalog.roots()
        above = (one for one in remembered if one.path in folder.path.parents)
        if (
            folder not in remembered
            and os.path.isdir(os.path.expanduser(root.path))
            and not os.path.exists(folder.path / LIBRARY_FILE)
            and not folder.path.is_relative_to(own)
            and all(excludes(one, folder.path) for one in above)
        ):
            apart = _apart(folder, remembered)
            below = [one for one in remembered if folder.path in one.path.parents]
            writer.remember_root(folder, [one.path for one in below if one not in apart])


def note_scan(roots: Sequence[Root], writer: CatalogWriter) -> None:
    """Store that roots were ingested just now, unless they are not connected."""
    bases = map(base_of, roots)
    writer.note_scan([base for base in bases if not vanished(base) and not is_empty(base)])


def indexed_folders(catalog: Catalog, unreachable: Container[Path]) -> list[IndexedFolder]:
    """Return the folders that are remembered, in order, given those that are not there."""
    scanned_at, folders = catalog.scanned_at(), list[IndexedFolder]()
    for root in catalog.roots():
        files, reachable = catalog.files_below(root.path), root.path not in unreachable
        folders.append(
            IndexedFolder(
                path=root.path,
                exclude=root.exclude,
                files=files,
                reachable=reachable,
                missing=not reachable and not files and vanished(root.path),
                scanned_at=scanned_at.get(root.path),
            )
        )
    return folders
