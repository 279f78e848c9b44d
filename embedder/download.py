"""Download of models from the Hugging Face hub, and where they are on this machine.

Files are downloaded here and not by huggingface_hub, which starts over after an interruption, and
into a folder of this program and not into the hub's cache, which other programs share, so that
nothing in it could be deleted from here. What other programs have put into the cache is used.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from embedder.hub import (
    HubFile,
    HubModel,
    cached_folder,
    file_url,
    has_files,
    listing_url,
)
from embedder.interface import EmbedderError, EmbedderUnavailable
from embedder.transfer import HubClient

# A hostile listing must not name a file outside the folder, or one of ours, which begin with a dot.
_FILE_NAME = re.compile(r"\w[\w.-]{,99}(/\w[\w.-]{,99}){,9}")
_RECORD_NAME, _LOCK_NAME, _PARTIAL_NAME = ".rzen-models.json", ".rzen-models.lock", ".partial"
_RECORD_VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a download is.

    Attributes:
        file: The file in progress.
        done: Bytes of all files that are here, those of earlier runs included.
        total: Bytes of all files.
    """

    file: str
    done: int
    total: int


class FetchStopped(EmbedderError):
    """A download was stopped on request; the next one goes on from there."""


def program_data() -> Path:
    """Return the folder where the platform keeps this program's data."""
    if sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / "rzen-search"


def own_folder(model: HubModel) -> Path:
    """Return the folder that `fetch` makes for a model by default."""
    name = model.repository.replace("/", "--")
    return program_data() / "models" / (f"{name}@{model.revision[:8]}" if model.revision else name)


def local_folder(model: HubModel) -> Path | None:
    """Return a folder on this machine that has all files of a model, or None; without network.

    Raises:
        EmbedderUnavailable: the folder of a download is damaged or cannot be read.
    """
    own = own_folder(model)
    try:
        record = _Record.read(own)
        if record is not None and record.holds(model) and not record.missing(own):
            return own
        cached = cached_folder(model.repository, model.revision)
        return cached if cached is not None and has_files(cached, model.files) else None
    except OSError as error:
        reason = error.strerror or error
        raise EmbedderUnavailable(f"{own} cannot be read: {reason}") from error


def fetched_bytes(model: HubModel) -> int:
    """Return how many bytes of a model the program's own folder has; without network."""
    folder = own_folder(model)
    record = _Record.read(folder)
    return record.fetched(folder) if record is not None else 0


@dataclass(frozen=True, slots=True)
class _ListedFile:
    """A file of a commit.

    Attributes:
        name: Its path in the repository.
        size: In bytes.
        digest: Of its content: SHA-256 where it has 64 digits, as of all large files; otherwise the
            SHA-1 by which git identifies it.

    Raises:
        ValueError: one of these is impossible.
    """

    name: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        named = _FILE_NAME.fullmatch(self.name) and _DIGEST.fullmatch(self.digest)
        if not named or type(self.size) is not int or self.size < 0:
            raise ValueError(f"{self} is no file of a repository")


@dataclass(frozen=True, slots=True)
class _Record:
    """What was downloaded into a folder, or is to be, kept in it as JSON.

    Attributes:
        repository: The name of the model on the hub.
        revision: The commit.
        files: All files that the model needs.
    """

    repository: str
    revision: str
    files: tuple[_ListedFile, ...]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the record in a folder; None if there is none."""
        path = folder / _RECORD_NAME
        if not path.is_file():
            return None
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
            if stated["version"] != _RECORD_VERSION:
                raise ValueError(stated["version"])
            files = tuple(_ListedFile(**file) for file in stated["files"])
            return cls(str(stated["repository"]), str(stated["revision"]), files)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise EmbedderUnavailable(
                f"{path} is damaged or of another version of this program: delete {folder}, and "
                "download the model again"
            ) from error

    def write(self, folder: Path) -> None:
        """Write it into a folder."""
        path = folder / _RECORD_NAME
        temporary = path.with_suffix(".new")
        stated = {"version": _RECORD_VERSION, **asdict(self)}
        temporary.write_text(json.dumps(stated, indent=1), "utf-8")
        temporary.replace(path)

    def holds(self, model: HubModel) -> bool:
        """Return whether it is of that model, with all that is needed of it."""
        return (
            self.repository == model.repository
            and model.revision in (None, self.revision)
            and all(
                file.optional or any(file.matches(one.name) for one in self.files)
                for file in model.files
            )
        )

    def missing(self, folder: Path) -> list[_ListedFile]:
        """Return the files that are not in the folder; those with their names are whole."""
        return [file for file in self.files if _size(folder / file.name) != file.size]

    def fetched(self, folder: Path) -> int:
        """Return how many bytes of the files are in the folder, whole and in part."""
        missing = self.missing(folder)
        whole = self.size - sum(file.size for file in missing)
        return whole + sum(_size(_partial(folder, file)) or 0 for file in missing)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)


class FileState(StrEnum):
    """What `verify` finds out about a file."""

    INTACT = "intact"
    UNKNOWN = "there, but no hash of it is known"
    DAMAGED = "damaged"
    MISSING = "missing"


def fetch(
    model: HubModel,
    *,
    to: Path | None = None,
    progress: Callable[[FetchProgress], None] = lambda _progress: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Download a model, or what is missing of it; return its folder.

    A file gets its name when it is whole and has the hash that this program or the hub states. What
    is there of others waits in the folder, so that the next call goes on from there.

    Args:
        model: What to download.
        to: Folder to make or to complete. By default the one that has the model already, or the
            program's own.
        progress: Called after each block.
        stopped: Called as often; true stops the download.

    Raises:
        FetchStopped: `stopped` was true.
        EmbedderUnavailable: the hub cannot be reached or refuses, a file is not as stated, the disk
            is full, or the folder holds something else.
    """
    if to is None and (found := local_folder(model)) is not None:
        return found
    folder = to or own_folder(model)

    def check_stopped() -> None:
        if stopped():
            raise FetchStopped(
                f"the download of {model.repository} was stopped; the next one goes on from there"
            )

    try:
        revision = _revision_of(folder, model)
        with HubClient(check_stopped) as client:
            record = _listed(client, model, revision)
            _check_space(folder, record)
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder):
                record.write(folder)
                _download(client, record, folder, progress)
    except OSError as error:
        reason = error.strerror or error
        raise EmbedderUnavailable(
            f"{folder} cannot be written ({reason}): free some space or change its permissions, "
            "and run it again; it goes on from there"
        ) from error
    return folder


