"""Albums, favourites and saved searches: what is in them, and that it stays there."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from maintained_library import copy, run, sql
from PIL import Image

from embedder import Content
from indexer import Filters, Library, NotFound, Query, QueryError, QueryPart
from indexer.catalog.albums import FAVOURITES
from indexer.maintenance import backup
from indexer.maintenance.storage import open_storage

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 220)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of three colours and a text."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (96, 64), colour).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("A red lighthouse stands above the harbour.")
    return folder


@pytest.fixture
def library(tmp_path: Path, folder: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([folder])
        yield library


def ids(library: Library, *names: str) -> list[int]:
    return [item.id for name in names for item in library.catalog.items(name=name)]


def names(library: Library, album_id: int) -> list[str]:
    """The names of the files in an album, in order."""
    chosen = library.catalog.timeline.files(Filters(album=album_id), limit=100)
    return sorted(item.name for item, _ in chosen)


def test_albums_are_made_changed_and_deleted(library):
    albums = library.albums
    trip = albums.create("  The   trip ")
    assert albums.add(trip, ids(library, "red", "notes")) == 2
    assert albums.add(trip, [*ids(library, "red", "blue"), 999]) == 1, "one that was not in it"
    assert names(library, trip) == ["blue.png", "notes.txt", "red.png"]
    assert albums.remove(trip, ids(library, "red", "green")) == 1
    assert names(library, trip) == ["blue.png", "notes.txt"]
    albums.rename(trip, "Walk")
    found = albums.get(trip)
    assert (found.name, found.files) == ("Walk", 2)
    assert library.catalog.item_of(found.cover).name == "blue.png", "texts have no picture"
    assert [album.name for album in albums.all()] == ["Favourites", "Walk"]
    albums.delete(trip)
    assert [album.id for album in albums.all()] == [FAVOURITES]
    assert len(library.catalog.items()) == 4, "the files stay"
    with pytest.raises(NotFound):
        albums.add(trip, ids(library, "red"))


def test_cover_is_the_one_that_was_chosen(library):
    trip = library.albums.create("Trip")
    library.albums.add(trip, ids(library, "red", "green", "blue"))
    for name in COLOURS:
        library.albums.set_cover(trip, *ids(library, name))
        assert library.catalog.item_of(library.albums.get(trip).cover).name == f"{name}.png"
    library.albums.remove(trip, ids(library, "blue"))
    assert library.catalog.item_of(library.albums.get(trip).cover).name != "blue.png"


@pytest.mark.parametrize("name", ["", " \n", "x" * 201])
def test_names_are_refused(library, name):
    for refused in (
        lambda: library.albums.create(name),
        lambda: library.albums.rename(library.albums.create("a"), name),
        lambda: library.albums.save_search(name, {}),
    ):
        with pytest.raises(QueryError, match="a name of 1 to 200 characters"):
            refused()


def test_favourites_stay(library):
    for refused in (
        lambda: library.albums.delete(FAVOURITES),
        lambda: library.albums.rename(FAVOURITES, "Best"),
    ):
        with pytest.raises(QueryError, match="favourites"):
            refused()


def test_files_say_whether_they_are_favourites(library):
    library.albums.add(FAVOURITES, ids(library, "red"))
    liked = {item.name: item.favourite for item in library.catalog.items()}
    assert [name for name, favourite in liked.items() if favourite] == ["red.png"]
    library.albums.remove(FAVOURITES, ids(library, "red"))
    assert not any(item.favourite for item in library.catalog.items())


def test_search_finds_only_what_is_in_the_album(library):
    trip = library.albums.create("Trip")
    library.albums.add(trip, ids(library, "green", "notes"))
    query = Query((QueryPart(Content(text="red")),), Filters(album=trip))
    assert sorted(hit.item.name for hit in library.search(query)) == ["green.png", "notes.txt"]
    library.albums.remove(trip, ids(library, "green"))
    assert [hit.item.name for hit in library.search(query)] == ["notes.txt"]
    empty = Query(query.parts, Filters(album=library.albums.create("Empty")))
    assert library.search(empty) == []


def move(folder: Path) -> None:
    (folder / "later").mkdir()
    (folder / "red.png").rename(folder / "later" / "crimson.png")


def edit(folder: Path) -> None:
    Image.new("RGB", (96, 64), (230, 20, 20)).save(folder / "red.png")


def edit_beside_copy(folder: Path) -> None:
    """Leave the bytes that were added in a copy only."""
    shutil.copy(folder / "red.png", folder / "red copy.png")
    edit(folder)


CHANGES = {
    "moved": (move, ["crimson.png"]),
    "edited": (edit, ["red.png"]),
    "edited beside a copy": (edit_beside_copy, ["red copy.png", "red.png"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_stay_in_their_albums_when(library, folder, change):
    library.albums.add(FAVOURITES, ids(library, "red"))
    made, expected = CHANGES[change]
    if "copy" in change:
        shutil.copy(folder / "red.png", folder / "red copy.png")
        library.ingest([folder])
    made(folder)
    library.ingest([folder])
    assert names(library, FAVOURITES) == expected


def test_contents_come_back_to_their_albums(library, folder):
    library.albums.add(FAVOURITES, ids(library, "red"))
    library.forget([folder])
    assert library.albums.get(FAVOURITES).files == 0
    library.ingest([folder])
    assert names(library, FAVOURITES) == ["red.png"]


def test_removed_copy_leaves_the_other_one_in_the_album(library, folder):
    shutil.copy(folder / "red.png", folder / "scarlet.png")
    library.ingest([folder])
    library.albums.add(FAVOURITES, ids(library, "red"))
    library.remove(ids(library, "red"))
    assert names(library, FAVOURITES) == ["scarlet.png"]


def test_albums_survive_new_model_compaction_and_backup(library, tmp_path):
    library.albums.add(FAVOURITES, ids(library, "red"))
    library.albums.save_search("Boats", {"text": "boats"})
    library.reembed("mini")
    assert names(library, FAVOURITES) == ["red.png"]
    where = library.directory
    library.close()
    assert run(where, "compact") == 0
    with open_storage(where) as place:
        backup.back_up(place, tmp_path / "backup")
    backup.restore(tmp_path / "backup", tmp_path / "restored")
    with closing(Library.open(tmp_path / "restored")) as restored:
        assert names(restored, FAVOURITES) == ["red.png"]
        (saved,) = restored.albums.saved_searches()
        assert (saved.name, saved.search) == ("Boats", {"text": "boats"})
        restored.albums.delete_search(saved.id)
        assert restored.albums.saved_searches() == []


def test_contents_of_missing_albums_are_found_and_repaired(tmp_path, capsys):
    where = copy(tmp_path)
    sql(where, "INSERT INTO album_contents VALUES (1, 'kept', 0), (7, 'lost', 0)")
    assert run(where, "check") == 1
    assert "album_contents" in capsys.readouterr().out
    assert run(where, "repair") == 0
    assert run(where, "check") == 0
    with Library.open(where) as library:
        assert library.albums.contents(FAVOURITES) == {"kept"}


def test_hearts_do_not_wait_for_an_ingest(library):
    with library._write_lock.held():
        assert library.albums.add(FAVOURITES, ids(library, "red")) == 1
