"""No statement goes through a whole table: SQLite's plan of each, taken while the program runs.

The library is small, and its plans are those of a large one: nothing ever runs ANALYZE, so that
SQLite chooses by the statement and the indexes alone.
"""

import inspect
import pkgutil
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import import_module
from itertools import product
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, event

import indexer.catalog
from app.page.labels import folder_choices, folder_of
from embedder import Content, Modality
from embedder.media.kinds import Kind
from embedder.toy import ToyEmbedder
from indexer import FileOrder, Filters, IngestOptions, Library, Query, QueryPart, Status
from indexer.catalog.duplicates import DuplicateKind
from indexer.catalog.readings import Readings
from indexer.catalog.sqlite import Database
from indexer.catalog.verify import Audit, CatalogRepair
from indexer.maintenance.backup import back_up
from indexer.maintenance.check import check
from indexer.maintenance.compact import compact
from indexer.maintenance.repair import repair
from indexer.maintenance.stats import inventory
from indexer.maintenance.storage import LibraryFiles, open_storage
from indexer.types import TextLine

CATALOG = str(Path(indexer.catalog.__file__).parent)
SMALL = {
    "library",
    "pending",
    "item_counts",
    "segment_counts",
    "albums",
    "saved_searches",
    "dismissed_groups",
    "sqlite_master",
    "sqlite_sequence",
}

CHECK = "a check looks at everything, which is what it is for"
REPAIR = "it rebuilds what a check has found wrong"
REEMBED = "every segment gets a new vector"
READ = "once for each pass over the pictures, of which it knows the number then"
DATES = "it counts all files that fit, in one index"
SOON = "it stops as soon as it has as many as asked for"
FEW = "the files that hold the same bytes"
SOME = "it only puts in order what was found by an index"

ALLOWED = {
    "Audit.": CHECK,
    "StagedVectors.": REEMBED,
    "Readings.count": READ,
    "Readings.unread": READ,
    "Catalog.count_items": "it counts all files that fit",
    "Catalog.branches": "once for each generation, and there are fewer folders than files",
    "Catalog.filter_of": "the segments with words, in an index of these, where that is a filter",
    "_every_vector": "for a vector index that has to be rebuilt",
    "_changed_holders": "likewise, for the files that hold its segments",
    "Catalog.exact_duplicates": "all of them, on request only",
    "Catalog.folders": "all of them, and there are fewer folders than files; the page takes some",
    "Catalog.has_vectors": SOON,
    "Catalog.holds_vectors_of": SOON,
    "Catalog.items": SOON,
    "Catalog.picture_hashes": "all pictures, once one in a thousand of them has changed",
    "Catalog.roots": "all of them, the few folders that a user has named",
    "Catalog.root_paths": "all of them, the few folders that a user has named",
    "Catalog.scanned_at": "likewise",
    "CatalogRepair.rebuild_derived": REPAIR,
    "DuplicateGroups._groups": "all of them, once for each generation, on request only",
    "Timeline.": DATES,
}
"""Functions of the catalog that may go through a whole table, themselves or through others."""

SORTS = {
    "Albums.": "what is in one album, for its cover, and the albums themselves by name",
    "Audit.": CHECK,
    "Catalog.completions": SOME,
    "Catalog.count_items": "the states of the files that fit, which are three",
    "Catalog.details": FEW,
    "Catalog.exact_duplicates": ALLOWED["Catalog.exact_duplicates"],
    "Catalog.find_names": SOME,
    "Catalog.find_words": SOME,
    "Catalog.item_of": FEW,
    "Catalog.items": SOME,
    "Catalog.oldest_items": SOME,
    "Catalog.resolve": SOME,
    "DuplicateGroups.": "all of them by what they waste, and the files of the groups shown",
    "CatalogWriter.below": SOME,
    "CatalogWriter.holders": FEW,
    "CatalogRepair.rebuild_derived": REPAIR,
    "Timeline.": DATES,
    "Readings.outline": FEW,
    "Readings.unread": "the newest first, once for each pass",
    "WriteTransaction.holders": FEW,
    "WriteTransaction.remove_segments": "those of media that are removed, by kind",
    "_outline": FEW,
}
"""Functions that may put rows in order."""

UNSEEN = {"Catalog.moment": "it asks nothing"}
"""Functions that make no statement which SQLAlchemy sees, and why."""


