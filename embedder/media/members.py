"""Files within files: what is attached to a mail is a file whose path lies below that of the mail.

So `letter.eml/invoice.pdf` is opened, hashed, decoded and shown like any other file, and what is
attached to the mails of a mailbox lies below the mailbox.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from embedder.media.kinds import Limits, MediaError, open_media

_MAILBOX = ".mbox"
_CONTAINERS = {".eml", _MAILBOX}
_MAX_MEMBERS = 10_000


class Member(NamedTuple):
    """A file within a file."""

    name: str
    size: int


class _Place(NamedTuple):
    """Where the mail begins that a file is attached to, and the file's name and size there."""

    start: int
    name: str
    size: int


def may_have_members(path: Path) -> bool:
    """Whether a file of this name may hold others."""
    return path.suffix.lower() in _CONTAINERS


def container_of(path: str | os.PathLike[str]) -> Path | None:
    """Return the existing file that a path lies below, if it may hold others."""
    container = Path(path).parent
    try:
        return container if may_have_members(container) and container.is_file() else None
    except OSError:
        return None


def members(container: Path) -> list[Member]:
    """List the files within a file.

    Raises:
        MediaError: if it is too large, damaged, or holds too many.
        OSError: if it cannot be read.
    """
    listed = _places(container, container.stat().st_mtime_ns)
    return [Member(name, place.size) for name, place in listed.items()]


def open_member(path: Path) -> BufferedReader:
    """Open a file within a file, with the time of that one.

    Raises:
        FileNotFoundError: if the other file does not hold it.
        OSError: if the other file cannot be read.
    """
    container = container_of(path)
    if container is None:
        raise NotADirectoryError(path)
    mtime_ns = container.stat().st_mtime_ns
    try:
        data = _data(container, _places(container, mtime_ns).get(path.name))
    except MediaError as error:
        raise OSError(str(error)) from error
    if data is None:
        raise FileNotFoundError(path)
    descriptor, unpacked = tempfile.mkstemp(prefix="rzen-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.utime(unpacked, ns=(mtime_ns, mtime_ns))
        return Path(unpacked).open("rb")
    finally:
        os.unlink(unpacked)  # noqa: PTH108 -- what is open stays until it is closed


def was_detached(path: Path) -> bool:
    """Return whether a path lies below a file that certainly no longer holds it."""
    container = container_of(path)
    if container is None:
        return False
    try:
        return path.name not in _places(container, container.stat().st_mtime_ns)
    except (MediaError, OSError):
        return False


def stat_media(path: Path) -> os.stat_result:
    """Return the size and time of a file, which may lie within another one; raises `OSError`."""
    try:
        return path.stat()
    except NotADirectoryError:
        with open_media(path) as file:
            return os.fstat(file.fileno())


@lru_cache(maxsize=16)
def _places(container: Path, _mtime_ns: int) -> Mapping[str, _Place]:
    """Return where the files within a file are, by names that are unique in all of it."""
    from embedder.media.mail import unique_name

    found: dict[str, _Place] = {}
    taken: set[str] = set()
    for start, mail in _mails(container):
        for name, data in _attached(mail):
            found[unique_name(name, taken)] = _Place(start, name, len(data))
        if len(found) > _MAX_MEMBERS:
            raise MediaError(f"the mail has more than {_MAX_MEMBERS:,} attachments")
    return found


def _data(container: Path, place: _Place | None) -> bytes | None:
    if place is None:
        return None
    for _, mail in _mails(container, place.start):
        return next((data for name, data in _attached(mail) if name == place.name), None)
    return None


def _mails(container: Path, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the mails in a file, and where each begins, from one on."""
    from embedder.media.mail import messages

    limit = Limits().file_bytes
    with open_media(container) as file:
        if container.suffix.lower() == _MAILBOX:
            file.seek(start)
            yield from messages(file, limit)
            return
        data = file.read(limit + 1)
    if len(data) > limit:
        raise MediaError(f"the mail is larger than the limit of {limit / 1e6:.0f} MB")
    yield 0, data


def _attached(mail: bytes) -> Iterator[tuple[str, bytes]]:
    from embedder.media.mail import attachments

    try:
        yield from attachments(mail)
    except MediaError:
        raise
    except Exception as error:  # the parser raises anything from ValueError to RecursionError
        raise MediaError("the mail is damaged") from error
