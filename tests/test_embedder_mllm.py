"""What `rzen` does beside what all embedders do: once each, within memory, as the settings say."""

import logging
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from embedder import Content, EmbedderUnavailable, EmbedError, Modality, open_embedder
from embedder.mllm.embedder import MllmEmbedder, open_mllm
from embedder.mllm.families import RZEN
from embedder.mllm.settings import Settings


@pytest.fixture(scope="module")
def embedder(tiny_rzen: Path) -> Iterator[MllmEmbedder]:
    with open_mllm(RZEN, str(tiny_rzen), device="cpu", dtype="float32") as opened:
        yield opened


@pytest.fixture
def folder(tiny_rzen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_rzen, tmp_path / "copy"))


def noise(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mixed() -> list[Content]:
    texts = [Content(text="some words " * n) for n in (1, 40, 7, 90)]
    pictures = [Content(frames=[noise(n)]) for n in (1, 2)]
    clip = Content(frames=[noise(n) for n in (1, 3, 4)])
    return [texts[0], pictures[0], clip, texts[1], Content("a caption", [noise(2)]), *texts[2:]]


class Watched:
    """Counts what goes through a backbone; runs out of memory beyond a number of items."""

    def __init__(
        self, embedder: MllmEmbedder, patch: pytest.MonkeyPatch, most: int | None = None
    ) -> None:
        backbone = embedder.loaded()[1]
        self.seen: list[int] = []
        self.read: list[int] = []
        see, read = backbone.see, backbone.read

        def counted_see(pictures: Sequence[Any]) -> Any:
            self.seen.append(len(pictures))
            self.check(len(pictures), most)
            return see(pictures)

        def counted_read(sequences: Sequence[Any], seen: Any) -> Any:
            self.read.append(len(sequences))
            self.check(len(sequences), most)
            return read(sequences, seen)

        patch.setattr(backbone, "see", counted_see)
        patch.setattr(backbone, "read", counted_read)

    def check(self, count: int, most: int | None) -> None:
        if most is not None and count > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")


def test_repeated_contents_are_computed_once(
    embedder: MllmEmbedder, monkeypatch: pytest.MonkeyPatch
):
    watched = Watched(embedder, monkeypatch)
    contents = [
        *[Content(text="the same words")] * 5,
        *[Content(frames=[noise(1)]) for _ in range(3)],
        Content(frames=[noise(1)] * 4),
    ]
    rows = embedder.embed(contents, role="document")
    assert sum(watched.read) == 3
    # A frame of a clip is smaller than a picture, so it is another picture; but one for all four.
    assert sum(watched.seen) == 2
    assert np.array_equal(rows[0], rows[4])
    assert np.array_equal(rows[5], rows[7])


def test_pictures_are_prepared_ahead(embedder: MllmEmbedder, monkeypatch: pytest.MonkeyPatch):
    from embedder.mllm import embedder as module

    backbone, ready = embedder.loaded()[1], [threading.Event() for _ in range(2)]
    patched, read, waited = module.patched, backbone.read, []

    def counted_patched(picture: Any) -> Any:
        next(event for event in ready if not event.is_set()).set()
        return patched(picture)

    def waiting_read(sequences: Sequence[Any], seen: Any) -> Any:
        waited.append(ready[1].wait(10))  # In the first group already.
        return read(sequences, seen)

    monkeypatch.setattr(embedder, "token_budget", 1)
    monkeypatch.setattr(module, "patched", counted_patched)
    monkeypatch.setattr(backbone, "read", waiting_read)
    embedder.embed([Content(frames=[noise(n)]) for n in (1, 2)], role="document")
    assert waited == [True, True]


def test_query_and_document_instructions_differ(embedder: MllmEmbedder):
    query, document = (
        embedder.embed([Content(text="a dog")], role)[0] for role in ("query", "document")
    )
    assert query @ document < 0.9999


def test_own_instruction_replaces_default(embedder: MllmEmbedder):
    instructed = Content(
        text="a dog", instruction="Find a document image that matches the given query: "
    )
    plain = Content(text="a dog")
    assert embedder.info.instructions[Modality.TEXT, Modality.PAGE] == instructed.instruction
    first, second = embedder.embed([instructed, plain], role="query")
    assert first @ second < 0.9999


def test_lack_of_memory_halves_the_batch(embedder: MllmEmbedder, monkeypatch: pytest.MonkeyPatch):
    contents = mixed()
    expected = embedder.embed(contents, role="document")
    monkeypatch.setattr(embedder, "token_budget", 100_000)
    watched = Watched(embedder, monkeypatch, most=1)
    rows = embedder.embed(contents, role="document")
    assert np.abs(rows - expected).max() < 1e-5
    assert max(watched.read) > 1
    assert embedder.token_budget < 100_000


def test_content_too_large_alone_fails(embedder: MllmEmbedder, monkeypatch: pytest.MonkeyPatch):
    backbone = embedder.loaded()[1]
    read = backbone.read

    def limited(sequences: Sequence[Any], seen: Any) -> Any:
        if max(map(len, sequences)) > 500:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")
        return read(sequences, seen)

    monkeypatch.setattr(backbone, "read", limited)
    contents = [Content(text="short"), Content(text="long " * 900), Content(text="short too")]
    with pytest.raises(EmbedError, match="memory") as caught:
        embedder.embed(contents, role="document")
    assert caught.value.position == 1
    assert embedder.embed([contents[0], contents[2]], role="document").shape == (2, 64)


def test_picture_too_large_alone_fails(embedder: MllmEmbedder, monkeypatch: pytest.MonkeyPatch):
    backbone = embedder.loaded()[1]

    def full(pictures: Sequence[Any]) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(backbone, "see", full)
    with pytest.raises(EmbedError, match="memory") as caught:
        embedder.embed([Content(text="a"), Content(frames=[noise(1)])], role="document")
    assert caught.value.position == 1


def test_other_errors_are_raised(embedder: MllmEmbedder, monkeypatch: pytest.MonkeyPatch):
    def broken(*_given: object) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(embedder.loaded()[1], "read", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        embedder.embed([Content(text="a")], role="document")


def test_what_is_cut_to_fit_is_told_in_the_log(
    embedder: MllmEmbedder, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING, logger="embedder"):
        embedder.embed([Content(text="x"), Content(text="word " * 9000)], role="document")
    assert "content 1" in caplog.text
    assert "characters of its text are read" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        Settings(positions="mrope"),
        Settings(pooling="mean"),
        Settings(system="Given an image, summarize the provided image in one word."),
        Settings(visual_prompt="\nRepresent the given image in one word."),
        Settings(image_tokens=(4, 64)),
        Settings().instructed({Modality.IMAGE: "Look."}),
    ],
    ids=["positions", "pooling", "system", "prompt", "tokens", "instruction"],
)
def test_checkpoint_settings_are_followed(folder: Path, embedder: MllmEmbedder, settings: Settings):
    settings.save(folder)
    content = [Content(frames=[noise(5, (300, 200))])]
    with open_embedder(f"rzen:{folder}") as other:
        assert (
            other.embed(content, "document")[0] @ embedder.embed(content, "document")[0] < 0.99999
        )


