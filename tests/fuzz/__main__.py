"""`python -m tests.fuzz`: looks for inputs that break a property, guided by coverage."""

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

_LONGEST_SECONDS = 20
_MOST_MEGABYTES = 4096
_MOST_BYTES = 20_000
_START_SECONDS = 120
_SHOWN = 4000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a target.

    Attributes:
        runs: Inputs that it was given.
        broke: Whether a property broke.
        said: The end of what it said.
    """

    runs: int
    broke: bool
    said: str


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Feeds our own parsers bytes that nobody chose, guided by the code they cover. "
        "Needs atheris: pip install '.[fuzz]'.",
    )
    parser.add_argument("target", nargs="*", help=f"{', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=float, default=300, help="in all (300)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="much the same inputs for the same seed; others each time for 0 (0)",
    )
    parser.add_argument(
        "--corpus", metavar="DIR", type=Path, help="start from what is here, and keep what is new"
    )
    parser.add_argument(
        "--found", metavar="DIR", type=Path, default=Path("var/fuzz"), help="where broken inputs go"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 if a property broke, or 2."""
    given = parser().parse_args(arguments)
    if unknown := sorted(set(given.target) - set(TARGETS)):
        print(f"there is no target {', '.join(unknown)}: choose from {', '.join(TARGETS)}")
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
        ending = f"BROKE\n{outcome.said}" if outcome.broke else "held"
        print(f"{name:15} {outcome.runs:10,} inputs  {ending}", flush=True)
    print(f"{runs:,} inputs, {broken} of {len(names)} targets broke")
    return 1 if broken else 0


def run(name: str, seconds: int, corpus: Path | None, found: Path, seed: int) -> Outcome:
    """A target in a process of its own, which libFuzzer ends as it likes.

    Args:
        name: Of the target.
        seconds: How long.
        corpus: Where to start from and what to add to, a folder for each target.
        found: Where an input goes that breaks a property.
        seed: Of what libFuzzer and Python's hashes draw; others each time if it is None.
    """
    with tempfile.TemporaryDirectory(prefix="rzen-fuzz-") as temporary:
        kept = (corpus or Path(temporary)) / name
        for folder in (kept, found):
            folder.mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={seconds}",
            f"-timeout={_LONGEST_SECONDS}",
            f"-rss_limit_mb={_MOST_MEGABYTES}",
            f"-max_len={_MOST_BYTES}",
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
            timeout=seconds + _START_SECONDS,
            env=os.environ | {"TMPDIR": temporary, "PYTHONHASHSEED": str(seed or "random")},
        )
    told = re.findall(r"^#(\d+)\s", done.stdout, re.M)
    # Before that it lists what covered more.
    said = done.stdout[done.stdout.rfind(" === Uncaught") :] if " === Unc" in done.stdout else ""
    said = said or done.stdout[-_SHOWN:]
    return Outcome(max(map(int, told), default=0), done.returncode != 0, said[:_SHOWN])


if __name__ == "__main__":
    sys.exit(main())
