"""Evaluate an embedder on a set, and write results, table and plot.

    NAME_pred.jsonl    a line a query: its ranking, the right candidates, its metrics
    NAME_score.json    the means; written last, so a set with this file is complete
    scores.md          all sets, the mean by category and over all sets
    scores.png         the same as bars

The names are those of MMEB's evaluation.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from tqdm import tqdm

from embedder.content import Content, Modality, Role
from embedder.interface import Embedder, EmbedderInfo, EmbedError, Vectors
from embedder.media import Limits, MediaError
from trainer.evaluation.metrics import (
    CATEGORIES,
    all_metrics,
    means,
    ranked_grades,
)
from trainer.evaluation.sets import BadSet, Broken, Entry, EvaluationSet
from trainer.output import atomic_file

_CHUNK = 64  # Contents decoded and embedded together: bounds the pictures in memory.
_DECODERS = 4
_MAX_PREDICTIONS = 100  # of a query, in files
_FORMAT = 1
_MAX_BROKEN_LISTED = 20  # in a score file, which counts all
_COLOURS = {"image": "#4269d0", "video": "#efb118", "document": "#3ca951"}


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The ranking of one query.

    Attributes:
        query: Its id.
        prediction: Ids of the first candidates, best first (100 at most).
        cosines: Of those candidates with the query.
        labels: Grades of the relevant candidates, by id.
        metrics: By name.
    """

    query: str
    prediction: tuple[str, ...]
    cosines: tuple[float, ...]
    labels: Mapping[str, float]
    metrics: Mapping[str, float]

    def stated(self) -> dict[str, Any]:
        """Return the record under the names of MMEB's prediction files."""
        return {
            "query": self.query,
            "prediction": list(self.prediction),
            "cosines": [round(one, 6) for one in self.cosines],
            "label": list(self.labels),
            "rel_scores": list(self.labels.values()),
            **self.metrics,
        }


@dataclass(frozen=True, slots=True)
class SetResult:
    """The results of an embedder on a set.

    Attributes:
        set: The set.
        queries: One result for each query that could be embedded, in order.
        metrics: Their means.
        broken: Rows, queries and candidates that could not be used.
    """

    set: EvaluationSet
    queries: tuple[QueryResult, ...]
    metrics: Mapping[str, float]
    broken: tuple[Broken, ...]

    @property
    def score(self) -> float:
        """Return the set's main metric."""
        return self.metrics[self.set.metric]


def evaluate(embedder: Embedder, given: EvaluationSet, *, shown: bool = False) -> SetResult:
    """Rank a set's candidates for each of its queries.

    A query without an instruction gets the model's default for the modality of most candidates.
    Contents that cannot be decoded or embedded are listed in the result: a broken candidate is not
    ranked, and a query whose relevant candidates are all broken does not count.

    Args:
        embedder: Embeds queries as "query" and candidates as "document".
        given: The set.
        shown: Whether to show a progress bar on standard error, if that is a terminal.

    Raises:
        BadSet: no query is left.
    """
    targets = list(given.candidates.values())
    documents = _embedded(embedder, targets, "document", "candidates", shown)
    entries = [_with_instruction(one.entry, embedder, given.target) for one in given.queries]
    queries = _embedded(embedder, entries, "query", "queries", shown)
    broken = [*given.broken, *documents.broken, *queries.broken]
    results = []
    every = list(documents.rows)  # In the order of the vectors.
    for query in given.queries:
        if query.entry.id not in queries.rows:
            continue
        among, vectors = every, documents.vectors
        if query.candidates is not None:
            among = [name for name in query.candidates if name in documents.rows]
            vectors = documents.vectors[[documents.rows[name] for name in among]]
        if not any(name in documents.rows for name in query.grades):
            broken.append(Broken(f"query {query.entry.id}", "all relevant candidates are broken"))
            continue
        vector = queries.vectors[queries.rows[query.entry.id]]
        results.append(_result(query.entry.id, among, vectors @ vector, query.grades))
    if not results:
        raise BadSet(f"{given.name}: no query could be embedded; {broken[0]}")
    measures = means([one.metrics for one in results])
    return SetResult(given, tuple(results), measures, tuple(broken))


def _result(
    query: str, among: Sequence[str], cosines: Vectors, grades: Mapping[str, float]
) -> QueryResult:
    relevance = np.array([grades.get(name, 0.0) for name in among])
    # The order of `ranked_grades`: of equal cosines the less relevant first.
    order = np.lexsort((relevance, -cosines))[:_MAX_PREDICTIONS]
    return QueryResult(
        query,
        tuple(among[place] for place in order),
        tuple(float(cosines[place]) for place in order),
        grades,
        all_metrics(ranked_grades(cosines, relevance)),
    )


def _with_instruction(entry: Entry, embedder: Embedder, target: Modality) -> Entry:
    if entry.instruction is not None or not embedder.info.takes_instructions:
        return entry
    return replace(entry, instruction=embedder.info.instructions.get((entry.kind, target)))


@dataclass(frozen=True, slots=True)
class _Embedded:
    """Vectors of shape (n, dim), the row of each id, and what could not be embedded."""

    vectors: Vectors
    rows: Mapping[str, int]
    broken: Sequence[Broken]


