"""The fuzz targets over their seeds and a fixed set of mutations."""

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
def test_target_holds(name: str) -> None:
    for data in TARGETS[name].inputs(MUTATIONS):
        try:
            TARGETS[name].check(data)
        except Exception as error:
            error.add_note(f"input of {name}: {data!r:.2000}")
            raise


def test_mutations_are_many_and_deterministic() -> None:
    seeds = [b"one", b"another", b""]
    once = list(mutations("some", seeds, 200))
    assert once == list(mutations("some", seeds, 200))
    assert once != list(mutations("other", seeds, 200))
    assert len(set(once)) > 100
    assert max(map(len, once)) <= 20_000


def test_broken_property_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.uploads._RESERVED_NAME", re.compile("x"))
    (device,) = [one for one in TARGETS["file_names"].seeds if b"con.txt" in one]
    with pytest.raises(AssertionError):
        TARGETS["file_names"].check(device)


def test_unknown_target_is_refused_with_the_list() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "nothing"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown target nothing" in done.stdout
    assert all(name in done.stdout for name in TARGETS)


def test_every_target_has_seeds_and_a_property() -> None:
    for target in TARGETS.values():
        assert isinstance(target, Target)
        assert target.seeds
        assert target.check.__doc__
