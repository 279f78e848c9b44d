"""`rzen-admin check` and `repair`: planted faults are found and repaired, nothing else changes."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from maintained_library import (
    copy,
    everything,
    faults,
    found,
    partition,
    rot,
    run,
    sql,
    swap_vectors,
    thumbnails,
)

from indexer import Library, Status
from indexer.maintenance.check import Fault
from indexer.maintenance.repair import repair
from indexer.maintenance.storage import open_storage


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return copy(tmp_path)


def test_sound_library_has_no_findings(where, capsys):
    assert found(where) == everything()
    capsys.readouterr()
    assert run(where, "check", "--files") == 0
    assert capsys.readouterr().out.startswith("no faults found in ")


def test_a_text_that_the_model_does_not_understand_is_sound(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    (media / "emoji.txt").write_text("\N{GRINNING FACE}")
    with Library.open(tmp_path / "library", model="mini") as library:
        library.ingest([media])
    assert run(tmp_path / "library", "check") == 0


def add_thumbnail_of_nothing(folder: Path) -> None:
    """Add one whose hash begins as no other does."""
    prefix = next(one for one in ("00", "11", "22", "33") if not (folder / one).exists())
    (folder / prefix).mkdir()
    (folder / prefix / f"{prefix}-0.jpg").write_bytes(b"\xff\xd8\xff\xd9")


PLANTED: dict[str, tuple[Callable[[Path], object], Fault, bool]] = {
    # The damage, the fault that is found, and whether files have to be indexed again.
    "a vector is gone": (
        lambda where: sql(where, "DELETE FROM vectors WHERE segment_id = 3"),
        Fault.SEGMENTS_WITHOUT_VECTOR,
        True,
    ),
    "a vector is cut off": (
        lambda where: sql(where, "UPDATE vectors SET data = x'0000' WHERE segment_id = 3"),
        Fault.BAD_VECTORS,
        True,
    ),
    "a vector is not finite": (
        lambda where: sql(
            where,
            "UPDATE vectors SET data = x'007e' || substr(data, 3) WHERE segment_id = 3",
            "UPDATE vectors SET data = CAST(data AS BLOB)",
        ),
        Fault.BAD_VECTORS,
        True,
    ),
    "a vector is nothing": (
        lambda where: sql(
            where,
            "UPDATE vectors SET data = zeroblob(length(data)) WHERE segment_id = "
            "(SELECT min(id) FROM segments WHERE kind = 'image')",
        ),
        Fault.BAD_VECTORS,
        True,
    ),
    "a vector is of no segment": (
        lambda where: sql(where, "INSERT INTO vectors SELECT 999, data FROM vectors LIMIT 1"),
        Fault.REFERENCES,
        False,
    ),
    "words are of no segment": (
        lambda where: sql(where, "INSERT INTO words VALUES (999, x'00')"),
        Fault.REFERENCES,
        False,
    ),
    "a content is gone": (
        lambda where: sql(where, "DELETE FROM media WHERE id = 3"),
        Fault.FILES_WITHOUT_CONTENT,
        True,
    ),
    "a file has lost its content": (
        lambda where: sql(where, "UPDATE items SET media_id = NULL WHERE id = 3"),
        Fault.FILES_WITHOUT_CONTENT,
        True,
    ),
    "a content has no segments": (
        lambda where: sql(
            where,
            "DELETE FROM vectors WHERE segment_id = 3",
            "DELETE FROM segments WHERE id = 3",
        ),
        Fault.INCOMPLETE,
        True,
    ),
    "a content lacks its first segment": (
        lambda where: sql(where, "UPDATE segments SET position = 1 WHERE id = 3"),
        Fault.INCOMPLETE,
        True,
    ),
    "a text is not in the full-text index": (
        lambda where: sql(
            where,
            "INSERT INTO segment_texts (segment_texts, rowid, text) "
            "SELECT 'delete', id, text FROM segments WHERE text LIKE '%number2%'",
        ),
        Fault.WORDS,
        False,
    ),
    "the full-text index has a text too many": (
        lambda where: sql(where, "INSERT INTO segment_texts (rowid, text) VALUES (999, 'ghost')"),
        Fault.WORDS,
        False,
    ),
    "the full-text index has another text": (
        lambda where: sql(
            where,
            "INSERT INTO segment_texts (segment_texts, rowid, text) "
            "SELECT 'delete', id, text FROM segments WHERE text LIKE '%number2%'",
            "INSERT INTO segment_texts (rowid, text) "
            "SELECT id, 'other words' FROM segments WHERE text LIKE '%number2%'",
        ),
        Fault.WORDS,
        False,
    ),
    "the full-text index is damaged": (
        lambda where: sql(where, "UPDATE segment_texts_data SET block = x'0102' WHERE id > 1"),
        Fault.WORDS,
        False,
    ),
    "a text is indexed as another one": (
        lambda where: sql(where, "UPDATE segments SET terms = 'other words' WHERE text NOT NULL"),
        Fault.WORDS,
        False,
    ),
    "a name is not in its index": (
        lambda where: sql(where, "DELETE FROM item_names_docsize WHERE id = 3"),
        Fault.WORDS,
        False,
    ),
    "a part of a name is not in its index": (
        lambda where: sql(where, "DELETE FROM name_parts_docsize WHERE id = 3"),
        Fault.WORDS,
        False,
    ),
    "files are miscounted": (
        lambda where: sql(where, "UPDATE item_counts SET files = files + 1 WHERE kind = 'text'"),
        Fault.COUNTS,
        False,
    ),
    "files of a month are miscounted": (
        lambda where: sql(where, "UPDATE month_counts SET files = files + 1"),
        Fault.COUNTS,
        False,
    ),
    "segments are miscounted": (
        lambda where: sql(where, "DELETE FROM segment_counts"),
        Fault.COUNTS,
        False,
    ),
    "a folder is not known": (
        lambda where: sql(where, "DELETE FROM folders WHERE files > 0"),
        Fault.COUNTS,
        False,
    ),
    "a content of no file is overlooked": (
        lambda where: sql(
            where, "DELETE FROM items WHERE id = 3", "UPDATE library SET swept = generation"
        ),
        Fault.COUNTS,
        False,
    ),
    "the generation lies behind": (
        lambda where: sql(where, "UPDATE segments SET generation = 999 WHERE id = 3"),
        Fault.COUNTS,
        False,
    ),
    "ids would be given again": (
        lambda where: sql(where, "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'segments'"),
        Fault.COUNTS,
        False,
    ),
    "a file of the index is gone": (
        lambda where: partition(where).unlink(),
        Fault.INDEX,
        False,
    ),
    "a file of the index is cut off": (
        lambda where: partition(where).write_bytes(partition(where).read_bytes()[:-9]),
        Fault.INDEX,
        False,
    ),
    "the index is of a later generation": (
        lambda where: sql(where, "UPDATE segments SET generation = 0"),
        Fault.INDEX,
        False,
    ),
    "the index has other vectors": (swap_vectors, Fault.INDEX_CONTENT, False),
    "a thumbnail is gone": (
        lambda where: thumbnails(where)[0].unlink(),
        Fault.THUMBNAILS_MISSING,
        False,
    ),
    "a thumbnail is cut off": (
        lambda where: os.truncate(thumbnails(where)[0], 200),
        Fault.THUMBNAILS_BROKEN,
        False,
    ),
    "a thumbnail is empty": (
        lambda where: os.truncate(thumbnails(where)[0], 0),
        Fault.THUMBNAILS_BROKEN,
        False,
    ),
    "a thumbnail is all zeros": (
        lambda where: thumbnails(where)[0].write_bytes(bytes(900)),
        Fault.THUMBNAILS_BROKEN,
        False,
    ),
    "a thumbnail is of nothing": (
        lambda where: shutil.copy(thumbnails(where)[0], thumbnails(where)[0].parent / "ff-9.jpg"),
        Fault.THUMBNAILS_LEFT,
        False,
    ),
    "a folder of thumbnails is of nothing": (
        lambda where: add_thumbnail_of_nothing(where / "thumbnails"),
        Fault.THUMBNAILS_LEFT,
        False,
    ),
    "a thumbnail was being written": (
        lambda where: (thumbnails(where)[0].parent / ".x.part").write_bytes(b"half"),
        Fault.THUMBNAILS_LEFT,
        False,
    ),
    "a content is of no file": (
        lambda where: sql(where, "DELETE FROM items WHERE id = 3"),
        Fault.UNHELD,
        True,
    ),
    "vectors of a former model are left": (
        lambda where: sql(where, "INSERT INTO pending_vectors SELECT * FROM vectors"),
        Fault.RETIRED,
        False,
    ),
    "the index is of another library": (
        lambda where: sql(where, "UPDATE library SET uid = 'another'"),
        Fault.INDEX_FOREIGN,
        False,
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_fault_is_found_and_repaired(where: Path, planted: str) -> None:
    found(where)
    damage, fault, again = PLANTED[planted]
    if planted == "the index is of a later generation":
        sql(where, "UPDATE library SET generation = 1")
    damage(where)
    assert fault in faults(where)
    files = {path: path.read_bytes() for path in (where.parent / "media").iterdir()}
    with open_storage(where) as place:
        report = repair(place)
    assert fault in {one.fault for one in report.found}
    assert report.left == ()
    with Library.open(where) as library:
        assert bool(library.catalog.items(status=Status.FAILED)) == (
            again and fault != Fault.UNHELD
        )
        library.ingest([where.parent / "media"])
    assert faults(where) <= {Fault.REMOVALS}
    assert found(where) == everything()
    assert {path: path.read_bytes() for path in files} == files


def test_corrupt_database_is_reported(where, capsys):
    path = where / "library.sqlite3"
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)
    assert run(where, "check") == 1
    output = capsys.readouterr().out
    assert "FAULT: " in output
    assert "the database file is corrupt" in output
    assert "rzen-admin restore" in output


def test_corrupt_index_of_a_table_is_rebuilt(where):
    with closing(sqlite3.connect(where / "library.sqlite3")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = 'CREATE INDEX ix_items_size ON items (mtime_ns)' "
            "WHERE name = 'ix_items_size'"
        )
        connection.commit()
    assert Fault.DATABASE in faults(where)
    assert run(where, "repair") == 0
    assert faults(where) == set()


def test_files_are_compared_on_request_only(where):
    media = where.parent / "media"
    (media / "0.txt").write_text("something else and longer than before")
    (media / "1.txt").unlink()
    rot(media / "2.txt")
    assert faults(where) == set()
    output = {Fault.FILES_CHANGED, Fault.FILES_GONE, Fault.FILES_DECAYED}
    assert faults(where, read_files=True) == output
    assert run(where, "repair", "--files") == 1
    with Library.open(where) as library:
        failed = library.catalog.items(status=Status.FAILED)
        assert [item.name for item in failed] == ["2.txt"]
        assert "possible bit rot" in (failed[0].error or "")
        library.ingest([media])
    assert faults(where, read_files=True) <= {Fault.REMOVALS}


def test_files_of_an_unplugged_disk_are_no_fault(where, capsys):
    media = where.parent / "media"
    media.rename(where.parent / "elsewhere")
    media.mkdir()
    capsys.readouterr()
    assert run(where, "check", "--files") == 0
    output = capsys.readouterr().out
    assert "files of disks or folders that are not connected" in output
    assert output.startswith("note: ")
    assert "no faults found" in output


def test_missing_and_unknown_uploads_are_reported(where, capsys):
    (where / "uploads/mine.txt").rename(where / "uploads/other.txt")
    assert faults(where) == {Fault.UPLOADS_GONE, Fault.UPLOADS_UNKNOWN}
    assert run(where, "repair") == 1
    assert run(where, "compact") == 0
    assert (where / "uploads/other.txt").exists()


def test_segment_of_a_missing_file_is_found_by_its_words(where):
    sql(where, "UPDATE vectors SET data = x'00' WHERE segment_id = 3")
    with Library.open(where) as library:
        name = library.catalog.item_of(3).name
    (where.parent / "media" / name).unlink()
    assert run(where, "repair") == 1
    assert faults(where) == {Fault.SEGMENTS_WITHOUT_VECTOR}
    assert name in found(where)


def test_repair_dry_run_writes_nothing(where, capsys):
    partition(where).unlink()
    before = {path: path.stat().st_mtime_ns for path in where.rglob("*") if path.is_file()}
    assert run(where, "repair", "--dry-run") == 1
    output = capsys.readouterr().out
    assert "the saved vector index is unusable" in output
    assert "nothing was written" in output
    after = {path: path.stat().st_mtime_ns for path in where.rglob("*") if path.is_file()}
    assert {path: after.get(path) for path in before} == before


def test_check_runs_beside_an_ingest_and_repair_does_not(where, capsys):
    with open_storage(where) as place, place.writer.held():
        assert run(where, "check") == 0
        assert run(where, "stats") == 0
        for command in ("repair", "compact"):
            assert run(where, command) == 2
            assert "another program is adding to the library" in capsys.readouterr().err


def test_check_json(where, capsys):
    thumbnails(where)[0].unlink()
    assert run(where, "check", "--json") == 1
    (one,) = json.loads(capsys.readouterr().out)["findings"]
    assert one["fault"] == "thumbnails-missing"
    assert one["count"] == 1
    assert one["remedy"] == "rzen-admin repair"
    assert not one["harmless"]


def test_library_of_an_older_version_is_refused(where, capsys):
    sql(where, "PRAGMA user_version = 0")
    before = (where / "library.sqlite3").read_bytes()
    assert run(where, "check") == 2
    assert "was made by an older version" in capsys.readouterr().err
    assert (where / "library.sqlite3").read_bytes() == before
