"""LoRA on a tiny Qwen2-VL: where it sits, saved and merged whole, the same vectors afterwards."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from embedder import Content, open_embedder
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.embedder import MllmEmbedder
from embedder.mllm.settings import Settings
from trainer.adapters import (
    Adapter,
    BadAdapter,
    Lora,
    Mixture,
    count_parameters,
    linear_layers,
    load_base,
    make_trainable,
    open_adapters,
    save_adapter,
    write_mixture,
)
from trainer.checkpoints import MARKER, write_checkpoint
from trainer.output import BadOutput, atomic_folder
from trainer.soup import main

SETTINGS = Settings(
    system="Say it in a word.", positions="mrope", image_tokens=(4, 16), frame_tokens=(4, 8)
)


@pytest.fixture
def checkpoint(tiny_rzen: Path) -> Checkpoint:
    return Checkpoint.find(str(tiny_rzen))


def contents() -> list[Content]:
    noise = np.random.default_rng(0).integers(0, 255, (84, 112, 3), dtype=np.uint8)
    return [Content("a few words"), Content(frames=[Image.fromarray(noise)])]


def filled(adapted: object, seed: int = 0, size: float = 0.3) -> None:
    """Gives the adapters, which start by adding nothing, something to add."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(size * torch.randn(weight.shape, generator=generator))


def adapter(checkpoint: Checkpoint, directory: Path, seed: int = 0, lora: Lora | None = None):
    """Writes an adapter and returns the vectors of base and adapter together, unmerged."""
    lora = lora or Lora(rank=4, alpha=8)
    embedder = MllmEmbedder(checkpoint, SETTINGS, "cpu", "float32")
    with embedder:
        adapted = make_trainable(embedder.loaded()[1].model, lora)
        filled(adapted, seed)
        adapted.eval()
        save_adapter(adapted, checkpoint, SETTINGS, directory, lora)
        return embedder.embed(contents(), "document")


def merge(directory: Path, out: Path, base: str | None = None) -> None:
    adapters, checkpoint = open_adapters([directory], base)
    write_mixture(adapters, [1.0], checkpoint, out)


def vectors(directory: Path) -> np.ndarray:
    with open_embedder(f"rzen:{directory}", device="cpu", dtype="float32") as embedder:
        return embedder.embed(contents(), "document")


def test_lora_sits_on_all_linear_layers_of_vision_encoder_and_language_model(
    checkpoint: Checkpoint,
) -> None:
    model = load_base(checkpoint, SETTINGS).model
    names = linear_layers(model)
    of_a_block = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    of_a_layer = [f"self_attn.{one}_proj" for one in "qkvo"]
    of_a_layer += [f"mlp.{one}_proj" for one in ("gate", "up", "down")]
    assert set(names) == {
        *(f"visual.blocks.{block}.{one}" for block in range(2) for one in of_a_block),
        *(f"visual.merger.mlp.{one}" for one in (0, 2)),
        *(f"language_model.layers.{layer}.{one}" for layer in range(2) for one in of_a_layer),
    }
    make_trainable(model, Lora(rank=4))
    adapted = {
        name.partition(".lora_A")[0] for name, _ in model.named_parameters() if "_A." in name
    }
    assert adapted == set(names)


def test_only_the_adapters_are_trained_and_their_number_is_told(checkpoint: Checkpoint) -> None:
    model = load_base(checkpoint, SETTINGS).model
    shapes = [model.get_submodule(name).weight.shape for name in linear_layers(model)]
    _, before = count_parameters(model)
    adapted = make_trainable(model, Lora(rank=4))
    expected = sum(4 * (inward + outward) for outward, inward in shapes)
    assert count_parameters(adapted) == (expected, before + expected)


def test_without_lora_everything_is_trained(checkpoint: Checkpoint) -> None:
    model = load_base(checkpoint, SETTINGS).model.requires_grad_(False)
    assert count_parameters(model)[0] == 0
    trained, every = count_parameters(make_trainable(model, None))
    assert trained == every > 0


