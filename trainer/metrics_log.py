"""Log training metrics: a CSV file, TensorBoard, and a progress bar."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from tqdm import tqdm

from trainer.output import atomic_file

METRICS_FILE = "metrics.csv"
_STEP = "step"


class MetricsLog:
    """Writes metrics by step.

    Guarantees: each step is in the file when `write` returns; a run that resumes after step n
    first drops the rows of later steps, so its curve is that of an uninterrupted run. The columns
    are those of the first step.

    Args:
        directory: Where `metrics.csv` and TensorBoard's files go.
        resume_after: The last step to keep, 0 for a new run.
        total: Steps of the whole run, for the remaining time.
        shown: Whether to show a progress bar on standard error, if that is a terminal.
    """

    def __init__(
        self, directory: Path, *, resume_after: int = 0, total: int, shown: bool = False
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / METRICS_FILE
        kept = [row for row in _rows(path) if int(row[_STEP]) <= resume_after]
        self._file = _rewritten(path, kept)
        self._writer = csv.DictWriter(self._file, list(kept[0])) if kept else None
        self._board = _board(directory, resume_after + 1)
        self._bar = tqdm(
            total=total,
            initial=resume_after,
            unit=" steps",
            dynamic_ncols=True,
            disable=None if shown else True,
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the metrics of a step, which must be later than those before."""
        row: dict[str, Any] = {_STEP: step} | {
            name: f"{value:.9g}" for name, value in values.items()
        }
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, list(row))
            self._writer.writeheader()
        self._writer.writerow(row)
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        first = {name: f"{value:.3g}" for name, value in list(values.items())[:4]}
        self._bar.set_postfix(first, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()
        self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _rewritten(path: Path, rows: list[dict[str, Any]]) -> TextIO:
    """Replace the file by one with these rows, atomically; return it, open for more."""
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path.open("a", newline="", encoding="utf-8")


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read what an earlier run wrote; drop a last line that was cut off."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    return [row for row in found if None not in row.values() and (row.get(_STEP) or "").isdecimal()]


def _board(directory: Path, first: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(directory / "tensorboard"), purge_step=first)
