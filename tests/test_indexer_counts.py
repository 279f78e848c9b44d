"""What the library knows without counting, and pages of its files, compared with counting."""

import random
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from embedder.media.kinds import Kind
from indexer.catalog import Catalog, listing, schema
from indexer.catalog.names import name_words
from indexer.catalog.outcomes import Indexed, Refused, SegmentRecord
from indexer.catalog.schema import stored_path
from indexer.catalog.sqlite import Database
from indexer.catalog.verify import Audit, recount
from indexer.catalog.writer import CatalogWriter
from indexer.types import Candidate, Filters, Status
from indexer.vectors.interface import SearchFilter

FOLDERS = ("/", "/a", "/a!", "/a/b", "/a/b/c", "/a/b/été", "/a/b/\udce9t", "/z/y/x", "/z/y/xx")
NAMES = ("IMG_2041.jpg", "Été 12.pdf", "beach holiday.txt", "a", "zq", 'qu"ote.txt', "x%.png", "é")


class World:
    """A library whose files come, change, move and go at random; none of them exists."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.database = Database(path)
        self.catalog = Catalog(self.database)
        self.writer = CatalogWriter(self.database)
        self.audit = Audit(self.database)
        self._chance = random.Random(seed)
        self._paths: list[Path] = []

    def copied(self, path: Path) -> "World":
        """Return a copy that goes on as this one would; its database must be closed."""
        shutil.copy(self.path, path)
        other = World(path, 0)
        other._chance, other._paths = copy(self._chance), list(self._paths)
        return other

    def change(self, times: int) -> None:
        """Change that many files, several in a transaction."""
        waiting: list[Indexed | Refused] = []
        for _ in range(times):
            chosen = self._chance.random()
            if chosen < 0.5 or not self._paths:
                waiting.append(self._outcome(self._new_path(), waiting))
            elif chosen < 0.8:
                waiting.append(self._outcome(self._chance.choice(self._paths), waiting))
            else:
                self.writer.record(waiting)
                waiting.clear()
                ids = [item.id for item in self.catalog.items(limit=9_999)]
                self.writer.remove(self._chance.sample(ids, min(1, len(ids))))
        self.writer.record(waiting)

    def _outcome(self, path: Path, waiting: Iterable[Indexed | Refused]) -> Indexed | Refused:
        """Return what became of a file; a known content under a new path is a moved one."""
        candidate = Candidate(path, self._chance.randrange(9_999), self._chance.randrange(3))
        status = self._chance.choice([*Status, Status.INDEXED])
        if status is not Status.INDEXED:
            return Refused(candidate, status, "it is bad", self._chance.choice([*Kind, None]))
        content, vector = str(self._chance.randrange(1, 50)), bytes(8)
        segments = [SegmentRecord(n, "text", vector, text="x") for n in range(int(content) % 3 + 1)]
        stored = {one.content_hash for one in waiting if isinstance(one, Indexed)}
        known = content in stored or self.writer.has_media(content)
        kind = list(Kind)[int(content) % len(Kind)]
        return Indexed(candidate, kind, content, [] if known else segments)

    def _new_path(self) -> Path:
        folder, name = self._chance.choice(FOLDERS), self._chance.choice(NAMES)
        below = self._chance.choice(("", "", "1", "2", "3"))
        path = Path(folder, below, name)
        self._paths.append(path)
        return path

    def items(self) -> list[tuple[Path, Path, int, str | None, str]]:
        """Return path, folder, size, kind and state of every file."""
        return [
            (item.path, item.path.parent, item.size, item.kind, item.status)
            for item in self.catalog.items(limit=9_999)
        ]


@pytest.fixture(scope="module", autouse=True)
def _disks_are_connected() -> Iterator[None]:
    """Let a known content under a new path be a moved one: no file exists here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.catalog.writer.deleted", lambda _path, _folder: True)
        yield


@pytest.fixture(scope="module", params=range(2))
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> World:
    """A world to be copied, with its database closed."""
    world = World(tmp_path_factory.mktemp("made") / "library.sqlite3", request.param)
    world.change(250)
    world.database.close()
    return world


@pytest.fixture
def world(made: World, tmp_path: Path) -> Iterator[World]:
    world = made.copied(tmp_path / "library.sqlite3")
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
        assert dict(world.catalog.branches()) == branches(within)
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
    assert world.audit.unheld()
    gone = world.writer.remove_orphans()
    assert len(gone) == len(set(gone))
    assert world.audit.unheld() == 0
    generation = world.catalog.generation()
    assert world.writer.remove_orphans() == []
    assert world.catalog.generation() == generation


