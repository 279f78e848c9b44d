"""Whole runs of a few steps: what they write, and that a run which was killed goes on as it was."""

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.commands import launch
from devices import GPU
from PIL import Image
from processes import run_two
from torch import Tensor, nn
from torch.nn import functional

from embedder import Content, open_embedder
from trainer import stage1, stage2
from trainer.config import Run
from trainer.data.loader import PreparedBatch
from trainer.loop import Step, train
from trainer.losses import BatchEmbeddings, Loss
from trainer.model import Encoder, PreparedContent, TrainingModel

pytestmark = pytest.mark.slow

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "orange", "purple")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    rows = []
    for colour in COLOURS:
        Image.new("RGB", (56, 56), colour).save(folder / f"{colour}.png")
        rows.append({"query": colour, "positive": {"images": f"{colour}.png"}})
    rows[0]["negatives"] = [{"images": "blue.png"}, "a text"]
    rows.append({"query": "lost", "positive": {"images": "lost.png"}})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture(autouse=True)
def _one_process() -> Iterator[None]:
    """accelerate remembers the processes of a run; the next test has its own."""
    yield
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(True)
    PartialState._reset_state()


def configured(folder: Path, data: Path, base: Path, **changes: object) -> Path:
    values: dict[str, object] = {
        "out": f'"{folder / "out"}"',
        "checkpoint_every": 2,
        "broken_rows": 0.5,
        "model.base": f'"{base}"',
        "model.device": '"cpu"',
        "model.dtype": '"float32"',
        "model.gradient_checkpointing": "false",
        "model.lora.rank": 4,
        "settings.image_tokens": "[4, 16]",
        "loss.delta": 2.0,
        "loss.alpha": 1.0,
        "optimizer.learning_rate": 1e-3,
        "optimizer.epochs": 3,
        "batches.size": 4,
        "batches.chunk_tokens": 300,
    } | changes
    lines = [f"{name} = {value}" for name, value in values.items()]
    lines += ["[[data]]", f'path = "{data / "pairs.jsonl"}"', 'task = "image_retrieval"']
    path = folder / "run.toml"
    path.write_text("\n".join(lines))
    return path


def curve(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in curve(folder)]


@pytest.mark.parametrize(
    ("device", "dtype"), [("cpu", "float32"), pytest.param("cuda", "bfloat16", marks=GPU)]
)
def test_a_run_writes_a_model_that_opens_and_the_curve_of_its_loss(
    tmp_path: Path, data: Path, tiny_rzen: Path, device: str, dtype: str
):
    chosen = {"model.device": f'"{device}"', "model.dtype": f'"{dtype}"'}
    assert stage2.main([str(configured(tmp_path, data, tiny_rzen, **chosen))]) == 0
    rows = curve(tmp_path)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(float(row["gradient"]) > 0 for row in rows)
    assert rows[-1]["skipped"] == "1"
    assert rows[0]["tau/image_retrieval"] != rows[-1]["tau/image_retrieval"]
    assert rows[0]["tau/video_qa"] == rows[-1]["tau/video_qa"]
    content = [Content(text="red")]
    with (
        open_embedder(f"rzen:{tmp_path / 'out' / 'model'}") as trained,
        open_embedder(f"rzen:{tiny_rzen}") as base,
    ):
        assert trained.settings.image_tokens == (4, 16)  # type: ignore[attr-defined]
        assert trained.embed(content, "query")[0] @ base.embed(content, "query")[0] < 0.99999


