"""The command `python -m indexer.reembed`; what is interrupted runs as a process."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import programs
import pytest
from maintained_library import copy
from PIL import Image

from embedder import Modality
from indexer import Library
from indexer.cli import instructions
from indexer.reembed import parser

# A program in which the model "other" is the toy with another revision, and as slow as its first
# argument says: it logs every content that it embeds.
OTHER = """
import sys, time
from dataclasses import replace
from embedder.toy import ToyEmbedder
import embedder.registry as registry
import indexer.library as library

class Other(ToyEmbedder):
    batch_size = 1

    def __init__(self):
        super().__init__()
        self.info = replace(self.info, name="other", revision="2")

    def _embed_batch(self, contents, role):
        time.sleep(float(sys.argv[1]))
        with open(sys.argv[2], "a") as file:
            file.write("x" * len(contents))
        return super()._embed_batch(contents, role)[:, ::-1]

def opener(spec, **options):
    return Other() if spec == "other" else registry.open_embedder(spec, **options)

library.open_embedder = opener
from indexer.reembed import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files in `media` and a library of them, to be copied."""
    base = tmp_path_factory.mktemp("made")
    folder = base / "media"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.txt").write_text(f"text number {number}")
    Image.new("RGB", (96, 64), (220, 30, 30)).save(folder / "red.png")
    with Library.open(base / "library", model="toy") as library:
        assert library.ingest([folder]).added == 41
    return base


@pytest.fixture
def media(made: Path, tmp_path: Path, where: Path) -> Path:
    """The files, and beside them their library."""
    assert copy(tmp_path, made) == where
    return tmp_path / "media"


def command(where: Path, *arguments: object, seconds: float = 0) -> list[str]:
    program = [sys.executable, "-c", OTHER, str(seconds), str(where.parent / "embedded")]
    return [*program, "--library", str(where), *map(str, arguments)]


def run(where: Path, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, with the model "other" as in the program above."""
    source, _, _ = OTHER.partition("from indexer.reembed import main")
    with (
        patch.object(sys, "argv", ["", "0", str(where.parent / "embedded")]),
        patch("indexer.library.open_embedder"),  # restores what the program sets
    ):
        exec(source, {})
        done = programs.run("indexer.reembed", "--library", where, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def embedded(where: Path) -> int:
    file = where.parent / "embedded"
    return len(file.read_text()) if file.exists() else 0


def model(where: Path) -> str | None:
    with Library.open(where) as library:
        return library.catalog.model().name


def started(where: Path) -> subprocess.Popen[str]:
    """Start a slow run; return when it has committed something."""
    process = subprocess.Popen(
        command(where, "--model", "other", seconds=0.1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    with Library.open(where) as library:
        while time.monotonic() < deadline and process.poll() is None:
            if library._staged.count():
                return process
            time.sleep(0.02)
    raise AssertionError(process.communicate())


def test_reembed_prints_a_report(where, media):
    done = run(where, "--model", "other")
    assert re.fullmatch(
        r"41 vectors computed in \d+\.\d s\nThe library now has the model other\.\n", done.stdout
    )
    assert done.stderr == ""
    assert model(where) == "other"
    done = run(where, "--model", "other")
    assert done.stdout == "The library already has the model other; nothing was done.\n"
    report = json.loads(run(where, "--model", "toy", "--json").stdout)
    assert (report["model"], report["segments"], report["switched"]) == ("toy", 41, True)
    assert model(where) == "toy"


def test_missing_file_can_be_left_out(where, media):
    (media / "red.png").unlink()
    done = run(where, "--model", "other", status=1)
    assert f"  missing {media / 'red.png'}: the file is missing" in done.stdout
    assert "1 file could not be read, so the library still has the model toy" in done.stdout
    assert "use --leave-out to switch" in done.stdout
    assert model(where) == "toy"
    done = run(where, "--model", "other", "--leave-out")
    assert "40 reused from an earlier run" in done.stdout
    assert "1 file removed; rzen-ingest --retry-failed retries" in done.stdout
    assert f"  removed {media / 'red.png'}" in done.stdout
    assert model(where) == "other"


def test_reembed_dry_run(where, media):
    done = run(where, "--model", "other", "--dry-run")
    assert done.stdout == (
        "would compute 41 vectors (1 image, 40 text)\n"
        "all files that have to be read exist\nnothing was written\n"
    )
    (media / "red.png").unlink()
    plan = json.loads(run(where, "--model", "other", "--dry-run", "--json", status=1).stdout)
    assert plan["segments"] == {"image": 1, "text": 40}
    assert [failure["path"] for failure in plan["failures"]] == [str(media / "red.png")]
    assert embedded(where) == 0
    assert model(where) == "toy"


def test_killed_reembed_resumes(where, media):
    process = started(where)
    time.sleep(0.5)
    process.kill()
    process.communicate()
    assert model(where) == "toy"
    with Library.open(where) as library:
        there = library._staged.count()
    assert 0 < there < 41
    assert embedded(where) - there <= 32  # Only what was not committed yet is computed again.
    before = embedded(where)
    done = run(where, "--model", "other")
    assert f"{there} reused from an earlier run" in done.stdout
    assert embedded(where) - before == 41 - there
    assert model(where) == "other"
    with Library.open(where) as library:
        assert len(library.vectors) == 41


def test_ctrl_c_stops_within_seconds(where, media):
    process = started(where)
    started_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - started_at < 10
    assert process.returncode == 130
    assert "press Ctrl-C again to quit now" in err
    assert "the library still has the model toy" in out
    assert "Run the same command again to continue." in out
    there = json.loads(run(where, "--model", "other", "--dry-run", "--json").stdout)["reused"]
    assert there
    before = embedded(where)
    assert f"{there} reused from an earlier run" in run(where, "--model", "other").stdout
    assert embedded(where) - before == 41 - there


def test_discard(where, media):
    process = started(where)
    process.kill()
    process.communicate()
    done = run(where, "--discard")
    assert re.fullmatch(
        r"\d+ vectors discarded; the library still has the model toy\.\n", done.stdout
    )
    assert json.loads(run(where, "--discard", "--json").stdout) == {"discarded": 0}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give the new model"),
        (["--model", "nonsense"], "unknown model 'nonsense'"),
        (["--model", "toy", "--discard"], "--discard cannot be combined"),
        (["--model", "toy", "--instruction", "sound=x"], "write MODALITY=TEXT with one of text"),
        (["--model", "mini", "--instruction", "text=x"], "takes no instructions"),
        (["--model", "toy", "--workers", "0"], "must be at least 1"),
    ],
)
def test_usage_errors(where, media, arguments, sentence):
    done = run(where, *arguments, status=2)
    assert sentence in done.stderr
    assert done.stdout == ""
    assert model(where) == "toy"


def test_reembed_creates_no_library(where):
    assert "there is no library" in run(where, "--model", "toy", status=2).stderr
    assert not where.exists()


def test_command_in_a_refusal_works(where, media):
    ingest = [sys.executable, "-m", "indexer.ingest", str(media), "--library", str(where)]
    done = subprocess.run([*ingest, "--model", "mini"], capture_output=True, text=True)
    assert done.returncode == 2
    named = re.search(r"`python (.*)`", done.stderr)[1]
    assert named == f"-m indexer.reembed --library {where} --model mini"
    done = subprocess.run([sys.executable, *named.split(), "--dry-run"], capture_output=True)
    assert done.returncode == 0


def test_instruction_flag():
    def parsed(*arguments: str):
        return instructions(parser().parse_args(["--model", "x", *arguments]))

    assert parsed() is None
    assert parsed("--instruction", "text=A=B", "--instruction", "page=") == {
        Modality.TEXT: "A=B",
        Modality.PAGE: "",
    }
    assert parsed("--instruction", "default") == {}


def test_progress_bar(monkeypatch, capsys):
    from indexer.cli import ProgressBar
    from indexer.progress import Progress

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressBar("segments", shown=True) as bar:
        bar.show(Progress("reembed", 60, 100, None, 1, 10.0, 40.0, reused=50))
        shown = capsys.readouterr().err
    assert "reembed, 1 failed" in shown
    assert "60/100" in shown
    with ProgressBar("segments", shown=False) as bar:
        assert bar.show is None


def test_progress_lines_in_a_log(monkeypatch, capsys):
    from indexer.cli import ProgressBar
    from indexer.progress import Progress

    now = [100.0]
    monkeypatch.setattr("indexer.cli.monotonic", lambda: now[0])
    with ProgressBar("files", shown=True) as bar:
        for done in range(1000, 1070):
            now[0] += 1
            bar.show(Progress("ingest", done, 2500, None, 2, 100.0, 90.0))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "ingest: 1,029 of 2,500 files, 2 failed, 10.3/s, 0:01:30 left"
    assert second.startswith("ingest: 1,059 of")
