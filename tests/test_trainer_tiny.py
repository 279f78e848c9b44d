"""The shipped tiny runs, unchanged and whole: both stages learn what training has not shown."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedder import open_embedder

ROOT = Path(__file__).parent.parent

# Means of three seeds: 0.112, 0.117, 0.125 untrained; 0.496, 0.550, 0.529 after stage 1; 0.554,
# 0.588, 0.567 after stage 2. Of stage 2's tasks 0.472, 0.479, 0.486 before and 0.563, 0.576, 0.576.
# On another CPU, which rounds sums otherwise, seed 0 had 0.521, 0.529, its tasks 0.521, 0.549:
# of stage 2 only the direction holds everywhere, so its loss is tested, too.
STAGE_1_GAINS = 0.25
TASKS = ("colour", "count", "shape")


@dataclass(frozen=True)
class Runs:
    """The folder, and the score of each set: untrained, after stage 1, after stage 2."""

    folder: Path
    scores: tuple[dict[str, float], ...]

    def mean(self, stage: int) -> float:
        return sum(self.scores[stage].values()) / len(self.scores[stage])


# All commands in one process: importing torch, transformers and peft takes seconds each time.
COMMANDS = """
import sys
from pathlib import Path
from trainer import evaluate, stage1, stage2
from trainer.miniature import shapes

folder = Path(sys.argv[1])
assert shapes.main([str(folder)]) == 0
for name, stage in {"untrained": None, "stage1": stage1, "stage2": stage2}.items():
    checkpoint = folder / name
    if stage is not None:
        assert stage.main([str(folder / f"{name}-tiny.toml")]) == 0
        checkpoint /= "model"
    out = folder / "scores" / name
    sets = str(folder / "held-out")
    assert evaluate.main(["--spec", f"rzen:{checkpoint}", "--data", sets, "--out", str(out)]) == 0
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    # One thread: on shared cores, threads would wait for each other most of the time.
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    scores = []
    for model in ("untrained", "stage1", "stage2"):
        files = (folder / "scores" / model).glob("*_score.json")
        stated = [json.loads(path.read_text()) for path in files]
        scores.append({one["dataset"]: one["score"] for one in stated})
    return Runs(folder, tuple(scores))


def test_stage_1_learns_from_nothing(runs: Runs):
    assert runs.mean(1) > runs.mean(0) + STAGE_1_GAINS


def test_stage_2_learns_its_tasks(runs: Runs):
    before, after = (sum(scores[task] for task in TASKS) / 3 for scores in runs.scores[1:])
    assert after > before
    assert runs.mean(2) > runs.mean(1)


# Stage 1 goes from 3.3 to 1.0, stage 2 from 9.1 to 4.3 (40 steps each).
@pytest.mark.parametrize(("stage", "most"), [("stage1", 0.5), ("stage2", 0.65)])
def test_the_loss_falls(runs: Runs, stage: str, most: float):
    with (runs.folder / stage / "metrics.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert sum(losses[-40:]) < most * sum(losses[:40])


def test_what_comes_out_opens(runs: Runs):
    with open_embedder(f"rzen:{runs.folder / 'stage2' / 'model'}") as trained:
        assert trained.info.dim == 128
