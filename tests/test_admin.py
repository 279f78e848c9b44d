"""`rzen-admin stats`, and commands for a library that does not exist."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from maintained_library import copy, run
from PIL import Image

from indexer import Library
from indexer.admin import main
from indexer.catalog import schema
from indexer.search.candidates import MIN_SAMPLE


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


def probabilities(library: Path, capsys) -> dict[str, dict[str, Any]]:
    assert run(library, "stats", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["probabilities"]
    return {f"{one['query']} {one['kind']}": one for one in listed}


def test_stats_say_what_was_measured_of_probabilities(tmp_path, capsys):
    note = tmp_path / "note.txt"
    note.write_text("Tulips and other flowers grow beside the pond.")
    with Library.open(tmp_path / "library", model="mini") as library:
        library.ingest([note])
    found = probabilities(tmp_path / "library", capsys)
    assert set(found) == {"text text", "image text", "video text", "page text"}
    assert found["text text"]["origin"] == "measured"
    measured = found["text text"]["reliability"]
    assert measured["absent"] > 100
    assert 0 < measured["false"] < measured["found"] <= 1
    assert run(tmp_path / "library", "stats") == 0
    line = f"strong hits for {100 * measured['false']:.1f} % of {measured['absent']:,} queries"
    assert line in capsys.readouterr().out


def test_stats_say_which_probabilities_are_fitted_to_the_library(tmp_path, capsys):
    for number in range(MIN_SAMPLE):
        Image.new("RGB", (64, 64), (12 * number, 0, 99)).save(tmp_path / f"{number}.png")
    (tmp_path / "note.txt").write_text("Tulips grow beside the pond.")
    model = f"clip:{Path(__file__).with_name('dual') / 'clip'}"
    with Library.open(tmp_path / "library", model=model) as library:
        library.ingest([tmp_path])
    found = {
        pair: one["origin"] for pair, one in probabilities(tmp_path / "library", capsys).items()
    }
    assert found["text image"] == "fitted to this library"
    assert found["image text"] == "generic"
    assert found["text text"] == "the model's own constants, not measured"


def test_stats_do_without_a_model_that_is_not_here(where, capsys):
    with closing(sqlite3.connect(where / "library.sqlite3")) as connection:
        connection.execute("UPDATE library SET model = 'siglip2'")
        connection.commit()
    assert probabilities(where, capsys) == {}
    assert run(where, "stats") == 0
    assert "probability unknown: the model is not on this machine" in capsys.readouterr().out


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