def _embedded(
    embedder: Embedder, entries: Sequence[Entry], role: Role, what: str, shown: bool
) -> _Embedded:
    vectors: list[Vectors] = [np.empty((0, embedder.info.dim), dtype=np.float32)]
    rows: dict[str, int] = {}
    broken: list[Broken] = []
    hidden = None if shown else True  # With None only a terminal has a bar.
    options = {"unit": " contents", "dynamic_ncols": True, "leave": False, "disable": hidden}
    with tqdm(desc=what, total=len(entries), **options) as bar:
        for chunk in _decoded(entries, Limits(frame_side=embedder.info.frame_side)):
            good: list[tuple[str, Content]] = []
            for name, content in chunk:
                if isinstance(content, Content):
                    good.append((name, content))
                else:
                    broken.append(Broken(f"{what}: {name}", content))
            while good:
                try:
                    found = embedder.embed([content for _, content in good], role)
                except EmbedError as error:
                    name, _ = good.pop(error.position)
                    broken.append(Broken(f"{what}: {name}", error.reason))
                    continue
                rows.update((name, row) for row, (name, _) in enumerate(good, len(rows)))
                vectors.append(found)
                break
            bar.update(len(chunk))
    return _Embedded(np.concatenate(vectors), rows, broken)


def _decoded(entries: Iterable[Entry], limits: Limits) -> Iterator[list[tuple[str, Content | str]]]:
    """Yield chunks of ids with contents or errors; decode one chunk ahead."""

    def decode(entry: Entry) -> tuple[str, Content | str]:
        try:
            return entry.id, entry.side.content(limits, entry.instruction)
        except (MediaError, ValueError) as error:
            return entry.id, str(error)

    waiting = iter(entries)
    with ThreadPoolExecutor(_DECODERS, "evaluate-decode") as pool:
        ahead = pool.map(decode, islice(waiting, _CHUNK))
        while True:
            decoding, ahead = ahead, pool.map(decode, islice(waiting, _CHUNK))
            if not (chunk := list(decoding)):
                return
            yield chunk


class OtherModel(Exception):
    """The folder has scores of another model."""


def scored(out: Path, given: EvaluationSet, info: EmbedderInfo) -> dict[str, Any] | None:
    """Return a set's score record, or None where it must be evaluated (again).

    A set is evaluated again if its files or the number of queries changed.

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
            f"choose another folder with --out"
        )
    same = (known["digest"], known["asked"]) == (given.digest, len(given.queries))
    return known if same else None


def write_result(out: Path, result: SetResult, info: EmbedderInfo) -> dict[str, Any]:
    """Write the ranking of each query, then the score file; return its record."""
    name = result.set.name
    lines = (json.dumps(one.stated(), ensure_ascii=False) for one in result.queries)
    _write(out / f"{name}_pred.jsonl", "\n".join(lines) + "\n")
    stated = {
        "format": _FORMAT,
        "dataset": name,
        "category": result.set.category,
        "metric": result.set.metric,
        "score": result.score,
        **result.metrics,
        "num_pred": len(result.queries),
        "asked": len(result.set.queries),
        "candidates": len(result.set.candidates),
        "broken": len(result.broken),
        "broken_rows": [f"{one.where}: {one.reason}" for one in result.broken[:_MAX_BROKEN_LISTED]],
        "digest": result.set.digest,
        "model": {"name": info.name, "fingerprint": info.fingerprint},
    }
    _write(out / f"{name}_score.json", json.dumps(stated, indent=1, ensure_ascii=False) + "\n")
    return stated


def write_report(out: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Write the table and the plot of score records; return the table."""
    text = table(rows)
    _write(out / "scores.md", text)
    _plot(out / "scores.png", rows)
    return text


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Format a Markdown table: a line a set, then the means by category and over all sets."""
    shown = ("hit@1", "hit@5", "hit@10", "ndcg_linear@5", "recall@10", "mrr")
    head = ["dataset", "category", "queries", "broken", "metric", "score", *shown]
    lines = [head, ["---"] * 2 + ["---:"] * 2 + ["---"] + ["---:"] * (1 + len(shown))]
    for row in sorted(rows, key=lambda one: (CATEGORIES.index(one["category"]), one["dataset"])):
        counts = [f"{row['num_pred']:,}", f"{row['broken']:,}"]
        name = row["dataset"].replace("|", "\\|")
        measures = [f"{100 * row[one]:.1f}" for one in shown]
        score = f"{100 * row['score']:.1f}"
        lines.append([name, row["category"], *counts, row["metric"], score, *measures])
    groups = [(one, [row for row in rows if row["category"] == one]) for one in CATEGORIES]
    for category, group in [*groups, ("all", rows)]:
        if group:
            mean = f"**{100 * _mean_score(group):.1f}**"
            lines.append([f"**mean of {len(group)}**", category, "", "", "", mean])
    full = [[*line, *[""] * (len(head) - len(line))] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in full) + "\n"


def _mean_score(rows: Sequence[dict[str, Any]]) -> float:
    """Return the mean over datasets, whatever their category and their number of queries."""
    return fmean(row["score"] for row in rows)


def _plot(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Plot bars by dataset in their category's colour, and a line at the overall mean."""
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
    overall = 100 * _mean_score(rows)
    axes.axvline(overall, color="0.3", linestyle="--", linewidth=1)
    axes.set_title(f"mean over {len(rows)} datasets: {overall:.1f}", fontsize=10)
    axes.set_xlim(0, 108)
    axes.set_xlabel("score × 100")
    present = [one for one in CATEGORIES if any(row["category"] == one for row in rows)]
    handles = [Patch(color=_COLOURS[one], label=one) for one in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=120)


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
