from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from embedder import Content
from embedder.mllm.embedder import MllmEmbedder, open_mllm
from embedder.mllm.families import RZEN
from trainer.model import Encoder, prepare


@pytest.fixture(scope="module")
def embedder(tiny_rzen: Path):
    with open_mllm(RZEN, str(tiny_rzen), device="cpu", dtype="float32") as opened:
        yield opened


def noise(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


CONTENTS = [
    Content(text="a few words"),
    Content(frames=[noise(1), noise(2), noise(3)]),
    Content("a caption", [noise(4)]),
    Content(text="more words " * 30),
]


def test_training_computes_the_vectors_that_the_embedder_serves(embedder: MllmEmbedder):
    template, backbone = embedder.loaded()
    chunk = [prepare(template, content, "document") for content in CONTENTS]
    with torch.no_grad():
        rows = Encoder(backbone)(chunk).numpy()
    assert np.abs(rows - embedder.embed(CONTENTS, role="document")).max() < 1e-5


def test_each_content_gets_its_own_pictures_whatever_the_chunk(embedder: MllmEmbedder):
    template, backbone = embedder.loaded()
    encoder = Encoder(backbone)
    chunk = [prepare(template, content, "document") for content in CONTENTS]
    with torch.no_grad():
        together = encoder(chunk)
        alone = torch.cat([encoder([one]) for one in chunk])
    assert (together - alone).abs().max() < 1e-5


def test_gradients_reach_what_sees_and_what_reads(embedder: MllmEmbedder):
    template, backbone = embedder.loaded()
    encoder = Encoder(backbone)
    encoder([prepare(template, CONTENTS[2], "query")])[0, :8].sum().backward()
    grown = {name for name, one in encoder.named_parameters() if one.grad is not None}
    assert any("visual.blocks" in name for name in grown)
    assert any("language_model.layers" in name for name in grown)
    encoder.zero_grad()
