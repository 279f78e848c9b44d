"""Folders that training writes: whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.settings import Settings

MARKER = "complete.json"
_FORMAT = 1
# What a checkpoint has beside weights and config, and what stays the same when it is trained.
_KEPT_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.json", "chat_template.jinja"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
)


class BadOutput(Exception):
    """A folder is there already or cannot be written; the message says which."""


@contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """A new folder that gets its name only when everything is in it.

    Args:
        directory: The name; must not be there yet, unless as an empty folder.

    Yields:
        Where to write to: a hidden folder beside it, which is removed if writing fails.

    Raises:
        BadOutput: it is there, or cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadOutput(f"{directory} is there already: name a new folder")
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        try:
            yield partial
            for path in [*(one for one in partial.rglob("*") if one.is_file()), partial]:
                _flush(path)
            partial.replace(directory)
            _flush(directory.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise BadOutput(f"{directory} cannot be written: {error}") from error


def write_checkpoint(
    model: Any,
    checkpoint: Checkpoint,
    settings: Settings,
    directory: Path,
    made: Mapping[str, Any],
) -> None:
    """Writes a trained model so that it opens as "rzen:DIRECTORY".

    Args:
        model: A `Qwen2VLModel`, adapters merged.
        checkpoint: What it was trained on: gives the tokenizer and how pictures are prepared.
        settings: What it was trained with, recorded as `rzen.json`.
        directory: Must not be there yet.
        made: How it came to be, for the record.

    Raises:
        BadOutput: the directory is there, or cannot be written.
    """
    with whole_folder(directory) as folder:
        model.save_pretrained(folder)
        for name in _KEPT_FILES:
            if (checkpoint.directory / name).is_file():
                shutil.copyfile(checkpoint.directory / name, folder / name)
        settings.save(folder)
        # The marker comes last: it says that what stands before it is all there.
        stated = {
            "format": _FORMAT,
            "base": checkpoint.spec,
            "base_digest": checkpoint.digest,
            "made": dict(made),
            "transformers": version("transformers"),
        }
        (folder / MARKER).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")


def _flush(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
