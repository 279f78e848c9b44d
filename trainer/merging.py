"""Adapters merged into their base model: what they add, summed up and written as a checkpoint.

`trainer.merge` is the command for one adapter, `trainer.soup` for several.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from embedder.rzen.backbone import Backbone
from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.settings import Settings
from trainer.lora import Adapter, BadAdapter, quiet
from trainer.output import write_checkpoint


class Mixture:
    """A base model to whose linear layers a weighted sum of what adapters add is added.

    The sum is taken in weight space, Σᵢ wᵢ · Bᵢ·Aᵢ · alphaᵢ/rankᵢ. An average of A and B apart
    would be something else: (A₁+A₂)(B₁+B₂) has products that no adapter has learned.

    Args:
        model: A `Qwen2VLModel`; changed in place.
        adapters: At least one, all of this base.
        restorable: Whether the base weights are kept in main memory, to mix more than once.

    Raises:
        BadAdapter: an adapter's weights cannot be read, or the model is spread to the disk.
    """

    def __init__(
        self, model: Any, adapters: Sequence[Adapter], *, restorable: bool = False
    ) -> None:
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer
        from safetensors import SafetensorError

        names = [str(place) for place in range(len(adapters))]
        try:
            with quiet():
                # Without some of its weights an adapter would be loaded, and be another one.
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
            raise BadAdapter("the model does not fit into memory whole, which a mixture needs")
        kept = self._layers if restorable else []
        self._base = [one.base_layer.weight.cpu().clone() for one in kept]

    def mix(self, weights: Sequence[float]) -> None:
        """Gives the model the base weights and the weighted sum, rounded once.

        Args:
            weights: One for each adapter; all zero give the base model.

        Raises:
            RuntimeError: it was mixed before and the base weights were not kept.
        """
        if self._mixed and not self._base:
            raise RuntimeError("the base weights were not kept: this model is mixed already")
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
        """The `Qwen2VLModel` without the adapters, as it is mixed."""
        return self._adapted.unload()


def load_base(checkpoint: Checkpoint, settings: Settings, device: str = "cpu") -> Backbone:
    """A checkpoint in the precision that it is stored in, so that a merge rounds only once."""
    config = checkpoint.config
    stated = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(stated).removeprefix("torch."))
    return Backbone.load(checkpoint, settings, torch.device(device), dtype)


def merge(directory: Path, out: Path, base: str | None = None) -> None:
    """Makes a checkpoint of an adapter and its base, which opens as "rzen:OUT".

    Args:
        directory: Of the adapter.
        out: Must not be there yet; written whole or not at all.
        base: Where the base model lies now; None for where it lay.

    Raises:
        BadAdapter: the adapter is incomplete or not of this base.
        BadOutput: `out` is there, or cannot be written.
        EmbedderUnavailable: there is no base model.
    """
    adapter = Adapter.of(directory)
    checkpoint = adapter.find_base(base)
    write_mixture([adapter], [1.0], checkpoint, out)


def write_mixture(
    adapters: Sequence[Adapter], weights: Sequence[float], checkpoint: Checkpoint, out: Path
) -> None:
    """Writes a checkpoint of a base and the weighted sum of adapters; see `Mixture` and `merge`."""
    settings = adapters[0].settings
    mixture = Mixture(load_base(checkpoint, settings).model, adapters)
    mixture.mix(weights)
    parts = [
        {"adapter": one.directory.resolve().name, "weight": weight}
        for one, weight in zip(adapters, weights, strict=True)
    ]
    write_checkpoint(mixture.unload(), checkpoint, settings, out, {"merged": parts})
