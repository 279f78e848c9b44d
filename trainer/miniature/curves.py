"""How the runs of the ablation went: losses, temperatures and masked negatives, as a plot."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.miniature import plan

_SMOOTHED = 15  # steps, since neighbouring batches are of different sets
_TASKS = ("image_retrieval", "image_qa", "image_classification")


def plot(out: Path, seeds: int, path: Path) -> None:
    """Plots the loss of stage 1, the temperatures that were learned, and what the mask took.

    Args:
        out: Where the ablation was made.
        seeds: How many.
        path: Of the PNG.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    loss, temperatures, masked = figure.subplots(1, 3)
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        steps, values = _column(folder / "stage1", "loss")
        loss.plot(steps, _smooth(values), label=f"seed {seed}")
        for place, task in enumerate(_TASKS):
            steps, values = _column(folder / "temperatures", f"tau/{task}")
            label = task.replace("_", " ") if not seed else None
            temperatures.plot(steps, values, color=f"C{place}", label=label)
        steps, values = _column(folder / "mask", "masked")
        masked.plot(steps, 100 * _smooth(values), label=f"seed {seed}")
    loss.axhline(np.log(plan.BATCH), color="0.6", linestyle="--", label="by chance")
    loss.set(title="stage 1: loss", xlabel="step")
    temperatures.set(title="+ temperature per task: τ", xlabel="step of stage 2")
    masked.set(title="+ mask: negatives left out, %", xlabel="step of stage 2", ylim=(0, 100))
    for axes in (loss, temperatures, masked):
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _column(run: Path, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a run's metric."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]


def _smooth(values: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """The mean of each value and of those up to some steps before it."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - _SMOOTHED, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
