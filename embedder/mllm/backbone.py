"""The model itself: pictures and tokens to embeddings, for inference and for training."""

import logging
import sys
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from embedder.interface import EmbedderUnavailable
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.pictures import Patched
from embedder.mllm.settings import Settings
from embedder.mllm.template import TokenSequence

_log = logging.getLogger(__name__)

_MAX_MEMORY_SHARE = 0.85  # of the free memory, by weights; the rest is for activations
_FRAMES = 2  # of a patch
_CPU_TOKENS = 2_048  # more at a time are not faster
_MAX_TOKENS = 65_536


class Backbone(nn.Module):
    """A multimodal language model without its head.

    Sequences are padded on the right. Attention is causal, so no token attends to the padding
    behind it: no mask is needed, and a result does not depend on the rest of the batch.

    Args:
        model: Of the class of transformers that the family names.
        mean: Mean of the pictures it was trained on, by channel.
        std: Their standard deviation.
        settings: Gives positions, pooling and the length of vectors.
    """

    def __init__(
        self, model: Any, mean: Sequence[float], std: Sequence[float], settings: Settings
    ) -> None:
        super().__init__()
        self.model = model
        self._positions = settings.positions
        self._pooling = settings.pooling
        self._dim = settings.dim
        # (x / 255 − mean) / std, by channel
        scale = torch.tensor([1 / (255 * one) for one in std])
        shift = torch.tensor([m / s for m, s in zip(mean, std, strict=True)])
        self.register_buffer("_scale", scale.view(3, 1, 1), persistent=False)
        self.register_buffer("_shift", shift.view(3, 1, 1), persistent=False)

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, settings: Settings, device: torch.device, dtype: torch.dtype
    ) -> Self:
        """Load a checkpoint, spread over several devices if it does not fit on one.

        Raises:
            EmbedderUnavailable: its weights are not those of its architecture, or do not fit.
        """
        placed = placement(checkpoint, device, dtype)
        model = pretrained(checkpoint, device, dtype, placed)
        backbone = cls(model, checkpoint.mean, checkpoint.std, settings)
        device = _input_device(model.visual.patch_embed.proj.weight)
        backbone._scale, backbone._shift = backbone._scale.to(device), backbone._shift.to(device)
        return backbone

    def see(self, pictures: Sequence[Patched]) -> list[Tensor]:
        """Encode pictures as the tokens that represent them in the language model.

        Args:
            pictures: At least one.

        Returns:
            A tensor (1 + layers, tokens, hidden size) for each picture: what takes the place of its
            tokens, and what DeepStack adds to the states after each of the first layers.

        Source:
            DeepStack: arXiv 2406.04334. Qwen2-VL has none.
        """
        raw = torch.from_numpy(np.concatenate([_both_frames(one) for one in pictures]))
        values = raw.to(self._scale.device).float() * self._scale - self._shift
        grid = torch.tensor([[1, *one.plan.grid] for one in pictures], device=values.device)
        seen = self.model.visual(values.flatten(1), grid_thw=grid)
        layers = torch.stack([seen.pooler_output, *getattr(seen, "deepstack_features", ())])
        return list(torch.split(layers, [one.plan.tokens for one in pictures], dim=1))

    def read(self, sequences: Sequence[TokenSequence], seen: Sequence[Sequence[Tensor]]) -> Tensor:
        """Embed sequences.

        Args:
            sequences: At least one.
            seen: For each sequence, its pictures' tensors from `see`.

        Returns:
            Float32 tensor (len(sequences), dim) with unit rows.
        """
        lengths = torch.tensor([len(one) for one in sequences])
        shape = (len(sequences), int(lengths.max()))
        ids = np.zeros(shape, dtype=np.int64)
        positions = np.zeros((3, *shape), dtype=np.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence.ids
            positions[:, row, : len(sequence)] = sequence.positions(self._positions)
        embedding = self.model.get_input_embeddings()
        states = embedding(torch.from_numpy(ids).to(_input_device(embedding.weight)))
        device = states.device
        deepstack: dict[str, Any] = {}
        if any(seen):
            rows, columns = (places.to(device) for places in _places(sequences))
            layers = torch.cat([one.to(states) for pictures in seen for one in pictures], dim=1)
            states = states.index_put((rows, columns), layers[0])
            if len(layers) > 1:
                mask = torch.zeros(shape, dtype=torch.bool, device=device)
                mask[rows, columns] = True
                deepstack = {"visual_pos_masks": mask, "deepstack_visual_embeds": [*layers[1:]]}
        states = self.model.language_model(
            inputs_embeds=states,
            position_ids=torch.from_numpy(positions).to(device),
            use_cache=False,
            **deepstack,
        ).last_hidden_state
        pooled = self._pooled(states, lengths.to(states.device))
        return functional.normalize(pooled[:, : self._dim], dim=-1)

    def token_budget(self) -> int:
        """Return how many tokens may go through the language model together.

        On a GPU, as many as have their activations, estimated from the widths, in half of the free
        memory; elsewhere a few thousand, since more are not faster.
        """
        config = self.model.config.text_config
        device = self.model.get_input_embeddings().weight.device
        if device.type != "cuda":
            return _CPU_TOKENS
        free, _ = torch.cuda.mem_get_info(device)
        width = 6 * config.hidden_size + 3 * config.intermediate_size
        fitting = free // 2 // (width * self.model.dtype.itemsize)
        return max(_CPU_TOKENS, min(_MAX_TOKENS, fitting))

    def _pooled(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool states (n, length, hidden size) to float32 (n, hidden size)."""
        if self._pooling == "last":
            return states[torch.arange(len(states), device=states.device), lengths - 1].float()
        real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        return (states.float() * real[..., None]).sum(1) / lengths[:, None]


def pretrained(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, placed: Any = None
) -> Any:
    """Load the model of a checkpoint with transformers.

    Args:
        checkpoint: Its files.
        device: Where it runs.
        dtype: Its precision.
        placed: Where its layers are, from `placement`; all on the device if None.

    Raises:
        EmbedderUnavailable: the weights are not those of its architecture, or do not fit.
    """
    import transformers
    from transformers.utils import logging as transformers_logging

    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        model, notes = getattr(transformers, checkpoint.family.model_class).from_pretrained(
            checkpoint.directory,
            dtype=dtype,
            attn_implementation=attention(device, dtype),
            device_map=placed or device,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if is_out_of_memory(error):
            raise EmbedderUnavailable(
                f"the model in {checkpoint.directory} does not fit into the memory of "
                f"{device}: use --dtype bfloat16, another --device, or a smaller model"
            ) from error
        raise EmbedderUnavailable(
            f"the model in {checkpoint.directory} cannot be loaded: {error}"
        ) from error
    if missing := [*notes["missing_keys"], *notes.get("mismatched_keys", [])]:
        raise EmbedderUnavailable(
            f"the weights in {checkpoint.directory} do not match its config.json: "
            f"{len(missing)} tensors are missing or of another shape, for instance {missing[0]}"
        )
    return model.eval()


def chosen_device(name: str | None) -> torch.device:
    """Return the named device, or without a name the first available of CUDA, MPS and the CPU.

    Raises:
        EmbedderUnavailable: the named device is not available.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        available += ["mps"] if torch.backends.mps.is_available() else []
        raise EmbedderUnavailable(
            f"the device {name!r} cannot be used: this machine has {', '.join(available)}"
        ) from error
    return device


def chosen_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the named precision, or bfloat16 where the device computes in it, else float32.

    Raises:
        EmbedderUnavailable: embeddings cannot be computed in that precision.
    """
    if name is None:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise EmbedderUnavailable(f"the precision {name!r} is none of {', '.join(known)}")
    return known[name]


def free_memory() -> None:
    """Return the memory that PyTorch caches to the device."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device's memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and (
        "not enough memory" in message or "out of memory" in message  # CPU and MPS allocators
    )


def attention(device: torch.device, dtype: torch.dtype) -> str:
    """Select FlashAttention 2 where it is installed and supports the precision, else PyTorch's."""
    from transformers.utils import is_flash_attn_2_available

    fast = device.type == "cuda" and dtype != torch.float32 and is_flash_attn_2_available()
    return "flash_attention_2" if fast else "sdpa"


def placement(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the device, or "auto" for accelerate to spread layers over GPUs and main memory."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    needed = checkpoint.parameters * torch.finfo(dtype).bits // 8
    if needed < _MAX_MEMORY_SHARE * free:
        return device
    _log.warning(
        "the model needs %.1f GB and %s has %.1f GB free: spreading it over all devices",
        *(needed / 1e9, device, free / 1e9),
    )
    return "auto"


def _input_device(weight: Tensor) -> torch.device:
    """Return the device for the input of a layer, by its weight.

    A layer whose weight accelerate keeps in main memory shows it on "meta", and accepts input from
    any device.
    """
    return torch.device("cpu") if weight.is_meta else weight.device


def _both_frames(picture: Patched) -> NDArray[np.uint8]:
    """Return patches (rows · columns, 3, 2, side²); a still picture fills both time steps."""
    count, channels, _, size = picture.patches.shape
    return np.broadcast_to(picture.patches, (count, channels, _FRAMES, size))


def _places(sequences: Sequence[TokenSequence]) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the pictures' tokens, in the order of the pictures."""
    rows, columns = [], []
    for row, sequence in enumerate(sequences):
        for picture, start in zip(sequence.pictures, sequence.starts, strict=True):
            columns.append(np.arange(start, start + picture.plan.tokens))
            rows.append(np.full(picture.plan.tokens, row))
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(columns))