def test_a_run_that_was_killed_goes_on_to_the_same_curve_and_the_same_weights(
    tmp_path: Path, data: Path, tiny_rzen: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    train(Run.read(configured(whole, data, tiny_rzen)), instructions=True)
    config, taken = configured(broken, data, tiny_rzen), Step.take

    def killed(step: Step, batches: object) -> object:
        if len(curve(broken)) == 3:
            raise KeyboardInterrupt
        return taken(step, batches)  # type: ignore[arg-type]

    monkeypatch.setattr(Step, "take", killed)
    with pytest.raises(KeyboardInterrupt):
        train(Run.read(config), instructions=True)
    monkeypatch.undo()
    train(Run.read(config), instructions=True, resume=True)
    assert losses(broken) == losses(whole)
    content = [Content(text="red"), Content(frames=[Image.new("RGB", (56, 56), "red")])]
    rows = []
    for folder in (whole, broken):
        with open_embedder(f"rzen:{folder / 'out' / 'model'}") as trained:
            rows.append(trained.embed(content, "document"))
    assert np.array_equal(*rows)


def test_the_chunk_changes_memory_and_not_what_is_learned(
    tmp_path: Path, data: Path, tiny_rzen: Path
):
    curves = []
    for tokens in (60, 100_000):
        folder = tmp_path / str(tokens)
        folder.mkdir()
        changes = {"batches.chunk_tokens": tokens, "optimizer.steps": 3}
        train(Run.read(configured(folder, data, tiny_rzen, **changes)), instructions=True)
        curves.append(losses(folder))
    assert np.allclose(*curves, atol=1e-4)
    assert len(set(curves[0])) == 3


def test_only_a_batch_larger_than_a_chunk_is_encoded_twice(
    tmp_path: Path, data: Path, tiny_rzen: Path, monkeypatch: pytest.MonkeyPatch
):
    passes = []
    forward = Encoder.forward

    def counted(self: Encoder, contents: Sequence[PreparedContent]) -> Tensor:
        passes.append(len(contents))
        return forward(self, contents)

    monkeypatch.setattr(Encoder, "forward", counted)
    encoded = {}
    for tokens in (60, 100_000):
        folder = tmp_path / str(tokens)
        folder.mkdir()
        passes.clear()
        changes = {"batches.chunk_tokens": tokens, "optimizer.steps": 1}
        train(Run.read(configured(folder, data, tiny_rzen, **changes)), instructions=True)
        encoded[tokens] = sum(passes)
    assert encoded[60] == 2 * encoded[100_000]


def test_two_processes_learn_what_one_learns_from_the_whole_batch(
    tmp_path: Path, data: Path, tiny_rzen: Path
):
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    configs = [configured(one, data, tiny_rzen, **{"optimizer.steps": 3}) for one in folders]
    assert stage2.main([str(configs[0])]) == 0
    imports = "transformers.optimization"  # brings most of what both need
    assert "2 processes" in run_two("-m", "trainer.stage2", configs[1], imports=imports)
    curves = [losses(folder) for folder in folders]
    assert np.allclose(*curves, rtol=1e-4)


def test_accelerate_launches_processes_that_find_each_other(tmp_path: Path):
    script = tmp_path / "rank.py"
    script.write_text(
        "import json, os, pathlib\n"
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(json.dumps({{\n"
        "    name: os.environ[name] for name in ('LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR')}))\n"
        "int(os.environ['MASTER_PORT'])\n"
    )
    # With `--cpu` it would start one process whatever the configuration says.
    flags = "--multi_gpu --num_processes 2 --main_process_port 0"
    launch.launch_command(launch.launch_command_parser().parse_args([*flags.split(), str(script)]))
    for rank in "01":
        found = json.loads((tmp_path / rank).read_text())
        assert (found["LOCAL_RANK"], found["WORLD_SIZE"]) == (rank, "2")


def test_all_parameters_can_be_trained_and_activations_computed_again(
    tmp_path: Path, data: Path, tiny_rzen: Path
):
    changes = {
        "model.method": '"full"',
        "model.gradient_checkpointing": "true",
        "optimizer.steps": 2,
    }
    train(Run.read(configured(tmp_path, data, tiny_rzen, **changes)), instructions=True)
    with open_embedder(f"rzen:{tmp_path / 'out' / 'model'}") as trained:
        assert trained.embed([Content(text="red")], "query").shape == (1, 64)
    assert not (tmp_path / "out" / "adapter").exists()


def test_temperatures_learn_at_the_rate_of_the_model_or_at_their_own(
    tmp_path: Path, data: Path, tiny_rzen: Path
):
    for changes, expected in ({}, 2e-3), ({"optimizer.temperature_rate": 0.05}, 0.05):
        changes = {"optimizer.learning_rate": 2e-3, **changes}
        learner = TrainingModel.of(Run.read(configured(tmp_path, data, tiny_rzen, **changes)))
        model, temperatures = learner.optimizer().param_groups
        assert (model["lr"], temperatures["lr"]) == (2e-3, expected)
        assert temperatures["weight_decay"] == 0.0


def test_stage_1_tells_contents_nothing(tmp_path: Path, data: Path, tiny_rzen: Path):
    first_losses = {}
    for stage in (stage1, stage2):
        folder = tmp_path / stage.__name__
        folder.mkdir()
        config = configured(folder, data, tiny_rzen, **{"optimizer.steps": 1})
        assert stage.main([str(config)]) == 0
        first_losses[stage.__name__] = losses(folder)[0]
    assert len(set(first_losses.values())) == 2


def test_what_stands_in_the_way_is_told_in_a_sentence(
    tmp_path: Path, data: Path, tiny_rzen: Path, capsys: pytest.CaptureFixture[str]
):
    config = str(configured(tmp_path, data, tiny_rzen, **{"optimizer.steps": 2}))
    assert stage2.main([config, "--resume"]) == 2
    assert "no checkpoint" in capsys.readouterr().err
    assert stage2.main([config]) == 0
    assert stage2.main([config]) == 2
    assert "exists already" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out")
    assert stage2.main([str(configured(tmp_path, data, tmp_path / "nowhere"))]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_learning_lowers_the_loss(tmp_path: Path, tiny_rzen: Path):
    words = ["sun", "rain", "tree", "house", "river", "stone", "bread", "night"]
    rows = [{"query": f"{word} {word}", "positive": f"of {word}"} for word in words]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    changes = {
        "model.method": '"full"',
        "optimizer.learning_rate": 2e-3,
        "optimizer.epochs": 20,
        "loss.temperature": 0.1,
        "loss.alpha": 0.0,
        "batches.size": 8,
        "checkpoint_every": 100,
    }
    train(Run.read(configured(tmp_path, tmp_path, tiny_rzen, **changes)), instructions=True)
    found = losses(tmp_path)
    assert np.mean(found[-3:]) < 0.5 * np.mean(found[:3])


@pytest.mark.parametrize("chunk_tokens", [2, 100])
def test_step_takes_any_loss(chunk_tokens: int):
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 2)

        def forward(self, rows: Sequence[Tensor]) -> Tensor:
            return functional.normalize(self.layer(torch.stack(list(rows))), dim=1)

    def distance(batch: BatchEmbeddings) -> Loss:
        assert batch.tasks == ("one", "two")
        assert (batch.offset, len(batch.negatives)) == (0, 0)
        assert torch.equal(batch.all_queries(), batch.queries)
        cosines = (batch.queries * batch.positives).sum(1)
        return Loss(1 - cosines.mean(), torch.zeros(()))

    encoder = Encoder()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.5)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    run = SimpleNamespace(
        batches=SimpleNamespace(chunk_tokens=chunk_tokens),
        optimizer=SimpleNamespace(largest_gradient=1.0),
    )
    step = Step(encoder, distance, list(encoder.parameters()), run, optimizer, schedule)
    queries, positives = torch.eye(2).unbind(), torch.eye(2).flip(0).unbind()
    batch = PreparedBatch(None, ("one", "two"), queries, positives, ())
    losses = [step.take(batch).loss for _ in range(20)]
    assert losses[-1] < 0.1 * losses[0]
