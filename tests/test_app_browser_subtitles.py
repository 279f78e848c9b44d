"""Subtitles in a real browser: the line on the card, the transcript, and jumps to its lines."""

import pytest
from browser import DESKTOP, MARKS, PHONE, Window
from sample_library import served_here
from test_ingest_subtitles import VIDEO, with_tracks

from indexer import Library

pytestmark = MARKS

SRT = """1
00:00:00,100 --> 00:00:00,600
A salamander & <friends>

2
00:00:01,400 --> 00:00:01,900
Down the hill on a toboggan
"""


@pytest.fixture(scope="module")
def window(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subtitles")
    files = folder / "files"
    files.mkdir()
    (files / "trip.mp4").write_bytes(VIDEO.read_bytes())
    (files / "trip.en.srt").write_text(SRT.replace("&", "&amp;").replace("<", "&lt;"))
    with_tracks(files / "film.mkv", "subrip", ("ger", [(1.2, "ein Rodelschlitten")]))
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([files])
        with served_here(library, folder / "scratch") as address:
            window = Window(chromium, address)
            yield window
            window.close()


@pytest.fixture
def desk(window):
    """The window with the dialog closed."""
    yield window
    window.page.evaluate("document.querySelector('#rz-detail').close()")
    window.page.wait_for_function("!document.querySelector('#rz-detail-title')")


def test_card_shows_the_line_and_the_video_begins_with_it(desk):
    window, page = desk, desk.page
    window.search("toboggan")
    card = page.locator("#rz-results .rz-card", has_text="trip.mp4").first
    assert card.locator(".rz-said").inner_text() == "Down the hill on a toboggan"
    assert card.locator(".rz-said mark").inner_text() == "toboggan"
    assert card.locator(".rz-why").inner_text() == "Contains your words"
    window.picture("card")
    window.open("trip.mp4")
    assert page.locator("#rz-detail video").get_attribute("data-start") == "1.400"
    lines = page.locator("#rz-detail .rz-line")
    assert lines.all_inner_texts() == [
        "0:00\nA salamander & <friends>",
        "0:01\nDown the hill on a toboggan",
    ]
    assert page.locator("#rz-detail .rz-line.rz-matching").count() == 1
    assert page.locator("#rz-detail .rz-transcript summary").inner_text() == "Transcript (English)"
    window.picture("transcript")
    page.set_viewport_size(PHONE)
    page.locator("#rz-detail .rz-line").first.scroll_into_view_if_needed()
    window.picture("transcript-phone")
    page.set_viewport_size(DESKTOP)


def test_click_on_a_line_plays_the_video_from_there(desk):
    window, page = desk, desk.page
    window.search("salamander")
    window.open("trip.mp4")
    page.wait_for_function("document.querySelector('#rz-detail video').readyState > 0")
    page.evaluate("document.querySelector('#rz-detail video').pause()")
    page.evaluate("document.querySelector('#rz-detail video').playbackRate = 0.1")
    page.locator("#rz-detail .rz-line button").last.click()
    page.wait_for_function("document.querySelector('#rz-detail video').currentTime >= 1.3")
    page.locator("#rz-detail .rz-line span").first.click()
    page.wait_for_function("document.querySelector('#rz-detail video').currentTime < 1")


def test_lines_can_be_selected(desk):
    window, page = desk, desk.page
    window.search("salamander")
    window.open("trip.mp4")
    page.locator("#rz-detail .rz-line span").last.dblclick(position={"x": 12, "y": 8})
    assert page.evaluate("getSelection().toString().trim()") == "Down"


def test_track_in_a_video_is_named_in_the_language_of_the_page(window, chromium):
    german = Window(chromium, window.address, locale="de-AT")
    german.go(f"{window.address}/?q=Rodelschlitten")
    german.page.locator("#rz-results .rz-card", has_text="film.mkv").first.click()
    summary = german.page.locator("#rz-detail .rz-transcript summary")
    assert summary.inner_text() == "Wortlaut (Deutsch)"
    german.close()
