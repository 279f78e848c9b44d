"""What the page, the routes and the API share: the library and the services around it."""

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from app.config import AppConfig
from app.folder_watch import FolderWatch
from app.jobs import Jobs
from app.living import LivingAlbums
from app.models import Models
from app.page import labels
from app.page.labels import readable
from app.query_files import MAX_QUERY_FILE_BYTES, QueryFiles
from app.removal import Removals
from app.sessions import Searches
from app.texts import N_, Marked, message_of
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
from indexer.ingest.background_ocr import BackgroundOcr
from indexer.ingest.roots import excludes
from indexer.types import Root

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
    removals: Removals
    searches: Searches
    living: LivingAlbums
    jobs: Jobs
    watch: FolderWatch
    words: BackgroundOcr
    models: Models

    def start(self) -> None:
        """Begin what runs in the background."""
        self.watch.start()
        if not self.config.no_ocr:
            self.words.start()

    def close(self) -> None:
        """Stop what runs in the background."""
        self.watch.close()
        self.words.close()
        self.jobs.close()


def build(
    config: AppConfig, library: Library, scratch: Path, incoming: Path | None = None
) -> Services:
    """Build the services over an open library.

    Args:
        config: The page's configuration.
        library: Closed by the caller.
        scratch: A private folder for the files to search with.
        incoming: A folder for unfinished uploads and removed ones, on the library's disk.
    """
    files = QueryFiles(scratch, limit=min(config.max_upload_bytes, MAX_QUERY_FILE_BYTES))
    incoming = incoming or library.directory / INCOMING
    uploads = LibraryUploads(
        library.uploads,
        incoming,
        config.max_upload_bytes,
        config.max_uploads_bytes,
    )

    def message(error: Exception) -> str:
        return error_message(config, error)

    jobs, living = Jobs(message), LivingAlbums(library, files)
    return Services(
        config=config,
        library=library,
        files=files,
        uploads=uploads,
        removals=Removals(library, jobs, incoming),
        searches=Searches(library, files, living.keep_filled),
        living=living,
        jobs=jobs,
        watch=FolderWatch(library, jobs, message),
        words=BackgroundOcr(library, lambda: jobs.state.running),
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
        return N_("an unexpected error occurred: see the server's log")
    names_folders = isinstance(error, LibraryError | EmbedderError)
    if config.trusted or not names_folders or isinstance(error, LibraryBusy):
        message = message_of(error)
        return message if isinstance(message, Marked) else readable(message)
    _log.warning("hidden from users: %s", error)
    return N_("the library cannot do that now: the reason is in the server's log")


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
            N_(
                "adding a folder of the server requires a login: upload the files, or start the "
                "page with --auth or on 127.0.0.1"
            )
        )
    path = Path(os.path.expanduser(folder.strip().strip('"')))  # noqa: PTH111 -- as in typed_path
    if not folder.strip():
        raise IndexerError(N_("name a folder, for instance ~/Pictures"))
    try:
        present, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        present = is_folder = False
    if not present:
        raise IndexerError(
            N_("there is no folder {folder} on this machine", folder=readable(folder.strip()))
        )
    if not is_folder:
        raise IndexerError(N_("{name} is a file: name its folder", name=readable(folder.strip())))
    if not path.is_absolute():
        raise IndexerError(N_("write the absolute path of the folder, for instance ~/Pictures"))
    _ingest(services, N_("Adding {name}", name=readable(path.name or str(path))), [path])


def scan_folders(services: Services) -> None:
    """Start to ingest again the folders that the library remembers.

    Raises:
        NotAllowed: if users may not name folders.
        IndexerError: if there are none, or another job is running.
    """
    _check_folders_allowed(services)
    if not services.library.catalog.roots():
        raise IndexerError(N_("no folder of this machine has been added yet"))
    _ingest(services, N_("Scanning your folders"), [])


def scan_folder(services: Services, folder_id: str) -> None:
    """Start to ingest again one folder that the library remembers.

    Raises:
        NotAllowed: if users may not name folders.
        IndexerError: if there is no such folder, or another job is running.
    """
    path = _root(services, folder_id).path
    _ingest(services, _scanning(path), [path])


def forget_folder(services: Services, folder_id: str) -> int:
    """Remove a folder that the library remembers, and its files; return how many.

    Raises:
        NotAllowed: if users may not name folders.
        IndexerError: if there is no such folder, or the library is busy.
    """
    return services.library.forget([_root(services, folder_id).path])


