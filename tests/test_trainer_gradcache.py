"""Gradient caching: the gradients of the plain step, in the memory of a chunk."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import DEVICES
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from embedder import Content
from embedder.mllm.backbone import Backbone
from embedder.mllm.embedder import open_mllm
from embedder.mllm.families import RZEN
from embedder.mllm.pictures import patched
from embedder.mllm.template import Template
from trainer.gradcache import GradCache
from trainer.losses import LossConfig, TaskTemperatures, contrastive_loss

CONFIG = LossConfig(alpha=2.0, delta=0.9)


class Encoder(nn.Module):
    def __init__(self, dropout: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Linear(10, 32), nn.Tanh(), nn.Dropout(dropout), nn.Linear(32, 8)
        )

    def forward(self, rows: Tensor) -> Tensor:
        return functional.normalize(self.layers(rows).float(), dim=-1)


def chunked(items, size: int) -> list:
    return [items[start : start + size] for start in range(0, len(items), size)]


def batch(*counts: int, seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, 10, generator=generator) for count in counts]


def loss_of(
    embeddings: Sequence[Tensor],
    temperatures: Tensor | float = 0.1,
    config: LossConfig = CONFIG,
) -> Tensor:
    return contrastive_loss(*embeddings, temperatures=temperatures, config=config).value


def grads(module: nn.Module) -> dict[str, Tensor]:
    found = {name: one.grad for name, one in module.named_parameters() if one.grad is not None}
    module.zero_grad(set_to_none=True)
    return found


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-5) -> None:
    assert found.keys() == expected.keys() != set()
    assert max(one.abs().max() for one in expected.values()) > 1e-2, "nothing to compare"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=atol, rtol=0)


class Alive:
    """The most bytes of saved activations that were alive together."""

    def __init__(self) -> None:
        self.now = self.most = 0

    @contextmanager
    def counted(self) -> "Iterator[Alive]":
        class Kept:
            def __init__(self, tensor: Tensor) -> None:
                self.tensor = tensor

        def pack(tensor: Tensor) -> Kept:
            kept, size = Kept(tensor), tensor.nbytes
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(kept, self._gone, size)
            return kept

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
            yield self

    def _gone(self, size: int) -> None:
        self.now -= size


@pytest.mark.parametrize("size", [1, 3, 4, 12, 50])
def test_gradients_are_those_of_the_plain_step_whatever_the_chunk(size: int):
    encoder = Encoder()
    groups = batch(12, 12, 7)
    plain = loss_of([encoder(group) for group in groups])
    plain.backward()
    expected = grads(encoder)

    cache = GradCache(encoder, [chunked(group, size) for group in groups])
    assert [tuple(one.shape) for one in cache.embeddings] == [(12, 8), (12, 8), (7, 8)]
    loss = loss_of(cache.embeddings)
    loss.backward()
    assert not grads(encoder)
    cache.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-6)
    assert_same(grads(encoder), expected)


def test_temperatures_get_the_gradient_of_the_plain_step():
    encoder, groups = Encoder(), batch(6, 6)
    results = []
    for cached in (False, True):
        temperatures = TaskTemperatures(["one", "two"], start=0.1)
        tau = temperatures(["one"] * 6)
        if cached:
            cache = GradCache(encoder, [chunked(group, 2) for group in groups])
            loss_of(cache.embeddings, tau).backward()
            cache.backward()
        else:
            loss_of([encoder(group) for group in groups], tau).backward()
        results.append(grads(temperatures))
    assert_same(results[1], results[0])
    assert set(results[0]) == {"theta.one"}


def test_dropout_drops_the_same_in_both_passes():
    encoder, groups = Encoder(dropout=0.5), batch(8, 8)
    chunks = [chunked(group, 2) for group in groups]
    torch.manual_seed(7)
    loss_of([torch.cat([encoder(chunk) for chunk in group]) for group in chunks]).backward()
    expected, after = grads(encoder), torch.rand(1)

    torch.manual_seed(7)
    cache = GradCache(encoder, chunks)
    loss_of(cache.embeddings).backward()
    assert torch.rand(1) == after
    now = torch.get_rng_state()
    cache.backward()
    assert_same(grads(encoder), expected)
    assert torch.equal(torch.get_rng_state(), now), "the second pass moved the generator"

    torch.manual_seed(8)
    loss_of([torch.cat([encoder(chunk) for chunk in group]) for group in chunks]).backward()
    others = grads(encoder)
    assert max((others[name] - expected[name]).abs().max() for name in expected) > 1e-2


def test_the_activations_of_one_chunk_live_at_a_time():
    encoder = Encoder()

    def peak(count: int, size: int | None) -> int:
        groups = batch(count, count)
        with Alive().counted() as alive:
            if size is None:
                loss_of([encoder(group) for group in groups]).backward()
                return alive.most
            cache = GradCache(encoder, [chunked(group, size) for group in groups])
            assert alive.most == 0
            loss_of(cache.embeddings).backward()
            assert alive.now == 0
            # The loss itself grows with the batch, as little as it is: not counted here.
            alive.most = 0
            cache.backward()
            assert alive.now == 0
            return alive.most

    assert peak(16, 4) == peak(64, 4) == peak(256, 4) > 0
    assert peak(64, 8) > 1.5 * peak(64, 4)
    assert peak(64, None) > 10 * peak(64, 4)


@pytest.mark.parametrize("outside", [True, False])
def test_bfloat16_autocast_gives_the_plain_gradients(outside: bool):
    encoder, groups = Encoder(), batch(6, 6)
    chunks = [chunked(group, 3) for group in groups]

    def encode(chunk: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return encoder(chunk)

    loss_of([torch.cat([encode(chunk) for chunk in group]) for group in chunks]).backward()
    expected = grads(encoder)
    with torch.autocast("cpu", torch.bfloat16, enabled=outside):
        cache = GradCache(encoder if outside else encode, chunks)
        loss_of(cache.embeddings).backward()
        cache.backward()
    found = grads(encoder)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        # Sums over chunks are rounded to bfloat16 in another order.
        assert (found[name] - gradient).norm() < 0.02 * gradient.norm()
        assert gradient.norm() > 0.1


def test_a_scaled_loss_scales_the_gradients_once():
    encoder, groups = Encoder(), batch(6, 6)
    loss_of([encoder(group) for group in groups]).backward()
    expected = {name: 1024 * one for name, one in grads(encoder).items()}
    cache = GradCache(encoder, [chunked(group, 2) for group in groups])
    (1024 * loss_of(cache.embeddings)).backward()
    cache.backward()
    assert_same(grads(encoder), expected, atol=1e-2)


def test_gradients_add_to_those_of_steps_before():
    encoder, groups = Encoder(), batch(6, 6)
    for _ in range(2):
        cache = GradCache(encoder, [chunked(group, 2) for group in groups])
        loss_of(cache.embeddings).backward()
        cache.backward()
    found = grads(encoder)
    loss_of([encoder(group) for group in groups]).backward()
    assert_same({name: one / 2 for name, one in found.items()}, grads(encoder))


def test_a_group_may_be_empty_and_one_that_the_loss_leaves_out_is_not_encoded_again():
    encoder, groups = Encoder(), batch(4, 4, 6)
    calls = []

    def encode(chunk: Tensor) -> Tensor:
        calls.append(len(chunk))
        return encoder(chunk)

    cache = GradCache(encode, [chunked(groups[0], 4), chunked(groups[1], 4), []])
    assert cache.embeddings[2].shape == (0, 8)
    loss_of(cache.embeddings).backward()
    cache.backward()
    cached = grads(encoder)
    loss_of([encoder(group) for group in groups[:2]]).backward()
    assert_same(cached, grads(encoder))

    calls.clear()
    cache = GradCache(encode, [chunked(group, 6) for group in groups])
    loss_of(cache.embeddings[:2]).backward()
    cache.backward()
    assert calls == [4, 4, 6, 4, 4]


def test_the_way_back_needs_a_gradient_to_take():
    cache = GradCache(Encoder(), [chunked(group, 2) for group in batch(4, 4)])
    with pytest.raises(RuntimeError, match="call backward"):
        cache.backward()


def test_nothing_to_encode_is_refused():
    with pytest.raises(ValueError, match="nothing to encode"):
        GradCache(Encoder(), [[], []])


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reader(template: Template, backbone: Backbone) -> Callable[[Sequence[Content]], Tensor]:
    """Contents of any mix to their embeddings with gradients."""

    def encode(contents: Sequence[Content]) -> Tensor:
        sequences = [template.sequence(content, "document") for content in contents]
        pictures = [picture for sequence in sequences for picture in sequence.pictures]
        tokens = iter(backbone.see([patched(one) for one in pictures]) if pictures else ())
        seen = [[next(tokens) for _ in sequence.pictures] for sequence in sequences]
        return backbone.read(sequences, seen)

    return encode


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1, 3])
def test_a_real_model_gets_the_gradients_of_the_plain_step(tiny_rzen: Path, size: int, device: str):
    with open_mllm(RZEN, str(tiny_rzen), device=device, dtype="float32") as embedder:
        template, backbone = embedder.loaded()
    backbone.requires_grad_(True)
    encode = reader(template, backbone)
    groups = [
        [Content(text=f"caption number {n} of {2**n}") for n in range(4)],
        [Content(frames=[noise(n)]) for n in range(3)] + [Content("a title", [noise(3)])],
        [Content(frames=[noise(4), noise(5)]), Content(text="no picture at all")],
    ]
    config = LossConfig(alpha=2.0, delta=2.0)
    plain = loss_of([encode(group) for group in groups], 1.0, config)
    plain.backward()
    expected = grads(backbone)

    cache = GradCache(encode, [chunked(group, size) for group in groups])
    loss = loss_of(cache.embeddings, 1.0, config)
    loss.backward()
    cache.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-5)
    found = grads(backbone)
    assert_same(found, expected)
    parts = {name.split(".")[1] for name, one in found.items() if one.abs().max() > 1e-4}
    assert parts == {"visual", "language_model"}
