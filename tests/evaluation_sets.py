"""Small evaluation sets on disk, for tests."""

import json
from pathlib import Path

from PIL import Image

from embedder.toy import COLOURS
from trainer.evaluate import find_sets
from trainer.evaluation.sets import EvaluationSet


def picture(path: Path, colour: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), COLOURS[colour]).save(path, format="png")


def lines(path: Path, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def colours(folder: Path, names: tuple[str, ...] = ("red", "green", "blue")) -> Path:
    """A set in three files: the name of a colour looks for its picture."""
    for name in names:
        picture(folder / f"{name}.png", name)
    lines(folder / "queries.jsonl", [{"id": f"q-{n}", "text": n} for n in names])
    lines(folder / "candidates.jsonl", [{"id": n, "image": f"{n}.png"} for n in names])
    lines(folder / "qrels.jsonl", [{"query": f"q-{n}", "candidate": n} for n in names])
    return folder


def change(path: Path, number: int, row: object) -> None:
    rows = path.read_text("utf-8").splitlines()
    rows[number] = row if isinstance(row, str) else json.dumps(row)
    lines(path, rows)


def only(folder: Path, cache: Path, **options: object) -> EvaluationSet:
    (found,) = find_sets([folder], options.get("images"), cache, options.get("limit"))
    return found
