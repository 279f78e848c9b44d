"""What the commands print."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import programs
import pytest

from indexer import Library, cli
from indexer.types import Failure, IngestReport

NO_MEDIA = "the file is not a picture, video, PDF or text file"
HOSTILE = "\x1b[31mred\x1b]0;owned\x07\rERROR\nroot:\x9b2J\u202e.txt"
SHOWN = r"\x1b[31mred\x1b]0;owned\x07\rERROR\nroot:\x9b2J\u202e.txt"
CONTROLS = "[\0-\t\x0b-\x1f\x7f-\x9f\u202e]"  # all but the line feed


def report(**counts: object) -> list[str]:
    return cli.report_lines(IngestReport(seconds=2.0, **counts), failed=0)  # type: ignore[arg-type]


def test_report_lists_only_what_happened():
    assert report(added=1200, moved=1) == ["1,200 added, 1 moved in 2.0 s"]


def test_report_of_nothing_to_do():
    assert report() == ["nothing to do in 2.0 s"]


def test_report_names_every_failed_file():
    lines = report(failures=tuple(Failure(Path(f"/a/{n}.jpg"), "it is empty") for n in range(50)))
    assert lines[0] == "50 failed in 2.0 s"
    assert lines[1:] == [f"  failed /a/{n}.jpg: it is empty" for n in range(50)]


def test_report_names_few_skipped_files():
    lines = report(skipped=(Failure(Path("/a/tool.exe"), NO_MEDIA),))
    assert lines[1:] == [f"  skipped /a/tool.exe: {NO_MEDIA}"]


def test_report_counts_many_skipped_files_by_suffix():
    names = [*(f"{n}.XMP" for n in range(7)), "a.exe", "b"]
    lines = report(skipped=tuple(Failure(Path("/a", name), NO_MEDIA) for name in names))
    assert lines[1:] == [
        f"  skipped 9 (7 .xmp, 1 .exe, 1 no ending): {NO_MEDIA}; --json lists them"
    ]


def test_report_mentions_earlier_failures():
    lines = cli.report_lines(IngestReport(unchanged=3), failed=2)
    assert lines[-1] == "2 files failed in earlier runs; use --retry-failed to retry"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of files with such names: indexed, failed, skipped and gone."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "media").mkdir()
    (folder / "media" / HOSTILE).write_text("a lighthouse")
    (folder / "media" / f"gone{HOSTILE}").write_text("another lighthouse")
    (folder / "media" / f"bad{HOSTILE}").write_bytes(b"\0\1\2")
    (folder / "media" / f"broken{HOSTILE}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([folder / "media"])
    (folder / "media" / f"gone{HOSTILE}").unlink()
    return folder


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("ingest media --model toy --library other", 1),
        ("ingest media --retry-failed --dry-run", 0),
        (f"ingest {HOSTILE}/none", 2),
        (f"ingest media --{HOSTILE}", 2),
        ("search lighthouse", 0),
        (f"search --image {HOSTILE}", 2),
        (f"search lighthouse {HOSTILE}", 2),
        (f"search lighthouse --kind {HOSTILE}", 2),
        (f"admin stats --{HOSTILE}", 2),
        (f"admin check --library {HOSTILE}", 2),
        ("admin check --files", 1),
        (f"admin backup media/{HOSTILE}", 2),
        (f"admin restore {HOSTILE} --library none", 2),
        (f"reembed --model {HOSTILE}", 2),
        (f"reembed --model toy --instruction {HOSTILE}", 2),
    ],
)
def test_commands_print_control_characters_as_escapes(named, monkeypatch, command, status):
    monkeypatch.chdir(named)
    program, *arguments = command.split(" ")
    if "--library" not in arguments:
        arguments += ["--library", "library"]
    done = programs.run(f"indexer.{program}", *arguments)
    assert done.returncode == status
    printed = done.stdout + done.stderr
    assert SHOWN in printed
    assert not re.search(CONTROLS, printed)
    assert "\nroot:" not in printed


def test_the_page_prints_and_logs_control_characters_as_escapes(tmp_path):
    start = (
        "import logging, sys; from app.__main__ import main; main(sys.argv[1:]); "
        "logging.getLogger('app').warning('cannot open %s', sys.argv[-1])"
    )
    (tmp_path / HOSTILE).write_text("no folder")
    done = subprocess.run(
        [sys.executable, "-c", start, "--port", "0", "--library", HOSTILE],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    refusal, *_, logged = done.stderr.splitlines()
    assert SHOWN in refusal
    assert logged == f"WARNING app: cannot open {SHOWN}"
    assert not re.search(CONTROLS, done.stderr)


def test_what_is_logged_shows_control_characters_as_escapes(capsys):
    cli.prepare_output()
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        error = sys.exc_info()
    logged = logging.LogRecord("indexer", logging.ERROR, "", 1, "cannot read %s", (HOSTILE,), error)
    assert logging.lastResort is not None
    logging.lastResort.handle(logged)
    printed = capsys.readouterr().err
    assert printed.startswith(f"cannot read {SHOWN}\nTraceback")
    assert not re.search(CONTROLS, printed)


def test_reader_that_has_seen_enough_is_no_error():
    script = (
        "from indexer.cli import print_result\n"
        "print_result([], ['a line of text'] * 100_000, as_json=False)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert not program.stderr.read()
        assert program.wait() == 0


def test_json_keeps_names_as_they_are(named):
    done = programs.run(
        "indexer.search", "lighthouse", "--json", "--library", str(named / "library")
    )
    assert str(named / "media" / HOSTILE) in [one["path"] for one in json.loads(done.stdout)]