def test_adapters_start_by_adding_nothing(checkpoint: Checkpoint) -> None:
    with MllmEmbedder(checkpoint, SETTINGS, "cpu", "float32") as embedder:
        before = embedder.embed(contents(), "document")
        make_trainable(embedder.loaded()[1].model, Lora(rank=4)).eval()
        assert np.array_equal(embedder.embed(contents(), "document"), before)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"rank": 0}, "rank"),
        ({"alpha": 0}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"rank": -1, "dropout": -1}, r"rank(.|\n)*dropout"),
    ],
)
def test_adapters_that_cannot_be_are_refused(values: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Lora(**values)


def test_the_defaults_are_the_rank_of_the_paper_and_a_factor_of_one() -> None:
    assert (Lora().rank, Lora().alpha / Lora().rank, Lora().dropout) == (64, 1, 0)


def test_a_merged_checkpoint_gives_the_vectors_of_base_and_adapter(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    expected = adapter(checkpoint, tmp_path / "adapter")
    with MllmEmbedder(checkpoint, SETTINGS, "cpu", "float32") as embedder:
        base = embedder.embed(contents(), "document")
    assert np.abs(expected - base).max() > 0.01  # Else the comparison proves nothing.
    merge(tmp_path / "adapter", tmp_path / "merged")
    assert np.abs(vectors(tmp_path / "merged") - expected).max() < 1e-5


def test_a_merged_checkpoint_records_settings_tokenizer_and_where_it_comes_from(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    adapter(checkpoint, tmp_path / "adapter")
    assert main([str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")]) == 0
    assert Settings.of(tmp_path / "merged") == SETTINGS
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        copy = (tmp_path / "merged" / name).read_bytes()
        assert copy == (checkpoint.directory / name).read_bytes()
    stated = json.loads((tmp_path / "merged" / MARKER).read_text())
    assert stated["base_digest"] == checkpoint.digest
    assert stated["made"] == {"merged": [{"adapter": "adapter", "weight": 1.0}]}
    assert Checkpoint.find(str(tmp_path / "merged")).digest != checkpoint.digest
    assert {one.name for one in tmp_path.iterdir()} == {"adapter", "merged"}


def test_full_fine_tuning_is_written_the_same_way(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with MllmEmbedder(checkpoint, SETTINGS, "cpu", "float32") as embedder:
        model = make_trainable(embedder.loaded()[1].model, None)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.05)
        write_checkpoint(model, checkpoint, SETTINGS, tmp_path / "full", {"stage": 1})
        expected = embedder.embed(contents(), "document")
    assert np.abs(vectors(tmp_path / "full") - expected).max() < 1e-5


def test_a_merge_in_bfloat16_rounds_once(
    checkpoint: Checkpoint, tmp_path: Path, tiny_rzen: Path
) -> None:
    low = load_base(checkpoint, SETTINGS).model.to(torch.bfloat16)
    write_checkpoint(low, checkpoint, SETTINGS, tmp_path / "base", {})
    base = Checkpoint.find(str(tmp_path / "base"))
    adapter(base, tmp_path / "adapter")
    model = load_base(base, SETTINGS).model
    assert model.dtype == torch.bfloat16
    layer = model.language_model.layers[0].mlp.up_proj
    before = layer.weight.detach().clone().float()
    mixture = Mixture(model, [Adapter.of(tmp_path / "adapter")])
    wrapped = model.language_model.layers[0].mlp.up_proj
    a, b = wrapped.lora_A["0"].weight, wrapped.lora_B["0"].weight
    mixture.mix([1.0])
    expected = (before + 2 * (b.float() @ a.float())).to(torch.bfloat16)
    assert torch.equal(wrapped.base_layer.weight, expected)


def test_an_adapter_says_what_it_belongs_on(checkpoint: Checkpoint, tmp_path: Path) -> None:
    adapter(checkpoint, tmp_path / "adapter")
    found = Adapter.of(tmp_path / "adapter")
    assert (found.base, found.base_digest) == (checkpoint.spec, checkpoint.digest)
    assert found.settings == SETTINGS
    assert found.find_base().directory == checkpoint.directory
    assert sorted(one.name for one in (tmp_path / "adapter").iterdir()) == [
        "adapter.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "rzen.json",
    ]


def test_an_adapter_is_not_merged_into_another_model(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.untrained import build

    adapter(checkpoint, tmp_path / "adapter")
    build(tmp_path / "other", texts=["a few words to learn from"], seed=1)
    command = [str(tmp_path / "adapter"), "--out", str(tmp_path / "merged")]
    assert main([*command, "--base", str(tmp_path / "other")]) == 2
    assert "was trained on weights other" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


def test_a_base_model_may_have_moved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint.directory, tmp_path / "first")
    adapter(Checkpoint.find(str(tmp_path / "first")), tmp_path / "adapter")
    (tmp_path / "first").rename(tmp_path / "second")
    merge(tmp_path / "adapter", tmp_path / "merged", base=str(tmp_path / "second"))
    assert (tmp_path / "merged" / MARKER).is_file()


def test_an_unfinished_or_damaged_adapter_is_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(BadAdapter, match="not a complete adapter"):
        Adapter.of(tmp_path)
    adapter(checkpoint, tmp_path / "adapter")
    marker = tmp_path / "adapter/adapter.json"
    stated = json.loads(marker.read_text())
    marker.write_text(json.dumps(stated | {"format": 99}))
    with pytest.raises(BadAdapter, match="format 99"):
        Adapter.of(tmp_path / "adapter")
    marker.write_text("{}")
    with pytest.raises(BadAdapter, match="cannot be read"):
        Adapter.of(tmp_path / "adapter")
    marker.write_text(json.dumps(stated))
    weights = tmp_path / "adapter/adapter_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(BadAdapter, match="they can run code"):
        Adapter.of(tmp_path / "adapter")
    weights.with_suffix(".bin").rename(weights)
    tensors = load_file(weights)
    tensors.pop(next(name for name in tensors if "lora_B" in name))
    save_file(tensors, weights)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # As outside of the tests, where it is only a warning.
        with pytest.raises(BadAdapter, match="missing adapter keys"):
            merge(tmp_path / "adapter", tmp_path / "merged")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BadAdapter, match="cannot be loaded"):
        merge(tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def stopped() -> None:
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("half")
            assert not (tmp_path / "out").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("whole")
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out/whole").read_text() == "whole"


def test_nothing_is_written_over(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(BadOutput, match="exists already"), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out/mine").read_text() == "mine"


def test_a_checkpoint_that_fails_half_way_leaves_nothing(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_base(checkpoint, SETTINGS).model

    def failing(_settings: Settings, _directory: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Settings, "save", failing)
    with pytest.raises(BadOutput, match="the disk is full"):
        write_checkpoint(model, checkpoint, SETTINGS, tmp_path / "out", {})
    assert list(tmp_path.iterdir()) == []
