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
    """A configuration cannot be used; the message lists all that is wrong with it."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained.

    Attributes:
        base: A checkpoint's folder, or its name on the hub.
        method: LoRA on all linear layers (the paper's), or all parameters.
        lora: Of the adapters.
        device: As of `embedder.open_embedder`; None for the best there is.
        dtype: Of the weights. The paper trains in bfloat16.
        gradient_checkpointing: Compute activations again instead of keeping them. The paper does.
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
    """AdamW, as in the paper where it says anything.

    Attributes:
        learning_rate: At its highest.
        temperature_rate: Of the temperatures, if not the same. The paper does not say. Adam moves
            θ by at most the rate in a step, so that a short run may need more than the model.
        weight_decay: Of everything but temperatures, whose decay would pull τ to 1.
        epochs: The paper has one.
        steps: End after so many steps, whatever the epochs; None for no such end.
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
    """What is compared with what.

    Attributes:
        size: Rows of a batch, of all processes together. Paper: 768.
        chunk_tokens: Tokens that are computed at a time, by gradient caching; memory depends on
            it and not on `size`. A batch that has no more is computed at once, without caching.
        cap: Most rows of a dataset. Paper: 100,000.
        merge_classification: Whether all classification sets are one. Paper: yes.
        unique: Whether no positive comes twice in a batch.
        repeat: Tasks in which positives may come twice all the same: with few labels there would
            be few full batches, and the loss's mask leaves equal targets out.
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
        path: A file or folder; from the configuration's folder on.
        format: "jsonl" (our own), "mmeb" (parquet), "captioned" (pictures with captions), or
            "clips" (long videos with captions of their parts).
        task: Of rows that name none.
        name: Of the set; that of the file if None.
        media: Where names of media start from, if not beside the file.
        weight: Its share of an epoch; see `trainer.sampling.Source`.
        resampling: How often it comes in an epoch.
        cap: Most rows, instead of the cap of all.
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
        out: The folder of what it writes; from the configuration's folder on.
        model: What is trained.
        data: On what.
        settings: Prompts, positions and limits, the names of `embedder.rzen.Settings`; recorded in
            the checkpoint that comes out.
        loss: Which loss.
        optimizer: How it learns.
        batches: What is compared with what.
        seed: Of all that is drawn.
        checkpoint_every: Steps between two checkpoints to go on from.
        broken_rows: Largest share of rows that may be broken.
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
            BadConfig: it cannot be read, or has keys or values that make no sense.
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
            raise BadConfig(f"{path} is not understood:\n  " + "\n  ".join(problems))
        return run._placed(path.absolute().parent)

    def _contradictions(self) -> list[str]:
        wrong = []
        if not self.data:
            wrong.append("data: name at least one set, as [[data]]")
        if self.batches.size < 2:
            wrong.append("batches.size: a batch needs two rows, or there is nothing to compare")
        if self.batches.chunk_tokens < 1 or self.checkpoint_every < 1:
            wrong.append("batches.chunk_tokens and checkpoint_every must be at least 1")
        rates = (self.optimizer.learning_rate, self.optimizer.temperature_rate)
        if any(one is not None and not one > 0 for one in rates):
            wrong.append("optimizer: rates must be above 0")
        if not 0 <= self.optimizer.warmup < 1:
            wrong.append("optimizer.warmup must be from 0 to below 1")
        if len({one.weight is None for one in self.data}) > 1:
            wrong.append("data: either all sets have a weight or none has")
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
