"""What the library knows without counting, and pages of its files, compared with counting."""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import pytest
from older import take_back

from embedder.media.kinds import Kind
from indexer.catalog import Catalog, listing
from indexer.catalog.database import Database
from indexer.catalog.fulltext import name_words
from indexer.catalog.schema import stored_path
from indexer.catalog.verify import Audit
from indexer.catalog.writer import CatalogWriter
from indexer.types import Status

FOLDERS = ("/", "/a", "/a!", "/a/b", "/a/b/c", "/a/b/été", "/a/b/\udce9t", "/z/y/x", "/z/y/xx")
NAMES = ("IMG_2041.jpg", "Été 12.pdf", "beach holiday.txt", "a", "zq", 'qu"ote.txt', "x%.png", "é")

ADDED = (
    "INSERT INTO items (path, folder, name_words, folder_words, size, mtime_ns, media_id, kind, "
    "status, added_us) VALUES (?, ?, ?, '', ?, 0, ?, ?, ?, 0)"
)
CHANGED = (
    "UPDATE items SET path = ?, folder = ?, name_words = ?, size = ?, media_id = ?, kind = ?, "
    "status = ? WHERE id = ?"
)


class World:
    """A database whose files come, change and go at random, without a program that does it."""

    def __init__(self, path: Path, seed: int) -> None:
        self.database = Database(path)
        self.catalog = Catalog(self.database)
        self.audit = Audit(self.database)
        self._chance = random.Random(seed)
        self._path = path

    def change(self, times: int) -> None:
        """Changes files, and takes in the content that each holds."""
        with closing(sqlite3.connect(self._path)) as connection:
            for _ in range(times):
                chosen = self._chance.random()
                ids = [one for (one,) in connection.execute("SELECT id FROM items ORDER BY id")]
                if chosen < 0.5 or not ids:
                    connection.execute(ADDED, self._file(connection))
                elif chosen < 0.8:
                    connection.execute(CHANGED, (*self._file(connection), self._chance.choice(ids)))
                else:
                    connection.execute(
                        "DELETE FROM items WHERE id = ?", (self._chance.choice(ids),)
                    )
            connection.commit()

    def _file(self, connection: sqlite3.Connection) -> tuple[object, ...]:
        folder, name = self._chance.choice(FOLDERS), self._chance.choice(NAMES)
        path = f"{folder}/{self._chance.random()}/{name}"
        status = self._chance.choice([*Status, Status.INDEXED])
        kind = self._chance.choice([*Kind, None] if status != Status.INDEXED else list(Kind))
        media_id = self._chance.randrange(1, 50) if status == Status.INDEXED else None
        if media_id is not None:
            connection.execute(
                "INSERT OR IGNORE INTO media VALUES (?, ?, 'text')", (media_id, str(media_id))
            )
        return (
            *(stored_path(path), stored_path(folder), name_words(name)),
            *(self._chance.randrange(9_999), media_id, kind, status),
        )

    def items(self) -> list[tuple[Path, Path, int, str | None, str]]:
        """Path, folder, size, kind and state of every file."""
        with self.database.reading() as connection:
            rows = connection.exec_driver_sql("SELECT path, folder, size, kind, status FROM items")
            return [(_path(row[0]), _path(row[1]), *row[2:]) for row in rows]


def _path(stored: str | bytes) -> Path:
    return Path(stored if isinstance(stored, str) else stored.decode(errors="surrogateescape"))


@pytest.fixture(params=range(2))
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(tmp_path / "library.sqlite3", request.param)
    world.change(250)
    yield world
    world.database.close()


def test_numbers_are_those_of_counting_whatever_changes_the_files(world):
    for _ in range(20):
        world.change(7)
        files = world.items()
        stats = world.catalog.stats()
        indexed = [one for one in files if one[4] == Status.INDEXED]
        assert stats.items == Counter(Kind(kind) for _, _, _, kind, _ in indexed)
        assert stats.bytes == sum(size for _, _, size, _, _ in indexed)
        assert stats.failed == sum(state == Status.FAILED for *_, state in files)
        assert stats.skipped == sum(state == Status.SKIPPED for *_, state in files)
        within = Counter(folder for _, folder, *_ in indexed)
        assert dict(world.catalog.folders()) == within
        assert dict(world.catalog.branches(99)) == branches(within)
        assert world.audit.wrong_counts() == []


def branches(within: Counter[Path]) -> dict[Path, int]:
    """Folders with files, or with more than one folder that has some in or below it."""
    below: Counter[Path] = Counter()
    for folder, files in within.items():
        for one in (folder, *folder.parents):
            below[one] += files
    children = Counter(one.parent for one in below if one.parent != one)
    return {one: files for one, files in below.items() if one in within or children[one] != 1}


