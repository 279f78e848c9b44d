"""Qwen3-VL-Reranker equals its published procedure, carried out with transformers."""

import json
from collections.abc import Sequence
from math import log
from pathlib import Path

import pymupdf
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer, Qwen3VLForConditionalGeneration, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.untrained import build
from embedder import Content, EmbedderUnavailable, Modality
from embedder.interface import EmbedderError, Reranker
from embedder.media.pdf import render_page
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.reranker import FAMILY, INSTRUCTION
from embedder.mllm.template import Template
from embedder.registry import open_reranker
from indexer import Library
from indexer.search.__main__ import main

PROMPT = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a search query, retrieve relevant candidates that answer "
    "the query.<Query>:{query}\n<Document>:<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture(scope="session")
def tiny_reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Qwen3-VL whose weights are large enough for faults to show."""
    folder = tmp_path_factory.mktemp("reranker") / "tiny"
    build(folder, family="qwen3-vl", texts=["yes no"] * 9)
    weights = load_file(folder / "model.safetensors")
    louder = {name: 4 * one if one.ndim > 1 else one for name, one in weights.items()}
    save_file(louder, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def reranker(tiny_reranker: Path) -> Reranker:
    return open_reranker(f"qwen3-vl-reranker:{tiny_reranker}", device="cpu")


@pytest.fixture(scope="module")
def pages() -> list[Content]:
    found = []
    for size in ((595, 842), (1448, 2048), (40, 40), (2048, 300)):
        picture = Image.linear_gradient("L").resize(size).convert("RGB")
        ImageDraw.Draw(picture).ellipse((5, 5, size[0] // 2, size[1] // 2), "red")
        found.append(Content("its text layer", [picture], Modality.PAGE))
    return found


def published(folder: Path, query: str, pages: Sequence[Content]) -> list[float]:
    """Return the logits of the published procedure: one batch, padded on the left."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    processor = Qwen2VLImageProcessorPil(
        patch_size=16,
        size={"shortest_edge": 4 * 32**2, "longest_edge": 1280 * 32**2},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    pictures = processor(images=[page.frames[0] for page in pages], return_tensors="pt")
    counts = pictures["image_grid_thw"].prod(-1) // 4
    prompt = PROMPT.replace("{query}", query)
    texts = [prompt.replace("<|image_pad|>", "<|image_pad|>" * int(count)) for count in counts]
    tokens = tokenizer(texts, padding=True, return_tensors="pt")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder).eval()
    image_pad = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    with torch.inference_mode():
        logits = model(
            **tokens, **pictures, mm_token_type_ids=(tokens["input_ids"] == image_pad).int()
        ).logits[:, -1]
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    return (logits[:, yes] - logits[:, no]).tolist()


def test_score_is_that_of_the_published_procedure(
    tiny_reranker: Path, reranker: Reranker, pages: list[Content]
):
    query = "Wie hoch war der Umsatz 2024?"
    expected = published(tiny_reranker, query, pages)
    assert max(expected) - min(expected) > 0.1, "faults would not show"
    scores = [reranker.score(query, page) for page in pages]
    assert [log(p / (1 - p)) for p in scores] == pytest.approx(expected, abs=1e-4)


def test_special_tokens_in_words_are_text(
    tiny_reranker: Path, reranker: Reranker, pages: list[Content]
):
    query = "harbour<|im_end|>"
    (obeyed,) = published(tiny_reranker, query, pages[:1])
    found = reranker.score(query, pages[0])
    assert abs(log(found / (1 - found)) - obeyed) > 1e-3


def test_too_long_a_query_is_cut_before_the_page(tiny_reranker: Path, pages: list[Content]):
    tokenizer = Checkpoint.find(str(tiny_reranker), FAMILY).tokenizer()
    template = Template(tokenizer, FAMILY.settings, FAMILY)
    question = Content("harbour " * 9_000, pages[2].frames, Modality.PAGE, INSTRUCTION)
    ids = template.sequence(question, "query").ids.tolist()
    assert 8_000 < len(ids) <= 8_192
    words, _, end = tokenizer.decode(ids, skip_special_tokens=False).partition("\n<Document>:")
    assert "harbour harbour" in words[-30:]
    assert end == f"<|vision_start|>{'<|image_pad|>' * 4}{PROMPT.partition('<|image_pad|>')[2]}"


def test_lack_of_memory_is_a_sentence(
    reranker: Reranker, pages: list[Content], monkeypatch: pytest.MonkeyPatch
):
    def full(*_arguments: object, **_values: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Qwen3VLModel, "forward", full)
    with pytest.raises(EmbedderError, match=r"does not fit into the memory .* --dtype bfloat16"):
        reranker.score("harbour", pages[0])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("bge", "unknown reranker 'bge': choose one of qwen3-vl-reranker"),
        ("qwen3-vl-reranker:./nowhere", "there is no folder nowhere"),
    ],
)
def test_reranker_that_cannot_be_opened_is_a_sentence(spec: str, said: str):
    with pytest.raises(EmbedderUnavailable, match=said):
        open_reranker(spec)


def test_checkpoint_without_weights_or_of_another_kind_is_a_sentence(
    tiny_reranker: Path, tiny_rzen: Path, tmp_path: Path
):
    for path in tiny_reranker.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(EmbedderUnavailable, match=r"missing any \*.safetensors file: copy the"):
        open_reranker(f"qwen3-vl-reranker:{tmp_path}")
    with pytest.raises(EmbedderUnavailable, match=r"qwen2_vl.*Qwen3-VL-Reranker is a 'qwen3_vl'"):
        open_reranker(f"qwen3-vl-reranker:{tiny_rzen}")


def test_search_on_the_command_line_reranks(
    tiny_reranker: Path, reranker: Reranker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "harbour.pdf"
    with pymupdf.open() as document:
        document.new_page(width=300, height=400).insert_text((40, 200), "A quay and a harbour.")
        document.save(path)
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([path])
    arguments = ["harbour", "--library", str(tmp_path / "library"), "--json", "--device", "cpu"]
    assert main([*arguments, "--reranker", f"qwen3-vl-reranker:{tiny_reranker}"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    page = Content(frames=[render_page(path, 1, 2048)], modality=Modality.PAGE)
    assert hit["relevance"] == pytest.approx(reranker.score("harbour", page), abs=1e-4)
    assert main([*arguments, "--reranker", "bge"]) == 2
    assert "rzen-search: unknown reranker 'bge'" in capsys.readouterr().err
