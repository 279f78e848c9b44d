"""The routes of albums and saved searches, without a browser."""

import re
import sqlite3
from contextlib import closing

import pytest
from fastapi import FastAPI
from PIL import Image
from sample_library import copy_library, segment_of
from starlette.testclient import TestClient

from app import living
from app.albums import album_items_router, albums_router, collections_router
from app.page.events import LibraryView
from app.page.labels import folder_id
from app.routes import media_router, search_router
from app.timeline import timeline_router
from indexer import Filters, Library
from indexer.catalog.albums import FAVOURITES


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("albums"))) as library:
        yield library


@pytest.fixture
def client(library, page_over):
    page, app = page_over(library), FastAPI()
    for router in (
        albums_router(page),
        album_items_router(page),
        collections_router(page),
        media_router(library, page.searches),
        search_router(LibraryView(page), page.searches),
        timeline_router(page),
    ):
        app.include_router(router)
    return TestClient(app)


def ids(library, *names):
    return [item.id for name in names for item in library.catalog.items(name=name)]


def post(client, route, **values):
    return client.post(route, json=values)


def test_album_from_its_creation_to_its_end(client, library):
    created = post(client, "/albums", name="Trip", item_ids=ids(library, "blue.jpg")).json()
    album = f"/albums/{created['id']}"
    assert created["added"] == 1
    added = post(client, f"{album}/items", item_ids=ids(library, "green.jpg", "diary.md"))
    assert added.json() == {"added": 2}
    removed = post(client, f"{album}/items/remove", item_ids=ids(library, "green.jpg"))
    assert removed.json() == {"removed": 1}
    assert post(client, album, name="The trip").json() == {"name": "The trip"}
    listed = {"id": created["id"], "name": "The trip", "files": 2}
    assert listed in client.get("/albums").json()
    assert "The trip" in client.get(album).text
    cover = f"thumbnail/{segment_of(library, 'blue.jpg')}"
    assert cover in client.get("/collections").text
    shown = post(client, "/results", text="blue", album=created["id"]).text
    assert "blue.jpg" in shown
    assert "green.jpg" not in shown
    assert post(client, f"{album}/delete").json() == {}
    gone = post(client, f"{album}/items", item_ids=[1])
    assert gone.status_code == 404
    assert gone.json() == {"error": "the library has no such album: it may have been deleted"}
    assert "no such album" in client.get(album).text


def test_cards_say_what_is_a_favourite(client, library):
    chosen = ids(library, "yellow.jpg")
    post(client, f"/albums/{FAVOURITES}/items", item_ids=chosen)
    shown = post(client, "/results", text="yellow.jpg").text
    card = shown[shown.index(f'data-item="{chosen[0]}"') :]
    assert 'aria-pressed="true"' in card[: card.index("</div>")]
    assert shown.count('data-favourite tabindex="-1" aria-pressed="true"') == 1
    detail = client.get(f"/detail/{segment_of(library, 'yellow.jpg')}").text
    assert 'data-favourite aria-pressed="true"' in detail
    refused = post(client, f"/albums/{FAVOURITES}/delete")
    assert refused.status_code == 400
    post(client, f"/albums/{FAVOURITES}/items/remove", item_ids=chosen)


def test_searches_are_saved_and_deleted(client, library):
    search = {
        "text": "boats",
        "kinds": ["pdf"],
        "similar": ["7"],
        "balance": 0.5,
        "files": [],
        "unknown": 1,
    }
    assert post(client, "/searches", name="Boats", search=search).status_code == 200
    (saved,) = library.albums.saved_searches()
    assert (saved.name, saved.search) == (
        "Boats",
        {"text": "boats", "kinds": ["pdf"], "similar": [7]},
    )
    assert "Boats" in client.get("/collections").text
    post(client, f"/searches/{saved.id}/delete")
    assert library.albums.saved_searches() == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": " ", "search": {}}, "a name of 1 to 200 characters"),
        ({"name": "a", "search": {"files": ["a1"]}}, "“More like this”"),
        ({"name": "a", "search": {"kinds": ["song"]}}, "invalid kinds"),
        ({"name": "a", "search": 3}, "invalid search"),
    ],
)
def test_searches_that_cannot_be_saved_say_why(client, library, values, said):
    refused = client.post("/searches", json=values)
    assert refused.status_code == 400
    assert said in refused.json()["error"]
    assert library.albums.saved_searches() == []


