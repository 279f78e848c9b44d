"""Write files and folders atomically: they have their name only when they are complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BadOutput(Exception):
    """A folder exists already or cannot be written."""


@contextmanager
def atomic_folder(directory: Path) -> Iterator[Path]:
    """Create a folder that gets its name only when its contents are complete.

    Args:
        directory: Must not exist yet, unless as an empty folder.

    Yields:
        A hidden folder beside it to write to, which is removed if writing fails.

    Raises:
        BadOutput: it exists, or cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadOutput(f"{directory} exists already: choose a new folder")
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        try:
            yield partial
            for path in [*(one for one in partial.rglob("*") if one.is_file()), partial]:
                _flush(path)
            partial.replace(directory)
            _flush(directory.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise BadOutput(f"{directory} cannot be written: {error}") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Replace a file only when its new contents are complete and on the disk.

    Args:
        path: What to replace, or to create.

    Yields:
        A hidden file beside it to write to, with its suffix.
    """
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        _flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Sync a file, or a folder's directory entries, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
