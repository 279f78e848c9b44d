"""`python -m tests.fuzz.guided TARGET [OPTION OF LIBFUZZER…] [CORPUS]`: one target, by atheris."""

import sys
import tempfile
from pathlib import Path

import atheris

from . import TARGETS


def main() -> None:
    """Does not come back: libFuzzer ends the process."""
    target = TARGETS[sys.argv[1]]
    # What they import is instrumented, and everything else runs at its full speed.
    with atheris.instrument_imports(include=["app", "embedder", "indexer", "trainer"]):
        check = target.check
    seeds = Path(tempfile.mkdtemp(prefix="seeds-"))
    for number, seed in enumerate(target.seeds):
        check(seed)  # Makes what the target works on, and says at once what is broken already.
        (seeds / f"{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(seeds)], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
