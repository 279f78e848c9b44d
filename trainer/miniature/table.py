"""What the ablation found, as a table and a plot: means over seeds, and differences within one."""

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.miniature import curves, plan

GROUPS: Mapping[str, str] = {"find": "find", "name": "name", "sort": "sort"}
"""Beginnings of the names of sets, and the columns that the means of these are in."""

_FIELDS = ("seed", "variant", "set", "metric", "queries", "candidates", "score")
_LINES = {
    "base": "untrained",
    "stage1": "stage 1, where all runs start",
    **{one.name: one.label for one in plan.VARIANTS},
    plan.SOUP: "soup of the last three",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: for each column its value by seed, from 0 to 1."""

    variant: str
    values: Mapping[str, tuple[float, ...]]


def write(out: Path, seeds: int) -> str:
    """Writes `ablation.csv`, `ablation.md`, `ablation.png` and `curves.png`; returns the table.

    Args:
        out: Where the ablation was made; its scores are there.
        seeds: How many.
    """
    rows = read(out / "scores", seeds)
    with (out / "ablation.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    lines = summed(rows, seeds)
    text = table(lines)
    (out / "ablation.md").write_text(text, encoding="utf-8")
    _plot(out / "ablation.png", lines)
    curves.plot(out, seeds, out / "curves.png")
    return text


def read(scores: Path, seeds: int) -> list[dict[str, object]]:
    """The score of each set, by seed and variant."""
    rows: list[dict[str, object]] = []
    for seed in range(seeds):
        for variant in _LINES:
            for path in sorted((scores / f"seed-{seed}-{variant}").glob("*_score.json")):
                said = json.loads(path.read_text(encoding="utf-8"))
                about = (said["dataset"], said["metric"], said["num_pred"], said["candidates"])
                values = (seed, variant, *about, said["score"])
                rows.append(dict(zip(_FIELDS, values, strict=True)))
    return rows


def summed(rows: Sequence[Mapping[str, object]], seeds: int) -> list[Line]:
    """Means over the sets of each column, and of the columns, by variant and seed."""
    found: dict[tuple[object, object, str], list[float]] = {}
    for row in rows:
        column = GROUPS[str(row["set"]).partition("-")[0]]
        key = (row["variant"], row["seed"], column)
        found.setdefault(key, []).append(float(str(row["score"])))
    lines = []
    for variant in _LINES:
        values = {
            column: tuple(statistics.fmean(found[variant, seed, column]) for seed in range(seeds))
            for column in GROUPS.values()
        }
        every = tuple(statistics.fmean(of_seed) for of_seed in zip(*values.values(), strict=True))
        lines.append(Line(variant, {**values, "mean": every}))
    return lines


def table(lines: Sequence[Line]) -> str:
    """Markdown: mean ± standard deviation over seeds, in points of 100.

    The last column is the difference of the mean to the baseline of the same seed: seeds differ
    more among themselves than ingredients do.
    """
    columns = [*GROUPS.values(), "mean"]
    baseline = next(one for one in lines if one.variant == plan.BASELINE.name)
    head = ["run", *columns, "mean − baseline, by seed"]
    shown = [head, ["---", *["---:"] * (len(head) - 1)]]
    for line in lines:
        differences = [
            100 * (own - base)
            for own, base in zip(line.values["mean"], baseline.values["mean"], strict=True)
        ]
        against = "" if line is baseline else _spread(differences, signed=True)
        values = [_spread([100 * one for one in line.values[column]]) for column in columns]
        shown.append([_LINES[line.variant], *values, against])
    return "\n".join(f"| {' | '.join(line)} |" for line in shown) + "\n"


def _spread(values: Sequence[float], *, signed: bool = False) -> str:
    mean = f"{statistics.fmean(values):+.1f}" if signed else f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _plot(path: Path, lines: Sequence[Line]) -> None:
    """For each run of stage 2 and each seed, the difference to that seed's baseline."""
    from matplotlib.figure import Figure

    baseline = next(one for one in lines if one.variant == plan.BASELINE.name)
    kept = [one for one in lines if one.variant not in ("base", "stage1", plan.BASELINE.name)]
    columns = [*GROUPS.values(), "mean"]
    figure = Figure(figsize=(10, 1.2 + 0.35 * len(kept)), layout="constrained")
    for place, (column, axes) in enumerate(
        zip(columns, figure.subplots(1, len(columns), sharey=True), strict=True)
    ):
        for row, line in enumerate(kept):
            pairs = zip(line.values[column], baseline.values[column], strict=True)
            differences = [100 * (own - base) for own, base in pairs]
            axes.plot(differences, [row] * len(differences), "o", color="C0", alpha=0.5)
            axes.plot(statistics.fmean(differences), row, "|", color="C3", ms=16, mew=2.5)
        axes.axvline(0, color="0.4", linewidth=1)
        axes.set_title(column)
        axes.set_xlabel("points above the baseline")
        if not place:
            axes.set_yticks(range(len(kept)), [_LINES[one.variant] for one in kept])
            axes.invert_yaxis()
    figure.savefig(path, dpi=120)
