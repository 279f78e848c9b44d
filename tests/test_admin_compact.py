"""`rzen-admin compact`: disk space is reclaimed, and no hits change."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from maintained_library import copy, everything, faults, found, run, sql

from embedder import Content
from embedder.media.kinds import Kind
from indexer import Library
from indexer.maintenance.check import Fault
from indexer.maintenance.compact import compact
from indexer.maintenance.storage import open_storage


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return copy(tmp_path)


def test_compaction_deletes_tombstones_for_open_programs_too(where):
    media = where.parent / "media"
    with Library.open(where) as open_all_the_while:
        assert len(open_all_the_while.vectors) == 10
        with Library.open(where) as other:
            for number in (1, 4):
                (media / f"{number}.txt").unlink()
            (media / "new.txt").write_text("a new text number7")
            other.ingest([media])
        assert faults(where) == {Fault.REMOVALS}
        with open_storage(where) as place:
            assert compact(place).removals == 2
        assert faults(where) == set()
        assert len(open_all_the_while.vectors) == 9
        vector = open_all_the_while.embedder.embed([Content(text="text")], "query")[0]
        ids = open_all_the_while.vectors.search(vector, 99, Kind.TEXT)[1]
        texts = [segment for _, segment in segments(open_all_the_while, Kind.TEXT)]
        assert sorted(ids.tolist()) == sorted(texts)


def segments(library: Library, kind: Kind) -> Iterator[tuple[str, int]]:
    for item in library.catalog.items(kind=kind):
        for segment in library.catalog.segments(item.id):
            yield item.name, segment.id


def test_compaction_frees_space_and_changes_no_hits(where, capsys):
    sql(
        where,
        "CREATE TABLE ballast (data)",
        "INSERT INTO ballast SELECT randomblob(1000000) FROM "
        "(SELECT 1 UNION SELECT 2 UNION SELECT 3)",
        "DROP TABLE ballast",
    )
    before = found(where)
    size = (where / "library.sqlite3").stat().st_size
    assert run(where, "compact", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rewritten"]
    assert report["before"] - report["after"] > 2_900_000
    assert size - (where / "library.sqlite3").stat().st_size > 2_900_000
    assert found(where) == before == everything()
    assert run(where, "compact", "--json") == 0
    assert not json.loads(capsys.readouterr().out)["rewritten"]


def test_compaction_keeps_an_unfinished_reembedding(where):
    with open_storage(where) as place:
        with place.database.writing() as connection:
            connection.exec_driver_sql(
                "INSERT INTO pending VALUES (1, 'other', 'f', (SELECT dim FROM library), NULL)"
            )
            connection.exec_driver_sql("INSERT INTO pending_vectors SELECT * FROM vectors")
        assert compact(place).vectors == 0
        assert place.pending.count() == 10


def test_search_during_a_compaction(where, monkeypatch):
    from indexer.catalog.sqlite import Database

    answers = []
    rewrite = Database.rewrite

    def searched(self: Database) -> None:
        answers.append(found(where))
        rewrite(self)
        answers.append(found(where))

    monkeypatch.setattr(Database, "rewrite", searched)
    monkeypatch.setattr("indexer.maintenance.compact._MIN_FREE_BYTES", -1)
    monkeypatch.setattr("indexer.maintenance.compact._MIN_FREE_SHARE", -1.0)
    with (
        Library.open(where) as reader,
        open_storage(where) as place,
        reader.catalog.moment(),  # A search that began before it.
    ):
        assert compact(place).rewritten
        assert reader.catalog.stats().items[Kind.TEXT] == 7
    assert answers == [everything()] * 2
