"""Folders for temporary files that go with their program, however it ends."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer import LibraryError
from indexer.database import WriterLock

_log = logging.getLogger(__name__)
_IN_USE = "in-use.lock"
_WAIT_SECONDS = 5.0


@contextmanager
def workspace(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder, deleted at the end; those of programs that were killed are deleted now.

    A lock of the operating system tells the folders of programs that run.

    Raises:
        OSError, LibraryError: if it cannot be made.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        _clear(left)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = folder / _IN_USE
        with WriterLock(lock).held(_WAIT_SECONDS):
            if lock.is_file():  # Otherwise another program has cleared it before it was locked.
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


def _clear(folder: Path) -> None:
    """Deletes a folder that was made here and that nobody uses."""
    try:
        ours = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
        if ours and not folder.is_symlink() and (folder / _IN_USE).is_file():
            with WriterLock(folder / _IN_USE).held():
                shutil.rmtree(folder)
    except (OSError, LibraryError) as error:
        _log.debug("%s is left alone: %s", folder, error)
