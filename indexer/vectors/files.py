"""Files that are there whole or not at all."""

import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from indexer.errors import LibraryError

STATE_FILE = "state.json"
_CHUNK = 1 << 22
_PART = ".part"


def saved_generation(directory: Path, owner: str, fingerprint: str | None = None) -> int | None:
    """The generation that `FaissStore.load` would find, told without loading FAISS."""
    try:
        state = json.loads((directory / STATE_FILE).read_bytes())
        same = (state["owner"], state["fingerprint"]) == (owner, fingerprint)
        return int(state["generation"]) if same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def written(path: Path, fill: Callable[[Callable[[bytes], int]], object]) -> dict[str, Any]:
    """Writes a file; returns its name, length and checksum.

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


def _written(path: Path, fill: Callable[[Callable[[bytes], int]], object]) -> dict[str, Any]:
    temporary = path.with_name(path.name + _PART)
    size = checksum = 0
    with temporary.open("wb") as file:

        def write(data: bytes) -> int:
            nonlocal size, checksum
            size, checksum = size + len(data), zlib.crc32(data, checksum)
            return file.write(data)

        fill(write)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return {"file": path.name, "bytes": size, "crc32": checksum}


@contextmanager
def checked(directory: Path, saved: Mapping[str, Any]) -> Iterator[BinaryIO]:
    """Opens what `written` wrote.

    Raises:
        OSError: it is not there.
        ValueError: it is truncated or damaged.
    """
    path = directory / Path(saved["file"]).name
    if path.stat().st_size != saved["bytes"]:
        raise ValueError(f"{path.name} is not {saved['bytes']} bytes long")
    with path.open("rb") as file:
        checksum = 0
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
        if checksum != saved["crc32"]:
            raise ValueError(f"{path.name} is damaged")
        file.seek(0)
        yield file


def put_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Replaces the file that names all others."""
    data = json.dumps(state, indent=1).encode()
    written(directory / STATE_FILE, lambda write: write(data))


def state_of(directory: Path) -> Any:
    """What `put_state` put."""
    return json.loads((directory / STATE_FILE).read_bytes())