# ---- living albums


@pytest.fixture
def reds(client):
    """A living album of what looks red, and what answers it."""
    search = {"text": "red", "kinds": ["image"]}
    album = post(client, "/albums", name="Reds", search=search).json()["id"]
    yield album
    post(client, f"/albums/{album}/delete")


def names(library, album):
    found = library.catalog.timeline.files(Filters(album=album), limit=100)
    return {item.name for item, _ in found}


def asked(client, album):
    """The names of the files that it asks about."""
    return re.findall(r'aria-label="Yes, (\S+) belongs', client.get(f"/albums/{album}").text)


def test_living_album_has_what_its_search_finds(client, library, reds):
    assert all("red" in name for name in names(library, reds))
    assert len(names(library, reds)) == 41
    assert "data-changed" not in client.get(f"/albums/{reds}").text


def test_date_in_the_words_of_a_living_album_stays(client, library):
    search = {"text": "red at Christmas 2020"}
    album = post(client, "/albums", name="Christmas", search=search).json()["id"]
    kept = {"text": "red", "after": "2020-12-24", "before": "2020-12-26"}
    assert library.albums.get(album).search == kept
    assert names(library, album) == set()
    post(client, f"/albums/{album}/delete")


def test_new_files_enter_by_themselves(client, library, reds, tmp_path):
    Image.new("RGB", (320, 240), (212, 38, 38)).save(tmp_path / "scarlet.png")
    library.ingest([tmp_path])
    assert "scarlet.png" not in names(library, reds), "it is filled when it is looked at"
    assert "data-changed" in client.get(f"/albums/{reds}").text
    assert "scarlet.png" in names(library, reds)
    library.forget([tmp_path])
    listed = {one["id"]: one["files"] for one in client.get("/albums").json()}
    assert listed[reds] == 41


def listed(client, album):
    """The ids of the files that an album has as a filter."""
    return set(client.get("/timeline/ids", params={"album": album}).json()["item_ids"])


@pytest.fixture
def scarlet(library, tmp_path):
    """Another process puts a red picture into the library; return its id."""
    Image.new("RGB", (320, 240), (212, 38, 38)).save(tmp_path / "scarlet.png")
    with Library.open(library.directory) as other:
        other.ingest([tmp_path])
    yield ids(library, "scarlet.png")[0]
    library.forget([tmp_path])


def test_album_is_filled_wherever_it_is_a_filter(client, library, reds, scarlet):
    assert scarlet in listed(client, reds)
    with Library.open(library.directory) as other:
        other.remove([scarlet])
        other.ingest([library.catalog.roots()[-1].path])
    (again,) = ids(library, "scarlet.png")
    found = post(client, "/results", text="scarlet.png", album=reds).text
    assert f'data-item="{again}"' in found


def test_album_is_searched_for_once_after_a_change(client, library, reds, monkeypatch):
    searches = []
    monkeypatch.setattr(library, "search", searches.append)
    before = listed(client, reds)
    client.get("/timeline", params={"album": reds})
    client.get("/albums")
    assert (len(before), searches) == (41, [])


def test_album_that_cannot_be_filled_is_still_a_filter(client, library, reds, scarlet, monkeypatch):
    monkeypatch.setattr(living, "_RETRY_SECONDS", 3600.0)
    with closing(sqlite3.connect(library.directory / "library.sqlite3")) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert len(listed(client, reds)) == 41
        searches = []
        with monkeypatch.context() as patched:
            patched.setattr(library, "search", searches.append)
            assert client.get("/timeline", params={"album": reds}).status_code == 200
            assert searches == [], "it would fail each time"
        shown = post(client, "/results", text="red", album=reds).text
        assert "&#34;image&#34;: 41" in shown
    client.get(f"/albums/{reds}")
    assert scarlet in listed(client, reds)


