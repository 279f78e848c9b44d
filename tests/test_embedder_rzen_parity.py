"""Vectors equal to those of the authors' own script; see tests/parity/README.md."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices import DEVICES
from PIL import Image

from embedder import Content
from embedder.mllm.embedder import MllmEmbedder, open_mllm
from embedder.mllm.families import RZEN

DATA = Path(__file__).parent / "parity"
CASES = json.loads((DATA / "cases.json").read_text())
LEAST_COSINE = 0.99999


@pytest.fixture(scope="module", params=DEVICES)
def embedder(request: pytest.FixtureRequest) -> Iterator[MllmEmbedder]:
    with open_mllm(RZEN, str(DATA / "model"), device=request.param, dtype="float32") as opened:
        yield opened


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(DATA / "expected.npz") as file:
        return dict(file)


def contents_of(case: dict[str, Any]) -> list[Content]:
    medium = next((name for name in ("images", "videos") if name in case), None)
    count = len(case[medium or "texts"])
    files = case.get(medium, [[]] * count)
    modality = {"images": "image", "videos": "video", None: "text"}[medium]
    contents = []
    for text, names in zip(case.get("texts", [None] * count), files, strict=True):
        names = [names] if isinstance(names, str) else names
        frames = [Image.open(DATA / "media" / str(medium) / name).convert("RGB") for name in names]
        contents.append(Content(text, frames, modality, case.get("instruction", "")))
    return contents


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["name"]))
def test_batch_has_the_released_vectors(
    case: dict[str, Any], embedder: MllmEmbedder, expected: dict[str, np.ndarray]
):
    rows = embedder.embed(contents_of(case), role="query")
    assert ((rows * expected[case["name"]]).sum(axis=1) >= LEAST_COSINE).all()


def test_each_content_alone_has_them_too(embedder: MllmEmbedder, expected: dict[str, np.ndarray]):
    for case in CASES:
        for content, row in zip(contents_of(case), expected[case["name"]], strict=True):
            assert embedder.embed([content], role="query")[0] @ row >= LEAST_COSINE


def test_all_cases_in_one_call_have_them_too(
    embedder: MllmEmbedder, expected: dict[str, np.ndarray]
):
    contents = [content for case in CASES for content in contents_of(case)]
    rows = embedder.embed(contents, role="query")
    wanted = np.concatenate([expected[case["name"]] for case in CASES])
    assert ((rows * wanted).sum(axis=1) >= LEAST_COSINE).all()
