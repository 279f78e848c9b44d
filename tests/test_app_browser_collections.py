"""Favourites, albums and saved searches in a real browser."""

import pytest
from browser import DESKTOP, MARKS, PHONE, Window, parameters
from sample_library import copy_library, served_here

from indexer import Filters, Library
from indexer.catalog.albums import FAVOURITES

pytestmark = MARKS


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("collected")
    with Library.open(copy_library(sample_folder, folder)) as library:
        yield library


@pytest.fixture(scope="module")
def address(library, tmp_path_factory):
    with served_here(library, tmp_path_factory.mktemp("scratch")) as address:
        yield address


@pytest.fixture(scope="module")
def window(chromium, address):
    window = Window(chromium, address)
    yield window
    window.close()


def card(page, name):
    return page.locator("#rz-tab-search .rz-card:visible", has_text=name).first


def names(library, album_id):
    return sorted(
        item.name for item, _ in library.catalog.timeline.files(Filters(album=album_id), limit=100)
    )


def show_collections(page):
    page.get_by_role("tab", name="Collections").click()
    page.locator("#rz-collections-list .rz-album").first.wait_for()


def test_heart_makes_a_favourite_by_pointer_and_by_key(window, library):
    page = window.page
    window.search("blue")
    card(page, "blue.jpg").hover()
    heart = card(page, "blue.jpg").get_by_role("button", name="Favourite")
    heart.click()
    window.wait_until(lambda: names(library, FAVOURITES) == ["blue.jpg"])
    card(page, "green.jpg").locator(".rz-open").focus()
    page.keyboard.press("f")
    window.wait_until(lambda: names(library, FAVOURITES) == ["blue.jpg", "green.jpg"])
    window.open("blue.jpg")
    shown = page.locator("#rz-detail").get_by_role("button", name="Favourite")
    assert shown.get_attribute("aria-pressed") == "true"
    window.picture("60-favourite")
    page.keyboard.press("f")
    window.wait_until(lambda: names(library, FAVOURITES) == ["green.jpg"])
    page.keyboard.press("Escape")
    assert heart.get_attribute("aria-pressed") == "false", "the card says the same"


def test_favourites_are_a_filter(window, library):
    page = window.page
    (blue,) = (item.id for item in library.catalog.items(name="blue.jpg"))
    library.albums.add(FAVOURITES, [blue])
    window.load()
    page.get_by_role("button", name="Favourites").click()
    page.locator("#rz-album-head h2", has_text="Favourites").wait_for()
    card(page, "blue.jpg").wait_for()
    assert parameters(page) == {"album": "1"}
    assert page.title() == "Favourites – RzenEmbed Search"
    window.search("green")
    assert page.locator("#rz-results .rz-card").count() == 2
    seen = window.answer()
    page.get_by_role("button", name="Favourites").click()
    window.wait_for_answer(seen)
    assert page.locator("#rz-results .rz-card").count() > 2
    assert parameters(page) == {"q": "green"}
    assert not page.locator("#rz-album-head h2").count()


def test_album_from_the_tab(window, library):
    page = window.page
    show_collections(page)
    page.get_by_role("button", name="New album").click()
    page.get_by_role("textbox", name="Name of the new album").fill("Summer")
    page.keyboard.press("Enter")
    page.locator(".rz-album", has_text="Summer").wait_for()
    album = library.albums.all()[-1]
    library.albums.add(album.id, [item.id for item in library.catalog.items(name="red")])
    window.picture("61-collections")
    page.get_by_role("tab", name="Search").click()
    show_collections(page)
    page.locator(".rz-album", has_text="Summer").locator("img").wait_for()
    page.locator(".rz-album", has_text="Summer").locator("a").click()
    card(page, "red-39.png").wait_for()
    assert parameters(page) == {"album": str(album.id)}
    window.picture("62-album")
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("textbox", name="New name of the album").fill("Autumn")
    page.keyboard.press("Enter")
    page.locator("#rz-album-head h2", has_text="Autumn").wait_for()
    page.reload()
    page.locator("#rz-album-head h2", has_text="Autumn").wait_for()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_text("Its files stay in the library").wait_for()
    window.picture("63-delete-album")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    window.wait_until(lambda: [one.id for one in library.albums.all()] == [FAVOURITES])
    page.wait_for_function("!location.search")
    assert len(library.catalog.items(name="red")) > 1


def test_search_is_saved_and_opened_again(window, library):
    page = window.page
    window.load()
    page.get_by_role("button", name="Photos").click()
    window.search("yellow")
    found = window.names()
    page.get_by_role("button", name="Save this search").click()
    assert page.get_by_role("textbox", name="Name of this search").input_value() == "yellow"
    page.keyboard.press("Enter")
    window.wait_for_message("Saved in Collections: yellow.")
    window.load()
    show_collections(page)
    page.get_by_role("link", name="yellow").click()
    window.wait_for_answer(None)
    assert window.names() == found
    assert parameters(page) == {"q": "yellow", "kind": "image"}
    show_collections(page)
    page.get_by_role("button", name="Delete the search yellow").click()
    window.wait_until(lambda: not library.albums.saved_searches())
    window.wait_for_message("The search “yellow” is deleted.")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="yellow").click()
    window.wait_for_answer(None)
    assert window.names() == found
    assert parameters(page) == {"q": "yellow", "kind": "image"}
    (saved,) = library.albums.saved_searches()
    library.albums.delete_search(saved.id)