def test_contents_that_no_file_holds_are_known_without_looking_for_them(world):
    ledger = CatalogWriter(world.database)
    assert world.audit.unheld()
    gone = ledger.remove_orphans()
    assert len(gone) == len(set(gone))
    assert world.audit.unheld() == 0
    with world.database.reading() as connection:
        held = {row[2] for row in connection.exec_driver_sql("SELECT * FROM unheld, media")}
    assert held == set()
    generation = world.catalog.generation()
    assert ledger.remove_orphans() == []
    assert world.catalog.generation() == generation


def test_a_content_that_a_file_holds_again_stays(world):
    with world.database.writing() as connection:
        one = connection.exec_driver_sql("SELECT media_id FROM unheld").scalars().first()
        connection.exec_driver_sql(
            "UPDATE items SET media_id = ?, status = 'indexed', kind = 'text' "
            "WHERE id = (SELECT max(id) FROM items)",
            (one,),
        )
    assert str(one) not in CatalogWriter(world.database).remove_orphans()
    assert world.audit.unheld() == 0


@pytest.mark.parametrize("few", [listing._FEW, 0])
def test_pages_are_those_of_looking_at_every_file(world, monkeypatch, few):
    monkeypatch.setattr(listing, "_FEW", few)
    every = sorted(world.catalog.items(limit=9_999), key=lambda one: stored_order(one.path))
    assert [one.path for one in every] == [one.path for one in world.catalog.items(limit=9_999)]
    names = (None, "img_20", "BEACH", "zq", 'u"o', "%", "nothing", "\0")
    for status, kind, name in product([*Status, None], [*Kind, None], names):
        wanted = [
            one
            for one in every
            if status in (None, one.status)
            and kind in (None, one.kind)
            and (name is None or name.replace("_", " ").lower() in name_words(one.name).lower())
        ]
        for offset in (0, 5):
            found = world.catalog.items(status=status, kind=kind, name=name, limit=7, offset=offset)
            assert found == wanted[offset : offset + 7], (status, kind, name, offset)


def stored_order(path: Path) -> tuple[bool, str | bytes]:
    """SQLite puts texts before bytes."""
    stored = stored_path(str(path))
    return isinstance(stored, bytes), stored if isinstance(stored, bytes) else stored.encode()


def test_a_name_is_found_whatever_the_case_of_its_letters(world):
    every = {one.name for one in world.catalog.items(limit=9_999)}
    assert "Été 12.pdf" in every
    assert {one.name for one in world.catalog.items(name="ÉTÉ")} == {"Été 12.pdf"}
    assert {one.name for one in world.catalog.items(name="É")} == every & {"Été 12.pdf", "é"}


def test_an_older_library_gets_the_numbers_of_its_files(world, tmp_path):
    before = (world.catalog.stats(), world.catalog.branches(99), world.catalog.items(name="img"))
    with world.database.outside() as connection:
        take_back(connection.execute, 3)
    world.database.close()
    again = World(tmp_path / "library.sqlite3", 9)
    found = (again.catalog.stats(), again.catalog.branches(99), again.catalog.items(name="img"))
    assert found == before
    again.change(30)
    assert again.audit.wrong_counts() == []
    assert again.audit.wrong_names() == []
    again.database.close()


def test_a_sample_is_from_all_over_and_has_no_content_twice(tmp_path):
    database = Database(tmp_path / "library.sqlite3")
    ids = [*range(1, 40), *range(5_000, 5_040), *range(9_000, 9_400)]
    with database.writing() as connection:
        for one in ids:
            connection.exec_driver_sql("INSERT INTO media VALUES (?, ?, 'text')", (one, str(one)))
            connection.exec_driver_sql(
                "INSERT INTO segments (media_id, position, kind, modality, generation) "
                "VALUES (?, 0, 'text', 'text', 1), (?, 1, 'text', 'text', 1)",
                (one, one),
            )
            for copy in range(1 + one % 2):
                path = (f"/{one}/{copy}", "/x", "n", 1, one, "text", "indexed")
                connection.exec_driver_sql(ADDED, path)
    catalog = Catalog(database)
    for count in (1, 3, 24):
        found = catalog.sample(count)
        assert len({item.content_hash for item, _ in found}) == len(found) == count
        assert all(segment.position == 0 for _, segment in found)
        assert all(segment.content_hash == item.content_hash for item, segment in found)
        assert all(item.path.name == "0" for item, _ in found)
    hashes = [int(item.content_hash or 0) for item, _ in catalog.sample(24)]
    assert min(hashes) < 40
    assert max(hashes) > 9_000
    database.close()


def test_an_empty_library_has_nothing_of_anything(tmp_path):
    database = Database(tmp_path / "library.sqlite3")
    catalog = Catalog(database)
    assert catalog.sample(9) == catalog.branches(9) == catalog.folders() == catalog.items() == []
    assert catalog.stats().items == catalog.stats().segments == {}
    database.close()
