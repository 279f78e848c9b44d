"""Models of the Hugging Face hub: named ones, and how their files are read."""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from embedder.interface import EmbedderUnavailable

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""The name of a repository."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: Its path in the repository. One with a wildcard, as in `*.json`, stands for all files
            of that folder that match.
        size: In bytes; None where it is not known yet.
        sha256: Of its content; None where it is not known.
        optional: Whether a model may be without it.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    optional: bool = False

    def matches(self, name: str) -> bool:
        """Return whether it stands for the file of that name."""
        return name.count("/") == self.name.count("/") and fnmatchcase(name, self.name)


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model of the hub.

    Attributes:
        repository: Its name on the hub.
        files: What is needed of it.
        revision: The commit that was looked at; None for the newest.
        summary: What it is good at, in a few words.
        megabytes: The size of the files together, about; None where it is not known.
        languages: Which ones it understands, for people.
        speed: How fast it is, for people.
        licence: Its SPDX identifier.
    """

    repository: str
    files: tuple[HubFile, ...]
    revision: str | None = None
    summary: str = ""
    megabytes: int | None = None
    languages: str = ""
    speed: str = ""
    licence: str = ""


def page_url(repository: str) -> str:
    """Return the page of a repository on the hub, or on the mirror that HF_ENDPOINT names."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}"


def file_url(repository: str, name: str, revision: str | None = None) -> str:
    """Return where the hub has a file of a commit; by default, of the newest."""
    return f"{page_url(repository)}/resolve/{revision or 'main'}/{name}"


def listing_url(repository: str, revision: str | None = None) -> str:
    """Return where the hub lists the files of a commit with sizes and hashes, as JSON."""
    commit = f"/revision/{revision}" if revision else ""
    return f"{page_url(f'api/models/{repository}')}{commit}?blobs=true"


def cached_folder(repository: str, revision: str | None = None) -> Path | None:
    """Return where the hub's cache on this machine has a repository, or None; without network."""
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(repository, "config.json", revision=revision)
    except ValueError:  # not a valid name
        return None
    return Path(found).parent if isinstance(found, str) else None


def has_files(folder: Path, files: Iterable[HubFile]) -> bool:
    """Return whether a folder has those files, and all weights that an index in it lists."""
    if not all(file.optional or any(folder.glob(file.name)) for file in files):
        return False
    for index in folder.glob("*.safetensors.index.json"):
        places = read_object(index).get("weight_map")
        names = places.values() if isinstance(places, dict) else [None]
        if not all(isinstance(name, str) and (folder / name).is_file() for name in names):
            return False
    return True


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        EmbedderUnavailable: it is missing, cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EmbedderUnavailable(
            f"{path.parent} holds no model: there is no {path.name} in it; name the folder that "
            "has all files of the model"
        ) from error
    except OSError as error:
        raise EmbedderUnavailable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EmbedderUnavailable(
            f"{path} is damaged ({error}): download or copy it again"
        ) from error
    if not isinstance(value, dict):
        raise EmbedderUnavailable(f"{path} is damaged (not an object): download or copy it again")
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