def excluded_files(services: Services, folder_id: str, pattern: str) -> int:
    """Return how many files of a folder would leave the library if a pattern was excluded.

    Raises:
        NotAllowed: if users may not name folders.
        IndexerError: if there is no such folder, or the pattern is empty.
    """
    root = _root(services, folder_id)
    if not pattern.strip("/ "):
        raise QueryError(N_("name what to exclude, for instance private or *.tmp"))
    excluded = Root(root.path, (pattern,))
    return sum(excludes(excluded, path) for path in services.library.catalog.paths_in(root.path))


def change_exclusions(
    services: Services, folder_id: str, *, exclude: Sequence[str] = (), include: Sequence[str] = ()
) -> None:
    """Start to ingest a folder without what is excluded, and with what is included again.

    Raises:
        NotAllowed: if users may not name folders.
        IndexerError: if there is no such folder, or another job is running.
    """
    path = _root(services, folder_id).path
    options = IngestOptions(exclude=tuple(exclude), include=tuple(include))
    _ingest(services, _scanning(path), [path], options)


def _scanning(path: Path) -> str:
    return N_("Scanning {name}", name=readable(path.name or str(path)))


def keep_up_to_date(services: Services, on: bool) -> None:
    """Begin or stop to ingest the remembered folders whenever something changes in them.

    Raises:
        NotAllowed: if users may not name folders.
        LibraryError: if the library cannot be written to.
    """
    _check_folders_allowed(services)
    services.watch.switch(on)


def _root(services: Services, folder_id: str) -> Root:
    """Return the remembered folder with an id; see `forget_folder` for what it raises."""
    _check_folders_allowed(services)
    for root in services.library.catalog.roots():
        if labels.folder_id(root.path) == folder_id:
            return root
    raise QueryError(N_("the library has no such folder: it may have been removed just now"))


def _check_folders_allowed(services: Services) -> None:
    if not services.config.trusted:
        raise NotAllowed(
            N_(
                "managing folders of the server requires a login: start the page with --auth or on "
                "127.0.0.1"
            )
        )


def add_uploads(services: Services) -> None:
    """Start to add what was uploaded, once no other job is running.

    Raises:
        LibraryError: if the library was moved, deleted or replaced.
    """
    services.library.check_unchanged()
    services.library.uploads.mkdir(parents=True, exist_ok=True)
    _ingest(services, N_("Adding your files"), [services.library.uploads], wait=True)


def retry_failed(services: Services) -> None:
    """Start to ingest the failed files again.

    Raises:
        Busy: if another job is running.
    """
    _ingest(services, N_("Retrying the failed files"), [], IngestOptions(retry_failed=True))


def retry_file(services: Services, item_id: int) -> None:
    """Start to ingest one failed file again.

    Raises:
        IndexerError: if there is no such file, or another job is running.
    """
    item = services.library.catalog.item(item_id)
    options = IngestOptions(retry_failed=True)
    _ingest(services, N_("Retrying {name}", name=readable(item.name)), [item.path], options)


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
            N_("changing the model requires a login: start the page with --auth or on 127.0.0.1")
        )
    offer = services.models.chosen(wanted)
    name = ModelSpec.parse(offer.spec).short
    if offer.needs_download and not download:
        raise QueryError(
            N_("the model {model} is not on this machine yet: allow its download", model=name)
        )

    def work(on_progress: Callable[[Progress], None], cancel: Event) -> ReembedReport:
        if offer.needs_download and not services.models.download(offer, on_progress, cancel):
            return ReembedReport(offer.spec, cancelled=True)
        return services.library.reembed(
            offer.spec, leave_out=leave_out, on_progress=on_progress, cancel=cancel
        )

    if offer.needs_download:
        title = N_("Downloading {model}, then re-embedding", model=name)
    else:
        title = N_("Re-embedding with {model}", model=name)
    services.jobs.start(title, work)


def _ingest(
    services: Services,
    title: str,
    paths: Sequence[Path],
    options: IngestOptions | None = None,
    *,
    wait: bool = False,
) -> None:
    services.jobs.start(
        title,
        lambda on_progress, cancel: services.library.ingest(
            paths, options, on_progress=on_progress, cancel=cancel
        ),
        wait=wait,
    )
