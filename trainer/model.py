"""The model that is trained: a Qwen2-VL with adapters, and the temperatures of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from embedder.content import Content, Role
from embedder.mllm.backbone import Backbone, chosen_device
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.pictures import Patched, patched
from embedder.mllm.settings import Settings
from embedder.mllm.template import Template, TokenSequence
from trainer.adapters import Adapter, make_trainable, save_adapter, write_mixture
from trainer.checkpoints import write_checkpoint
from trainer.config import Run
from trainer.data.examples import Task
from trainer.losses import TaskTemperatures


@dataclass(frozen=True, eq=False, slots=True)
class PreparedContent:
    """A content as the model takes it; preparing it in other threads needs no model.

    Attributes:
        sequence: Tokens.
        pictures: Patches of its pictures, in order.
    """

    sequence: TokenSequence
    pictures: tuple[Patched, ...]

    def __len__(self) -> int:
        return len(self.sequence)


def prepare(template: Template, content: Content, role: Role) -> PreparedContent:
    """Tokenize a content and cut its pictures into patches.

    Raises:
        Unfit: it does not fit into a sequence.
    """
    sequence = template.sequence(content, role)
    return PreparedContent(sequence, tuple(patched(one) for one in sequence.pictures))


class Encoder(nn.Module):
    """Computes unit vectors of prepared contents, with gradients.

    The vectors equal those of `embedder.mllm.MllmEmbedder` on the same weights: the same backbone
    runs in both, so there is nothing that training and serving could do differently.

    Args:
        backbone: A Qwen2-VL, possibly with adapters in it.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, contents: Sequence[PreparedContent]) -> Tensor:
        """Embed a chunk.

        Args:
            contents: At least one; padded to the longest, so chunks of about the same length
                cost least.

        Returns:
            Float32 tensor (len(contents), dim) with unit rows.
        """
        pictures = [picture for content in contents for picture in content.pictures]
        features = iter(self.backbone.see(pictures)) if pictures else iter(())
        seen = [[next(features) for _ in content.pictures] for content in contents]
        return self.backbone.read([content.sequence for content in contents], seen)


@dataclass(frozen=True, eq=False, slots=True)
class TrainingModel:
    """A base model prepared for training.

    Attributes:
        run: The configuration.
        checkpoint: The base model.
        settings: Prompts, positions and limits that it is trained with.
        encoder: Maps contents to embeddings.
        adapted: The encoder's model, wrapped by peft where there are adapters.
        temperatures: Of the loss.
    """

    run: Run
    checkpoint: Checkpoint
    settings: Settings
    encoder: Encoder
    adapted: Any
    temperatures: TaskTemperatures

    @classmethod
    def of(cls, run: Run) -> Self:
        """Load the base model and prepare it for training.

        Raises:
            EmbedderUnavailable: the base model cannot be opened.
        """
        checkpoint = Checkpoint.find(run.model.base)
        settings = Settings.of(checkpoint.directory)
        if run.settings:
            settings = Settings.of_values(run.settings)
        device, dtype = chosen_device(run.model.device), getattr(torch, run.model.dtype)
        backbone = Backbone.load(checkpoint, settings, device, dtype)
        lora = run.model.lora if run.model.method == "lora" else None
        adapted = make_trainable(backbone.model, lora)
        if run.model.gradient_checkpointing:
            _enable_gradient_checkpointing(backbone.model)
        temperatures = TaskTemperatures(
            [task.value for task in Task], run.loss.temperature, learned=run.loss.learn_temperature
        )
        encoder = Encoder(backbone).train()
        return cls(run, checkpoint, settings, encoder, adapted, temperatures.to(device))

    def parameters(self) -> list[nn.Parameter]:
        """Return all that are trained, of encoder and temperatures."""
        everything = (*self.encoder.parameters(), *self.temperatures.parameters())
        return [one for one in everything if one.requires_grad]

    def optimizer(self) -> torch.optim.Optimizer:
        """Create AdamW over all parameters; decaying temperatures would pull τ to 1."""
        rates = self.run.optimizer
        return torch.optim.AdamW(
            [
                {"params": [one for one in self.encoder.parameters() if one.requires_grad]},
                {
                    "params": list(self.temperatures.parameters()),
                    "lr": rates.temperature_rate or rates.learning_rate,
                    "weight_decay": 0.0,
                },
            ],
            lr=rates.learning_rate,
            weight_decay=rates.weight_decay,
        )

    def save(self) -> Path:
        """Write the trained model, and its adapter if any; return the model's folder.

        Raises:
            BadOutput: a folder exists already, or cannot be written.
        """
        self.encoder.eval()
        out = self.run.out / "model"
        if self.run.model.method == "lora":
            adapter = self.run.out / "adapter"
            save_adapter(self.adapted, self.checkpoint, self.settings, adapter, self.run.model.lora)
            write_mixture([Adapter.of(adapter)], [1.0], self.checkpoint, out)
        else:
            made = {"trained": "all parameters"}
            write_checkpoint(self.adapted, self.checkpoint, self.settings, out, made)
        return out


def _enable_gradient_checkpointing(model: Any) -> None:
    """Enable gradient checkpointing under this version's name for it."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)()
    model.enable_input_require_grads()  # Otherwise frozen embeddings would end the graph.