def test_album_whose_search_is_limited_to_itself_is_filled(client, library, scarlet):
    album = post(client, "/albums", name="A", search={"text": "red"}).json()["id"]
    post(client, f"/albums/{album}/delete")
    search = {"text": "red", "album": album + 1}
    assert post(client, "/albums", name="Z", search=search).json() == {"id": album + 1}
    assert listed(client, album + 1) == set(), "nothing was in it"
    post(client, f"/albums/{album + 1}/delete")


def test_files_near_the_border_are_asked_about(client, library, reds):
    assert asked(client, reds) == []
    post(client, f"/albums/{reds}", border=0.08)
    before = asked(client, reds)
    assert {"yellow.jpg", "grey.jpg"} <= {*before}
    post(client, f"/albums/{reds}/items", item_ids=ids(library, "yellow.jpg"))
    assert "yellow.jpg" not in asked(client, reds)
    assert "yellow.jpg" in names(library, reds)
    post(client, f"/albums/{reds}/items/remove", item_ids=ids(library, "red-07.png"))
    client.get(f"/albums/{reds}")
    assert "red-07.png" not in names(library, reds)
    assert "2 answers" in client.get(f"/albums/{reds}").text
    undone = post(client, f"/albums/{reds}/answers/undo", item_ids=ids(library, "red-07.png"))
    assert undone.json() == {"undone": 1}
    client.get(f"/albums/{reds}")
    assert "red-07.png" in names(library, reds)
    assert post(client, f"/albums/{reds}/answers/undo").json() == {"undone": 1}
    assert asked(client, reds) == before


def test_answers_move_what_is_like_them_in_this_album_alone(client, library, reds):
    shown = post(client, "/results", text="red", kinds=["image"]).text
    wrong = ids(library, *(f"red-{number:02}.png" for number in range(20, 30)))
    post(client, f"/albums/{reds}/items/remove", item_ids=wrong)
    client.get(f"/albums/{reds}")
    left = names(library, reds)
    assert not {f"red-{number:02}.png" for number in range(15, 40)} & left, "they look alike"
    again = post(client, "/results", text="red", kinds=["image"]).text
    cards = re.compile(r'data-item="\d+"')
    assert cards.findall(again) == cards.findall(shown)


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"kinds": ["image"]}, "needs words or an example"),
        ({"text": "photos of May 2024"}, "needs words or an example"),
        ({"similar": [999_999]}, "999999"),
        ({"text": "red", "folder": "nowhere"}, "no such folder"),
        ({"text": "red", "files": ["a1"]}, "“More like this”"),
    ],
)
def test_albums_that_nothing_can_fill_are_refused(client, library, search, said):
    before = [album.id for album in library.albums.all()]
    refused = post(client, "/albums", name="Reds", search=search)
    assert refused.status_code in {400, 404}
    assert said in refused.json()["error"]
    assert [album.id for album in library.albums.all()] == before


def test_album_whose_folder_has_left_stays_and_can_be_deleted(client, library, tmp_path):
    Image.new("RGB", (320, 240), (211, 41, 39)).save(tmp_path / "crimson.png")
    library.ingest([tmp_path])
    search = {"text": "red", "folder": folder_id(tmp_path)}
    album = post(client, "/albums", name="Reds there", search=search).json()["id"]
    assert names(library, album) == {"crimson.png"}
    library.forget([tmp_path])
    shown = client.get("/collections")
    assert (shown.status_code, "Reds there" in shown.text) == (200, True)
    assert album in {one["id"] for one in client.get("/albums").json()}
    opened = client.get(f"/albums/{album}").text
    assert "No new files enter this album. The library has no such folder" in opened
    assert "data-delete-album" in opened
    assert post(client, f"/albums/{album}/delete").json() == {}
