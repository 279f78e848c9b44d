"""`rzen-admin stats`, and commands for a library that does not exist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from maintained_library import copy, run

from indexer.admin import main
from indexer.catalog import schema


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return copy(tmp_path)


def test_stats(where, capsys):
    assert run(where, "stats") == 0
    output = capsys.readouterr().out
    assert "10 indexed (3 image, 7 text)" in output
    assert "toy, 120 dimensions" in output
    assert run(where, "stats", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["holdings"]["items"] == {"image": 3, "text": 7}
    assert answer["schema"] == schema.VERSION
    assert answer["bytes"]["uploads"] == len("an uploaded text")
    assert answer["generation"] == answer["saved_generation"]


def test_missing_library_is_not_created(tmp_path):
    for command in ("stats", "check", "repair", "compact"):
        done = (
            subprocess.run(
                [sys.executable, "-m", "indexer.admin", command, "--library", tmp_path / "none"],
                capture_output=True,
                text=True,
            )
            if command == "stats"
            else None
        )
        assert main([command, "--library", str(tmp_path / "none")]) == 2
        if done:
            assert done.returncode == 2
            assert done.stderr.startswith("rzen-admin: there is no library in ")
    assert not (tmp_path / "none").exists()
