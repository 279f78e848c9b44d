"""Results and scores on disk, the table and the plot.

    NAME_pred.jsonl    a line for each query: what was found, what should have been, its metrics
    NAME_score.json    the means; written last, so a set with this file is done
    scores.md          all sets, the mean by category and over all sets
    scores.png         the same as bars

The names are those of MMEB's evaluation.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedder.interface import EmbedderInfo
from trainer.evaluation.ranking import SetResult
from trainer.evaluation.sets import EvaluationSet
from trainer.metrics import CATEGORIES, Score, Summary, summary

_FORMAT = 1
_NAMED = 20  # Broken rows that a score file names; it counts all.
_COLOURS = {"image": "#4269d0", "video": "#efb118", "document": "#3ca951"}


class OtherModel(Exception):
    """The folder has scores of another model; the message says what to do."""


def scored(out: Path, given: EvaluationSet, info: EmbedderInfo) -> dict[str, Any] | None:
    """What a set's score file says, or None where it has to be evaluated (again).

    A set is evaluated again if its files or the number of queries are others than before.

    Raises:
        OtherModel: the scores are those of another model.
    """
    path = out / f"{given.name}_score.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(known, dict) or known.get("format") != _FORMAT:
        return None
    if known["model"]["fingerprint"] != info.fingerprint:
        raise OtherModel(
            f"{path} is the score of another model ({known['model']['name']}): "
            f"name another folder with --out"
        )
    same = (known["digest"], known["asked"]) == (given.digest, len(given.queries))
    return known if same else None


def write_result(out: Path, result: SetResult, info: EmbedderInfo) -> dict[str, Any]:
    """Writes what each query found, then the score file; returns what that says."""
    name = result.set.name
    lines = (json.dumps(one.stated(), ensure_ascii=False) for one in result.queries)
    _write(out / f"{name}_pred.jsonl", "\n".join(lines) + "\n")
    stated = {
        "format": _FORMAT,
        "dataset": name,
        "category": result.set.category,
        "metric": result.set.metric,
        "score": result.score.value,
        **result.metrics,
        "num_pred": len(result.queries),
        "asked": len(result.set.queries),
        "candidates": len(result.set.candidates),
        "broken": len(result.broken),
        "broken_rows": [f"{one.where}: {one.reason}" for one in result.broken[:_NAMED]],
        "digest": result.set.digest,
        "model": {"name": info.name, "fingerprint": info.fingerprint},
    }
    _write(out / f"{name}_score.json", json.dumps(stated, indent=1, ensure_ascii=False) + "\n")
    return stated


def write_report(out: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Writes the table and the plot of what score files say; returns the table."""
    text = table(rows)
    _write(out / "scores.md", text)
    _plot(out / "scores.png", rows)
    return text


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: a line for each set, then the mean of each category and of all sets."""
    shown = ("hit@1", "hit@5", "hit@10", "ndcg_linear@5", "recall@10", "mrr")
    head = ["dataset", "category", "queries", "broken", "metric", "score", *shown]
    lines = [head, ["---"] * 2 + ["---:"] * 2 + ["---"] + ["---:"] * (1 + len(shown))]
    for row in sorted(rows, key=lambda one: (CATEGORIES.index(one["category"]), one["dataset"])):
        counts = [f"{row['num_pred']:,}", f"{row['broken']:,}"]
        name = row["dataset"].replace("|", "\\|")
        measures = [f"{100 * row[one]:.1f}" for one in shown]
        score = f"{100 * row['score']:.1f}"
        lines.append([name, row["category"], *counts, row["metric"], score, *measures])
    means = _summary(rows)
    for category, value in means.categories.items():
        sets = sum(row["category"] == category for row in rows)
        lines.append([f"**mean of {sets}**", category, "", "", "", f"**{100 * value:.1f}**"])
    lines.append([f"**mean of {len(rows)}**", "all", "", "", "", f"**{100 * means.overall:.1f}**"])
    full = [[*line, *[""] * (len(head) - len(line))] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in full) + "\n"


def _summary(rows: Sequence[dict[str, Any]]) -> Summary:
    return summary(Score(row["dataset"], row["category"], row["score"]) for row in rows)


def _plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Bars by dataset in the colours of their categories, and a line at the mean over all."""
    # Not pyplot, which keeps every figure and picks a window system.
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    ordered = sorted(
        rows, key=lambda one: (CATEGORIES.index(one["category"]), one["score"]), reverse=True
    )
    figure = Figure(figsize=(8, 1.5 + 0.3 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    values = [100 * row["score"] for row in ordered]
    labels = [f"{row['dataset']} ({row['metric']})" for row in ordered]
    places = range(len(ordered))
    bars = axes.barh(places, values, color=[_COLOURS[row["category"]] for row in ordered])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(places, labels, parse_math=False)  # A dollar sign in a name is one.
    overall = 100 * _summary(rows).overall
    axes.axvline(overall, color="0.3", linestyle="--", linewidth=1)
    axes.set_title(f"mean over {len(rows)} datasets: {overall:.1f}", fontsize=10)
    axes.set_xlim(0, 108)
    axes.set_xlabel("score × 100")
    present = [one for one in CATEGORIES if any(row["category"] == one for row in rows)]
    handles = [Patch(color=_COLOURS[one], label=one) for one in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    partial = path.with_name(f".{path.name}.partial")
    figure.savefig(partial, format="png", dpi=120)
    partial.replace(path)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
