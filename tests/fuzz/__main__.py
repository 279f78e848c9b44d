"""`python -m tests.fuzz`: search for inputs that break a property, guided by coverage."""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import TARGETS

MAX_INPUT_SECONDS = 20
MAX_MEGABYTES = 4096
MAX_INPUT_BYTES = 20_000
START_SECONDS = 120
MAX_OUTPUT_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of fuzzing a target.

    Attributes:
        runs: Number of inputs.
        broke: Whether a property broke.
        output: End of the fuzzer's output.
    """

    runs: int
    broke: bool
    output: str


def parser() -> argparse.ArgumentParser:
    """Return the command line parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz our own parsers, guided by coverage. "
        "Needs atheris: pip install '.[fuzz]'.",
    )
    parser.add_argument("target", nargs="*", help=f"{', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=300, help="total time (300)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="draw much the same inputs for the same seed; 0 draws others each time (0)",
    )
    parser.add_argument(
        "--corpus", metavar="DIR", type=Path, help="start from these inputs and add new ones"
    )
    parser.add_argument(
        "--found",
        metavar="DIR",
        type=Path,
        default=Path("var/fuzz"),
        help="folder for inputs that break a property",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 if a property broke, or 2."""
    given = parser().parse_args(arguments)
    if unknown := sorted(set(given.target) - set(TARGETS)):
        print(f"unknown target {', '.join(unknown)}: choose from {', '.join(TARGETS)}")
        return 2
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install '.[fuzz]'")
        return 2
    names = given.target or list(TARGETS)
    seconds = max(1, round(given.seconds / len(names)))
    runs, broken = 0, 0
    for name in names:
        outcome = run(name, seconds, given.corpus, given.found, given.seed)
        runs, broken = runs + outcome.runs, broken + outcome.broke
        ending = f"BROKE\n{outcome.output}" if outcome.broke else "held"
        print(f"{name:15} {outcome.runs:10,} inputs  {ending}", flush=True)
    print(f"{runs:,} inputs, {broken} of {len(names)} targets broke")
    return 1 if broken else 0


def run(name: str, seconds: int, corpus: Path | None, found: Path, seed: int) -> Outcome:
    """Fuzz a target in a separate process, which libFuzzer ends itself.

    Args:
        name: Name of the target.
        seconds: Time limit.
        corpus: Inputs to start from and to add to, in a folder for each target.
        found: Folder for inputs that break a property.
        seed: Seed of libFuzzer and of Python's hashes; 0 for a random one.
    """
    with tempfile.TemporaryDirectory(prefix="rzen-fuzz-") as temporary:
        kept = (corpus or Path(temporary)) / name
        for folder in (kept, found):
            folder.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={MAX_INPUT_SECONDS}",
            f"-rss_limit_mb={MAX_MEGABYTES}",
            f"-max_len={MAX_INPUT_BYTES}",
            f"-artifact_prefix={found.resolve()}/{name}-",
            f"-seed={seed}",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", name, *options, str(kept)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + START_SECONDS,
            env=os.environ | {"TMPDIR": temporary, "PYTHONHASHSEED": str(seed or "random")},
        )
    counts = re.findall(r"^#(\d+)\s", done.stdout, re.M)
    # Before the error, libFuzzer lists inputs with new coverage.
    error = done.stdout.rfind(" === Uncaught")
    output = done.stdout[error:] if error >= 0 else done.stdout[-MAX_OUTPUT_CHARACTERS:]
    broke = done.returncode != 0
    return Outcome(max(map(int, counts), default=0), broke, output[:MAX_OUTPUT_CHARACTERS])


if __name__ == "__main__":
    sys.exit(main())
