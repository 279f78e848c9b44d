"""Words in pictures on the page: reading them, the filter, and marking them, in a real browser."""

from contextlib import nullcontext
from threading import Event

import pytest
from browser import MARKS, Window, parameters
from PIL import Image, ImageDraw
from sample_library import served_here

from embedder.media.kinds import Word
from indexer import Library
from indexer.types import TextLine

pytestmark = MARKS

BOX = (0.25, 0.1, 0.75, 0.2)


class SignReader:
    """Reads the same two lines in every picture whose name begins with "sign"."""

    revision = "1"

    def __init__(self):
        self.may_go_on = Event()
        self.may_go_on.set()

    def lines(self, path, kind, places):
        self.may_go_on.wait(60)
        for place in places if path.name.startswith("sign") else ():
            yield place.id, TextLine("BAKERY17X", (Word("BAKERY17X", *BOX),))
            yield place.id, TextLine("open <all> day", (Word("open", 0.1, 0.8, 0.3, 0.9),))


@pytest.fixture
def reader():
    return SignReader()


@pytest.fixture
def media(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    picture = Image.new("RGB", (800, 500), "#dde")
    ImageDraw.Draw(picture).rectangle((200, 50, 600, 100), fill="#a33")
    picture.save(media / "sign.png")
    for name in ("plain.png", "other.png"):
        Image.new("RGB", (300, 200), "green" if name == "plain.png" else "blue").save(media / name)
    return media


@pytest.fixture
def library(media, reader, tmp_path):
    with Library.open(tmp_path / "library", model="toy") as library:
        library.text_reader = lambda _cancel: nullcontext(reader)
        library.ingest([media])
        yield library


@pytest.fixture
def window(chromium, library, background_ocr, tmp_path):
    with served_here(library, tmp_path / "scratch") as address:
        window = Window(chromium, address)
        yield window
        window.close()
    assert not window.problems


def wait_for_reading(page, text):
    page.get_by_role("tab", name="Library").click()
    page.locator("#rz-reading-state", has_text=text).wait_for()


def test_words_are_found_and_marked_on_the_picture(window):
    page = window.page
    wait_for_reading(page, "Words read in 3 of 3 files")
    window.picture("reading-done")
    page.get_by_role("tab", name="Search").click()
    window.search("bakery17")
    page.get_by_text("Contains your words").first.wait_for()
    window.open("sign.png")
    text = page.locator(".rz-read p")
    assert text.inner_text().split("\n") == ["BAKERY17X", "open <all> day"]
    assert text.locator("mark").inner_text() == "BAKERY17"
    page.wait_for_function("document.querySelector('.rz-marked svg')?.viewBox.baseVal.width == 800")
    assert page.locator(".rz-marked rect").count() == 1
    assert is_over_the_word(page)
    window.picture("marked")
    for _ in range(2):
        page.keyboard.press("+")
    assert page.evaluate("document.querySelector('.rz-marked').style.transform").endswith(
        "scale(2.25)"
    )
    assert is_over_the_word(page)
    window.picture("marked-zoomed")
    page.set_viewport_size({"width": 390, "height": 844})
    assert is_over_the_word(page)
    window.picture("marked-phone")
    copied = page.locator(".rz-read [data-copy]")
    assert copied.get_attribute("data-copy") == "BAKERY17X\nopen <all> day"


def is_over_the_word(page):
    """Whether the mark is where the word is in the picture, which lies in the middle of its box."""
    image, mark = (
        page.evaluate(
            "selector => document.querySelector(selector).getBoundingClientRect().toJSON()", one
        )
        for one in (".rz-marked img", ".rz-marked rect")
    )
    scale = min(image["width"] / 800, image["height"] / 500)
    left = image["left"] + (image["width"] - 800 * scale) / 2
    top = image["top"] + (image["height"] - 500 * scale) / 2
    wanted = (left + 200 * scale, top + 50 * scale, left + 600 * scale, top + 100 * scale)
    found = (mark["left"], mark["top"], mark["right"], mark["bottom"])
    return found == pytest.approx(wanted, abs=3)


def test_only_files_with_text_are_listed(window):
    page = window.page
    wait_for_reading(page, "Words read in 3 of 3 files")
    page.get_by_role("tab", name="Search").click()
    page.locator("#rz-home .rz-card").nth(2).wait_for()
    page.locator("#rz-has-text").select_option("yes")
    page.wait_for_function("document.querySelectorAll('#rz-home .rz-open').length == 1")
    assert parameters(page)["text"] == "yes"
    window.picture("with-text")
    page.reload()
    page.wait_for_function("document.querySelectorAll('#rz-home .rz-open').length == 1")
    assert page.locator("#rz-has-text").input_value() == "yes"


def test_reading_can_be_stopped_and_goes_on(window, library, media, reader):
    page = window.page
    wait_for_reading(page, "Words read in 3 of 3 files")
    reader.revision = "2"
    reader.may_go_on.clear()
    picture = Image.new("RGB", (300, 200), "red")
    picture.save(media / "sign more.png")
    library.ingest([media])
    stop = page.locator("[data-reading='']")
    stop.wait_for()
    window.picture("reading")
    stop.click()
    reader.may_go_on.set()
    go_on = page.locator("[data-reading='on']")
    go_on.wait_for()
    go_on.click()
    wait_for_reading(page, "Words read in 4 of 4 files")