def test_a_content_that_a_file_holds_again_stays(world):
    path = Path("/z/again.txt")
    outcome = Indexed(Candidate(path, 1, 1), Kind.TEXT, "again", [SegmentRecord(0, "text", b"")])
    world.writer.record([outcome])
    world.writer.remove([item.id for item in world.catalog.items(name="again.txt")])
    world.writer.record([replace(outcome, segments=())])
    assert "again" not in world.writer.remove_orphans()
    assert world.audit.unheld() == 0


Held = tuple[int, Path, int]


def held(world: World) -> set[Held]:
    """Return segment, folder and date for each file that holds the segment."""
    return {
        (segment.id, item.path.parent, item.date_ns)
        for item in world.catalog.items(status=Status.INDEXED, limit=9_999)
        for segment in world.catalog.segments(item.id)
    }


def followed(world: World, known: set[Held], since: int) -> tuple[set[Held], int]:
    """Return the holders of an index after it has applied the changes."""
    with world.database.reading() as connection:
        folders = dict(connection.execute(select(schema.folders.c.id, schema.folders.c.path)).all())
    with world.catalog.changes(since) as changes:
        gone = {int(one) for ids in changes.removed.values() for one in ids}
        found = [
            (int(one), folders[int(folder)], int(time))
            for kind, *columns in changes.holders
            for one, folder, time in zip(*columns, strict=True)
            if world.catalog.segment(int(one)).kind is kind
        ]
    assert len(found) == len(set(found))
    changed = gone | {one[0] for one in found}
    return {one for one in known if one[0] not in changed} | set(found), changes.generation


def test_an_index_that_follows_the_holders_knows_them_all(world):
    known, since = followed(world, set(), 0)
    for step in range(20):
        world.change(7)
        world.writer.remove_orphans()
        known, since = followed(world, known, since)
        assert known == held(world)
        if step % 5 == 4:
            assert known == followed(world, set(), 0)[0]


def test_a_filter_by_folder_names_the_folders_below_it(world):
    with world.database.reading() as connection:
        folders = dict(connection.execute(select(schema.folders.c.path, schema.folders.c.id)).all())
    for folder in map(Path, FOLDERS):
        below = {number for path, number in folders.items() if path.is_relative_to(folder)}
        assert world.catalog.filter_of(Filters(folder=folder)) == SearchFilter(frozenset(below))
    assert world.catalog.filter_of(Filters(kinds=frozenset(Kind))) is None
    second = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    dates = SearchFilter(after_ns=0, before_ns=10**9)
    assert world.catalog.filter_of(Filters(after=second.replace(second=0), before=second)) == dates


def test_counts_that_are_wrong_are_found_and_made_right(world):
    with world.database.writing() as connection:
        for table in (schema.item_counts, schema.segment_counts, schema.month_counts):
            connection.execute(delete(table))
        connection.execute(update(schema.folders).values(files=7))
        connection.execute(update(schema.library).values(swept=schema.library.c.generation))
    found = world.audit.wrong_counts()
    assert found[:4] == ["item_counts", "segment_counts", "month_counts", "folders"]
    assert len(found) == 4 + world.audit.unheld()
    with world.database.writing() as connection:
        recount(connection)
    assert world.audit.wrong_counts() == []
    world.change(20)
    assert world.audit.wrong_counts() == []


@pytest.mark.parametrize("few", [listing._MAX_SORTED_FILES, 0])
def test_pages_are_those_of_looking_at_every_file(world, monkeypatch, few):
    monkeypatch.setattr(listing, "_MAX_SORTED_FILES", few)
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


def test_a_name_is_found_whatever_the_case_and_the_accents_of_its_letters(world):
    every = {one.name for one in world.catalog.items(limit=9_999)}
    assert "Été 12.pdf" in every
    assert {one.name for one in world.catalog.items(name="ÉTÉ")} == {"Été 12.pdf"}
    assert world.catalog.items(name="—") == []
    assert {one.name for one in world.catalog.items(name="É")} == {
        name for name in every if {"e", "É", "é"} & set(name)
    }


def test_an_empty_library_has_nothing_of_anything(tmp_path):
    database = Database(tmp_path / "library.sqlite3")
    catalog = Catalog(database)
    assert (
        catalog.timeline.months(Filters())
        == catalog.branches()
        == catalog.folders()
        == catalog.items()
        == []
    )
    assert catalog.stats().items == catalog.stats().segments == {}
    database.close()