def test_deleted_searches_come_back_by_keyboard(window, library):
    page, focused = window.page, "document.activeElement.getAttribute('aria-label')"
    for name in ("one", "two"):
        library.albums.save_search(name, {"text": name})
    window.load()
    show_collections(page)
    page.get_by_role("button", name="Delete the search one").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.textContent === 'Undo'")
    window.picture("70-undo")
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "Delete the search two"
    assert not page.get_by_role("button", name="Undo").count()
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.textContent === 'Undo'")
    page.keyboard.press("Enter")
    page.wait_for_function(f"{focused} === 'Delete the search two'")
    (saved,) = library.albums.saved_searches()
    assert (saved.name, saved.search) == ("two", {"text": "two"})
    library.albums.delete_search(saved.id)


def test_album_that_fills_itself_asks_about_files_near_its_border(window, library):
    page = window.page
    window.load()
    page.get_by_role("button", name="Photos").click()
    window.search("red")
    page.get_by_role("button", name="Save this search").click()
    page.get_by_label("As an album that fills itself").check()
    window.picture("65-save")
    page.keyboard.press("Enter")
    page.locator("#rz-album-head h2", has_text="red").wait_for()
    card(page, "red-39.png").wait_for()
    album = library.albums.all()[-1]
    assert parameters(page) == {"album": str(album.id)}
    library.albums.set_border(album.id, 0.08)
    page.reload()
    page.get_by_role("heading", name="Is this one of them?").wait_for()
    window.picture("66-asked")
    page.get_by_role("button", name="Yes, yellow.jpg belongs to it").click()
    page.get_by_text("1 answer").wait_for()
    assert "yellow.jpg" in names(library, album.id)
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Yes, yellow.jpg belongs to it").wait_for()
    assert "yellow.jpg" not in names(library, album.id)
    page.set_viewport_size(PHONE)
    window.picture("67-asked-phone")
    assert window.narrow()
    page.set_viewport_size(DESKTOP)
    library.albums.delete(album.id)


def test_files_are_put_into_an_album_and_taken_out(window, library):
    page = window.page
    window.load()
    window.search("blue")
    for name in ("blue.jpg", "green.jpg"):
        card(page, name).hover()
        card(page, name).get_by_role("button", name="Select").click()
    page.get_by_role("button", name="Add to album").click()
    page.get_by_role("textbox", name="New album").fill("Two")
    window.picture("68-add")
    page.keyboard.press("Enter")
    window.wait_for_message("2 files added to Two.")
    album = library.albums.all()[-1]
    assert names(library, album.id) == ["blue.jpg", "green.jpg"]
    show_collections(page)
    page.locator(".rz-album", has_text="Two").locator("a").click()
    card(page, "blue.jpg").hover()
    card(page, "blue.jpg").get_by_role("button", name="Select").click()
    page.get_by_role("button", name="Take out of album").click()
    window.wait_for_message("1 file taken out of the album.")
    assert names(library, album.id) == ["green.jpg"]
    library.albums.delete(album.id)


STICKING_OUT = """() => [
    ...document.querySelectorAll('#rz-tab-collections *, #rz-album-head *, dialog[open] *')
].filter(one => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth)
    .map(one => one.outerHTML.slice(0, 80))"""


def test_collections_fit_a_phone_whatever_they_are_called(window, library):
    page, name = window.page, "W" * 200
    album = library.albums.create(name)
    library.albums.save_search(name, {"text": "blue"})
    page.set_viewport_size(PHONE)
    show_collections(page)
    window.picture("64-phone")
    assert page.evaluate(STICKING_OUT) == []
    page.get_by_role("button", name="Delete the search").click()
    page.get_by_role("button", name="Undo").wait_for()
    window.picture("72-message-phone")
    assert page.locator(".rz-toast").bounding_box()["width"] == 390 - 32, "all of the phone"
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Delete the search").wait_for()
    page.locator(".rz-album", has_text=name).locator("a").click()
    page.locator("#rz-album-head h2", has_text=name).wait_for()
    assert page.evaluate(STICKING_OUT) == []
    window.load()
    page.locator("#rz-timeline .rz-select").first.click()
    page.get_by_role("button", name="Add to album").click()
    page.get_by_role("dialog").get_by_role("button", name=name).wait_for()
    window.picture("69-choices-phone")
    assert page.evaluate(STICKING_OUT) == []
    page.keyboard.press("Escape")
    page.route("**/albums", lambda route: route.fulfill(status=503, json={"error": "busy"}))
    page.get_by_role("button", name="Add to album").click()
    window.wait_for_message("Busy.")
    page.unroute("**/albums")
    page.set_viewport_size(DESKTOP)
    library.albums.delete(album)


def test_long_words_of_buttons_fit_a_phone(chromium, address, library):
    album = library.albums.create("Reisen")
    library.albums.add(album, [item.id for item in library.catalog.items(name="red")])
    window = Window(chromium, address, viewport=PHONE, locale="de-DE")
    window.go(f"{address}/?album={album}")
    window.page.get_by_role("button", name="Herunterladen").wait_for()
    window.picture("71-album-phone-german")
    assert window.page.evaluate(STICKING_OUT) == []
    window.page.get_by_role("button", name="Album schließen").click()
    window.page.locator("#rz-album-head h2").wait_for(state="detached")
    window.close()
    library.albums.delete(album)
