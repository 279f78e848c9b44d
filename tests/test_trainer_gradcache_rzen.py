"""Gradient caching of a Qwen2-VL that reads texts, pictures and videos."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import DEVICES
from PIL import Image
from torch import Tensor, nn

from embedder import Content
from embedder.rzen.backbone import Backbone
from embedder.rzen.embedder import open_rzen
from embedder.rzen.pictures import patched
from embedder.rzen.template import Template
from trainer.gradcache import GradCache, chunked
from trainer.losses import LossConfig, contrastive_loss


def loss_of(embeddings: Sequence[Tensor]) -> Tensor:
    config = LossConfig(alpha=2.0, delta=2.0)
    return contrastive_loss(*embeddings, temperatures=1.0, config=config).value


def grads(module: nn.Module) -> dict[str, Tensor]:
    found = {name: one.grad for name, one in module.named_parameters() if one.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reader(template: Template, backbone: Backbone) -> Callable[[Sequence[Content]], Tensor]:
    """Contents of any mix to their embeddings with gradients."""

    def encode(contents: Sequence[Content]) -> Tensor:
        sequences = [template.sequence(content, "document") for content in contents]
        pictures = [picture for sequence in sequences for picture in sequence.pictures]
        tokens = iter(
            backbone.see([patched(one.frame, one.plan) for one in pictures]) if pictures else ()
        )
        seen = [[next(tokens) for _ in sequence.pictures] for sequence in sequences]
        return backbone.read(sequences, seen)

    return encode


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1, 3])
def test_a_real_model_gets_the_gradients_of_the_plain_step(tiny_rzen: Path, size: int, device: str):
    with open_rzen(str(tiny_rzen), device=device, dtype="float32") as embedder:
        template, backbone = embedder.loaded()
    backbone.requires_grad_(True)
    encode = reader(template, backbone)
    groups = [
        [Content(text=f"caption number {n} of {2**n}") for n in range(4)],
        [Content(frames=[noise(n)]) for n in range(3)] + [Content("a title", [noise(3)])],
        [Content(frames=[noise(4), noise(5)]), Content(text="no picture at all")],
    ]
    plain = loss_of([encode(group) for group in groups])
    plain.backward()
    expected = grads(backbone)

    cache = GradCache(encode, [chunked(group, size) for group in groups])
    loss = loss_of(cache.embeddings)
    loss.backward()
    cache.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    found = grads(backbone)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=0)
    parts = {name.split(".")[1] for name, one in found.items() if one.abs().max() > 1e-4}
    assert parts == {"visual", "language_model"}
