"""The configuration of a run: a TOML file read into frozen dataclasses, all errors at once."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from embedder.mllm.settings import Settings
from trainer.adapters import Lora
from trainer.data.examples import Task
from trainer.data.readers import problems
from trainer.losses import LossConfig

_STRICT = ConfigDict(extra="forbid")
_Rate = Annotated[float, Field(gt=0)]
_Share = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]


class BadConfig(Exception):
    """A configuration is invalid; the message lists all problems."""


@dataclass(frozen=True, slots=True, config=_STRICT)
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

    base: str
    method: Literal["lora", "full"] = "lora"
    lora: Lora = field(default_factory=Lora)
    device: str | None = None
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = True


@dataclass(frozen=True, slots=True, config=_STRICT)
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

    learning_rate: _Rate = 2e-4
    temperature_rate: _Rate | None = None
    weight_decay: float = 5e-2
    epochs: int = 1
    steps: int | None = None
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.03
    largest_gradient: float = 1.0


@dataclass(frozen=True, slots=True, config=_STRICT)
class Batches:
    """How batches are made.

    Attributes:
        size: Rows of a batch, of all processes together; with one there is nothing to compare.
            Paper: 768.
        chunk_tokens: Tokens computed at a time, by gradient caching; memory depends on it and not
            on `size`. A batch with no more tokens is computed at once, without caching.
        cap: Most rows of a dataset. Paper: 100,000.
        merge_classification: Whether to batch all classification datasets as one. Paper: yes.
        unique: Whether a positive may occur only once in a batch.
        repeat: Tasks in which positives may repeat all the same: few labels would give few full
            batches, and the loss masks equal targets.
    """

    size: Annotated[int, Field(ge=2)] = 768
    chunk_tokens: _Count = 8192
    cap: _Count | None = 100_000
    merge_classification: bool = True
    unique: bool = True
    repeat: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True, config=_STRICT)
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

    path: Path
    format: Literal["jsonl", "mmeb", "captioned", "clips"] = "jsonl"
    task: Task | None = None
    name: str | None = None
    media: Path | None = None
    weight: _Share | None = None
    resampling: _Share = 1.0
    cap: _Count | None = None


@dataclass(frozen=True, slots=True, config=_STRICT)
class Run:
    """A training run.

    Attributes:
        out: Output folder, relative to the configuration's folder.
        model: What is trained.
        data: The datasets; either all or none of them have a weight.
        settings: Prompts, positions and limits, by the names of `embedder.mllm.settings.Settings`;
            recorded in the trained checkpoint.
        loss: Options of the loss.
        optimizer: Options of the optimizer.
        batches: How batches are made.
        seed: Of all random numbers.
        checkpoint_every: Steps between two checkpoints.
        broken_rows: Largest tolerated share of broken rows.
    """

    out: Path
    model: Model
    data: Annotated[tuple[Dataset, ...], Field(min_length=1)]
    settings: dict[str, Any] = field(default_factory=dict)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: Optimizer = field(default_factory=Optimizer)
    batches: Batches = field(default_factory=Batches)
    seed: Annotated[int, Field(ge=0)] = 0
    checkpoint_every: _Count = 100
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
        found = [f"settings: {one}" for one in Settings.problems(stated.get("settings", {}))]
        run = None
        try:
            run = TypeAdapter(cls).validate_python(dict(stated))
        except ValidationError as error:
            found += problems(error)
        if run is not None and len({one.weight is None for one in run.data}) > 1:
            found.append("data: either all datasets or none must have a weight")
        if found or run is None:
            raise BadConfig(f"{path} is invalid:\n  " + "\n  ".join(found))
        return run._placed(path.absolute().parent)

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
