"""`python -m tests.fuzz.guided TARGET [LIBFUZZER OPTION…] [CORPUS]`: fuzz a target with atheris."""

import sys
import tempfile
from pathlib import Path

import atheris

from . import TARGETS


def main() -> None:
    """Fuzz until libFuzzer ends the process."""
    target = TARGETS[sys.argv[1]]
    # Only our packages are instrumented; everything else runs at full speed.
    with atheris.instrument_imports(include=["app", "embedder", "indexer", "trainer"]):
        check = target.check
    seeds = Path(tempfile.mkdtemp(prefix="seeds-"))
    for number, seed in enumerate(target.seeds):
        check(seed)  # Creates what the target works on, and fails early.
        (seeds / f"{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(seeds)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