@dataclass
class Plans:
    """What SQLite does for each statement, by the function of the catalog that asked for it.

    Attributes:
        asked: Functions of the catalog that made statements, directly or through others.
        endless: Steps through a whole table, by function.
        sorted: Steps that put rows in order, by function.
        statistics: What SQLite knows of the tables when it chooses.
    """

    asked: set[str] = field(default_factory=set)
    endless: dict[str, set[str]] = field(default_factory=dict)
    sorted: dict[str, set[str]] = field(default_factory=dict)
    statistics: set[str] = field(default_factory=set)

    def note(
        self,
        connection: Any,
        _cursor: object,
        statement: str,
        given: Any,
        _context: object,
        many: bool,
    ) -> None:
        """A listener for SQLAlchemy, called before each statement."""
        asking = _asking()
        self.asked |= set(asking)
        if not re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", statement):
            return
        owner = " < ".join(asking) or "no function of the catalog"
        driver: sqlite3.Connection = connection.connection.driver_connection
        plan = driver.execute(f"EXPLAIN QUERY PLAN {statement}", given[0] if many else given)
        for *_, step in plan.fetchall():
            if _is_endless(step):
                self.endless.setdefault(owner, set()).add(f"{step} — {statement}")
            if "TEMP B-TREE" in step:
                self.sorted.setdefault(owner, set()).add(f"{step} — {statement}")


def _asking() -> list[str]:
    """Functions of the catalog that are running, the innermost first."""
    frame, found = inspect.currentframe(), []
    while frame is not None:
        if frame.f_code.co_filename.startswith(CATALOG):
            found.append(re.sub("CatalogReader|WordLookup", "Catalog", frame.f_code.co_qualname))
        frame = frame.f_back
    return found


