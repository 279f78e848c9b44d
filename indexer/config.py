"""Options of an ingest, and where libraries are; the one place that reads `RZEN_LIBRARY`."""

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from embedder.interface import EmbedderInfo
from embedder.media.kinds import Limits
from indexer.errors import LibraryError

DEFAULT_MODEL = "mini"


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How to ingest.

    Attributes:
        exclude: Patterns of names or paths to leave out; see `indexer.ingest.discovery.scan`.
        retry_failed: Try files again that failed before, though they have not changed; without
            any paths given, only these.
        workers: Files that are decoded at a time, each in another process; the model uses all
            CPUs as well.
        limits: What decoding may cost; `frame_side` is lowered to what the model makes use of.
        sweep: Drop files that have vanished below the given paths.
    """

    exclude: tuple[str, ...] = ()
    retry_failed: bool = False
    workers: int = field(default_factory=lambda: max(1, min(8, os.cpu_count() or 1)))
    limits: Limits = field(default_factory=Limits)
    sweep: bool = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")


def within(limits: Limits, info: EmbedderInfo) -> Limits:
    """Return the limits with frames no larger than a model makes use of."""
    return replace(limits, frame_side=min(limits.frame_side, info.frame_side))


def typed_path(path: str | os.PathLike[str]) -> Path:
    """Return a typed path as an absolute one; `~name` stays where no user has that name."""
    return Path(os.path.expanduser(path)).absolute()  # noqa: PTH111 -- Path's raises for unknown users.


def default_library() -> Path:
    """Return the folder named by `RZEN_LIBRARY`, or one where the platform keeps programs' data."""
    if named := os.environ.get("RZEN_LIBRARY"):
        return typed_path(named)
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "rzen-search" / "library"


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
