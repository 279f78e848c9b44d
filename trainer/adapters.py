"""LoRA adapters: train, save, merge into their base model, and mix.

An adapter is a folder with peft's two files, the settings that it was trained with (`rzen.json`)
and, written last, `adapter.json`, which identifies its base model. `trainer.soup` is the command
that merges one or several into it.

Source:
    LoRA: arXiv 2106.09685. Its placement and rank, and souping adapters of different data mixes:
    RzenEmbed, arXiv 2510.27350, which does not say how the weights of a soup are found. The greedy
    order: Model soups, arXiv 2203.05482, algorithm 1.
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses
from torch import nn

from embedder.mllm.backbone import Backbone
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.embedder import MllmEmbedder
from embedder.mllm.settings import Settings
from trainer.checkpoints import write_checkpoint
from trainer.output import atomic_folder

ADAPTER_FILE = "adapter.json"
_WEIGHTS_FILE = "adapter_model.safetensors"
_FORMAT = 1


class BadAdapter(Exception):
    """A folder is no adapter, is incomplete, or belongs to another base model."""


@pydantic_dataclasses.dataclass(frozen=True, slots=True, config={"extra": "forbid"})
class Lora:
    """The size of adapters, which add B·A · alpha / rank to a layer.

    Attributes:
        rank: Of A and B; the paper's.
        alpha: Not in the paper. 64 is what VLM2Vec trains with, whose data and benchmark these
            are; with rank 64 the factor is 1, so a rank can be tried without a new learning rate.
        dropout: Not in the paper. None by default: in one epoch no pair is seen twice, and
            gradient caching runs each chunk twice and has to repeat the same dropout.
    """

    rank: Annotated[int, Field(ge=1)] = 64
    alpha: Annotated[float, Field(gt=0)] = 64.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


def linear_layers(model: nn.Module) -> list[str]:
    """Return the names of all linear layers, in order.

    In a Qwen2-VL: attention and MLPs of the vision encoder, the merger behind it, attention and
    MLPs of the language model; not embeddings, norms and the patch convolution.
    """
    return [name for name, module in model.named_modules() if type(module) is nn.Linear]


def make_trainable(model: Any, lora: Lora | None) -> Any:
    """Prepare a model for training, in place.

    Args:
        model: A `Qwen2VLModel`. Its attributes stay in place, so `Backbone` can go on using it.
        lora: Of the adapters, which initially add nothing; None trains everything.

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
    with _quiet_peft():
        return get_peft_model(model, config)


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Return the number of trainable parameters, and of all (adapters included)."""
    sizes = [(one.numel(), one.requires_grad) for one in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def save_adapter(
    adapted: Any, checkpoint: Checkpoint, settings: Settings, directory: Path, lora: Lora
) -> None:
    """Write an adapter to a new folder, atomically.

    Args:
        adapted: The result of `make_trainable` with LoRA.
        checkpoint: The base model.
        settings: The prompts, positions and limits that it was trained with.
        directory: Must not exist yet.
        lora: Of the adapters, for the record.

    Raises:
        BadOutput: the directory exists, or cannot be written.
    """
    with atomic_folder(directory) as folder:
        # Embeddings are not trained; to find that out, peft would query the hub.
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
        directory: Its folder.
        base: The spec of its base model, for `open_embedder`.
        base_digest: Of that checkpoint.
        settings: The settings that it was trained with.
    """

    directory: Path
    base: str
    base_digest: str
    settings: Settings

    @classmethod
    def of(cls, directory: Path) -> "Adapter":
        """Read the description of an adapter's folder.

        Raises:
            BadAdapter: the folder is no adapter, or an incomplete one.
            EmbedderUnavailable: its settings cannot be read.
        """
        path = directory / ADAPTER_FILE
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
            if stated["format"] != _FORMAT:
                raise BadAdapter(f"{path} has format {stated['format']}, not {_FORMAT}")
            base, digest = str(stated["base"]), str(stated["base_digest"])
        except FileNotFoundError as error:
            raise BadAdapter(
                f"{directory} is not a complete adapter: {path.name} is missing"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadAdapter(f"{path} cannot be read: {error}") from error
        if not (directory / _WEIGHTS_FILE).is_file():  # peft would take adapter_model.bin.
            raise BadAdapter(
                f"{directory} has no {_WEIGHTS_FILE}; weights in other formats are not read, since "
                "they can run code"
            )
        return cls(directory, base, digest, Settings.of(directory))

    def find_base(self, base: str | None = None) -> Checkpoint:
        """Find the checkpoint that the adapter was trained on.

        Args:
            base: Its current folder or name on the hub; None for the recorded one.

        Raises:
            BadAdapter: another model is there.
            EmbedderUnavailable: no model is there.
        """
        argument = self.base.removeprefix("rzen").removeprefix(":") if base is None else base
        checkpoint = Checkpoint.find(argument)
        if checkpoint.digest != self.base_digest:
            raise BadAdapter(
                f"{self.directory} was trained on weights other than those in "
                f"{checkpoint.directory}: pass the right ones with --base"
            )
        return checkpoint


@contextmanager
def _quiet_peft() -> Iterator[None]:
    """Silence peft 0.19–0.21's warning about an attribute of transformers 5."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


class Mixture:
    """A base model plus a weighted sum of adapters.

    The sum is one of weights, Σᵢ wᵢ · Bᵢ·Aᵢ · alphaᵢ/rankᵢ. Averaging A and B separately
    would be wrong: (A₁+A₂)(B₁+B₂) has products that no adapter has learned.

    Args:
        model: A `Qwen2VLModel`; changed in place.
        adapters: At least one, all of this base.
        restorable: Whether to keep the base weights in main memory, to mix more than once.

    Raises:
        BadAdapter: an adapter's weights cannot be read, or the model is offloaded to disk.
    """

    def __init__(
        self, model: Any, adapters: Sequence[Adapter], *, restorable: bool = False
    ) -> None:
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer
        from safetensors import SafetensorError

        names = [str(place) for place in range(len(adapters))]
        try:
            with _quiet_peft():
                # An adapter that lacks some of its weights would load, as a different one.
                warnings.filterwarnings("error", "Found missing adapter keys")
                first, *others = zip(names, adapters, strict=True)
                adapted = PeftModel.from_pretrained(model, first[1].directory, first[0])
                for name, one in others:
                    adapted.load_adapter(one.directory, name)
        except (OSError, ValueError, RuntimeError, SafetensorError, UserWarning) as error:
            raise BadAdapter(
                f"{' or '.join(str(one.directory) for one in adapters)} cannot be loaded: {error}"
            ) from error
        # From now on only the base weights are used, which `mix` changes.
        adapted.base_model.disable_adapter_layers()
        self._adapted, self._names, self._mixed = adapted, names, False
        self._layers = [one for one in model.modules() if isinstance(one, LoraLayer)]
        if any(one.base_layer.weight.is_meta for one in self._layers):
            raise BadAdapter("the whole model must fit into memory to be mixed")
        kept = self._layers if restorable else []
        self._base = [one.base_layer.weight.cpu().clone() for one in kept]

    def mix(self, weights: Sequence[float]) -> None:
        """Set the weights to base plus weighted sum, rounded once.

        Args:
            weights: One for each adapter; all zero give the base model.

        Raises:
            RuntimeError: it was mixed before and the base weights were not kept.
        """
        if self._mixed and not self._base:
            raise RuntimeError("this model is mixed already, and its base weights were not kept")
        self._mixed = True
        with torch.no_grad():
            for place, layer in enumerate(self._layers):
                weight = layer.base_layer.weight
                total = (self._base[place] if self._base else weight).to(weight.device).float()
                for name, share in zip(self._names, weights, strict=True):
                    if share and name in layer.lora_A:
                        added = (
                            layer.lora_B[name].weight.float() @ layer.lora_A[name].weight.float()
                        )
                        total = total + share * layer.scaling[name] * added.to(total.device)
                weight.copy_(total)

    def unload(self) -> Any:
        """Return the mixed `Qwen2VLModel` without its adapters."""
        return self._adapted.unload()


def load_base(checkpoint: Checkpoint, settings: Settings) -> Backbone:
    """Load a checkpoint in its stored precision, so that a merge rounds only once."""
    config = checkpoint.config
    stated = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(stated).removeprefix("torch."))
    return Backbone.load(checkpoint, settings, torch.device("cpu"), dtype)


def write_mixture(
    adapters: Sequence[Adapter], weights: Sequence[float], checkpoint: Checkpoint, out: Path
) -> None:
    """Write a base plus a weighted sum of adapters: a checkpoint that opens as "rzen:OUT".

    Args:
        adapters: At least one, all of this base and with the same settings.
        weights: One for each adapter.
        checkpoint: The base model.
        out: Must not exist yet; written atomically.

    Raises:
        BadAdapter: an adapter's weights cannot be read.
        BadOutput: `out` exists, or cannot be written.
        EmbedderUnavailable: the base model cannot be opened.
    """
    settings = adapters[0].settings
    mixture = Mixture(load_base(checkpoint, settings).model, adapters)
    mixture.mix(weights)
    parts = [
        {"adapter": one.directory.resolve().name, "weight": weight}
        for one, weight in zip(adapters, weights, strict=True)
    ]
    write_checkpoint(mixture.unload(), checkpoint, settings, out, {"merged": parts})


class NoImprovement(Exception):
    """No adapter scores higher than the base model."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of the greedy search.

    Attributes:
        weights: One for each adapter.
        score: Of the mixture, on the validation sets.
        kept: Whether the search went on from it.
    """

    weights: tuple[float, ...]
    score: float
    kept: bool


def normalized(weights: Sequence[float]) -> tuple[float, ...]:
    """Scale weights to a sum of 1.

    Raises:
        ValueError: one is negative or not finite, or all are 0.
    """
    if any(not math.isfinite(one) or one < 0 for one in weights) or not sum(weights) > 0:
        raise ValueError("weights must be 0 or more, and at least one above 0")
    total = math.fsum(weights)
    return tuple(one / total for one in weights)


def greedy(
    count: int, score: Callable[[tuple[float, ...]], float], weights: Sequence[float] | None = None
) -> tuple[tuple[float, ...], list[Trial]]:
    """Choose adapters greedily (model soups, arXiv 2203.05482, algorithm 1).

    Args:
        count: Number of adapters.
        score: Scores a mixture by its weights; all zero for the base model. Higher is better.
        weights: The proportion in which kept adapters are averaged; None for equal parts.

    Returns:
        The weights of the best mixture, and every mixture tried, the base model first.

    Raises:
        NoImprovement: no adapter scores higher than the base model.
    """
    parts = tuple(weights or (1.0,) * count)
    best = score((0.0,) * count)
    trials = [Trial((0.0,) * count, best, kept=True)]
    alone = [score(_mixture([place], parts)) for place in range(count)]
    kept: list[int] = []
    # Of two with the same score the one named first is tried first.
    for place in sorted(range(count), key=lambda one: -alone[one]):
        mixed = _mixture([*kept, place], parts)
        value = score(mixed) if kept else alone[place]
        rises = value > best
        trials.append(Trial(mixed, value, rises))
        if rises:
            best = value
            kept.append(place)
    if not kept:
        raise NoImprovement(
            f"no adapter improves on the base model's {best:.4f}, the best scores "
            f"{max(alone):.4f}: nothing was written"
        )
    return _mixture(kept, parts), trials


def _mixture(kept: Sequence[int], parts: Sequence[float]) -> tuple[float, ...]:
    return normalized([part if place in kept else 0.0 for place, part in enumerate(parts)])


def open_adapters(
    directories: Sequence[Path], base: str | None
) -> tuple[list[Adapter], Checkpoint]:
    """Open adapters and the one base model that they share.

    Raises:
        BadAdapter: one is incomplete, or they have different bases or settings.
        EmbedderUnavailable: the base model is not there.
    """
    adapters = [Adapter.of(one) for one in directories]
    first = adapters[0]
    checkpoint = first.find_base(base)
    for other in adapters[1:]:
        if other.base_digest != first.base_digest:
            raise BadAdapter(f"{other.directory} and {first.directory} have different base models")
        if other.settings != first.settings:
            raise BadAdapter(
                f"{other.directory} and {first.directory} were trained with different prompts, "
                f"positions or limits (rzen.json) and cannot be mixed"
            )
    return adapters, checkpoint


def search_greedily(
    adapters: Sequence[Adapter],
    checkpoint: Checkpoint,
    score: Callable[[MllmEmbedder], float],
    weights: Sequence[float] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
) -> tuple[tuple[float, ...], list[Trial]]:
    """Run `greedy` on one loaded model that is mixed again for each trial.

    Args:
        adapters: From `open_adapters`.
        checkpoint: From `open_adapters`.
        score: Scores an embedder.
        weights: See `greedy`.
        device: Where to run.
        dtype: Precision of the trials; the result is merged in that of the base all the same.
    """
    with MllmEmbedder(checkpoint, adapters[0].settings, device, dtype) as embedder:
        mixture = Mixture(embedder.loaded()[1].model, adapters, restorable=True)

        def of(mixed: tuple[float, ...]) -> float:
            mixture.mix(mixed)
            return score(embedder)

        return greedy(len(adapters), of, weights)
