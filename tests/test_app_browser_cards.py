"""The cards of an answer in a real browser: files, kinds, the border, pictures that look alike."""

import pytest
from browser import MARKS, Window, parameters
from PIL import Image
from sample_library import copy_library, served_here

from app import sessions
from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def address(sample_folder, tmp_path_factory):
    """The page over the sample library and two copies of a photo in other sizes."""
    folder = tmp_path_factory.mktemp("cards")
    green = Image.open(sample_folder / "media" / "photos" / "green.jpg")
    (folder / "sent").mkdir()
    for side in (100, 200):
        green.resize((side, side * 3 // 4)).save(folder / "sent" / f"leaf-{side}.png")
    with Library.open(copy_library(sample_folder, folder)) as library:
        library.ingest([folder / "sent"])
        with served_here(library, folder / "scratch") as found:
            yield found


@pytest.fixture(scope="module")
def browser_window(chromium, address):
    window = Window(chromium, address, viewport={"width": 1280, "height": 900})
    yield window
    window.close()


@pytest.fixture
def window(browser_window):
    browser_window.page.evaluate("localStorage.clear()")
    browser_window.load()
    return browser_window


def counts(page):
    """The numbers on the chips, once they are there."""
    page.wait_for_selector("#rz-form [data-all][data-count]")
    chips = page.locator("#rz-form .rz-chip:is([data-all], [data-kind])")
    return chips.evaluate_all("chips => chips.map(chip => Number(chip.dataset.count))")


def heading(page):
    return page.locator("#rz-answer [data-heading]").inner_text()


def slide(page, percent):
    page.locator("#rz-border").fill(str(percent))


def test_kinds_have_counts_that_stay_when_one_is_chosen(window):
    page = window.page
    window.search("red papers harbour")
    every = counts(page)
    assert every[0] == sum(every[1:]) > 40
    assert every[4] == 1
    seen = window.answer()
    page.get_by_role("button", name="PDFs").click()
    window.wait_for_answer(seen)
    assert parameters(page) == {"q": "red papers harbour", "kind": "pdf"}
    assert window.names() == ["harbour.pdf"]
    assert heading(page) == "1 match"
    assert counts(page) == every
    assert page.locator("#rz-form [data-all]").get_attribute("aria-pressed") == "false"
    window.picture("40-kinds")
    seen = window.answer()
    page.get_by_role("button", name="All").click()
    window.wait_for_answer(seen)
    assert parameters(page) == {"q": "red papers harbour"}
    assert counts(page) == every


def test_what_is_not_known_at_once_is_counted_later(window, monkeypatch):
    monkeypatch.setattr(sessions, "_FIRST_HITS", 30)
    page = window.page
    window.search("red")
    page.wait_for_function(
        "document.querySelector('#rz-answer [data-heading]').textContent === '41 matches'"
    )
    assert counts(page)[:2] == [41, 41]
    page.locator(".rz-weak summary").click()
    page.locator(".rz-weak .rz-card").first.wait_for()
    page.locator(".rz-weak summary").click()
    page.mouse.wheel(0, 5000)
    window.wait_until(lambda: len(window.names()) > 40)


def test_pages_of_a_file_share_a_card(window):
    page = window.page
    window.search("harbour")
    card = page.locator("#rz-results .rz-card", has_text="harbour.pdf")
    assert card.count() == 1
    assert "+1 page" in card.inner_text()
    card.locator(".rz-open").click()
    page.get_by_role("heading", name="Also in this file").wait_for()
    first = page.locator("#rz-detail .rz-detail").get_attribute("data-segment")
    page.locator("#rz-detail .rz-moment[data-turn]").click()
    page.wait_for_selector(f"#rz-detail .rz-detail:not([data-segment='{first}'])")
    assert page.locator("#rz-detail .rz-moment[data-turn]").get_attribute("data-turn") == first
    assert page.locator("#rz-detail .rz-side-why").is_visible()
    page.keyboard.press("Escape")
    page.locator("#rz-detail").wait_for(state="hidden")


def test_alike_pictures_share_a_card_that_opens(window):
    page = window.page
    window.search("green")
    button = page.get_by_role("button", name="+2 alike")
    button.wait_for()
    before = window.names()
    button.click()
    page.locator("[data-alike-of]").first.wait_for()
    shown = window.names()
    assert len(shown) == len(before) + 2
    assert sorted(shown[:3]) == ["green.jpg", "leaf-100.png", "leaf-200.png"]
    assert button.get_attribute("aria-expanded") == "true"
    window.picture("41-alike")
    page.locator("[data-alike-of] .rz-open").first.click()
    page.locator("#rz-detail h2", has_text=shown[1]).wait_for()
    page.keyboard.press("Escape")
    page.locator("#rz-detail").wait_for(state="hidden")
    button.click()
    assert window.names() == before


def test_border_is_in_the_address_and_kept(window):
    page = window.page
    window.search("red")
    assert page.locator(".rz-weak").count() == 1
    seen = window.answer()
    slide(page, 95)
    window.wait_for_answer(seen)
    assert parameters(page) == {"q": "red", "border": "0.05"}
    assert page.locator(".rz-weak").count() == 0
    many = counts(page)
    window.picture("42-more")
    page.reload()
    page.wait_for_selector("#rz-answer [data-heading]")
    assert counts(page) == many
    page.go_back()
    page.locator(".rz-weak").wait_for()
    assert page.locator("#rz-border").input_value() == "50"
    window.load()
    window.search("blue")
    assert parameters(page) == {"q": "blue", "border": "0.05"}


def test_nonsense_is_no_match(window, monkeypatch):
    monkeypatch.setattr(sessions, "FLOOR", 0.2)
    page = window.page
    window.search("zeppelin")
    page.get_by_text("No match. Use other words").wait_for()
    folded = page.locator("#rz-results .rz-card")
    assert not folded.first.is_visible()
    window.picture("43-no-match")
    page.get_by_text("Nearest results").click()
    assert folded.first.is_visible()


def test_answer_moves_nothing(window):
    page = window.page
    window.search("blue")
    page.wait_for_timeout(600)  # What Gradio moves while it loads is not looked at here.
    page.evaluate(
        "window.shift = 0; new PerformanceObserver(list => list.getEntries().forEach("
        "entry => { window.shift += entry.value; window.moved = entry.sources.map(one =>"
        "one.node?.outerHTML?.slice(0, 200)) })).observe({type: 'layout-shift'})"
    )
    for words in ("red", "harbour", "green"):
        window.search(words)
        page.wait_for_timeout(600)  # Sooner, a shift counts as wanted.
    page.mouse.wheel(0, 3000)
    page.wait_for_timeout(300)
    assert page.evaluate("window.shift") < 0.001, page.evaluate("window.moved")
