import json
import os
import subprocess
import sys
from pathlib import Path

import programs
import pytest
from PIL import Image

from indexer import Library


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    media = folder / "media"
    media.mkdir()
    Image.new("RGB", (90, 60), "red").save(media / "red.png")
    Image.new("RGB", (90, 60), "blue").save(media / "blue.png")
    (media / "pond.txt").write_text("Tulips grow beside the pond.")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([media])
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return programs.run("indexer.search", "--library", folder / "library", *arguments)


def test_hits_are_printed_as_a_list_of_objects(folder: Path):
    done = run(folder, "tulips", "--json")
    assert done.returncode == 0, done.stderr
    hit = json.loads(done.stdout)[0]
    wanted = "rank score path date date_source kind page start end segment_id why text".split()
    assert set(wanted) <= set(hit)
    assert hit["path"].endswith("pond.txt")
    assert hit["text"] == "Tulips grow beside the pond."


def test_hits_of_files_that_are_not_there_are_marked(folder: Path, tmp_path: Path):
    assert json.loads(run(folder, "tulips", "--json").stdout)[0]["reachable"] is True
    pond = folder / "media" / "pond.txt"
    pond.rename(tmp_path / "pond.txt")
    assert json.loads(run(folder, "tulips", "--json").stdout)[0]["reachable"] is False
    assert f"{pond}  (missing)" in run(folder, "tulips").stdout
    (tmp_path / "pond.txt").rename(pond)
    (folder / "media").rename(folder / "unplugged")
    assert f"{pond}  (not connected)" in run(folder, "tulips").stdout
    (folder / "unplugged").rename(folder / "media")


def test_a_picture_alone_is_a_query(folder: Path):
    done = run(folder, "--image", str(folder / "media/blue.png"), "--kind", "image", "--json")
    assert json.loads(done.stdout)[0]["path"].endswith("blue.png")


def test_a_negative_weight_turns_a_part_into_unlike(folder: Path):
    red = str(folder / "media/red.png")
    done = run(
        folder, "red blue", "--image", red, "--weight", "image=-1", "--kind", "image", "--json"
    )
    assert json.loads(done.stdout)[0]["path"].endswith("blue.png")


def test_people_get_a_line_for_each_hit(folder: Path):
    done = run(folder, "tulips")
    assert "pond.txt" in done.stdout.splitlines()[0]
    assert "words" in done.stdout.splitlines()[0]


def test_a_word_that_occurs_nowhere_is_corrected_in_a_sentence(folder: Path):
    done = run(folder, "tulpis -red")
    assert "Nothing has the word 'tulpis': looked for 'tulips' instead." in done.stderr
    assert "pond.txt" in done.stdout
    assert "red.png" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "-pond"], "the query is empty"),
        ([], "the query is empty"),
        (["  "], "the query is empty"),
        (["--image", "lost.png"], "lost.png cannot be used"),
        (["--pdf", "a" * 300 + ":1"], "cannot be used"),
        (["--pdf", "lost.pdf:" + "9" * 5000], "cannot be used"),
        (["x", "--kind", "photo"], "'photo' is not a kind"),
        (["x", "--weight", "text=much"], "--weight text=much is not understood"),
        (["x", "--weight", "sound=1"], "--weight sound=1 is not understood"),
        (["x", "--weight", "text=0"], "weight"),
        (["x", "--weight", "text=nan"], "weight"),
        (["x", "--after", "yesterday"], "is not a date"),
        (["x", "--after", "2012", "--before", "2011"], "swap the dates"),
        (["x", "--folder", "lost"], "the library has no folder"),
        (["x", "--limit", "0"], "limit"),
        (["x", "--limit", "many"], "invalid int value"),
    ],
)
def test_a_query_that_makes_no_sense_gets_one_sentence_and_status_2(
    folder: Path, arguments: list[str], said: str
):
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_missing_library_is_named_with_what_to_do(tmp_path: Path):
    done = run(tmp_path, "x")
    assert done.returncode == 2
    assert "indexer.ingest" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="others allow only names in Unicode")
def test_a_name_that_is_no_unicode_is_printed_with_its_bytes_told(tmp_path: Path):
    path = tmp_path / "media" / os.fsdecode(b"caf\xe9.png")
    path.parent.mkdir()
    Image.new("RGB", (90, 60), "red").save(path)
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([path.parent])
    done = run(tmp_path, "red", "--json")
    assert json.loads(done.stdout)[0]["path"] == str(path)
    assert "caf\\udce9.png" in run(tmp_path, "red").stdout
