"""Trained models, and checkpoints to resume a run from; all are written atomically."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn

from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.settings import Settings
from trainer.distributed import rank, world_size
from trainer.gradcache import random_states, set_random_states
from trainer.output import atomic_folder

MARKER = "complete.json"
_FORMAT = 1
# Files of a checkpoint beside weights and config, which training does not change.
_KEPT_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "chat_template.json", "chat_template.jinja"),
    *("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"),
)
_WEIGHTS, _STATE, _POSITION = "trained.safetensors", "state.pt", "place.json"
_RESUME_FORMAT = 2
_CHECKPOINTS_KEPT = 2


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
        checkpoint: The base model; its tokenizer and preprocessing are copied.
        settings: The settings it was trained with, recorded as `rzen.json`.
        directory: Must not exist yet.
        made: How it was made, for the record.

    Raises:
        BadOutput: the directory exists, or cannot be written.
    """
    with atomic_folder(directory) as folder:
        model.save_pretrained(folder)
        for name in _KEPT_FILES:
            if (checkpoint.directory / name).is_file():
                shutil.copyfile(checkpoint.directory / name, folder / name)
        settings.save(folder)
        # The marker comes last: it certifies that all other files are complete.
        stated = {
            "format": _FORMAT,
            "base": checkpoint.spec,
            "base_digest": checkpoint.digest,
            "made": dict(made),
            "transformers": version("transformers"),
        }
        (folder / MARKER).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")


class ResumeError(Exception):
    """There is no checkpoint to resume from, or it is of another run."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The position of a run: steps done, and the state of its sampler."""

    step: int
    sampler: Mapping[str, Any]


class Checkpointer:
    """Writes and reads checkpoints to resume from; the two latest are kept.

    Guarantees: a checkpoint has its name only when it is complete; a resumed run takes the steps
    that it would have taken, random numbers included if it has as many processes as before.
    Reading runs no code from the files.

    Args:
        directory: Folder of the checkpoints.
        modules: What is trained, by name. Only parameters with a gradient are stored.
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

        All processes must call it together: the first one writes, with the random states of all.

        Raises:
            BadOutput: the checkpoint cannot be written.
        """
        states = _generators_everywhere()
        directory = self._directory / f"step-{place.step:08}"
        if rank() or directory.exists():
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
                "format": _RESUME_FORMAT,
                "step": place.step,
                "sampler": dict(place.sampler),
            }
            (folder / _POSITION).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")
        for old in self._complete()[:-_CHECKPOINTS_KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def restore(self) -> TrainingState:
        """Restore weights, optimizer and random states of the latest checkpoint.

        Raises:
            ResumeError: there is none, or it is of another model or version.
        """
        found = self._complete()
        if not found:
            raise ResumeError(f"no checkpoint in {self._directory}: run without --resume")
        folder = found[-1]
        try:
            stated = json.loads((folder / _POSITION).read_text(encoding="utf-8"))
            weights = load_file(folder / _WEIGHTS)
            # Without `weights_only` a file could run code.
            state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
        except Exception as error:  # Those of safetensors and of pickle have no other parent.
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ResumeError(
                f"{folder} cannot be read ({reason}): delete it to resume from the checkpoint "
                "before it, or run without --resume"
            ) from error
        if stated["format"] != _RESUME_FORMAT or set(weights) != set(self._parameters):
            raise ResumeError(f"{folder} is of another model or version: run without --resume")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(weights[name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        if len(state["random"]) == world_size():
            set_random_states(state["random"][rank()])
        return TrainingState(stated["step"], stated["sampler"])

    def _complete(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"))


def _generators_everywhere() -> list[list[Tensor]]:
    """Collect the random states of every process."""
    own = random_states()
    if world_size() == 1:
        return [own]
    found: list[list[Tensor]] = [[] for _ in range(world_size())]
    distributed.all_gather_object(found, own)
    return found
