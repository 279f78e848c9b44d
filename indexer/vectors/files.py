"""Files that are there whole or not at all."""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from embedder.media.kinds import Kind
from indexer.errors import LibraryError
from indexer.vectors.growth import Description

STATE_FILE = "state.json"
_CHUNK = 1 << 22
_PART = ".part"
_PROBES = 64
_PROBE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store, and what tells whether it is whole.

    Attributes:
        name: Of the file; its folder is known.
        bytes: Its length.
        crc32: A checksum of all of it.
        probes: A checksum of pages spread evenly over it, the first and the last among them, so
            that a file can be opened in a time that does not grow with it.
    """

    name: str
    bytes: int
    crc32: int
    probes: int

    def path(self, directory: Path) -> Path:
        """Where it is, in no other folder, whatever it calls itself."""
        return directory / Path(self.name).name


def saved_generation(directory: Path, owner: str, fingerprint: str | None = None) -> int | None:
    """The generation that `FaissIndex.load` would find, told without loading FAISS."""
    try:
        state = state_of(directory)
        same = (state["owner"], state["fingerprint"]) == (owner, fingerprint)
        return state["generation"] if same else None
    except (OSError, ValueError, KeyError):
        return None


def saved_descriptions(
    directory: Path, owner: str, fingerprint: str | None = None
) -> dict[Kind, Description]:
    """How the partitions that `FaissIndex.load` would find are searched, told without FAISS."""
    if saved_generation(directory, owner, fingerprint) is None:
        return {}
    try:
        partitions = state_of(directory)["partitions"].items()
        return {Kind(name): Description.of(one["description"]) for name, one in partitions}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def damaged(directory: Path) -> list[str]:
    """The names of the saved files that are missing or not as they were written; reads them all."""
    names = []
    for partition in state_of(directory)["partitions"].values():
        for stored in files_of(partition):
            try:
                with checked(directory, stored):
                    pass
            except (OSError, ValueError):
                names.append(stored.name)
    return names


def by_role(saved: Mapping[str, Any]) -> dict[str, list[Stored]]:
    """The files of a saved partition by what they are for; `TypeError` if it has none."""
    return {role: [Stored(**one) for one in some] for role, some in saved["files"].items()}


def files_of(saved: Mapping[str, Any]) -> list[Stored]:
    """All files of a saved partition."""
    return [stored for some in by_role(saved).values() for stored in some]


def as_saved(files: Mapping[str, Sequence[Stored]]) -> dict[str, list[dict[str, Any]]]:
    """What `by_role` reads."""
    return {role: [asdict(one) for one in some] for role, some in files.items()}


def written(path: Path, fill: Callable[[Callable[[Any], int]], object]) -> Stored:
    """Writes a file.

    Args:
        path: Where to.
        fill: Gets a function that writes bytes.

    Raises:
        LibraryError: it cannot be written.
    """
    try:
        return _written(path, fill)
    except OSError as error:
        path.with_name(path.name + _PART).unlink(missing_ok=True)
        raise LibraryError(
            f"the vectors in {path.parent} cannot be saved: {error.strerror or error}; nothing is "
            "lost, and the next run saves them: check the free space and the permissions there"
        ) from error


def _written(path: Path, fill: Callable[[Callable[[Any], int]], object]) -> Stored:
    temporary = path.with_name(path.name + _PART)
    size = checksum = 0
    with temporary.open("wb") as file:

        def write(data: Any) -> int:
            nonlocal size, checksum
            size, checksum = size + len(data), zlib.crc32(data, checksum)
            return file.write(data)

        fill(write)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return Stored(path.name, size, checksum, _probes(path))


@contextmanager
def checked(directory: Path, stored: Stored) -> Iterator[BinaryIO]:
    """Opens what `written` wrote, having read all of it.

    Raises:
        OSError: it is not there.
        ValueError: it is truncated or damaged.
    """
    path = _of_its_length(directory, stored)
    with path.open("rb") as file:
        checksum = 0
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != stored.crc32:
            raise ValueError(f"{path.name} is damaged")
        file.seek(0)
        yield file


def mapped(directory: Path, stored: Stored) -> NDArray[np.uint8]:
    """Maps what `written` wrote, for reading, in a time that does not grow with it.

    Raises:
        OSError: it is not there.
        ValueError: it is truncated, or damaged where it was looked at.
    """
    path = _of_its_length(directory, stored)
    if _probes(path) != stored.probes:
        raise ValueError(f"{path.name} is damaged")
    if not stored.bytes:
        return np.empty(0, dtype=np.uint8)
    # Without the class memmap, whose indexing is slower.
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))


def put_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Replaces the file that names all others."""
    data = json.dumps({"crc32": _checksum(state), **state}, indent=1).encode()
    written(directory / STATE_FILE, lambda write: write(data))


def state_of(directory: Path) -> Any:
    """What `put_state` put.

    Raises:
        OSError: it is not there.
        ValueError: it is damaged.
    """
    try:
        state = json.loads((directory / STATE_FILE).read_bytes())
    except RecursionError as error:
        raise ValueError(f"{STATE_FILE} is nested too deeply") from error
    if not isinstance(state, dict) or state.pop("crc32", None) != _checksum(state):
        raise ValueError(f"{STATE_FILE} is damaged")
    generation = state.get("generation")
    if type(generation) is not int or not 0 <= generation < 1 << 63:
        raise ValueError(f"{STATE_FILE} is of no generation")
    return state


def _checksum(state: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())


def _of_its_length(directory: Path, stored: Stored) -> Path:
    path = stored.path(directory)
    if path.stat().st_size != stored.bytes:
        raise ValueError(f"{path.name} is not {stored.bytes} bytes long")
    return path


def _probes(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        last = max(0, os.fstat(file.fileno()).st_size - _PROBE_BYTES)
        for offset in np.unique(np.linspace(0, last, _PROBES, dtype=np.int64)).tolist():
            file.seek(offset)
            checksum = zlib.crc32(file.read(_PROBE_BYTES), checksum)
    return checksum
