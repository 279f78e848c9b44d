"""Filters as people type them: which moments and folders they mean, and what is refused."""

import os
import time
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image

from indexer import Library
from indexer.errors import QueryError
from indexer.search.filters import find_folder, parse_date, parse_dates

# ---- dates


@pytest.fixture
def vienna(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time with changes of the clocks."""
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [
        ("2026-03-31", "2026-03-31T00:00+02:00", "2026-04-01T00:00+02:00"),
        ("2026-3-9", "2026-03-09T00:00+01:00", "2026-03-10T00:00+01:00"),
        ("20260331", "2026-03-31T00:00+02:00", "2026-04-01T00:00+02:00"),
        ("2026-03-29", "2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),  # 23 hours
        ("2026-10-25", "2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00"),  # 25 hours
        ("2024-02", "2024-02-01T00:00+01:00", "2024-03-01T00:00+01:00"),
        ("2025-12", "2025-12-01T00:00+01:00", "2026-01-01T00:00+01:00"),
        (" 2011 ", "2011-01-01T00:00+01:00", "2012-01-01T00:00+01:00"),
        ("2024", "2024-01-01T00:00+01:00", "2025-01-01T00:00+01:00"),
    ],
)
def test_a_day_month_or_year_lasts_to_its_end(vienna, text, begins, ends):
    assert parse_date(text) == datetime.fromisoformat(begins)
    assert parse_date(text, end=True) == datetime.fromisoformat(ends)


def test_a_time_lasts_to_the_end_of_its_minute_or_second(vienna):
    assert parse_date("2026-07-01T18:00") == datetime(2026, 7, 1, 16, tzinfo=UTC)
    assert parse_date("2026-07-01 18:00Z") == datetime(2026, 7, 1, 18, tzinfo=UTC)
    assert parse_date("2026-07-01T18:00", end=True) == datetime(2026, 7, 1, 16, 1, tzinfo=UTC)
    assert parse_date("2026-07-01 18:00+02:00", end=True).minute == 1
    assert parse_date("2026-07-01T18:00:00", end=True) == datetime(2026, 7, 1, 16, 0, 1, tzinfo=UTC)
    assert parse_date("9999-12-31T23:59:59", end=True).year == 9999


@pytest.mark.parametrize("text", ["0001", "0001-01-01", "9999", "9999-12", "9999-12-31"])
def test_the_first_and_the_last_day_are_dates(text):
    assert parse_date(text).tzinfo is not None
    assert parse_date(text, end=True) > parse_date(text)


@pytest.mark.parametrize(
    "text",
    [
        "last week",
        "",
        "31.03.2026",
        "03/31/2026",
        "2026-13",
        "2026-02-30",
        "26",
        "0000",
        "2026-W07",
    ],
)
def test_what_is_no_date_is_refused_with_examples(text):
    with pytest.raises(QueryError, match="write a day, month or year as 2026-03-31, 2026-03 or"):
        parse_date(text)


def test_a_year_from_and_to_itself_is_that_year():
    start, end = parse_dates("2011", "2011")
    assert start is not None
    assert end is not None
    assert (start.year, start.month, end.year, end.month) == (2011, 1, 2012, 1)
    start, end = parse_dates("2011-02-03T10:00", "2011-02-03T10:00")
    assert start < end
    assert parse_dates(None, None) == (None, None)


@pytest.mark.parametrize(
    ("after", "before"),
    [("2012", "2011"), ("2026-05-02", "2026-05-01"), ("2026-05-01T10:01", "2026-05-01T10:00")],
)
def test_dates_the_wrong_way_round_are_refused(after, before):
    with pytest.raises(QueryError, match="swap the dates"):
        parse_dates(after, before)


# ---- folders


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library of `media`, ingested by its name, and of `disk`, ingested by a link to it."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("media/holiday/2009", unicodedata.normalize("NFD", "media/Übungen/é"), "disk/old"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (30, 20), "red").save(root / name / "red.png")
    (root / "media" / "empty").mkdir()
    (root / "link").symlink_to(root / "media" / "holiday")
    (root / "mount").symlink_to(root / "disk")
    with Library.open(root / "library", model="toy") as library:
        library.ingest([root / "media", root / "mount"])
        yield library


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("media/holiday", "media/holiday"),
        ("media/holiday/", "media/holiday"),
        ("./media//holiday/2009/..", "media/holiday"),
        ("media", "media"),
        (".", "."),
        ("link", "media/holiday"),
        ("link/2009", "media/holiday/2009"),
        ("media/Übungen", unicodedata.normalize("NFD", "media/Übungen")),
        ("media/Übungen/é", unicodedata.normalize("NFD", "media/Übungen/é")),
        ("mount", "mount"),
        ("disk", "mount"),
        ("disk/old", "mount/old"),
    ],
)
def test_a_folder_is_found_however_it_is_written(library, monkeypatch, typed, meant):
    root = library.directory.parent
    monkeypatch.chdir(root)
    assert find_folder(library.catalog, typed) == Path(os.path.normpath(root / meant))
    assert find_folder(library.catalog, root / typed) == Path(os.path.normpath(root / meant))


def test_a_folder_of_home_is_found(library, monkeypatch):
    root = library.directory.parent
    monkeypatch.setenv("HOME", str(root))
    assert find_folder(library.catalog, "~/media") == root / "media"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("media/holidays", r"no folder \S+/media/holidays: did you mean \S+/media/holiday( or|\?)"),
        ("/zzz", "the library has no folder /zzz: name one that was indexed"),
        ("media/holiday/2009/red.png", r"is a file: name its folder, \S+/media/holiday/2009$"),
        ("media/empty", r"no file in \S+/media/empty is indexed: add the folder with rzen-ingest"),
        ("med", "the library has no folder"),
        ("x" * 5_000, "the library has no folder"),
    ],
)
def test_a_folder_that_can_match_nothing_is_refused(library, monkeypatch, typed, said):
    monkeypatch.chdir(library.directory.parent)
    with pytest.raises(QueryError, match=said):
        find_folder(library.catalog, typed)