def _is_endless(step: str) -> bool:
    """Whether a step looks at every row of what may be large."""
    if "AUTOMATIC" in step or "(media_id>?)" in step:  # `media_id IS NOT NULL`.
        return True
    if not step.startswith("SCAN "):
        return False
    name, virtual = step.split()[1], re.search(r"VIRTUAL TABLE INDEX (\d+):(\S*)", step)
    if virtual:
        return name != "json_each" and virtual[1] == "0" and "M" not in virtual[2]
    return name not in SMALL and not re.match(r"\(|CONSTANT|anon_", name)


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """Everything that the program does with a library, done once."""
    noted, folder = Plans(), tmp_path_factory.mktemp("plans")
    event.listen(Engine, "before_cursor_execute", noted.note)
    try:
        live(folder)
    finally:
        event.remove(Engine, "before_cursor_execute", noted.note)
    with closing(sqlite3.connect(folder / "library" / "library.sqlite3")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'sqlite_stat%'")
        noted.statistics |= {name for (name,) in tables}
    return noted


class Other(ToyEmbedder):
    """The toy under another name, so that all vectors have to be computed again."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, name="other", revision="2")


def live(folder: Path) -> None:
    """Ingest, search, view, remove, re-embed and maintain a library."""
    media = folder / "media"
    (media / "sub").mkdir(parents=True)
    for number in range(4):
        (media / f"{number}.txt").write_text(f"text number{number} about red things")
    (media / "copy.txt").write_text((media / "0.txt").read_text())
    (media / "sub" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for number, colour in enumerate(("red", "green")):
        Image.new("RGB", (96 + number, 64), colour).save(media / f"{colour}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "indexer.library.open_embedder",
            lambda name, **_: Other() if name == "other" else ToyEmbedder(),
        )
        with Library.open(folder / "library", model="toy") as library:
            take_in(library, media)
            look_at(library)
            read(library)
            arrange(library)
            search(library, media)
            take_out(library, media)
            embed_anew(library, media)
        with open_storage(folder / "library") as place:
            look_after(place, folder)


def take_in(library: Library, media: Path) -> None:
    """Files that are new, unchanged, changed, moved, failed and gone."""
    library.plan([media])
    library.ingest([media])
    library.ingest([media])
    (media / "1.txt").write_text("something else altogether")
    (media / "2.txt").rename(media / "sub" / "moved.txt")
    (media / "3.txt").unlink()
    library.ingest([media])
    library.ingest([], IngestOptions(retry_failed=True))
    library.catalog.holds_vectors_of(Other().info)


def read(library: Library) -> None:
    """Words in pictures, which take the place of those that were read before."""
    readings = Readings(library.catalog._database)
    for revision in ("1", "2"):
        for media_id in readings.unread(revision):
            outline = readings.outline(media_id)
            lines = {one.id: [TextLine("red sign")] for one in outline.segments}
            readings.record(revision, {media_id: lines})
    assert readings.count() == 2
    library.catalog.filter_of(Filters(has_text=True))
    library.catalog.timeline.files(Filters(has_text=True))
    library.catalog.find_words(["sign"])
    (item,) = library.catalog.items(name="red.png")
    (segment,) = library.catalog.segments(item.id)
    assert library.catalog.lines(segment.id)
    assert library.catalog.text(segment) == "red sign"


def look_at(library: Library) -> None:
    """What the page shows before and beside a search."""
    library.catalog.stats()
    library.catalog.timeline.months(Filters())
    choice = folder_choices(library)[-1]
    library.catalog.has_folder(folder_of(library, choice.id))
    library.catalog.folders()
    library.catalog.completions("red thi")
    library.indexed_folders()
    library.catalog.duplicates()
    library.catalog.looks(range(1, 5))
    for status, kind, name in product((None, Status.FAILED), (None, Kind.TEXT), (None, "t", "txt")):
        library.catalog.items(status=status, kind=kind, name=name)
    with pytest.MonkeyPatch.context() as patch:  # As where many files have the name.
        patch.setattr("indexer.catalog.listing._MAX_SORTED_FILES", 0)
        for status, kind in product((None, Status.INDEXED), (None, Kind.TEXT)):
            library.catalog.items(status=status, kind=kind, name="txt")
            library.catalog.count_items(kind=kind, name="txt")
    folder, _ = library.catalog.folders()[0]
    for order, name in product(FileOrder, (None, "txt")):
        library.catalog.items(order=order, name=name, folder=folder)
        library.catalog.items(order=order, name=name, descending=True)
    library.catalog.count_items()
    library.catalog.count_items(folder=folder)
    library.catalog.item_ids(Status.INDEXED, folder=folder)
    library.catalog.paths_in(folder)
    library.set_watched(True)
    library.catalog.watched()
    (item,) = library.catalog.items(name="red.png")
    library.catalog.first_segments([item.id])
    (segment,) = library.catalog.segments(item.id)
    library.catalog.item(item.id)
    library.catalog.details(item.id)
    library.catalog.segment(segment.id)
    library.catalog.item_of(segment.id)
    library.catalog.words(segment.id)
    library.thumbnail(segment.id)


def arrange(library: Library) -> None:
    """Albums, a living one among them, and saved searches."""
    albums, (red,) = library.albums, library.catalog.items(name="red.png")
    for search in (None, {"text": "red"}):
        album = albums.create("Red", search=search, border=0.5)
        albums.add(album, [red.id])
        albums.set_cover(album, red.id)
        albums.rename(album, "Reds")
        albums.set_border(album, 0.4)
        albums.fill(album, albums.contents(album) | {"of a later file"}, "now")
        albums.remove(album, [red.id])
        albums.is_outdated(album, "later")
        albums.answers(album)
        albums.forget_answers(album, [red.id])
        albums.all()
        library.catalog.timeline.files(Filters(album=album))
        library.catalog.filter_of(Filters(album=album))
        albums.delete(album)
    albums.save_search("Red", {"text": "red"})
    for saved in albums.saved_searches():
        albums.delete_search(saved.id)
    for kind in DuplicateKind:
        library.duplicates.page(kind, 10)
    copies = [item.id for item in library.catalog.items(name="txt")]
    for group in library.duplicates.of(copies):
        library.duplicates.dismiss(group.key)
        library.duplicates.restore(group.key)
    library.catalog.files(copies)


def search(library: Library, media: Path) -> None:
    """Words and pictures, with every combination of filters."""
    day = datetime(2024, 5, 17, tzinfo=UTC)
    kinds = (frozenset(), frozenset({Kind.TEXT}), frozenset({Kind.TEXT, Kind.IMAGE}))
    words = QueryPart(Content(text="red text number"))
    picture = QueryPart(
        Content(frames=(Image.new("RGB", (64, 64), "red"),), modality=Modality.IMAGE)
    )
    like = QueryPart(
        segment_id=library.catalog.segments(library.catalog.items(name="red.png")[0].id)[0].id
    )
    for chosen in product(kinds, (None, media), (None, day), (None, day.replace(year=2099))):
        filters = Filters(*chosen)
        library.catalog.filter_of(filters)
        timeline = library.catalog.timeline
        timeline.months(filters)
        timeline.files(filters, month=day.date())
        timeline.files(filters, oldest_first=True)
        timeline.ids(filters, 3)
        timeline.kinds(filters)
        timeline.folders(filters)
        for parts in ((words,), (picture, words), (like,)):
            assert isinstance(library.search(Query(parts, filters)), list)
    assert library.catalog.with_every_word(["number0"], np.arange(1, 9)).size == 1
    assert library.catalog.with_any_word(["number0"], np.arange(1, 9)).size == 1
    assert Kind.TEXT in library.catalog.kinds_of(range(1, 9)).values()


def take_out(library: Library, media: Path) -> None:
    """A file that is removed, and the copy of one that stays."""
    for name in ("green.png", "copy.txt"):
        library.remove([item.id for item in library.catalog.items(name=name)])
    (media / "green.png").unlink()
    (media / "copy.txt").unlink()
    (media / "sub" / "moved.txt").unlink()
    library.forget([media / "sub"])


def embed_anew(library: Library, media: Path) -> None:
    """A run that is stopped, one that is discarded, one for which a file is missing."""
    stop = Event()
    library.reembed("other", on_progress=lambda _: stop.set(), cancel=stop)
    library.plan_reembed("other")
    library.discard_pending()
    (media / "red.png").unlink()
    library.plan_reembed("other")
    assert not library.reembed("other").switched
    assert library.reembed("other", leave_out=True).switched
    assert library.search(Query((QueryPart(Content(text="red")),)))


def look_after(place: LibraryFiles, folder: Path) -> None:
    """What `rzen-admin` does, with faults to be found."""
    inventory(place)
    back_up(place, folder / "backup")
    check(place, read_files=True)
    with closing(sqlite3.connect(place.database.path)) as connection:
        connection.executescript(
            "UPDATE vectors SET data = x'' WHERE segment_id = (SELECT max(id) FROM segments);"
            "UPDATE segments SET generation = 999;"
            "DELETE FROM segment_counts; DELETE FROM item_names_docsize;"
        )
    repair(place, read_files=True)
    compact(place)
    ask_the_rest(place)


def ask_the_rest(place: LibraryFiles) -> None:
    """What takes a rarer fault, or another one, to be asked."""
    audit, writer = Audit(place.database), place.ledger
    tables = CatalogRepair(place.database)
    held = next(audit.held())
    audit.kind_of(held.content_hash)
    place.ledger.holders(held.content_hash)
    place.ledger.rename_model(Other().info)
    place.catalog.oldest_items([1, 2, 3])
    tables.ask_for_files([held.id], "it is asked for")
    tables.drop_dangling([("words", 999)])
    tables.drop_vectors([999])
    place.pending.forget([999])
    writer.move("other", {place.directory: place.directory})
    tables.rebuild_keys()


def classes() -> dict[str, type]:
    """Classes of the catalog that work with a database."""
    modules = [
        import_module(f"indexer.catalog.{one.name}") for one in pkgutil.iter_modules([CATALOG])
    ]
    return {
        name: found
        for module in modules
        for name, found in vars(module).items()
        if inspect.isclass(found)
        and found.__module__ == module.__name__
        and "database" in inspect.signature(found).parameters
    }


def names(owner: str) -> set[str]:
    """The functions that made a statement; "Audit." stands for all functions of that class."""
    asking = owner.split(" < ")
    return {*asking, *(f"{one.partition('.')[0]}." for one in asking)}


def unexpected(steps: dict[str, set[str]], allowed: dict[str, str]) -> dict[str, set[str]]:
    """What is not allowed."""
    return {owner: said for owner, said in steps.items() if not names(owner) & set(allowed)}


def test_everything_that_the_catalog_can_be_asked_is_asked_here(plans):
    public = {
        f"{name}.{method}".replace("CatalogReader", "Catalog").replace("WordLookup", "Catalog")
        for name, found in classes().items()
        for method, function in vars(found).items()
        if inspect.isfunction(function) and not method.startswith("_")
    }
    assert len(public) > 50
    assert public - set(UNSEEN) - plans.asked == set()


def test_nothing_goes_through_a_whole_table(plans):
    assert unexpected(plans.endless, ALLOWED) == {}


def test_nothing_is_put_in_order_that_an_index_has_in_order(plans):
    assert unexpected(plans.sorted, SORTS) == {}


def test_a_function_that_need_not_be_allowed_is_not(plans):
    assert set(ALLOWED) - set().union(*map(names, plans.endless)) == set()


def test_nothing_makes_sqlite_choose_by_what_is_in_the_tables(plans):
    assert plans.statistics == set()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM segments",
        "SELECT path FROM items WHERE name_words LIKE '%x%'",
        "SELECT id FROM items WHERE media_id IS NOT NULL",
        "SELECT rowid FROM item_names",
        "SELECT i.id FROM items i LEFT JOIN (SELECT id FROM media) m ON m.id = i.size + 1",
    ],
)
def test_a_statement_that_goes_through_a_table_is_noticed(tmp_path, statement):
    database = Database(tmp_path / "library.sqlite3")
    with database.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}").all()
    database.close()
    assert any(_is_endless(step) for *_, step in plan)
