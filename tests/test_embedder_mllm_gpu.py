"""`rzen` on a GPU: what the CPU computes, and memory that does not suffice."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from devices import GPU
from PIL import Image

from embedder import Content, Modality
from embedder.interface import Vectors
from embedder.mllm import backbone
from embedder.mllm.embedder import open_mllm
from embedder.mllm.families import RZEN

pytestmark = GPU

CONTENTS = [
    Content(text="a few words"),
    Content(text="many words " * 200),
    *(Content(frames=[Image.new("RGB", (300, 200), colour)]) for colour in ("red", "teal")),
    Content("a caption", [Image.new("RGB", (90, 120), "navy")]),
    Content(
        frames=[Image.new("RGB", (64, 64), c) for c in ("red", "gray")], modality=Modality.VIDEO
    ),
]


@pytest.fixture(scope="module")
def expected(tiny_rzen: Path) -> Vectors:
    with open_mllm(RZEN, str(tiny_rzen), device="cpu", dtype="float32") as embedder:
        return embedder.embed(CONTENTS, role="document")


@pytest.fixture
def gigabytes() -> Iterator[None]:
    """Puts back what this process may take."""
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_bfloat16_is_the_default(tiny_rzen: Path, expected: Vectors):
    with open_mllm(RZEN, str(tiny_rzen)) as embedder:
        model = embedder.loaded()[1].model
        assert (model.device.type, model.dtype) == ("cuda", torch.bfloat16)
        rows = embedder.embed(CONTENTS, role="document")
    assert (rows * expected).sum(axis=1).min() > 0.99


def test_real_lack_of_memory_halves_the_batch(tiny_rzen: Path, gigabytes: None):
    contents = [Content(text=f"{n} and more words " * 300) for n in range(64)]
    with open_mllm(RZEN, str(tiny_rzen), device="cuda", dtype="float32") as embedder:
        embedder.embed(contents[:1], role="document")
        budget = embedder.token_budget
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved()
        torch.cuda.reset_peak_memory_stats()
        rows = embedder.embed(contents, role="document")
        assert embedder.token_budget == budget
        peak, whole = torch.cuda.max_memory_reserved(), torch.cuda.mem_get_info()[1]
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction((before + peak) / 2 / whole)
        again = embedder.embed(contents, role="document")
        assert embedder.token_budget < budget
    assert np.abs(again - rows).max() < 1e-4


@pytest.mark.parametrize(("room", "places"), [(500_000, {"cuda", "meta"}), (0, {"cpu"})])
def test_large_model_is_spread_over_main_memory(
    tiny_rzen: Path,
    expected: Vectors,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    places: set[str],
):
    def most(_given: object = None) -> dict[int | str, int]:
        return {0: room, "cpu": 1 << 30}

    monkeypatch.setattr("transformers.integrations.accelerate.get_max_memory", most)
    monkeypatch.setattr(backbone, "placement", lambda *_: "auto")
    with open_mllm(RZEN, str(tiny_rzen), device="cuda", dtype="float32") as embedder:
        assert {one.device.type for one in embedder.loaded()[1].model.parameters()} == places
        rows = embedder.embed(CONTENTS, role="document")
    assert (rows * expected).sum(axis=1).min() > 0.9999
