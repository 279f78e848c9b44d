"""What the page, the routes and the API share: a library and the services around it."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anyio import CapacityLimiter

from app.config import AppConfig
from app.jobs import Jobs
from app.models import Models, short_name
from app.page.labels import readable
from app.query_files import QUERY_BYTES, QueryFiles
from app.search import Searches
from app.uploads import LibraryUploads
from embedder import EmbedderError
from indexer import IndexerError, IngestOptions, Library, LibraryBusy, LibraryError

INCOMING = "incoming"
"""The folder of a library for uploads that are not finished."""

_log = logging.getLogger(__name__)

_SEARCHES_AT_ONCE = 8
"""So many are embedded together; more wait without a thread."""


class NotAllowed(IndexerError):
    """Visitors of this page may not do that."""


@dataclass(frozen=True, slots=True)
class Services:
    """One of each, built once by the entry point.

    Attributes:
        turns: Has searches wait for each other, first come, first served.
    """

    config: AppConfig
    library: Library
    files: QueryFiles
    uploads: LibraryUploads
    searches: Searches
    jobs: Jobs
    models: Models
    turns: CapacityLimiter


def build(
    config: AppConfig, library: Library, scratch: Path, incoming: Path | None = None
) -> Services:
    """The services over an open library.

    Args:
        config: The page's configuration.
        library: Stays the caller's to close.
        scratch: A private folder for the files to search with.
        incoming: A folder for uploads that are not finished, on the library's disk.
    """
    files = QueryFiles(scratch, limit=min(config.max_upload_bytes, QUERY_BYTES))
    uploads = LibraryUploads(
        library.uploads,
        incoming or library.directory / INCOMING,
        config.max_upload_bytes,
        config.max_uploads_bytes,
    )
    models = Models(library, config.offer)
    jobs = Jobs(lambda error: told(config, error))
    turns = CapacityLimiter(_SEARCHES_AT_ONCE)
    searches = Searches(library, files)
    return Services(config, library, files, uploads, searches, jobs, models, turns)


def told(config: AppConfig, error: Exception) -> str:
    """An error's sentence, as far as visitors may read it.

    Where the library and its model lie is named by errors of either; that is for the owner only.
    """
    placed = isinstance(error, LibraryError | EmbedderError | OSError)
    if config.trusted or not placed or isinstance(error, LibraryBusy):
        return readable(str(error))
    _log.warning("kept from a visitor: %s", error)
    return "the library cannot do that now: its owner finds the reason in the server's log"


def add_folder(services: Services, folder: str) -> None:
    """Starts to add a folder of this machine.

    Raises:
        NotAllowed: if visitors may not name folders.
        IndexerError: if there is no such folder, or another job is running.
    """
    if not services.config.trusted:
        raise NotAllowed(
            "a folder of this machine can be named only where the page is served to this machine "
            "alone or asks for a login: upload the files, or start it with --auth"
        )
    path = Path(os.path.expanduser(folder.strip().strip('"')))  # noqa: PTH111 -- as in typed_path
    if not folder.strip():
        raise IndexerError("name a folder first, for instance ~/Pictures")
    try:
        present, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        present = is_folder = False
    if not present:
        raise IndexerError(f"there is no folder {folder.strip()} on this machine")
    if not is_folder:
        raise IndexerError(f"{folder.strip()} is a file: name the folder that it is in")
    if not path.is_absolute():
        raise IndexerError("write the whole path of the folder, for instance ~/Pictures")
    _ingest(services, f"Adding {path.name or path}", [path])


def add_uploads(services: Services) -> None:
    """Starts to add what was uploaded.

    Raises:
        Busy: if another job is running.
    """
    services.library.uploads.mkdir(parents=True, exist_ok=True)
    _ingest(services, "Adding your files", [services.library.uploads])


def retry_failed(services: Services) -> None:
    """Starts to try the failed files again.

    Raises:
        Busy: if another job is running.
    """
    _ingest(services, "Trying the failed files again", [], retry_failed=True)


def reembed(services: Services, wanted: str, *, leave_out: bool = False) -> None:
    """Starts to compute all vectors anew with another model, which the library then has.

    Args:
        services: The page's.
        wanted: Id of the model on offer.
        leave_out: Switch even if files are missing, without them.

    Raises:
        NotAllowed: if visitors may not change the model.
        QueryError: if that model is not on offer.
        Busy: if another job is running.
    """
    if not services.config.trusted:
        raise NotAllowed(
            "the model can be changed only where the page is served to this machine alone or "
            "asks for a login: start it with --auth"
        )
    model = services.models.chosen(wanted)
    services.jobs.start(
        f"Computing all vectors anew with {short_name(model)}",
        lambda tell, cancel: services.library.reembed(
            model, leave_out=leave_out, on_progress=tell, cancel=cancel
        ),
    )


def _ingest(
    services: Services, title: str, paths: Sequence[Path], *, retry_failed: bool = False
) -> None:
    options = IngestOptions(retry_failed=retry_failed)
    services.jobs.start(
        title,
        lambda tell, cancel: services.library.ingest(
            paths, options, on_progress=tell, cancel=cancel
        ),
    )