def test_mean_pooling_ignores_padding(folder: Path):
    Settings(pooling="mean", positions="mrope").save(folder)
    with open_embedder(f"rzen:{folder}") as embedder:
        together = embedder.embed(mixed(), role="document")
        alone = [embedder.embed([content], role="document")[0] for content in mixed()]
    assert np.abs(together - np.stack(alone)).max() < 1e-5


def test_document_instructions_can_be_replaced(tiny_rzen: Path, embedder: MllmEmbedder):
    content, text = Content(frames=[noise(1)]), Content(text="words")
    own = embedder.embed([content, text], role="document")
    with open_embedder(f"rzen:{tiny_rzen}", instructions={Modality.IMAGE: "Look."}) as other:
        changed = other.embed([content, text], role="document")
        instructed = Content(frames=[noise(1)], instruction="Look.")
        assert np.allclose(changed[0], embedder.embed([instructed], "document")[0], atol=1e-6)
    assert changed[0] @ own[0] < 0.99999
    assert np.allclose(changed[1], own[1], atol=1e-6)


def test_half_precision(tiny_rzen: Path, embedder: MllmEmbedder):
    with open_embedder(f"rzen:{tiny_rzen}", dtype="bfloat16") as half:
        rows = half.embed(mixed(), role="document")
    assert (rows * embedder.embed(mixed(), role="document")).sum(axis=1).min() > 0.98


@pytest.mark.parametrize("asked", ["cuda", "cuda:7", "tpu", "gpu"])
def test_unavailable_device_is_refused(tiny_rzen: Path, asked: str):
    if asked == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has one")
    with (
        open_embedder(f"rzen:{tiny_rzen}", device=asked) as embedder,
        pytest.raises(EmbedderUnavailable, match=rf"{asked}.*cpu"),
    ):
        embedder.embed([Content(text="x")], role="query")


def test_unknown_precision_is_refused(tiny_rzen: Path):
    with (
        open_embedder(f"rzen:{tiny_rzen}", dtype="int8") as embedder,
        pytest.raises(EmbedderUnavailable, match="float32, bfloat16"),
    ):
        embedder.embed([Content(text="x")], role="query")


def test_it_runs_without_torchvision(embedder: MllmEmbedder):
    import sys

    embedder.embed([Content(frames=[noise(1)])], role="document")
    assert "torchvision" not in sys.modules


def test_gradients_flow_to_both_towers(tiny_rzen: Path):
    with open_mllm(RZEN, str(tiny_rzen)) as embedder:
        template, backbone = embedder.loaded()
        from embedder.mllm.pictures import patched

        sequence = template.sequence(Content("words", [noise(1)]), "document")
        seen = backbone.see([patched(one) for one in sequence.pictures])
        backbone.read([sequence], [seen])[0, 0].backward()
        named = dict(backbone.model.named_parameters())
        for part in (
            "visual.patch_embed.proj.weight",
            "language_model.layers.0.mlp.up_proj.weight",
        ):
            assert named[part].grad.abs().max() > 0


def test_vectors_can_be_cut(folder: Path, embedder: MllmEmbedder):
    Settings(dim=16).save(folder)
    whole = embedder.embed(mixed(), role="document")
    with open_embedder(f"rzen:{folder}") as shorter:
        rows = shorter.embed(mixed(), role="document")
        assert shorter.info.dim == 16
        assert shorter.info.fingerprint != embedder.info.fingerprint
    cut = whole[:, :16]
    assert np.allclose(rows, cut / np.linalg.norm(cut, axis=1, keepdims=True), atol=1e-5)


def test_vectors_longer_than_the_models_are_refused(folder: Path):
    Settings(dim=65).save(folder)
    with pytest.raises(EmbedderUnavailable, match=r"dim in .*rzen\.json is 65.*64 numbers"):
        open_embedder(f"rzen:{folder}")
