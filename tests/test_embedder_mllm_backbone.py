"""Where the model goes and how it computes, without any of that hardware."""

from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from PIL import Image
from transformers import Qwen2VLModel

from embedder import Content
from embedder.mllm import backbone
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.embedder import open_mllm
from embedder.mllm.families import RZEN

GPU = torch.device("cuda", 0)


@pytest.fixture
def checkpoint(tiny_rzen: Path) -> Checkpoint:
    return Checkpoint.find(str(tiny_rzen))


def with_free_memory(patch: pytest.MonkeyPatch, free: float) -> None:
    patch.setattr(torch.cuda, "mem_get_info", lambda _device=None: (int(free), 80 << 30))


def test_a_model_that_fits_one_gpu_stays_on_it(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    with_free_memory(monkeypatch, 4 * checkpoint.parameters)
    assert backbone.placement(checkpoint, GPU, torch.bfloat16) == GPU


def test_large_model_is_spread(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with_free_memory(monkeypatch, 2 * checkpoint.parameters)
    assert backbone.placement(checkpoint, GPU, torch.bfloat16) == "auto"
    assert "spreading it over all devices" in caplog.text


def test_offloaded_weights_give_the_same_vectors(tiny_rzen: Path, monkeypatch: pytest.MonkeyPatch):
    contents = [Content(text="a few words"), Content("more", [Image.new("RGB", (90, 60), "teal")])]
    with open_mllm(RZEN, str(tiny_rzen), device="cpu", dtype="float32") as embedder:
        expected = embedder.embed(contents, role="document")
    load = Qwen2VLModel.from_pretrained

    def spread(*where: object, **how: object) -> tuple[object, object]:
        model, notes = load(*where, **how)
        return cpu_offload(model, torch.device("cpu")), notes

    monkeypatch.setattr(Qwen2VLModel, "from_pretrained", spread)
    with open_mllm(RZEN, str(tiny_rzen), device="cpu", dtype="float32") as embedder:
        assert {one.device.type for one in embedder.loaded()[1].parameters()} == {"meta"}
        rows = embedder.embed(contents, role="document")
    assert (rows * expected).sum(axis=1).min() > 0.99999


def test_on_other_devices_memory_is_not_asked_for(checkpoint: Checkpoint):
    for name in ("cpu", "mps"):
        device = torch.device(name)
        assert backbone.placement(checkpoint, device, torch.float32) == device


def test_bfloat16_is_chosen_where_supported(monkeypatch: pytest.MonkeyPatch):
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda able=able, **_: able)
        assert backbone.chosen_dtype(None, GPU) is expected
    assert backbone.chosen_dtype(None, torch.device("cpu")) is torch.float32
    assert backbone.chosen_dtype("float16", GPU) is torch.float16


def test_the_best_device_there_is_is_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backbone.chosen_device(None).type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert backbone.chosen_device(None).type == "cuda"


def test_flash_attention_is_used_where_possible(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: True)
    assert backbone.attention(GPU, torch.bfloat16) == "flash_attention_2"
    assert backbone.attention(GPU, torch.float32) == "sdpa"
    assert backbone.attention(torch.device("cpu"), torch.bfloat16) == "sdpa"
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: False)
    assert backbone.attention(GPU, torch.bfloat16) == "sdpa"


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_error(error: Exception, short: bool):
    assert backbone.is_out_of_memory(error) is short
