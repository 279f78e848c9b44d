"""The configuration of a run: a TOML file read into frozen dataclasses, all errors at once."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from embedder.rzen.settings import Settings
from trainer.adapters import Lora
from trainer.data.examples import Task
from trainer.losses import LossConfig

_STRICT = {"extra": "forbid"}


class BadConfig(Exception):
    """A configuration is invalid; the message lists all problems."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        base: A checkpoint's folder, or its name on the hub.
        method: LoRA on all linear layers (the paper's), or all parameters.
        lora: Of the adapters.
        device: As for `embedder.open_embedder`; None for the best available.
        dtype: Of the weights. The paper trains in bfloat16.
        gradient_checkpointing: Recompute activations instead of keeping them, as in the paper.
    """

    __pydantic_config__ = _STRICT

    base: str
    method: Literal["lora", "full"] = "lora"
    lora: Lora = field(default_factory=Lora)
    device: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = True


@dataclass(frozen=True, slots=True)
class Optimizer:
    """AdamW, as in the paper as far as it says.

    Attributes:
        learning_rate: At its highest.
        temperature_rate: Of the temperatures, if not the same. The paper does not say. Adam moves
            θ by at most the rate in a step, so that a short run may need more than the model.
        weight_decay: Of everything but temperatures, whose decay would pull τ to 1.
        epochs: The paper has one.
        steps: End after this many steps, whatever the epochs; None for no limit.
        warmup: Share of the steps in which the rate rises to its highest. The paper does not say;
            3 % is usual with LoRA at this rate. After it, a cosine to 0, as in the paper.
        largest_gradient: Norm to which gradients are clipped. The paper does not say; 1 is the
            default of the trainer that it builds on.
    """

    __pydantic_config__ = _STRICT

    learning_rate: float = 2e-4
    temperature_rate: float | None = None
    weight_decay: float = 5e-2
    epochs: int = 1
    steps: int | None = None
    warmup: float = 0.03
    largest_gradient: float = 1.0


@dataclass(frozen=True, slots=True)
class Batches:
    """How batches are made.

    Attributes:
        size: Rows of a batch, of all processes together. Paper: 768.
        chunk_tokens: Tokens computed at a time, by gradient caching; memory depends on it and not
            on `size`. A batch with no more tokens is computed at once, without caching.
        cap: Most rows of a dataset. Paper: 100,000.
        merge_classification: Whether to batch all classification datasets as one. Paper: yes.
        unique: Whether a positive may occur only once in a batch.
        repeat: Tasks in which positives may repeat all the same: few labels would give few full
            batches, and the loss masks equal targets.
    """

    __pydantic_config__ = _STRICT

    size: int = 768
    chunk_tokens: int = 8192
    cap: int | None = 100_000
    merge_classification: bool = True
    unique: bool = True
    repeat: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows to train on.

    Attributes:
        path: A file or folder, relative to the configuration's folder.
        format: "jsonl" (our own), "mmeb" (parquet), "captioned" (pictures with captions), or
            "clips" (long videos with captions of their parts).
        task: Default of rows without one.
        name: Of the dataset; that of the file if None.
        media: Folder that media paths start from, if not that of the file.
        weight: Its share of an epoch; see `trainer.sampling.Source`.
        resampling: How often it is repeated in an epoch.
        cap: Most rows, instead of the common cap.
    """

    __pydantic_config__ = _STRICT

    path: Path
    format: Literal["jsonl", "mmeb", "captioned", "clips"] = "jsonl"
    task: Task | None = None
    name: str | None = None
    media: Path | None = None
    weight: float | None = None
    resampling: float = 1.0
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A training run.

    Attributes:
        out: Output folder, relative to the configuration's folder.
        model: What is trained.
        data: The datasets.
        settings: Prompts, positions and limits, by the names of `embedder.rzen.settings.Settings`;
            recorded in the trained checkpoint.
        loss: Options of the loss.
        optimizer: Options of the optimizer.
        batches: How batches are made.
        seed: Of all random numbers.
        checkpoint_every: Steps between two checkpoints.
        broken_rows: Largest tolerated share of broken rows.
    """

    __pydantic_config__ = _STRICT

    out: Path
    model: Model
    data: tuple[Dataset, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: Optimizer = field(default_factory=Optimizer)
    batches: Batches = field(default_factory=Batches)
    seed: int = 0
    checkpoint_every: int = 100
    broken_rows: float = 0.05

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read a configuration file.

        Raises:
            BadConfig: it cannot be read, or has unknown keys or invalid values.
        """
        try:
            stated = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadConfig(f"{path} cannot be read: {error}") from error
        return cls.of(stated, path)

    @classmethod
    def of(cls, stated: Mapping[str, Any], path: Path) -> "Run":
        """Validate a configuration; relative paths start at its file's folder."""
        from pydantic import TypeAdapter, ValidationError

        problems = [f"settings: {one}" for one in Settings.problems(stated.get("settings", {}))]
        run = None
        try:
            run = TypeAdapter(cls).validate_python(dict(stated))
        except ValidationError as error:
            problems += [
                f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}"
                for one in error.errors()
            ]
        if run is not None:
            problems += run._contradictions()
        if problems or run is None:
            raise BadConfig(f"{path} is invalid:\n  " + "\n  ".join(problems))
        return run._placed(path.absolute().parent)

    def _contradictions(self) -> list[str]:
        wrong = []
        if not self.data:
            wrong.append("data: at least one dataset is required, as [[data]]")
        if self.batches.size < 2:
            wrong.append("batches.size: must be at least 2, or there is nothing to compare")
        if self.batches.chunk_tokens < 1 or self.checkpoint_every < 1:
            wrong.append("batches.chunk_tokens and checkpoint_every must be at least 1")
        rates = (self.optimizer.learning_rate, self.optimizer.temperature_rate)
        if any(one is not None and not one > 0 for one in rates):
            wrong.append("optimizer: rates must be above 0")
        if not 0 <= self.optimizer.warmup < 1:
            wrong.append("optimizer.warmup must be from 0 to below 1")
        if len({one.weight is None for one in self.data}) > 1:
            wrong.append("data: either all datasets or none must have a weight")
        return wrong

    def _placed(self, folder: Path) -> "Run":
        """Return the run with absolute paths."""
        data = tuple(
            replace(one, path=folder / one.path, media=one.media and folder / one.media)
            for one in self.data
        )
        base = folder / self.model.base
        model = self.model
        if os.path.isdir(base):  # noqa: PTH112 -- no error for what is too long for a name
            model = replace(model, base=str(base))
        return replace(self, out=folder / self.out, data=data, model=model)
