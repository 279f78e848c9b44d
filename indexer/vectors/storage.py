"""The files of a saved index: written whole or appended to, with checksums, and named by a state.

The state is replaced last, so files and state agree: bytes that were appended after it, by a
process that died before it could replace the state, lie beyond the length that it gives.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import LibraryError

STATE_FILE = "state.json"

_CHUNK_BYTES = 1 << 22
_TEMPORARY = ".part"
_PROBES = 64
_PROBE_BYTES = 4096

Write = Callable[[Any], int]
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of an index, and what shows that it is whole.

    Attributes:
        name: Without its folder.
        bytes: Its length; what lies beyond was never finished.
        crc32: A checksum of all of it.
        probes: A checksum of pages spread evenly over it, the first and the last among them, so
            that opening a file takes no longer the larger it is.
    """

    name: str
    bytes: int
    crc32: int
    probes: int

    def path(self, directory: Path) -> Path:
        """Return where it lies: in this folder, whatever path its name holds."""
        return directory / Path(self.name).name

    def is_in(self, directory: Path) -> bool:
        """Return whether it lies there, of exactly its length."""
        try:
            return self.path(directory).stat().st_size == self.bytes
        except OSError:
            return False


def files_of(partition: Mapping[str, Any]) -> dict[str, StoredFile]:
    """Return the files of a partition's state by what they hold.

    Raises:
        KeyError, TypeError, AttributeError: if they are not described.
    """
    return {role: StoredFile(**stored) for role, stored in partition["files"].items()}


def write_file(path: Path, fill: Callable[[Write], object]) -> StoredFile:
    """Write a file that replaces another one at once.

    Args:
        path: Where to.
        fill: Called with a function that writes bytes.

    Raises:
        LibraryError: if it cannot be written.
    """
    temporary = path.with_name(path.name + _TEMPORARY)
    size = checksum = 0

    def write(data: Any) -> int:
        nonlocal size, checksum
        size, checksum = size + len(data), zlib.crc32(data, checksum)
        return file.write(data)

    try:
        with temporary.open("wb") as file:
            fill(write)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return StoredFile(path.name, size, checksum, _probe_checksum(path, size))
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def append_to_file(directory: Path, stored: StoredFile, data: bytes | memoryview) -> StoredFile:
    """Append to a file that is exactly as it is described.

    Raises:
        LibraryError: if it cannot be written.
    """
    path, size = stored.path(directory), stored.bytes + len(data)
    try:
        with path.open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        checksum = zlib.crc32(data, stored.crc32)
        return StoredFile(stored.name, size, checksum, _probe_checksum(path, size))
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> LibraryError:
    return LibraryError(
        f"Cannot save the vector index in {path.parent}: {error.strerror or error}. Nothing is "
        "lost, and the next run saves it: check the free space and the permissions there."
    )


def map_file(directory: Path, stored: StoredFile) -> NDArray[np.uint8]:
    """Map a file for reading, in a time that does not grow with it.

    Raises:
        OSError: if it is missing.
        ValueError: if it is truncated, or damaged where it was looked at.
    """
    path = probed(directory, stored)
    if not stored.bytes:
        return np.empty(0, dtype=np.uint8)
    # Without the class memmap, whose indexing is slower.
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="r", shape=(stored.bytes,)))


def probed(directory: Path, stored: StoredFile) -> Path:
    """Return the path of a file after a look at some of its pages; raises as `map_file`."""
    path = stored.path(directory)
    if path.stat().st_size < stored.bytes or _probe_checksum(path, stored.bytes) != stored.probes:
        raise ValueError(f"{stored.name} is damaged")
    return path


def damaged_files(directory: Path) -> list[str]:
    """Return the names of the files that are missing or not as they were written; reads them all.

    Raises:
        OSError, ValueError, LookupError, TypeError, AttributeError: if the state is damaged.
    """
    partitions = state_of(directory)["partitions"].values()
    stored = [file for partition in partitions for file in files_of(partition).values()]
    return [file.name for file in stored if not _is_whole(directory, file)]


def _is_whole(directory: Path, stored: StoredFile) -> bool:
    checksum, left = 0, stored.bytes
    try:
        with stored.path(directory).open("rb") as file:
            while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
                checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
    except OSError:
        return False
    return not left and checksum == stored.crc32


def put_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Replace the file that names all others."""
    data = json.dumps({"crc32": _state_checksum(state), **state}, indent=1).encode()
    write_file(directory / STATE_FILE, lambda write: write(data))


def state_of(directory: Path) -> Any:
    """Return what `put_state` put.

    Raises:
        OSError: if there is nothing.
        ValueError: if it is damaged.
    """
    try:
        state = json.loads((directory / STATE_FILE).read_bytes())
    except RecursionError as error:
        raise ValueError(f"{STATE_FILE} is nested too deeply") from error
    if not isinstance(state, dict) or state.pop("crc32", None) != _state_checksum(state):
        raise ValueError(f"{STATE_FILE} is damaged")
    generation = state.get("generation")
    if type(generation) is not int or not 0 <= generation < 1 << 63:
        raise ValueError(f"{STATE_FILE} has no generation")
    return state


def _state_checksum(state: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())


def _probe_checksum(path: Path, size: int) -> int:
    checksum = 0
    with path.open("rb", buffering=0) as file:
        last = max(0, size - _PROBE_BYTES)
        for offset in {last * step // (_PROBES - 1): None for step in range(_PROBES)}:
            file.seek(offset)
            checksum = zlib.crc32(file.read(min(_PROBE_BYTES, size - offset)), checksum)
    return checksum
