"""Sounds in a real browser: their cards, their filter, and playing them."""

import pytest
from browser import MARKS, PHONE, Window
from sample_library import served_here
from test_embedder_media_audio import TAGS, with_cover, write_sound

from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def window(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audio")
    files = folder / "files"
    files.mkdir()
    write_sound(files / "waltz.flac", TAGS, seconds=5)
    with_cover(files / "cover.mp3", (200, 30, 30))
    (files / "notes.txt").write_text("a waltz by the lake")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([files])
        with served_here(library, folder / "scratch") as address:
            window = Window(chromium, address)
            yield window
            window.close()


def test_sounds_have_cards_with_a_picture_and_play_in_the_detail(window):
    page = window.page
    window.search("waltz")
    page.wait_for_selector("#rz-results .rz-card[data-kind='audio']")
    card = page.locator("#rz-results .rz-card", has_text="waltz.flac")
    assert card.locator(".rz-place").inner_text() == "0:05"
    assert card.locator(".rz-said").inner_text() == "Salamander Waltz"
    assert card.locator(".rz-badge").first.inner_text() == "Audio"
    page.wait_for_function(
        "[...document.querySelectorAll('#rz-results .rz-thumb img')]"
        ".every((one) => one.complete && one.naturalWidth > 0)"
    )
    window.picture("audio-cards")
    seen = window.answer()
    page.get_by_role("button", name="Audio").first.click()
    window.wait_for_answer(seen)
    assert "notes.txt" not in window.names()
    assert "waltz.flac" in window.names()
    window.open("waltz.flac")
    page.locator("#rz-detail audio").evaluate("sound => sound.play()")
    page.wait_for_function("document.querySelector('#rz-detail audio').currentTime > 0")
    assert page.locator("#rz-detail audio").evaluate("sound => Math.round(sound.duration)") == 5
    for label in ("Artist", "Album", "Genre"):
        assert page.locator("#rz-detail dt", has_text=label).count() == 1
    window.picture("audio")
    page.set_viewport_size(PHONE)
    assert window.narrow()
    window.picture("audio-phone")
