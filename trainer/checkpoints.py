"""Folders written atomically: trained models, and checkpoints to resume a run from."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn

from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.settings import Settings
from trainer.distributed import world_size

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
def atomic_folder(directory: Path) -> Iterator[Path]:
    """Create a folder that gets its name only when its contents are complete.

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
    """Write a trained model so that it opens as "rzen:DIRECTORY".

    Args:
        model: A `Qwen2VLModel`, adapters merged.
        checkpoint: What it was trained on: gives the tokenizer and how pictures are prepared.
        settings: What it was trained with, recorded as `rzen.json`.
        directory: Must not be there yet.
        made: How it came to be, for the record.

    Raises:
        BadOutput: the directory is there, or cannot be written.
    """
    with atomic_folder(directory) as folder:
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
    """Sync a file, or a folder's directory entries, to disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_WEIGHTS, _STATE, _PLACE = "trained.safetensors", "state.pt", "place.json"
_RESTARTS_FORMAT = 2
_KEPT = 2


class ResumeError(Exception):
    """There is nothing to go on from, or it is of another run."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run is: steps taken, and what its sampler needs to go on."""

    step: int
    sampler: Mapping[str, Any]


class Checkpointer:
    """Writes and reads checkpoints; the two latest are kept.

    Guarantees: a checkpoint has its name only when it is complete; a run that goes on from one
    takes the steps that it would have taken, what is random in them included if it has as many
    processes as before. Reading runs no code from the files.

    Args:
        directory: Where they are.
        modules: By name: what learns. Only parameters with a gradient are stored.
        optimizer: Over them.
        schedule: Of the learning rate.
    """

    def __init__(
        self,
        directory: Path,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self._directory = directory
        self._parameters = {
            f"{part}.{name}": parameter
            for part, module in modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self._optimizer = optimizer
        self._schedule = schedule

    def save(self, place: TrainingState) -> None:
        """Write a checkpoint and remove all but the last two.

        All processes must call it together: the first one writes, the others tell it where their
        generators are.

        Raises:
            BadOutput: it cannot be written.
        """
        states = _generators_everywhere()
        directory = self._directory / f"step-{place.step:08}"
        if _rank() or directory.exists():
            return
        with atomic_folder(directory) as folder:
            weights = {name: one.detach().contiguous() for name, one in self._parameters.items()}
            save_file(weights, folder / _WEIGHTS)
            state = {
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "random": states,
            }
            torch.save(state, folder / _STATE)
            stated = {
                "format": _RESTARTS_FORMAT,
                "step": place.step,
                "sampler": dict(place.sampler),
            }
            (folder / _PLACE).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")
        for old in self._complete()[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> TrainingState:
        """Restore weights, optimizer and random states of the latest checkpoint.

        Raises:
            BadRestart: there is none, or it is of another model or version.
        """
        found = self._complete()
        if not found:
            raise ResumeError(f"there is no checkpoint in {self._directory}: leave --resume out")
        folder = found[-1]
        try:
            stated = json.loads((folder / _PLACE).read_text(encoding="utf-8"))
            weights = load_file(folder / _WEIGHTS)
            # Without `weights_only` a file could run code.
            state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        except Exception as error:  # Those of safetensors and of pickle have no other parent.
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ResumeError(
                f"{folder} cannot be read ({reason}): delete it to go on from the checkpoint "
                "before it, or leave --resume out"
            ) from error
        if stated["format"] != _RESTARTS_FORMAT or set(weights) != set(self._parameters):
            raise ResumeError(f"{folder} is of another model or version: leave --resume out")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if len(state["random"]) == world_size():
            # Fewer than there are now, where there was no accelerator then.
            for module, one in zip(_generators(), state["random"][_rank()], strict=False):
                module.set_rng_state(one)
        return TrainingState(stated["step"], stated["sampler"])

    def _complete(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"))


def _rank() -> int:
    return distributed.get_rank() if world_size() > 1 else 0


def _generators() -> list[Any]:
    """Return the modules with the random states of the CPU and of the accelerator."""
    device = torch.accelerator.current_accelerator(check_available=True)
    return [torch] if device is None else [torch, torch.get_device_module(device)]


def _generators_everywhere() -> list[list[Tensor]]:
    """Collect the random states of every process."""
    own = [module.get_rng_state() for module in _generators()]
    if world_size() == 1:
        return [own]
    found: list[list[Tensor]] = [[] for _ in range(world_size())]
    distributed.all_gather_object(found, own)
    return found
