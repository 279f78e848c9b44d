"""The targets of `python -m tests.fuzz` over their seeds and mutations that are always the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import TARGETS, Target
from fuzz.mutation import mutations

ROOT = Path(__file__).parent.parent
MUTATIONS = 120


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_break_a_property(name: str) -> None:
    for data in TARGETS[name].inputs(MUTATIONS):
        try:
            TARGETS[name].check(data)
        except Exception as error:
            error.add_note(f"{name} was given {data!r:.2000}")
            raise


def test_mutations_are_many_and_always_the_same() -> None:
    seeds = [b"one", b"another", b""]
    once = list(mutations("some", seeds, 200))
    assert once == list(mutations("some", seeds, 200))
    assert once != list(mutations("other", seeds, 200))
    assert len(set(once)) > 100
    assert max(map(len, once)) <= 20_000


def test_a_target_that_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.uploads._RESERVED", re.compile("x"))
    (device,) = [one for one in TARGETS["file_names"].seeds if b"con.txt" in one]
    with pytest.raises(AssertionError):
        TARGETS["file_names"].check(device)


def test_a_target_that_is_none_is_named_with_those_that_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "there is no target nothing" in done.stdout
    assert all(name in done.stdout for name in TARGETS)


def test_every_target_has_seeds_and_says_what_holds() -> None:
    for target in TARGETS.values():
        assert isinstance(target, Target)
        assert target.seeds
        assert target.check.__doc__
