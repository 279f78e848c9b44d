"""What the page, the routes and the API share: a library and the services around it."""

from dataclasses import dataclass
from pathlib import Path

from app.config import AppConfig
from app.handlers import Searches
from app.jobs import Ingests
from app.uploads import QueryFiles
from indexer import IndexerError, Library


class NotAllowed(IndexerError):
    """Visitors of this page may not do that."""


@dataclass(frozen=True, slots=True)
class Services:
    """One of each, built once by the entry point."""

    config: AppConfig
    library: Library
    files: QueryFiles
    searches: Searches
    ingests: Ingests


def build(config: AppConfig, library: Library, scratch: Path) -> Services:
    """The services over an open library.

    Args:
        config: The page's configuration.
        library: Stays the caller's to close.
        scratch: A private folder for the files to search with.
    """
    files = QueryFiles(scratch)
    return Services(config, library, files, Searches(library, files), Ingests(library))


def add_folder(services: Services, folder: str) -> None:
    """Starts to add a folder of this machine.

    Raises:
        NotAllowed: if visitors may not name folders.
        IndexerError: if there is no such folder, or files are being added already.
    """
    if not services.config.trusted:
        raise NotAllowed(
            "a folder of this machine can be named only where the page is served to this machine "
            "alone or asks for a login: upload the files, or start it with --auth"
        )
    path = Path(folder.strip().strip('"')).expanduser()
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
    services.ingests.start(f"Adding {path.name or path}", [path])


def add_uploads(services: Services) -> None:
    """Starts to add what was uploaded.

    Raises:
        IngestBusy: if files are being added already.
    """
    services.library.uploads.mkdir(parents=True, exist_ok=True)
    services.ingests.start("Adding your files", [services.library.uploads])


def retry_failed(services: Services) -> None:
    """Starts to try the failed files again.

    Raises:
        IngestBusy: if files are being added already.
    """
    services.ingests.start("Trying the failed files again", [], retry_failed=True)
