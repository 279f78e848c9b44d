"""The files of a saved index: written whole or appended to, with checksums, and named by a state.

The state is replaced last, so files and state agree: bytes that were appended after it, by a
process that died before it could replace the state, lie beyond the length that it gives.
"""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from indexer.errors import LibraryError

STATE_FILE = "state.json"

_CHUNK_BYTES = 1 << 22
_CHUNK_ROWS = 1 << 13
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


def stated(files: Mapping[str, StoredFile]) -> dict[str, dict[str, Any]]:
    """Return what `files_of` reads."""
    return {role: asdict(stored) for role, stored in files.items()}


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


def read_file(directory: Path, stored: StoredFile) -> bytes:
    """Return the content of a small file.

    Raises:
        OSError: if it is missing.
        ValueError: if it is truncated or damaged.
    """
    data = stored.path(directory).read_bytes()[: stored.bytes]
    if len(data) != stored.bytes or zlib.crc32(data) != stored.crc32:
        raise ValueError(f"{stored.name} is damaged")
    return data


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


class Column:
    """Values by position, of which the saved ones are mapped and the others are in memory.

    They are only appended to; what was read from `blocks` before stays valid.

    Attributes:
        blocks: The saved values and the others, arrays of one dtype and shape but for the length.
    """

    blocks: tuple[NDArray[Any], NDArray[Any]]

    def __init__(self, dtype: DTypeLike, width: tuple[int, ...] = ()) -> None:
        """Create an empty column.

        Args:
            dtype: Of the values.
            width: Shape of a value.
        """
        empty = np.empty((0, *width), dtype=dtype)
        self._buffer = empty  # The values that are not saved, and room for more.
        self._stored: StoredFile | None = None
        self.blocks = empty, empty

    def __len__(self) -> int:
        return len(self.blocks[0]) + len(self.blocks[1])

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        return self._buffer.nbytes

    @property
    def mapped(self) -> int:
        """Bytes of the file."""
        return self.blocks[0].nbytes

    def append(self, values: NDArray[Any]) -> None:
        """Append values of shape (n, *width)."""
        saved, fresh = self.blocks
        count, total = len(fresh), len(fresh) + len(values)
        if total > len(self._buffer):
            room = (max(total, 3 * count // 2), *fresh.shape[1:])
            self._buffer = np.empty(room, dtype=fresh.dtype)
            self._buffer[:count] = fresh
        self._buffer[count:total] = values
        self.blocks = saved, self._buffer[:total]

    def forget_file(self) -> None:
        """Write a new file the next time, because others may have written to this one."""
        self._stored = None

    def save(self, directory: Path, name: str) -> StoredFile:
        """Append to the file what it lacks, or write a new one, and map it.

        Args:
            directory: Where to.
            name: Of a new file.

        Raises:
            LibraryError: if it cannot be written.
        """
        fresh = self.blocks[1]
        if self._stored is None or not self._stored.is_in(directory):
            self._replace(
                directory, name, (data for block in self.blocks for data in _parts(block))
            )
        elif len(fresh):
            data = np.ascontiguousarray(fresh).data.cast("B")
            self._map(directory, append_to_file(directory, self._stored, data))
        assert self._stored is not None
        return self._stored

    def kept(self, directory: Path, name: str, positions: Positions) -> "Column":
        """Return the values at some positions, which ascend, in a new file."""
        saved, fresh = self.blocks
        border = int(np.searchsorted(positions, len(saved)))
        early, late = positions[:border], positions[border:] - len(saved)
        column = Column(fresh.dtype, fresh.shape[1:])
        parts = ((saved[some] for some in _parts(early)), (fresh[some] for some in _parts(late)))
        column._replace(directory, name, chain(*parts))
        return column

    def restore(self, directory: Path, stored: StoredFile) -> None:
        """Map what `save` wrote; raises as `map_file`."""
        self._map(directory, stored)

    def _replace(self, directory: Path, name: str, parts: Iterable[NDArray[Any]]) -> None:
        def fill(write: Write) -> None:
            for part in parts:
                if len(part):
                    write(np.ascontiguousarray(part).data.cast("B"))

        self._map(directory, write_file(directory / name, fill))

    def _map(self, directory: Path, stored: StoredFile) -> None:
        empty = self.blocks[1][:0]
        saved = map_file(directory, stored).view(empty.dtype).reshape(-1, *empty.shape[1:])
        self._stored, self._buffer = stored, empty.copy()
        self.blocks = saved, self._buffer

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Return a column of some values."""
        column = cls(values.dtype, values.shape[1:])
        column.append(values)
        return column


def _parts(block: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(block), _CHUNK_ROWS):
        yield block[start : start + _CHUNK_ROWS]
