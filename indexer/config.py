"""Where libraries are; the one place that reads `RZEN_LIBRARY`."""

import os
from pathlib import Path

from embedder.download import program_data
from indexer.errors import LibraryError

DEFAULT_MODEL = "mini"


def typed_path(path: str | os.PathLike[str]) -> Path:
    """Return a typed path as an absolute one; `~name` stays where no user has that name."""
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 -- Path's raises for unknown users.


def default_library() -> Path:
    """Return the folder named by `RZEN_LIBRARY`, or one where the platform keeps programs' data."""
    if named := os.environ.get("RZEN_LIBRARY"):
        return typed_path(named)
    return program_data() / "library"


LIBRARY_FILE = "library.sqlite3"


def holds_library(folder: Path) -> bool:
    """Return whether there is a library in a folder.

    Raises:
        LibraryError: the folder cannot be looked into.
    """
    try:
        return (folder / LIBRARY_FILE).is_file()
    except OSError as error:
        reason = error.strerror or error
        raise LibraryError(
            f"{folder} cannot be looked into ({reason}): change its permissions or name another one"
        ) from error
