"""Models of the Hugging Face hub: named ones, where their files are, and how these are read."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder.interface import EmbedderUnavailable

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
"""The name of a repository."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: Its path in the repository.
        size: In bytes; None where it is not known yet.
        sha256: Of its content; None where it is not known yet.
    """

    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub that has a name here.

    Attributes:
        repository: Its name on the hub.
        files: What is needed of it.
        revision: The commit that was looked at; None for the newest.
        megabytes: The size of the files together, about; None where it is not known.
        languages: Which ones it understands, for people.
        licence: Its SPDX identifier.
    """

    repository: str
    files: tuple[HubFile, ...]
    revision: str | None = None
    megabytes: int | None = None
    languages: str = ""
    licence: str = ""

    @property
    def download_command(self) -> str:
        """The command that downloads it."""
        revision = f" --revision {self.revision}" if self.revision else ""
        names = " ".join(file.name for file in self.files)
        return f"hf download {self.repository}{revision} {names}"


def cached_folder(repository: str, revision: str | None = None) -> Path | None:
    """Return where the hub's cache on this machine has a repository, or None; without network."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repository, "config.json", revision=revision)
    except ValueError:  # not a valid name
        return None
    return Path(found).parent if isinstance(found, str) else None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        EmbedderUnavailable: it is missing, cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EmbedderUnavailable(
            f"{path.parent} holds no model: there is no {path.name} in it"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise EmbedderUnavailable(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise EmbedderUnavailable(f"{path} is not an object")
    return value


def channels(
    path: Path, stated: Mapping[str, Any], name: str, default: tuple[float, ...] = ()
) -> tuple[float, ...]:
    """Return an entry of a preprocessor's configuration: three numbers, for red, green and blue.

    Args:
        path: The file, for messages.
        stated: Its content.
        name: The entry, "image_mean" or "image_std".
        default: What it is where the file has none; by default it has to have one.

    Raises:
        EmbedderUnavailable: it is something else.
    """
    value = stated.get(name, default)
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or not all(isinstance(one, int | float) and math.isfinite(one) for one in value)
    ):
        raise EmbedderUnavailable(f"{path} has an {name} that is not three numbers")
    return tuple(value)
