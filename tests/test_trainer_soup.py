"""Mixing adapters: hand-set weights, the greedy search, the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.embedder import MllmEmbedder
from embedder.mllm.settings import Settings
from trainer.adapters import (
    Adapter,
    BadAdapter,
    Lora,
    Mixture,
    NoImprovement,
    greedy,
    load_base,
    make_trainable,
    normalized,
    open_adapters,
    save_adapter,
    search_greedily,
)
from trainer.soup import main

SETTINGS = Settings(image_tokens=(4, 16), frame_tokens=(4, 8))
LAYER = "language_model.layers.0.mlp.up_proj"


@pytest.fixture
def checkpoint(tiny_rzen: Path) -> Checkpoint:
    return Checkpoint.find(str(tiny_rzen))


def write(
    checkpoint: Checkpoint,
    directory: Path,
    a: float,
    b: float,
    lora: Lora,
    settings: Settings = SETTINGS,
) -> Path:
    """An adapter whose A is `a` and whose B is `b` everywhere: it adds a·b·alpha to each weight."""
    adapted = make_trainable(load_base(checkpoint, settings).model, lora)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.fill_(a if "lora_A" in name else b)
    save_adapter(adapted, checkpoint, settings, directory, lora)
    return directory


@pytest.fixture
def pair(checkpoint: Checkpoint, tmp_path: Path) -> list[Path]:
    """Two of different rank and alpha: they add 0.1 · 0.2 · 3 = 0.06 and −0.3 · 0.1 · 1 = −0.03."""
    return [
        write(checkpoint, tmp_path / "one", 0.1, 0.2, Lora(rank=2, alpha=3)),
        write(checkpoint, tmp_path / "two", -0.3, 0.1, Lora(rank=4, alpha=1)),
    ]


def weight(directory: Path) -> torch.Tensor:
    found = Checkpoint.find(str(directory))
    return load_base(found, SETTINGS).model.get_submodule(LAYER).weight.detach()


def test_the_average_is_of_what_adapters_add_and_not_of_their_factors(
    checkpoint: Checkpoint, pair: list[Path], tmp_path: Path
) -> None:
    command = [*map(str, pair), "--weights", "3", "1", "--out", str(tmp_path / "soup")]
    assert main(command) == 0
    added = weight(tmp_path / "soup") - weight(checkpoint.directory)
    # 0.75 · 0.06 − 0.25 · 0.03; the mean factors 0 · 0.175 would add nothing of the kind.
    assert torch.allclose(added, torch.full_like(added, 0.0375), atol=1e-6)


def test_every_linear_layer_is_mixed_and_nothing_else(
    checkpoint: Checkpoint, pair: list[Path], tmp_path: Path
) -> None:
    assert main([*map(str, pair), "--out", str(tmp_path / "soup")]) == 0
    before = load_base(checkpoint, SETTINGS).model.state_dict()
    after = load_base(Checkpoint.find(str(tmp_path / "soup")), SETTINGS).model
    linear = {f"{n}.weight" for n, m in after.named_modules() if isinstance(m, torch.nn.Linear)}
    for name, value in after.state_dict().items():
        added = value - before[name]
        expected = torch.full_like(added, 0.015 if name in linear else 0.0)
        assert torch.allclose(added, expected, atol=1e-6), name


def test_a_soup_of_one_is_its_merge_and_the_record_says_what_is_in_it(
    checkpoint: Checkpoint, pair: list[Path], tmp_path: Path
) -> None:
    command = [*map(str, pair), "--weights", "0", "5", "--out", str(tmp_path / "soup")]
    assert main(command) == 0
    added = weight(tmp_path / "soup") - weight(checkpoint.directory)
    assert torch.allclose(added, torch.full_like(added, -0.03), atol=1e-6)
    stated = json.loads((tmp_path / "soup/complete.json").read_text())
    assert stated["made"] == {"merged": [{"adapter": "two", "weight": 1.0}]}
    assert Settings.of(tmp_path / "soup") == SETTINGS


def test_a_model_is_mixed_anew_from_its_base_each_time(
    checkpoint: Checkpoint, pair: list[Path]
) -> None:
    model = load_base(checkpoint, SETTINGS).model
    before = model.get_submodule(LAYER).weight.detach().clone()
    mixture = Mixture(model, [Adapter.of(one) for one in pair], restorable=True)
    mixed = model.get_submodule(LAYER).base_layer
    for weights, expected in (((1, 0), 0.06), ((0.5, 0.5), 0.015), ((0, 0), 0.0)):
        mixture.mix(weights)
        assert torch.allclose(mixed.weight - before, torch.tensor(expected), atol=1e-6)
    assert torch.equal(mixed.weight, before)


def test_a_model_whose_base_is_not_kept_is_mixed_once(
    checkpoint: Checkpoint, pair: list[Path]
) -> None:
    mixture = Mixture(load_base(checkpoint, SETTINGS).model, [Adapter.of(one) for one in pair])
    mixture.mix([1, 0])
    with pytest.raises(RuntimeError, match="mixed already"):
        mixture.mix([0, 1])


def test_weights_are_those_of_an_average() -> None:
    assert normalized([2, 6]) == (0.25, 0.75)
    for bad in ([0, 0], [1, -1], [float("nan"), 1], [float("inf"), 1]):
        with pytest.raises(ValueError, match="weights must be"):
            normalized(bad)


def test_the_greedy_search_keeps_an_adapter_only_if_the_score_rises() -> None:
    known = {
        (0, 0, 0): 0.50,
        (1, 0, 0): 0.60,
        (0, 1, 0): 0.70,
        (0, 0, 1): 0.65,
        (0, 0.5, 0.5): 0.70,  # No better than the second alone: left out.
        (0.5, 0.5, 0): 0.75,
    }
    weights, trials = greedy(3, lambda mixed: known[mixed])
    assert weights == (0.5, 0.5, 0)
    assert [(trial.weights, trial.kept) for trial in trials] == [
        ((0, 0, 0), True),
        ((0, 1, 0), True),
        ((0, 0.5, 0.5), False),
        ((0.5, 0.5, 0), True),
    ]


def test_kept_adapters_are_averaged_in_the_given_proportion() -> None:
    weights, _ = greedy(2, lambda mixed: mixed[0] * mixed[1] + mixed[0], [3, 1])
    assert weights == (0.75, 0.25) or weights == (1, 0)
    # 0.75 · 0.25 + 0.75 = 0.9375 is less than the first alone, 1.
    assert weights == (1, 0)
    weights, _ = greedy(2, lambda mixed: 2 * mixed[0] * mixed[1] + mixed[0], [3, 1])
    assert weights == (0.75, 0.25)


def test_a_soup_that_does_not_beat_the_base_model_is_not_made() -> None:
    with pytest.raises(NoImprovement, match=r"base model's 0\.5000.*the best scores 0\.5000"):
        greedy(2, lambda _mixed: 0.5)


def test_the_greedy_search_scores_what_is_written_in_the_end(
    checkpoint: Checkpoint, pair: list[Path], tmp_path: Path
) -> None:
    from embedder import Content, open_embedder

    adapters, base = open_adapters(pair, None)
    seen = []
    scores = iter([0.1, 0.3, 0.2, 0.4])  # Base, one, two, both.

    def score(embedder: MllmEmbedder) -> float:
        seen.append(embedder.embed([Content("a few words")], "document"))
        return next(scores)

    weights, _ = search_greedily(adapters, base, score, device="cpu", dtype="float32")
    assert weights == (0.5, 0.5)
    assert main([*map(str, pair), "--out", str(tmp_path / "soup")]) == 0
    with open_embedder(f"rzen:{tmp_path / 'soup'}", device="cpu") as soup:
        found = soup.embed([Content("a few words")], "document")
    assert np.abs(found - seen[3]).max() < 1e-5
    assert np.abs(found - seen[0]).max() > 1e-3
    assert np.abs(seen[1] - seen[2]).max() > 1e-3


def test_the_command_searches_with_a_validation_set(
    checkpoint: Checkpoint,
    pair: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = ["red", "green"]
    data = tmp_path / "data"
    data.mkdir()
    rows = [
        {"query": {"text": one}, "candidates": [{"text": x} for x in texts], "label": place}
        for place, one in enumerate(texts)
    ]
    (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [*map(str, pair), "--greedy", "--data", str(data), "--out", str(tmp_path / "soup")]
    # The base model finds a text by itself already: nothing can be gained.
    assert main([*command, "--device", "cpu"]) == 2
    assert "no adapter improves on the base model's 1.0000" in capsys.readouterr().err
    assert not (tmp_path / "soup").exists()
    scores = iter([0.1, 0.2, 0.3, 0.25])
    monkeypatch.setattr("trainer.evaluate.validation_score", lambda _embedder, _sets: next(scores))
    assert main([*command, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "0.3000  0.000 1.000  kept" in said.err
    assert "0.2500  0.500 0.500  left out" in said.err
    added = weight(tmp_path / "soup") - weight(checkpoint.directory)
    assert torch.allclose(added, torch.full_like(added, -0.03), atol=1e-6)


def test_adapters_of_different_bases_or_settings_are_not_mixed(
    checkpoint: Checkpoint, pair: list[Path], tmp_path: Path
) -> None:
    from benchmarks.untrained import build

    build(tmp_path / "base", texts=["a few words to learn from"], seed=1)
    other = Checkpoint.find(str(tmp_path / "base"))
    foreign = write(other, tmp_path / "foreign", 0.1, 0.1, Lora(rank=2))
    with pytest.raises(BadAdapter, match="different base models"):
        open_adapters([pair[0], foreign], None)
    prompted = Settings(system="Another.", image_tokens=(4, 16), frame_tokens=(4, 8))
    with_prompts = write(checkpoint, tmp_path / "prompted", 0.1, 0.1, Lora(rank=2), prompted)
    with pytest.raises(BadAdapter, match="different prompts"):
        open_adapters([pair[0], with_prompts], None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--weights", "1"], "--weights needs 2 values"),
        (["--greedy"], "--greedy needs --data DIR"),
        (["--data", "x"], "--greedy needs --data DIR"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "soup"), *options, "--base", "x", "--", "a", "b"])
    assert reason in capsys.readouterr().err
