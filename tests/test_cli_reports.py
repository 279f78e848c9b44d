from pathlib import Path

from indexer import cli
from indexer.types import Failure, IngestReport

NO_MEDIA = "the file is not a picture, video, PDF or text file"


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
