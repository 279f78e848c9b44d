"""What the page, the routes and the API share: the library and the services around it."""

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from app.config import AppConfig
from app.jobs import Jobs
from app.models import Models
from app.page.labels import readable
from app.query_files import MAX_QUERY_FILE_BYTES, QueryFiles
from app.search import Searches
from app.uploads import LibraryUploads
from embedder import EmbedderError
from embedder.interface import ModelSpec
from embedder.media import MediaError
from indexer import (
    IndexerError,
    IngestOptions,
    Library,
    LibraryBusy,
    LibraryError,
    Progress,
    QueryError,
    ReembedReport,
)

INCOMING = "incoming"
"""The folder of a library for unfinished uploads."""

_log = logging.getLogger(__name__)


class NotAllowed(IndexerError):
    """The page's users may not do that."""


@dataclass(frozen=True, slots=True)
class Services:
    """One of each, built once by the entry point."""

    config: AppConfig
    library: Library
    files: QueryFiles
    uploads: LibraryUploads
    searches: Searches
    jobs: Jobs
    models: Models


def build(
    config: AppConfig, library: Library, scratch: Path, incoming: Path | None = None
) -> Services:
    """Build the services over an open library.

    Args:
        config: The page's configuration.
        library: Closed by the caller.
        scratch: A private folder for the files to search with.
        incoming: A folder for unfinished uploads, on the library's disk.
    """
    files = QueryFiles(scratch, limit=min(config.max_upload_bytes, MAX_QUERY_FILE_BYTES))
    uploads = LibraryUploads(
        library.uploads,
        incoming or library.directory / INCOMING,
        config.max_upload_bytes,
        config.max_uploads_bytes,
    )
    return Services(
        config=config,
        library=library,
        files=files,
        uploads=uploads,
        searches=Searches(library, files),
        jobs=Jobs(lambda error: error_message(config, error)),
        models=Models(library, config.offer),
    )


EXPECTED_ERRORS = (IndexerError, EmbedderError, MediaError)
"""Errors whose messages are written for users."""

_TRACEBACK_FRAMES = 3


def error_message(config: AppConfig, error: Exception) -> str:
    """Return what users may read of an error; what is hidden from them goes to the log.

    Errors of the library and its model may name their folders; only trusted users see those.
    """
    if not isinstance(error, EXPECTED_ERRORS):
        _log.error("unexpected error: %s", describe_error(error))
        return "an unexpected error occurred: see the server's log"
    names_folders = isinstance(error, LibraryError | EmbedderError)
    if config.trusted or not names_folders or isinstance(error, LibraryBusy):
        return readable(str(error))
    _log.warning("hidden from users: %s", error)
    return "the library cannot do that now: the reason is in the server's log"


def describe_error(error: BaseException) -> str:
    """Return an error's type and latest frames, without its message.

    Messages may hold what users search for, or their paths; neither belongs in the log.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_TRACEBACK_FRAMES:]
    places = ", in ".join(f"{one.name} ({one.filename}:{one.lineno})" for one in reversed(frames))
    return f"{type(error).__name__} in {places}" if places else type(error).__name__


def add_folder(services: Services, folder: str) -> None:
    """Start to add a folder of this machine.

    Raises:
        NotAllowed: if users may not name folders.
        IndexerError: if there is no such folder, or another job is running.
    """
    if not services.config.trusted:
        raise NotAllowed(
            "adding a folder of the server requires a login: upload the files, or start the page "
            "with --auth or on 127.0.0.1"
        )
    path = Path(os.path.expanduser(folder.strip().strip('"')))  # noqa: PTH111 -- as in typed_path
    if not folder.strip():
        raise IndexerError("name a folder, for instance ~/Pictures")
    try:
        present, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        present = is_folder = False
    if not present:
        raise IndexerError(f"there is no folder {folder.strip()} on this machine")
    if not is_folder:
        raise IndexerError(f"{folder.strip()} is a file: name its folder")
    if not path.is_absolute():
        raise IndexerError("write the absolute path of the folder, for instance ~/Pictures")
    _ingest(services, f"Adding {path.name or path}", [path])


def add_uploads(services: Services) -> None:
    """Start to add what was uploaded.

    Raises:
        Busy: if another job is running.
        LibraryError: if the library was moved, deleted or replaced.
    """
    services.library.check_unchanged()
    services.library.uploads.mkdir(parents=True, exist_ok=True)
    _ingest(services, "Adding your files", [services.library.uploads])


def retry_failed(services: Services) -> None:
    """Start to ingest the failed files again.

    Raises:
        Busy: if another job is running.
    """
    _ingest(services, "Retrying the failed files", [], retry_failed=True)


def reembed(
    services: Services, wanted: str, *, download: bool = False, leave_out: bool = False
) -> None:
    """Start to re-embed the library with another model, which it then has.

    Args:
        services: The services.
        wanted: Id of the model on offer.
        download: Download the model first if it is not on this machine; the user was asked.
        leave_out: Switch even if files are missing, without them.

    Raises:
        NotAllowed: if users may not change the model.
        QueryError: if that model is not on offer, or lacks files and `download` is false.
        Busy: if another job is running.
    """
    if not services.config.trusted:
        raise NotAllowed(
            "changing the model requires a login: start the page with --auth or on 127.0.0.1"
        )
    offer = services.models.chosen(wanted)
    name = ModelSpec.parse(offer.spec).short
    if offer.needs_download and not download:
        raise QueryError(f"the model {name} is not on this machine yet: allow its download")

    def work(on_progress: Callable[[Progress], None], cancel: Event) -> ReembedReport:
        if offer.needs_download and not services.models.download(offer, on_progress, cancel):
            return ReembedReport(offer.spec, cancelled=True)
        return services.library.reembed(
            offer.spec, leave_out=leave_out, on_progress=on_progress, cancel=cancel
        )

    first = f"Downloading {name}, then re-embedding"
    services.jobs.start(first if offer.needs_download else f"Re-embedding with {name}", work)


def _ingest(
    services: Services, title: str, paths: Sequence[Path], *, retry_failed: bool = False
) -> None:
    options = IngestOptions(retry_failed=retry_failed)
    services.jobs.start(
        title,
        lambda on_progress, cancel: services.library.ingest(
            paths, options, on_progress=on_progress, cancel=cancel
        ),
    )
