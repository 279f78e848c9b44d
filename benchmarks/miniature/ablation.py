"""The paper's ablation in miniature: what each ingredient of the recipe does, measured.

`python -m benchmarks.miniature.ablation DIR` trains a Qwen2-VL of two million parameters from
scratch, once for each ingredient and seed, on real pictures with words from Debian packages, mixes
a soup, measures all on held-out pictures, and writes the table and plots of it. Finished jobs are
kept: the same command continues after a stop.

    apt-get install openclipart-svg openclipart-png tuxpaint-stamps-default
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np

from benchmarks.miniature import sets
from trainer.cli import positive_int
from trainer.data.examples import Unreadable

_LINES_OF_FAILURE = 12  # of a command that failed, the last ones
_SMOOTHED_STEPS = 15  # since neighbouring batches are of different sets
_TASKS = ("image_retrieval", "image_qa", "image_classification")
GROUPS = ("find", "name", "sort")
"""Prefixes of the names of sets, and columns of their means."""
_FIELDS = ("seed", "variant", "set", "metric", "queries", "candidates", "score")
_LINES = {
    "base": "untrained",
    "stage1": "stage 1, where all runs start",
    **{one.name: one.label for one in sets.VARIANTS},
    sets.SOUP: "soup of the last three",
}
_PROMPT_REPETITIONS = 2000  # in the tokenizer's texts: each word of a prompt becomes one token


@dataclass(frozen=True, slots=True)
class Job:
    """A command.

    Attributes:
        name: For messages and its log file.
        arguments: Returns those of `python` when it starts: `--resume` depends on existing files.
        done: A file or folder that exists when the job is done.
        needs: Names of jobs that must be done before.
    """

    name: str
    arguments: Callable[[], Sequence[str]]
    done: Path
    needs: tuple[str, ...] = ()


class JobFailed(Exception):
    """A command failed; the message has its last lines."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parser().parse_args(arguments)
    out: Path = given.directory
    try:
        jobs = planned(out, given.seeds)
        if given.dry_run:
            for job in jobs:
                print(f"{'done ' if job.done.exists() else 'to do'}  {job.name}")
            return 0
        prepare(out, given.seeds)
        run(jobs, out / "logs", given.workers)
        print(write(out, given.seeds), end="")
    except (Unreadable, JobFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command to continue", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.miniature.ablation",
        description="Measure what each ingredient of the recipe does, in miniature.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="default: 3")
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=min(2, os.cpu_count() or 1),
        metavar="N",
        help="runs at a time (default: 2)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the jobs")
    return parser


def prepare(out: Path, seeds: int) -> None:
    """Write missing inputs of runs: sets, untrained models, configurations.

    Raises:
        Unreadable: a package is not installed; the message says what to install.
    """
    from trainer.output import atomic_folder

    words = out / "words.txt"
    if not (out / "data").exists():
        print("preparing pictures, half a minute", file=sys.stderr)
        with atomic_folder(out / "data") as folder:
            texts = sets.write(folder)
            prompts = [*sets.PROMPTS, sets.SETTINGS.system, *sets.INSTRUCTIONS, "user", "assistant"]
            lines = [*texts, *(one.strip() for one in prompts * _PROMPT_REPETITIONS)]
            words.write_text("\n".join(lines), encoding="utf-8")
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        if not (folder / "base").exists():
            from benchmarks.untrained import build

            with atomic_folder(folder / "base") as base:
                texts = words.read_text(encoding="utf-8").splitlines()
                build(base, sets.SHAPE, texts=texts, seed=seed)
                sets.SETTINGS.save(base)
        configs = {"stage1": sets.stage1(seed, out / "data")}
        configs |= {one.name: sets.stage2(seed, out / "data", one) for one in sets.VARIANTS}
        for name, config in configs.items():
            (folder / f"{name}.toml").write_text(config, encoding="utf-8")


def planned(out: Path, seeds: int) -> list[Job]:
    """List all jobs: for each seed stage 1, the runs of stage 2, the soup, the scores.

    The runs that others start from come first.
    """
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    jobs = [_stage(1, folder / "stage1") for folder in folders]
    for folder in folders:
        for variant in sets.VARIANTS:
            jobs += [
                _stage(2, folder / variant.name, _name(folder / "stage1")),
                _measured(out, folder / variant.name, folder / variant.name / "model"),
            ]
        jobs += [
            _soup(folder),
            _measured(out, folder / sets.SOUP, folder / sets.SOUP),
            _measured(out, folder / "stage1", folder / "stage1" / "model"),
            _measured(out, folder / "base", folder / "base"),
        ]
    return jobs


def _stage(number: int, run: Path, *needs: str) -> Job:
    config = run.with_suffix(".toml")

    def command() -> list[str]:
        resumes = any((run / "checkpoints").glob("step-*"))
        if not resumes:
            shutil.rmtree(run, ignore_errors=True)
        return ["-m", f"trainer.stage{number}", str(config), *["--resume"] * resumes]

    return Job(_name(run), command, run / "model", needs)


def _soup(folder: Path) -> Job:
    mixes = [folder / one.name for one in sets.MIXES]
    out = folder / sets.SOUP
    adapters = [str(one / "adapter") for one in mixes]
    command = ["-m", "trainer.soup", *adapters, "--out", str(out)]
    return Job(_name(out), lambda: command, out, tuple(_name(one) for one in mixes))


def _measured(out: Path, run: Path, model: Path) -> Job:
    scores = out / "scores" / _name(run)
    command = ["-m", "trainer.evaluate", "--spec", f"rzen:{model}", "--device", "cpu"]
    command += ["--data", str(out / "data" / "held-out"), "--out", str(scores)]
    needs = () if run.name == "base" else (_name(run),)
    return Job(f"{_name(run)}-measured", lambda: command, scores / "scores.md", needs)


