"""Dates, words and facts of files: what is stored of them, found by them, and shown."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from decoders import InProcess

from embedder.media import Draft, Kind, Limits, cut
from embedder.media.kinds import Details
from indexer import Filters, Library
from indexer.catalog import details
from indexer.catalog.details import described
from indexer.catalog.verify import Audit, CatalogRepair
from indexer.search.query import text_part
from indexer.types import DateSource, Query, Reason

COPIED = datetime(2024, 5, 17, 12, tzinfo=UTC).timestamp()
TOKYO = timezone(timedelta(hours=9))
EVENING = datetime(2009, 5, 6, 23, 30)  # noqa: DTZ001 -- as cameras write it
CAPTURED = {
    "local": Details(EVENING, words=(("Caption", "toboggan race"), ("People", "Ada; Tim"))),
    "tokyo": Details(EVENING.replace(tzinfo=TOKYO), 35.68, 139.69, facts=(("Camera", "X100"),)),
    "utc": Details(EVENING.replace(tzinfo=UTC)),
    "plain": None,
}


def with_details(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
    """Cut a text file whose first word names its details."""
    for draft in cut(path, kind, limits):
        yield replace(draft, details=CAPTURED.get((draft.content.text or "").split()[0]))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (COPIED, COPIED))


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    for name in CAPTURED:
        write(tmp_path / "files" / f"{name}.txt", f"{name} a harbour")
    write(tmp_path / "files" / "copy.txt", "local a harbour")
    with Library.open(
        tmp_path / "library", model="toy", decoders=InProcess(with_details)
    ) as opened:
        opened.ingest([tmp_path / "files"])
        yield opened


def found(library: Library, after: datetime | None, before: datetime | None) -> set[str]:
    hits = library.search(Query((text_part("harbour"),), Filters(after=after, before=before)))
    return {path.stem for hit in hits for path in (hit.item.path, *hit.copies)}


def test_a_file_is_of_the_day_when_it_was_captured_where_it_was(library):
    """As the clock there showed it; UTC is no such clock, and a file without is as old as it is."""
    day = datetime(2009, 5, 6).astimezone()
    assert found(library, day, day + timedelta(days=1)) >= {"local", "copy", "tokyo"}
    late = datetime(2009, 5, 6, 23, 30, tzinfo=UTC)
    assert "utc" in found(library, late, late + timedelta(seconds=1))
    assert found(library, datetime(2024, 5, 1, tzinfo=UTC), None) == {"plain"}
    items = {item.path.stem: item for item in library.catalog.items()}
    assert items["tokyo"].date.replace(tzinfo=None) == EVENING
    assert items["tokyo"].date_source is DateSource.METADATA
    assert items["plain"].date == items["plain"].modified_at
    assert items["plain"].date_source is DateSource.MODIFIED


@pytest.mark.parametrize(
    ("name", "kind", "date", "source"),
    [
        ("IMG_20090506_233000.jpg", Kind.IMAGE, EVENING, DateSource.FILE_NAME),
        ("VID_20090506_233000.mp4", Kind.VIDEO, EVENING, DateSource.FILE_NAME),
        ("PXL_20090506_233000123.jpg", Kind.IMAGE, EVENING.replace(tzinfo=UTC), "file name"),
        ("Minutes 2009-05-06.txt", Kind.TEXT, None, DateSource.MODIFIED),
        ("Minutes 2009-05-06.pdf", Kind.PDF, None, DateSource.MODIFIED),
        ("IMG_20091306_233000.jpg", Kind.IMAGE, None, DateSource.MODIFIED),
        ("holiday.jpg", Kind.IMAGE, None, DateSource.MODIFIED),
        ("IMG_20090506.jpg", None, None, DateSource.MODIFIED),
    ],
)
def test_the_name_of_a_picture_may_say_when_it_was_taken(name, kind, date, source):
    found = described(Path("/photos") / name, 7, kind, Details())
    assert found["date_source"] == source
    assert found["date_ns"] == (7 if date is None else date.timestamp() * 10**9)
    day = datetime(1999, 1, 2)  # noqa: DTZ001
    found = described(Path("/photos") / name, 7, kind, Details(day))
    assert (found["date_source"], found["date_ns"]) == ("metadata", day.timestamp() * 10**9)


def test_details_are_kept_of_copies_of_moved_and_of_touched_files(library):
    files = library.directory.parent / "files"
    (files / "local.txt").rename(files / "moved.txt")
    os.utime(files / "tokyo.txt", (COPIED + 1, COPIED + 1))
    report = library.ingest([files])
    assert report.moved == 1
    for item in library.catalog.items():
        expected = {"moved": "local", "copy": "local"}.get(item.path.stem, item.path.stem)
        assert library.catalog.details(item.id) == (CAPTURED[expected] or Details())
        if expected == "local":
            assert item.date.replace(tzinfo=None) == EVENING
    day = datetime(2009, 5, 6).astimezone()
    assert found(library, day, day + timedelta(days=1)) >= {"moved", "copy", "tokyo"}


def test_a_touched_file_without_date_of_its_own_is_of_its_new_time(library):
    files = library.directory.parent / "files"
    assert "plain" not in found(library, datetime(2025, 1, 1, tzinfo=UTC), None)
    os.utime(files / "plain.txt", (COPIED + 1e8, COPIED + 1e8))
    library.ingest([files])
    assert found(library, datetime(2025, 1, 1, tzinfo=UTC), None) == {"plain"}


def test_dates_and_words_that_are_wrong_are_found_and_made_right(library):
    database = library._database
    audit, files = Audit(database), library.directory.parent / "files"
    assert audit.wrong_counts() == []
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE items SET date_ns = 1 WHERE path LIKE '%plain.txt'")
        connection.exec_driver_sql(
            "UPDATE items SET about_words = 'x' WHERE path LIKE '%local.txt'"
        )
    wrong = {f"the date or words of {files / name}" for name in ("plain.txt", "local.txt")}
    assert set(audit.wrong_counts()) == wrong
    CatalogRepair(database).rebuild_derived()
    assert audit.wrong_counts() == []
    assert found(library, datetime(2024, 5, 1, tzinfo=UTC), None) == {"plain"}


def test_a_machine_that_has_moved_to_another_zone_has_no_wrong_dates(library, monkeypatch):
    import time

    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert Audit(library._database).wrong_counts() == []
    finally:
        monkeypatch.undo()
        time.tzset()


# ---- words


def reasons(library: Library, text: str, **filters: object) -> dict[str, tuple[Reason, ...]]:
    """Why strong hits match, by name; copies have those of the first."""
    hits = library.search(Query((text_part(text),), Filters(**filters)))  # type: ignore[arg-type]
    strong = (hit for hit in hits if not hit.weak)
    return {one.stem: hit.why for hit in strong for one in (hit.item.path, *hit.copies)}


@pytest.mark.parametrize("query", ["toboggan race", "TOBOGGANS", "races", "ada", '"toboggan race"'])
def test_a_file_is_found_by_what_people_wrote_about_it(library, query):
    found = reasons(library, query)
    assert set(found) == {"copy", "local"}
    assert all(Reason.WORDS in why for why in found.values())


def test_half_of_the_words_may_be_in_the_name(library):
    files = library.directory.parent / "files"
    write(files / "Davos.txt", "local another")
    library.ingest([files])
    assert set(reasons(library, "toboggan Davos")) == {"Davos"}
    (share,) = library.catalog.find_about(["toboggan", "Davos"], Filters(), 1)[Kind.TEXT].values()
    assert share == 1


def test_a_name_alone_is_no_description(library):
    assert library.catalog.find_about(["local"], Filters(), 9) == {}
    assert reasons(library, "tokyo.txt")["tokyo"][0] is Reason.FILE_NAME


def test_descriptions_obey_filters_and_what_is_unwanted(library):
    files = library.directory.parent / "files"
    assert not reasons(library, "toboggan", folder=files / "elsewhere")
    assert not reasons(library, "toboggan", after=datetime(2024, 1, 1, tzinfo=UTC))
    assert reasons(library, "toboggan", before=datetime(2010, 1, 1, tzinfo=UTC))
    parts = (text_part("harbour"), text_part("toboggan", -1.0))
    hits = library.search(Query(parts))
    assert "local" not in {hit.item.path.stem for hit in hits if not hit.weak}


def test_common_descriptions_are_looked_for_among_those_of_rare_ones(library, monkeypatch):
    files = library.directory.parent / "files"
    for number in range(4):
        write(files / "many" / f"{number}.txt", f"local number {number}")
    write(files / "many" / "Davos.txt", "local another")
    library.ingest([files])
    monkeypatch.setattr(details, "MAX_NAMED", 2)
    found = library.catalog.find_about(["toboggan"], Filters(folder=files / "many"), 9)
    assert len(found[Kind.TEXT]) == 5
    (share,) = library.catalog.find_about(["toboggan", "Davos"], Filters(), 9)[Kind.TEXT].values()
    assert share == 1
