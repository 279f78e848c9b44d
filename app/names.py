"""Names that visitors give to files, made harmless."""

import re
import unicodedata
from pathlib import Path

from indexer import IndexerError

# What Windows takes for devices, whatever comes after a dot.
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[\d¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)
_MAX_BYTES = 200  # Of 255, so that there is room for a number.
_MAX_EXTENSION = 10
_MAX_DEPTH = 20


class UploadError(IndexerError):
    """A sent file cannot be taken; the message is one sentence for the sender."""


def clean_name(name: str) -> str:
    """A file name that every file system takes and that cannot leave its folder.

    Raises:
        UploadError: if nothing of the name is left.
    """
    name = unicodedata.normalize("NFC", name).strip()
    name = "".join("_" if ch in '<>:"|?*\\/' or not ch.isprintable() else ch for ch in name)
    name = unicodedata.normalize("NFC", name).strip(". ")
    if not name:
        raise UploadError("a file without a name cannot be uploaded")
    return _no_device(_short(_no_device(name)))


def _no_device(name: str) -> str:
    return f"_{name}" if _RESERVED.fullmatch(name) else name


def _short(name: str) -> str:
    """As much of a name as a file system takes, with its extension."""
    if len(name.encode()) <= _MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = dot + extension
    if not dot or len(extension) > _MAX_EXTENSION:
        stem, ending = name, ""
    kept = stem.encode()[: _MAX_BYTES - len(ending.encode())]
    return kept.decode(errors="ignore").rstrip(". ") + ending


def clean_path(relative: str) -> Path:
    """A relative path whose every part is a clean name: ".." and roots cannot pass.

    Raises:
        UploadError: if it names no file or is nested too deeply.
    """
    parts = [part for part in re.split(r"[/\\]+", relative) if part.strip(". ")]
    if not parts:
        raise UploadError("a file without a name cannot be uploaded")
    if len(parts) > _MAX_DEPTH:
        raise UploadError(f"folders nested more than {_MAX_DEPTH} deep cannot be uploaded")
    return Path(*map(clean_name, parts))
