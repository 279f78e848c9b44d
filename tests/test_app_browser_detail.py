"""What the detail dialog says about a file, and where that leads, in a real browser."""

import pytest
from browser import DESKTOP, MARKS, PHONE, Window
from PIL import Image
from sample_library import copy_library, served_here

from app import desktop
from indexer import Library

pytestmark = MARKS

KEYWORDS = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"
    xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    xmlns:dc="http://purl.org/dc/elements/1.1/">
<rdf:RDF><rdf:Description><dc:subject><rdf:Bag>
<rdf:li>snow</rdf:li><rdf:li>race</rdf:li>
</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture(scope="module")
def window(chromium, sample_folder, tmp_path_factory):
    """One window for all tests, on a library with a photo that says much about itself, twice."""
    folder = tmp_path_factory.mktemp("detail")
    exif = Image.Exif()
    exif[0x0110], exif[0x010E] = "Canon EOS 5D", "Toboggan race"
    exif.get_ifd(0x8769)[0x9003] = "2009:05:06 23:30:10"
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 46.0, 33.0), 3: "E", 4: (13.0, 26.0, 2.0)})
    for name in ("winter", "copies"):
        (folder / name).mkdir()
        picture = Image.new("RGB", (640, 480), "white")
        picture.save(folder / name / "race.jpg", exif=exif, xmp=KEYWORDS)
    with (
        Library.open(copy_library(sample_folder, folder)) as library,
        pytest.MonkeyPatch.context() as patch,
    ):
        library.ingest([folder / "winter"])  # First, so that it is the one that is found.
        library.ingest([folder / "copies"])
        patch.setenv("DISPLAY", ":0")
        patch.setattr(desktop, "_run", lambda command: command[0] == "xdg-open")
        with served_here(library, tmp_path_factory.mktemp("scratch")) as address:
            window = Window(chromium, address)
            yield window
            window.close()


@pytest.fixture
def desk(window):
    """The window with the dialog closed."""
    window.page.set_viewport_size(DESKTOP)
    yield window
    window.page.evaluate("document.querySelector('#rz-detail').close()")
    window.page.wait_for_function("!document.querySelector('#rz-detail-title')")
    assert not window.problems


def test_copies_are_listed_and_shown_on_the_desktop(desk):
    page = desk.page
    desk.search("toboggan")
    desk.open("race.jpg")
    copies = page.locator("#rz-detail .rz-path")
    assert copies.count() == 2
    desk.picture("details")
    with page.expect_response("**/desktop/*/open") as answer:
        copies.last.get_by_role("button", name="Open").click()
    assert answer.value.status == 204
    page.set_viewport_size(PHONE)
    desk.picture("details-phone")


def test_missing_file_manager_is_told(desk, monkeypatch):
    page = desk.page
    desk.search("toboggan")
    desk.open("race.jpg")
    monkeypatch.setattr(desktop, "_run", lambda command: False)
    page.get_by_role("button", name="Show in folder").first.click()
    desk.wait_for_message("No file manager of this machine answered.")


@pytest.mark.parametrize(
    ("link", "parameter"),
    [("snow", "q=%22snow%22"), ("6 May 2009", "after=2009-05-06"), ("winter", "folder=")],
)
def test_details_lead_to_what_else_has_them(desk, link, parameter):
    page = desk.page
    desk.search("toboggan")
    desk.open("race.jpg")
    page.locator("#rz-detail .rz-facts").get_by_role("link", name=link).click()
    page.wait_for_function("parameter => location.search.includes(parameter)", arg=parameter)
    page.wait_for_function("!document.querySelector('#rz-detail').open")
    page.locator("#rz-tab-search .rz-card:visible", has_text="race.jpg").first.wait_for()
    page.go_back()
    page.wait_for_selector("#rz-detail .rz-detail")


def test_related_files_open_in_place(desk):
    page = desk.page
    desk.search("blue")
    desk.open("blue.jpg")
    related = page.locator("[data-related]")
    related.get_by_role("heading", name="Related").wait_for()
    desk.picture("related")
    related.get_by_role("link", name="walk.webm").click()
    page.wait_for_selector("#rz-detail .rz-detail[data-name='walk.webm']")
    shown = page.locator("#rz-detail .rz-detail").get_attribute("data-segment")
    assert f"open={shown}" in page.url
    related.get_by_role("heading", name="Around this").get_by_role("link").click()
    page.wait_for_function("!document.querySelector('#rz-detail').open")
    page.wait_for_function("location.search.includes('after=')")
