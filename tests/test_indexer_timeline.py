"""Files by date: months, pages and counts, compared with looking at every file."""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path

import pytest
from made_up_files import add_files

from embedder.media.kinds import Kind
from indexer.catalog import Catalog
from indexer.catalog.sqlite import Database
from indexer.catalog.transaction import WriteTransaction
from indexer.catalog.verify import Audit
from indexer.types import Filters, Status

FILES = 400
DAYS = (-800, 0, 14_000, 20_000, 20_001, 20_040, *range(20_000, 20_100, 9))
"""Days since 1970 on which several files are of the same moment."""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    database = Database(tmp_path_factory.mktemp("timeline") / "library.sqlite3")
    add_files(database, range(1, FILES), days=DAYS)
    with WriteTransaction.of(database) as transaction:
        refused = {"size": 1, "mtime_ns": 1, "kind": "text", "status": "failed", "error": "why"}
        refused |= {"date_ns": 1, "date_source": "modified", "media_id": None}
        transaction.add_item(Path("/a/failed"), refused)
    yield Catalog(database)
    database.close()


def all_filters() -> list[Filters]:
    kinds = (frozenset[Kind](), frozenset({Kind.TEXT, Kind.IMAGE}))
    days = (None, datetime(2024, 11, 3, 12, tzinfo=UTC))
    return [
        Filters(*chosen) for chosen in product(kinds, (None, Path("/a")), days, (None, *days[1:]))
    ]


def fitting(catalog: Catalog, filters: Filters) -> list[tuple[int, int, date, Kind, Path]]:
    """Date, id, month, kind and folder of each file that fits, the newest first."""
    found = [
        (item.date_ns, item.id, item.date.date().replace(day=1), item.kind, item.path.parent)
        for item in catalog.items(status=Status.INDEXED, limit=2 * FILES)
        if (not filters.kinds or item.kind in filters.kinds)
        and (filters.folder is None or item.path.is_relative_to(filters.folder))
        and (filters.after is None or item.date >= filters.after)
        and (filters.before is None or item.date < filters.before)
    ]
    return sorted(found, reverse=True)


@pytest.mark.parametrize("filters", all_filters())
def test_counts_and_pages_are_those_of_looking_at_every_file(catalog, filters):
    timeline, expected = catalog.timeline, fitting(catalog, filters)
    months = timeline.months(filters)
    assert {one.first: one.files for one in months} == Counter(one[2] for one in expected)
    assert months == sorted(months, key=lambda one: one.first, reverse=True)
    assert timeline.kinds(filters) == Counter(one[3] for one in expected)
    assert dict(timeline.folders(filters)) == Counter(one[4] for one in expected)
    for oldest_first in (False, True):
        in_order = expected[::-1] if oldest_first else expected
        paged = [
            found
            for month in (months[::-1] if oldest_first else months)
            for offset in range(0, month.files, 7)
            for found in timeline.files(
                filters, month=month.first, limit=7, offset=offset, oldest_first=oldest_first
            )
        ]
        assert [(item.date_ns, item.id) for item, _ in paged] == [one[:2] for one in in_order]
        assert all(start.content_hash == item.content_hash for item, start in paged)
        assert all(start.position == 0 for _, start in paged)
        whole = timeline.files(filters, limit=2 * FILES, oldest_first=oldest_first)
        assert whole == paged
        ids = timeline.ids(filters, 2 * FILES, oldest_first=oldest_first)
        assert ids == [item.id for item, _ in whole]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns", "Europe/Berlin"])
def test_months_are_those_of_local_time(catalog, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        for filters in all_filters():
            expected = Counter(one[2] for one in fitting(catalog, filters))
            months = catalog.timeline.months(filters)
            assert {one.first: one.files for one in months} == expected
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_library_without_numbers_of_months_is_given_them(tmp_path):
    path = tmp_path / "library.sqlite3"
    database = Database(path)
    add_files(database, range(1, FILES), days=DAYS)
    lacking = [f"DROP TRIGGER month_counts_{one}" for one in ("insert", "update", "delete")]
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("; ".join([*lacking, "DROP TABLE month_counts"]))
    database.close()
    chosen = [one for one in all_filters() if one.after is one.before is None]

    def counted() -> list[list[object]]:
        timeline = Catalog(database).timeline
        return [
            [timeline.months(one), timeline.kinds(one), sorted(timeline.folders(one))]
            for one in chosen
        ]

    database = Database(path, read_only=True)
    assert "month_counts" not in Audit(database).wrong_counts()
    before = counted()
    database.close()
    database = Database(path)
    assert counted() == before
    add_files(database, range(FILES, FILES + 50), days=DAYS, seed=2)
    assert counted() != before
    assert "month_counts" not in Audit(database).wrong_counts()
    database.close()


def test_files_that_are_added_leave_pages_of_other_months_as_they_are(tmp_path):
    database = Database(tmp_path / "library.sqlite3")
    timeline = Catalog(database).timeline
    assert timeline.months(Filters()) == timeline.files(Filters()) == []
    add_files(database, range(1, 50), days=DAYS)
    oldest = timeline.months(Filters())[-1]
    before = timeline.files(Filters(), month=oldest.first)
    add_files(database, range(50, 90), days=DAYS, seed=2)
    after = timeline.files(Filters(), month=oldest.first, limit=100)
    assert [one for one in after if one in before] == before
    assert timeline.months(Filters())[-1].files == len(after) > len(before)
    database.close()


def test_dates_do_not_make_the_months_slower(tmp_path):
    database = Database(tmp_path / "library.sqlite3")
    add_files(database, range(1, FILES), days=DAYS)
    timeline = Catalog(database).timeline

    def steps(filters: Filters) -> int:
        """Count SQLite's instructions."""
        counted = []
        with database.moment(), database.reading() as connection:
            driver = connection.connection.driver_connection
            driver.set_progress_handler(lambda: counted.append(1), 1)
            timeline.months(filters)
            driver.set_progress_handler(None, 1)
        return len(counted)

    before = datetime(2100, 1, 1, tzinfo=UTC)
    dates = Filters(after=datetime(1960, 1, 1, tzinfo=UTC), before=before)
    assert steps(dates) < 1.5 * steps(Filters())
    database.close()