def fetch_with_bar(model: HubModel, *, to: Path | None = None) -> Path:
    """Download a model as `fetch` does, and show progress on standard error if it is a terminal."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, dynamic_ncols=True, leave=False, disable=None) as bar:

        def show(progress: FetchProgress) -> None:
            if bar.total is None:  # what is here took no time now, so it does not count in the rate
                bar.total = progress.total
                bar.initial = bar.n = bar.last_print_n = progress.done
            bar.set_description_str(progress.file, refresh=False)
            bar.update(progress.done - bar.n)

        return fetch(model, to=to, progress=show)


def verify(model: HubModel | None, folder: Path) -> dict[str, FileState]:
    """Compare the files in a folder with what this program knows, or the hub stated, of them.

    Args:
        model: Whose files should be there; None for those that were downloaded into the folder.
        folder: Where to look.

    Returns:
        By name of each file.

    Raises:
        EmbedderUnavailable: nothing was downloaded into the folder and no model is given, or it
            cannot be read.
    """
    record = _Record.read(folder)
    if record is None and model is None:
        raise EmbedderUnavailable(
            f"it is not known what should be in {folder}: it was not made by `rzen-models fetch`"
        )
    known: dict[str, tuple[int | None, str | None]] = {}
    for listed in record.files if record else ():
        known[listed.name] = listed.size, listed.digest
    for file in model.files if model else ():
        certain = file.name not in known and "*" not in file.name and not file.optional
        if certain or file.sha256:
            known[file.name] = file.size, file.sha256
    try:
        return {name: _state(folder / name, *facts) for name, facts in known.items()}
    except OSError as error:
        raise EmbedderUnavailable(f"{folder} cannot be read: {error.strerror or error}") from error


def remove(model: HubModel) -> Path:
    """Delete what was downloaded of a model into the program's own folder; return that folder.

    Raises:
        EmbedderUnavailable: nothing was, it is being downloaded, or it cannot be deleted.
    """
    folder = own_folder(model)
    record = _Record.read(folder)
    if record is None:
        raise EmbedderUnavailable(
            f"{folder} holds no download of {model.repository}; folders of other programs, such as "
            "the hub's cache, are not touched"
        )
    try:
        with _locked(folder):
            # The record last, so that a removal that failed can be repeated.
            for file in record.files:
                (folder / file.name).unlink(missing_ok=True)
            shutil.rmtree(folder / _PARTIAL_NAME, ignore_errors=True)
            (folder / _RECORD_NAME).unlink()
        (folder / _LOCK_NAME).unlink(missing_ok=True)
        for parent in sorted({(folder / file.name).parent for file in record.files}, reverse=True):
            with suppress(OSError):  # not empty: the user has put something there
                parent.rmdir()
    except OSError as error:
        raise EmbedderUnavailable(
            f"{folder} cannot be deleted: {error.strerror or error}"
        ) from error
    return folder


def _revision_of(folder: Path, model: HubModel) -> str | None:
    """Return the revision to download: the model's, or that which is in the folder in part.

    Raises:
        EmbedderUnavailable: the folder holds something else.
    """
    record = _Record.read(folder)
    if record is not None and record.repository == model.repository:
        if model.revision in (None, record.revision):
            return record.revision
    elif record is None:
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if there <= {_LOCK_NAME}:
            return model.revision
    raise EmbedderUnavailable(
        f"{folder} holds something else already: name a new or an empty folder"
    )


def _listed(client: HubClient, model: HubModel, revision: str | None) -> _Record:
    """Ask the hub for the commit, and for sizes and hashes of the files that a model needs."""
    url = listing_url(model.repository, revision)
    listing = client.read_json(url)
    try:
        commit, siblings = listing["sha"], listing["siblings"]
        if not re.fullmatch(r"[0-9a-f]{40}", commit) or commit != (revision or commit):
            raise ValueError(commit)
        files = [_listed_file(one) for one in siblings if _FILE_NAME.fullmatch(one["rfilename"])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EmbedderUnavailable(
            f"{url} does not list files with sizes and hashes: use another HF_ENDPOINT"
        ) from error
    needed: dict[str, _ListedFile] = {}
    for wanted in model.files:
        matching = [file for file in files if wanted.matches(file.name)]
        if not matching and not wanted.optional:
            raise EmbedderUnavailable(
                f"{model.repository} has no {wanted.name}, so it is no model of this kind"
            )
        needed |= {file.name: _pinned(model, wanted, file) for file in matching}
    return _Record(model.repository, commit, tuple(needed.values()))


def _listed_file(stated: Mapping[str, Any]) -> _ListedFile:
    lfs = stated.get("lfs") or {}
    return _ListedFile(stated["rfilename"], stated["size"], lfs.get("sha256") or stated["blobId"])


def _pinned(model: HubModel, known: HubFile, listed: _ListedFile) -> _ListedFile:
    """Return a listed file with the hash that is known of it.

    Raises:
        EmbedderUnavailable: the hub states another one, or another size.
    """
    comparable = known.sha256 is not None and len(listed.digest) == len(known.sha256)
    if known.size not in (None, listed.size) or (comparable and known.sha256 != listed.digest):
        raise EmbedderUnavailable(
            f"{listed.name} of {model.repository} is not the file that this program knows: use "
            "another HF_ENDPOINT, or a newer version of this program"
        )
    return replace(listed, digest=known.sha256 or listed.digest)


def _check_space(folder: Path, record: _Record) -> None:
    """Refuse a download that the disk has no room for.

    Raises:
        EmbedderUnavailable: it is too large.
    """
    needed = record.size - record.fetched(folder)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise EmbedderUnavailable(
            f"{record.repository} needs {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free "
            f"at {there}: free some space, or download to another disk with --to DIR"
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a folder.

    Raises:
        EmbedderUnavailable: one is changing it.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder / _LOCK_NAME, timeout=0):
            yield
    except Timeout as error:
        raise EmbedderUnavailable(
            f"another program is downloading to {folder}: wait until it has finished"
        ) from error


def _download(
    client: HubClient,
    record: _Record,
    folder: Path,
    progress: Callable[[FetchProgress], None],
) -> None:
    """Download the missing files of a record into its folder."""
    missing = record.missing(folder)
    done = record.size - sum(file.size for file in missing)
    (folder / _PARTIAL_NAME).mkdir(exist_ok=True)
    for file in missing:
        partial = _partial(folder, file)
        url = file_url(record.repository, file.name, record.revision)
        for here in client.download(url, file.size, partial):
            progress(FetchProgress(file.name, done + here, record.size))
        if _state(partial, file.size, file.digest) is not FileState.INTACT:
            partial.unlink()
            raise EmbedderUnavailable(
                f"{url} has another hash than it should have, so it was deleted: run it again, "
                "and use another HF_ENDPOINT if that happens again"
            )
        _publish(partial, folder / file.name)
        done += file.size
    shutil.rmtree(folder / _PARTIAL_NAME)


def _partial(folder: Path, file: _ListedFile) -> Path:
    """Return where a file is until it is whole: by its content, which a name may change."""
    return folder / _PARTIAL_NAME / file.digest


def _publish(partial: Path, target: Path) -> None:
    """Give a file its name, when its content is on the disk."""
    with partial.open("rb+") as written:
        os.fsync(written.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)


def _state(path: Path, size: int | None, digest: str | None) -> FileState:
    """Compare a file with what is known of it; see `_ListedFile`."""
    here = _size(path)
    if here is None:
        return FileState.MISSING
    if size not in (None, here):
        return FileState.DAMAGED
    if digest is None:
        return FileState.UNKNOWN
    with path.open("rb") as content:
        if len(digest) == 64:
            found = hashlib.file_digest(content, "sha256")
        else:  # git hashes the kind and the size of an object too
            found = hashlib.sha1(b"blob %d\0" % here, usedforsecurity=False)
            while block := content.read(1 << 20):
                found.update(block)
    return FileState.INTACT if found.hexdigest() == digest else FileState.DAMAGED


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes; None if there is none."""
    return path.stat().st_size if path.is_file() else None
