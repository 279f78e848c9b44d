"""The page in German, in a real browser: no English text is left, and the language is chosen."""

import pytest
from babel.messages.pofile import read_po
from browser import MARKS, PHONE, Window
from sample_library import served_here
from test_app_languages import ROOT, strings

from app.texts import LANGUAGES
from indexer import Library

pytestmark = MARKS

# All that people read or hear.
TEXTS = """() => {
    const found = [], nodes = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (nodes.nextNode()) {
        const { textContent, parentElement } = nodes.currentNode;
        if (!parentElement.closest("script, style, template")) found.push(textContent.trim());
    }
    for (const name of ["aria-label", "title", "placeholder", "alt"]) {
        const named = [...document.querySelectorAll(`[${name}]`)];
        found.push(...named.map(one => one.getAttribute(name)));
    }
    return found;
}"""


@pytest.fixture(scope="module")
def window(chromium, sample_folder, tmp_path_factory):
    """One window of a browser that prefers German."""
    scratch = tmp_path_factory.mktemp("scratch")
    with (
        Library.open(sample_folder / "library") as library,
        served_here(library, scratch) as address,
    ):
        window = Window(chromium, address, locale="de-AT")
        yield window
        window.close()


@pytest.fixture(scope="module")
def english():
    """The English texts that are others in German."""
    with (ROOT / "app/languages/de.po").open("rb") as file:
        messages = [one for one in read_po(file, locale="de") if one.id]
    pairs = [zip(strings(one.id), strings(one.string), strict=True) for one in messages]
    return {text for pair in pairs for text, translated in pair if text != translated} - {
        *LANGUAGES.values()
    }


def test_page_in_german_has_no_english_text(window, english):
    page = window.page

    def check(picture, *expected):
        window.picture(picture)
        shown = set(page.evaluate(TEXTS))
        left = shown & english
        assert not left
        assert set(expected) <= shown
        assert window.narrow()

    assert page.evaluate("document.documentElement.lang") == "de"
    page.get_by_label("Was wird gesucht?").fill("red")
    page.keyboard.press("Enter")
    window.wait_for_answer(None)
    check("german-search", "Foto", "Seite 1", "Neueste zuerst")
    page.locator("#rz-results .rz-open").first.click()
    page.wait_for_selector("#rz-detail .rz-detail")
    check("german-detail", "Datum", "Ähnliche suchen", "Schließen")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Sammlungen").click()
    page.get_by_text("Gespeicherte Suchen").wait_for()
    check("german-collections", "Favoriten")
    page.get_by_role("tab", name="Bibliothek").click()
    page.wait_for_selector("#rz-files tbody tr")
    page.wait_for_selector("#rz-model section")
    check("german-library", "Alles neu berechnen", "Größe")
    page.set_viewport_size(PHONE)
    check("german-library-phone")
    page.get_by_role("tab", name="Suche").click()
    check("german-search-phone")


def test_language_is_chosen_in_the_header_and_kept(window):
    page = window.page
    page.get_by_label("Sprache", exact=True).select_option("en")
    page.wait_for_selector("html[lang=en][data-rz-ready]")
    assert page.get_by_role("button", name="Search", exact=True).is_visible()
    window.load()
    assert page.evaluate("document.documentElement.lang") == "en"
    page.get_by_label("Language", exact=True).select_option("de")
    page.wait_for_selector("html[lang=de][data-rz-ready]")
    assert page.get_by_role("button", name="Suchen", exact=True).is_visible()


def test_german_has_room(window):
    page = window.page
    page.set_viewport_size({"width": 768, "height": 900})
    page.get_by_role("tab", name="Suchen").click()
    chips = page.locator(".rz-kinds > *:visible")
    assert len({chip.bounding_box()["y"] for chip in chips.all()}) == 1
    page.set_viewport_size(PHONE)
    page.get_by_label("Was wird gesucht?").fill("zeppelin")
    page.keyboard.press("Enter")
    page.get_by_text("Kein eindeutiger Treffer").wait_for()
    window.picture("german-phone-nearest")
    heading = page.locator("#rz-answer h2 span").first.bounding_box()
    assert heading["x"] + heading["width"] <= page.locator(".rz-save").bounding_box()["x"]
