"""A library of media on disk: taking files in, and finding them again.

The names below are the package's interface. They load on first use, so that importing the package
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.config import default_library
    from indexer.errors import (
        IndexerError,
        LibraryBusy,
        LibraryError,
        ModelMismatch,
        NotFound,
        QueryError,
    )
    from indexer.library import Library
    from indexer.progress import Progress
    from indexer.types import (
        DateSource,
        Duplicates,
        Failure,
        FileOrder,
        Filters,
        Hit,
        IndexedFolder,
        IngestOptions,
        IngestPlan,
        IngestReport,
        LibraryStats,
        MediaItem,
        Query,
        QueryPart,
        Reason,
        ReembedPlan,
        ReembedReport,
        Segment,
        Sort,
        Status,
    )

__all__ = [
    "DateSource",
    "Duplicates",
    "Failure",
    "FileOrder",
    "Filters",
    "Hit",
    "IndexedFolder",
    "IndexerError",
    "IngestOptions",
    "IngestPlan",
    "IngestReport",
    "Library",
    "LibraryBusy",
    "LibraryError",
    "LibraryStats",
    "MediaItem",
    "ModelMismatch",
    "NotFound",
    "Progress",
    "Query",
    "QueryError",
    "QueryPart",
    "Reason",
    "ReembedPlan",
    "ReembedReport",
    "Segment",
    "Sort",
    "Status",
    "default_library",
]

_HOMES = {
    "config": ("default_library",),
    "errors": (
        "IndexerError",
        "LibraryBusy",
        "LibraryError",
        "ModelMismatch",
        "NotFound",
        "QueryError",
    ),
    "library": ("Library",),
    "progress": ("Progress",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"indexer.{_HOME_OF.get(name, 'types')}"), name)


def __dir__() -> list[str]:
    return __all__
