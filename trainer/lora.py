"""What of a Qwen2-VL is trained: LoRA on all its linear layers, or everything.

An adapter is a folder with peft's two files, the settings that it was trained with (`rzen.json`)
and, written last, `adapter.json`, which says what it belongs on. `trainer.merge` makes a
checkpoint of it.

Source:
    LoRA: arXiv 2106.09685. Where it is put, and the rank: RzenEmbed, arXiv 2510.27350.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.settings import Settings
from embedder.spec import ModelSpec
from trainer.output import whole_folder

ADAPTER_FILE = "adapter.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
_FORMAT = 1


class BadAdapter(Exception):
    """A folder is no adapter, is incomplete, or belongs on another model."""


@dataclass(frozen=True, slots=True)
class Lora:
    """How large the adapters are; what they add is B·A · alpha / rank.

    Attributes:
        rank: Of A and B; the paper's.
        alpha: Not in the paper. 64 is what VLM2Vec trains with, whose data and benchmark these
            are; with rank 64 the factor is 1, so a rank can be tried without a new learning rate.
        dropout: Not in the paper. None: in one epoch no pair is seen twice, and gradient caching
            runs each chunk twice, where dropout has to fall on the same values.
    """

    rank: int = 64
    alpha: float = 64.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        problems = [f"rank must be 1 or more, not {self.rank}"] if self.rank < 1 else []
        problems += [f"alpha must be above 0, not {self.alpha}"] if not self.alpha > 0 else []
        if not 0 <= self.dropout < 1:
            problems.append(f"dropout must be from 0 to below 1, not {self.dropout}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers in a model: those that are trained, and all (adapters included)."""

    trainable: int
    total: int

    def __str__(self) -> str:
        share = 100 * self.trainable / self.total
        return f"{self.trainable:,} of {self.total:,} parameters are trained ({share:.2f} %)"


def linear_layers(model: nn.Module) -> list[str]:
    """Names of all linear layers, in order.

    In a Qwen2-VL: attention and MLPs of the vision encoder, the merger behind it, attention and
    MLPs of the language model. Embeddings, norms and the convolution that cuts patches are none.
    """
    return [name for name, module in model.named_modules() if type(module) is nn.Linear]


def trainable(model: Any, lora: Lora | None) -> Any:
    """Makes a model ready for training, in place.

    Args:
        model: A `Qwen2VLModel`. It keeps its own names: `Backbone` goes on using it.
        lora: Of the adapters, which start by adding nothing; None trains everything.

    Returns:
        With LoRA the `PeftModel` around the model, for saving and merging; else the model.
    """
    if lora is None:
        return model.requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=linear_layers(model),
        bias="none",
    )
    with quiet():
        return get_peft_model(model, config)


def counts(model: nn.Module) -> Counts:
    """How many parameters are trained, and how many there are."""
    sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
    return Counts(sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes))


def save_adapter(
    adapted: Any, checkpoint: Checkpoint, settings: Settings, directory: Path, lora: Lora
) -> None:
    """Writes what was trained, whole or not at all.

    Args:
        adapted: What `trainable` gave with LoRA.
        checkpoint: What it was trained on.
        settings: What it was trained with: prompts, positions, limits.
        directory: Must not be there yet.
        lora: Of the adapters, for the record.

    Raises:
        BadOutput: the directory is there, or cannot be written.
    """
    with whole_folder(directory) as folder:
        # Embeddings are not trained; to see whether they were, peft would ask the hub.
        adapted.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's, with nothing filled in
        settings.save(folder)
        stated = {
            "format": _FORMAT,
            "base": checkpoint.spec,
            "base_digest": checkpoint.digest,
            "lora": {"rank": lora.rank, "alpha": lora.alpha, "dropout": lora.dropout},
        }
        (folder / ADAPTER_FILE).write_text(json.dumps(stated, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in a folder.

    Attributes:
        directory: Where it lies.
        base: What `open_embedder` opens its base model by.
        base_digest: Of that checkpoint.
        settings: What it was trained with.
    """

    directory: Path
    base: str
    base_digest: str
    settings: Settings

    @classmethod
    def of(cls, directory: Path) -> "Adapter":
        """What a folder says of itself.

        Raises:
            BadAdapter: it is no adapter, or an incomplete one.
            EmbedderUnavailable: its settings cannot be read.
        """
        path = directory / ADAPTER_FILE
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
            if stated["format"] != _FORMAT:
                raise BadAdapter(f"{path} has format {stated['format']}, this one knows {_FORMAT}")
            base, digest = str(stated["base"]), str(stated["base_digest"])
        except FileNotFoundError as error:
            raise BadAdapter(
                f"{directory} is no finished adapter: it has no {path.name}"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadAdapter(f"{path} cannot be read: {error}") from error
        if not (directory / _WEIGHTS_FILE).is_file():  # peft would take adapter_model.bin.
            raise BadAdapter(
                f"{directory} has no {_WEIGHTS_FILE}; other files of weights are not read, since "
                "they can run code"
            )
        return cls(directory, base, digest, Settings.of(directory))

    def find_base(self, base: str | None = None) -> Checkpoint:
        """The checkpoint that it belongs on.

        Args:
            base: Where it lies now: a folder or a name on the hub; None for where it lay.

        Raises:
            BadAdapter: there lies another one.
            EmbedderUnavailable: there lies none.
        """
        argument = ModelSpec.parse(self.base).argument if base is None else base
        checkpoint = Checkpoint.find(argument)
        if checkpoint.digest != self.base_digest:
            raise BadAdapter(
                f"{self.directory} was trained on other weights than those in "
                f"{checkpoint.directory}: name the right ones with --base"
            )
        return checkpoint


@contextmanager
def quiet() -> Iterator[None]:
    """Without what peft 0.19–0.21 draws from transformers 5: a warning on a name that it reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield
