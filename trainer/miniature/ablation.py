"""The paper's ablation in miniature: what each ingredient of the recipe does, measured.

`python -m trainer.miniature.ablation DIR` trains a Qwen2-VL of two million parameters from nothing,
once for each ingredient and seed, on real pictures with words from Debian packages, mixes a soup,
measures all on held-out pictures, and writes the table and plots of it. What is done is not done
again: the same command goes on after a stop.

    apt-get install openclipart-svg openclipart-png tuxpaint-stamps-default
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.data.ledger import Unreadable
from trainer.miniature import plan
from trainer.miniature.jobs import Job, JobFailed, run
from trainer.output import whole_folder

_OFTEN = 2000  # prompts are in every sequence: so often that each of their words is one token


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
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
        from trainer.miniature.table import write

        print(write(out, given.seeds), end="")
    except (Unreadable, JobFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


def prepare(out: Path, seeds: int) -> None:
    """Writes what runs start from, where it is not there: sets, untrained models, configurations.

    Raises:
        Unreadable: a package is not installed; the message says what to install.
    """
    words = out / "words.txt"
    if not (out / "data").exists():
        from trainer.miniature import pictures

        print("preparing pictures, half a minute", file=sys.stderr)
        with whole_folder(out / "data") as folder:
            texts = pictures.write(folder)
            told = [
                *plan.PROMPTS,
                plan.SETTINGS.system,
                *pictures.INSTRUCTIONS,
                "user",
                "assistant",
            ]
            lines = [*texts, *(one.strip() for one in told * _OFTEN)]
            words.write_text("\n".join(lines), encoding="utf-8")
    for seed in range(seeds):
        folder = out / f"seed-{seed}"
        if not (folder / "base").exists():
            from trainer.untrained import build

            with whole_folder(folder / "base") as base:
                texts = words.read_text(encoding="utf-8").splitlines()
                build(base, plan.SHAPE, texts=texts, seed=seed)
                plan.SETTINGS.save(base)
        configs = {"stage1": plan.stage1(seed, out / "data")}
        configs |= {one.name: plan.stage2(seed, out / "data", one) for one in plan.VARIANTS}
        for name, config in configs.items():
            (folder / f"{name}.toml").write_text(config, encoding="utf-8")


def planned(out: Path, seeds: int) -> list[Job]:
    """All that is to be done: for each seed stage 1, the runs of stage 2, the soup, the scores.

    What the other runs start from comes first.
    """
    folders = [out / f"seed-{seed}" for seed in range(seeds)]
    jobs = [_stage(1, folder / "stage1") for folder in folders]
    for folder in folders:
        for variant in plan.VARIANTS:
            jobs += [
                _stage(2, folder / variant.name, _name(folder / "stage1")),
                _measured(out, folder / variant.name, folder / variant.name / "model"),
            ]
        jobs += [
            _soup(folder),
            _measured(out, folder / plan.SOUP, folder / plan.SOUP),
            _measured(out, folder / "stage1", folder / "stage1" / "model"),
            _measured(out, folder / "base", folder / "base"),
        ]
    return jobs


def _stage(number: int, run: Path, *needs: str) -> Job:
    config = run.with_suffix(".toml")

    def command() -> list[str]:
        resumes = any((run / "restarts").glob("step-*"))
        if not resumes:
            shutil.rmtree(run, ignore_errors=True)
        return ["-m", f"trainer.stage{number}", str(config), *["--resume"] * resumes]

    return Job(_name(run), command, run / "model", needs)


def _soup(folder: Path) -> Job:
    mixes = [folder / one.name for one in plan.MIXES]
    out = folder / plan.SOUP
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.miniature.ablation",
        description="Measure what each ingredient of the recipe does, in miniature.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--seeds", type=_positive, default=3, metavar="N", help="default: 3")
    parser.add_argument(
        "--workers",
        type=_positive,
        default=min(2, os.cpu_count() or 1),
        metavar="N",
        help="runs at a time (default: 2)",
    )
    parser.add_argument("--dry-run", action="store_true", help="only list what is to be done")
    return parser


def _positive(text: str) -> int:
    """A number from 1 on, of a command line."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return count


if __name__ == "__main__":
    sys.exit(main())
