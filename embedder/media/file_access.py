"""Access to files: reasons for errors of the operating system, hashes, odd names, and progress."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from embedder.media.kinds import MediaError


@contextmanager
def translated_os_errors() -> Iterator[None]:
    """Turn an `OSError` raised inside into a `MediaError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise MediaError(os_reason(error)) from error


def os_reason(error: OSError) -> str:
    """Return in one sentence why the operating system refused a file."""
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, PermissionError):
        return "reading the file is not permitted; change its permissions to index it"
    if isinstance(error, IsADirectoryError):
        return "this is a folder, not a file"
    return f"the file cannot be read: {error.strerror or error}"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def plain_path(path: Path) -> Iterator[str]:
    """Give a path to the same file that C libraries can open.

    They take UTF-8; a name in another encoding (which Linux allows) makes OpenCV crash. Such a
    file is reached through a temporary link with a plain name.
    """
    absolute = os.path.abspath(path)
    try:
        absolute.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory(prefix="rzen-") as folder:
            link = Path(folder, "file" + path.suffix.encode("ascii", "ignore").decode())
            link.symlink_to(absolute)
            yield str(link)
    else:
        yield absolute


_progress_listener: ContextVar[Callable[[], None] | None] = ContextVar(
    "progress_listener", default=None
)


def on_progress(listener: Callable[[], None]) -> None:
    """Have `listener` called at each step of a long decoding in this context."""
    _progress_listener.set(listener)


def report_progress() -> None:
    """Report a step of something that may take long; decoders call it."""
    listener = _progress_listener.get()
    if listener is not None:
        listener()