def _name(run: Path) -> str:
    return f"{run.parent.name}-{run.name}"


def run(jobs: Sequence[Job], logs: Path, workers: int) -> None:
    """Run unfinished jobs, in order as far as dependencies and workers allow.

    Args:
        jobs: Each after those it needs.
        logs: A folder for the output of the commands.
        workers: How many run at a time; they share the CPUs evenly.

    Raises:
        JobFailed: a job failed; running ones are stopped.
    """
    logs.mkdir(parents=True, exist_ok=True)
    done = {job.name for job in jobs if job.done.exists()}
    waiting = [job for job in jobs if job.name not in done]
    started, count = monotonic(), len(waiting)
    _say(f"{len(done)} of {len(jobs)} steps are done")
    running: dict[Future[float], Job] = {}
    stopping = threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                for job in [one for one in waiting if done.issuperset(one.needs)]:
                    if len(running) == workers:
                        break
                    waiting.remove(job)
                    running[pool.submit(_ran, job, logs, workers, stopping)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, seconds = running.pop(future), future.result()
                    done.add(job.name)
                    finished = count - len(waiting) - len(running)
                    left = (monotonic() - started) / finished * (count - finished)
                    _say(
                        f"{len(done)} of {len(jobs)}: {job.name} took {seconds / 60:.1f} minutes; "
                        f"about {left / 60:.0f} minutes left"
                    )
        finally:
            stopping.set()


def _ran(job: Job, logs: Path, workers: int, stopping: threading.Event) -> float:
    """Run one job and return the seconds it took."""
    started = monotonic()
    path = logs / f"{job.name}.txt"
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *job.arguments()],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        while process.poll() is None:
            if stopping.wait(0.2):
                process.terminate()
                process.wait()
    if process.returncode and not stopping.is_set():
        last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_OF_FAILURE:]
        raise JobFailed("\n".join([f"{job.name} failed, see {path}:", *last]))
    return monotonic() - started


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: for each column its value by seed, from 0 to 1."""

    variant: str
    values: Mapping[str, tuple[float, ...]]


def write(out: Path, seeds: int) -> str:
    """Write `ablation.csv`, `ablation.md`, `ablation.png`, `curves.png`; return the table.

    Args:
        out: Folder of the ablation, with its scores.
        seeds: Number of seeds.
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
    plot(out, seeds, out / "curves.png")
    return text


def read(scores: Path, seeds: int) -> list[dict[str, object]]:
    """Return the score of each set, by seed and variant."""
    rows: list[dict[str, object]] = []
    for seed in range(seeds):
        for variant in _LINES:
            for path in sorted((scores / f"seed-{seed}-{variant}").glob("*_score.json")):
                score = json.loads(path.read_text(encoding="utf-8"))
                about = (score["dataset"], score["metric"], score["num_pred"], score["candidates"])
                values = (seed, variant, *about, score["score"])
                rows.append(dict(zip(_FIELDS, values, strict=True)))
    return rows


def summed(rows: Sequence[Mapping[str, object]], seeds: int) -> list[Line]:
    """Return means over the sets of each column, by variant and seed."""
    found: dict[tuple[object, object, str], list[float]] = {}
    for row in rows:
        column = str(row["set"]).partition("-")[0]
        key = (row["variant"], row["seed"], column)
        found.setdefault(key, []).append(float(str(row["score"])))
    lines = []
    for variant in _LINES:
        values = {
            column: tuple(statistics.fmean(found[variant, seed, column]) for seed in range(seeds))
            for column in GROUPS
        }
        every = tuple(statistics.fmean(of_seed) for of_seed in zip(*values.values(), strict=True))
        lines.append(Line(variant, {**values, "mean": every}))
    return lines


def table(lines: Sequence[Line]) -> str:
    """Format Markdown: mean ± standard deviation over seeds, in points of 100.

    The last column is the difference of the mean to the baseline of the same seed: seeds differ
    more among themselves than ingredients do.
    """
    columns = [*GROUPS, "mean"]
    baseline = next(one for one in lines if one.variant == sets.BASELINE.name)
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
    """Plot, for each run of stage 2 and each seed, the difference to that seed's baseline."""
    from matplotlib.figure import Figure

    baseline = next(one for one in lines if one.variant == sets.BASELINE.name)
    kept = [one for one in lines if one.variant not in ("base", "stage1", sets.BASELINE.name)]
    columns = [*GROUPS, "mean"]
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


def plot(out: Path, seeds: int, path: Path) -> None:
    """Plot stage 1's loss, the learned temperatures, and the share masked.

    Args:
        out: Folder of the ablation.
        seeds: Number of seeds.
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
    loss.axhline(np.log(sets.BATCH), color="0.6", linestyle="--", label="chance")
    loss.set(title="stage 1: loss", xlabel="step")
    temperatures.set(title="+ temperature per task: τ", xlabel="step of stage 2")
    masked.set(title="+ mask: masked negatives, %", xlabel="step of stage 2", ylim=(0, 100))
    for axes in (loss, temperatures, masked):
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _column(run: Path, name: str) -> tuple[list[int], list[float]]:
    """Return steps and values of a run's metric."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [int(row["step"]) for row in rows], [float(row[name]) for row in rows]


def _smooth(values: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return moving averages over the last few steps."""
    sums = np.cumsum([0.0, *values])
    ends = np.arange(1, len(sums))
    starts = np.maximum(ends - _SMOOTHED_STEPS, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))


if __name__ == "__main__":
    sys.exit(main())
