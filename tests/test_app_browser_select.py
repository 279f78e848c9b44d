"""Selecting several files in a real browser, and what can be done with them."""

import io
import zipfile

import pytest
from browser import MARKS, Window
from sample_library import copy_library, served_here

from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("select"))) as library:
        yield library


@pytest.fixture(scope="module")
def window(chromium, library, tmp_path_factory):
    """One window for all tests."""
    with served_here(library, tmp_path_factory.mktemp("scratch")) as address:
        window = Window(chromium, address)
        window.search("red")
        yield window
        window.close()


@pytest.fixture
def desk(window):
    """The window with the results of a search and nothing selected."""
    window.page.evaluate("document.querySelector('.rz-end').click(); scrollTo(0, 0)")
    yield window
    assert not window.problems


def card(desk, number):
    return desk.page.locator("#rz-results .rz-card").nth(number)


def check(desk, number):
    card(desk, number).hover()
    card(desk, number).locator(".rz-select").click()


def selected(desk):
    """The numbers of the selected cards, and what the bar says."""
    numbers = desk.page.locator("#rz-results .rz-card").evaluate_all(
        "cards => cards.flatMap((card, number) => 'selected' in card.dataset ? [number] : [])"
    )
    return numbers, desk.page.locator(".rz-selected-count").inner_text()


def test_checks_select_and_clicks_no_longer_open(desk):
    check(desk, 1)
    assert selected(desk) == ([1], "1 selected")
    card(desk, 3).locator(".rz-open").click()
    assert selected(desk) == ([1, 3], "2 selected")
    card(desk, 1).locator(".rz-open").click()
    assert selected(desk) == ([3], "1 selected")
    assert not desk.page.locator("#rz-detail[open]").count()
    desk.picture("select-desktop")
    desk.page.keyboard.press("Escape")
    assert selected(desk) == ([], "")
    card(desk, 3).locator(".rz-open").click()
    desk.page.wait_for_selector("#rz-detail .rz-detail")
    desk.page.keyboard.press("Escape")
    desk.page.wait_for_function("!document.querySelector('#rz-detail-title')")


def test_shift_selects_a_range_which_a_second_one_replaces(desk):
    check(desk, 2)
    card(desk, 6).locator(".rz-open").click(modifiers=["Shift"])
    assert selected(desk) == ([2, 3, 4, 5, 6], "5 selected")
    card(desk, 1).locator(".rz-open").click(modifiers=["Shift"])
    assert selected(desk) == ([1, 2], "2 selected")
    check(desk, 5)
    card(desk, 7).locator(".rz-open").click(modifiers=["Shift"])
    assert selected(desk) == ([1, 2, 5, 6, 7], "5 selected")


def test_keys_select(desk):
    page = desk.page
    card(desk, 0).locator(".rz-open").focus()
    page.keyboard.press("x")
    assert selected(desk)[0] == [0]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert selected(desk)[0] == [0, 1, 2]
    page.keyboard.press("Shift+ArrowLeft")
    assert selected(desk)[0] == [0, 1]
    page.keyboard.press("Control+a")
    page.wait_for_function(
        "document.querySelector('.rz-selected-count').textContent === '41 selected'"
    )
    page.keyboard.press("Escape")
    page.get_by_label("What are you looking for?").focus()
    page.keyboard.press("x")
    assert selected(desk) == ([], "")
    page.keyboard.press("Backspace")


def test_all_hits_are_selected_also_those_that_are_not_loaded(desk):
    check(desk, 0)
    loaded = desk.page.locator("#rz-results .rz-grid >> nth=0").locator(".rz-card").count()
    desk.page.get_by_role("button", name="Select all").click()
    desk.page.wait_for_function(
        "count => parseInt(document.querySelector('.rz-selected-count').textContent) > count",
        arg=loaded - 1,
    )
    assert selected(desk)[1] == "41 selected"
    desk.page.locator("#rz-results .rz-card").nth(loaded - 1).scroll_into_view_if_needed()
    desk.page.wait_for_function("document.querySelectorAll('#rz-results .rz-card').length > 40")
    assert selected(desk)[0][:41] == list(range(41))


def test_a_download_is_an_archive_of_what_is_selected(desk):
    check(desk, 0)
    check(desk, 2)
    with desk.page.expect_download() as download:
        desk.page.get_by_role("button", name="Download", exact=True).click()
    names = desk.page.locator("#rz-results .rz-title b").all_inner_texts()
    archive = zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes()))
    assert archive.namelist() == [names[0], names[2]]
    assert download.value.suggested_filename == "photos.zip"


def test_a_refused_download_is_told_and_leaves_the_page(desk):
    page = desk.page
    check(desk, 0)
    answer = {"status": 503, "body": "the library cannot do that now", "content_type": "text/plain"}
    page.route("**/items/download", lambda route: route.fulfill(**answer))
    page.get_by_role("button", name="Download", exact=True).click()
    desk.wait_for_message("The library cannot do that now.")
    page.unroute_all()
    page.route("**/items/download", lambda route: route.abort())
    page.get_by_role("button", name="Download", exact=True).click()
    desk.wait_for_message("does not answer")
    page.unroute_all()
    assert selected(desk)[0] == [0]


def test_more_like_what_is_selected_is_found(desk):
    page = desk.page
    check(desk, 0)
    check(desk, 2)
    seen = desk.answer()
    page.get_by_role("button", name="More like these").click()
    desk.wait_for_answer(seen)
    assert page.locator("#rz-attached .rz-attached-name").count() == 2
    assert selected(desk) == ([], "")
    page.go_back()
    page.wait_for_function("document.querySelector('#rz-text').value === 'red'")
    page.wait_for_selector("#rz-results:not(.rz-waiting) .rz-card")


def test_paths_are_copied(desk, library):
    desk.context.grant_permissions(["clipboard-read", "clipboard-write"])
    check(desk, 0)
    check(desk, 1)
    desk.page.get_by_role("button", name="Copy paths").click()
    desk.wait_for_message("Copied.")
    names = desk.page.locator("#rz-results .rz-title b").all_inner_texts()[:2]
    paths = [str(library.catalog.items(name=name)[0].path) for name in names]
    assert desk.page.evaluate("navigator.clipboard.readText()") == "\n".join(paths)


def test_fingers_begin_by_a_long_press(window, chromium):
    from browser import PHONE

    phone = Window(chromium, window.address, viewport=PHONE, has_touch=True, is_mobile=True)
    phone.search("blue")
    touch = """(target, type) => {
        const { x, y } = target.getBoundingClientRect();
        const at = { clientX: x + 60, clientY: y + 60, bubbles: true, pointerType: 'touch' };
        target.dispatchEvent(new PointerEvent(type, at));
    }"""
    first = card(phone, 0).locator(".rz-open")
    first.evaluate(f"target => ({touch})(target, 'pointerdown')")
    phone.page.wait_for_function(
        "document.querySelector('.rz-selected-count').textContent === '1 selected'"
    )
    first.evaluate(f"target => ({touch})(target, 'pointerup')")
    first.evaluate("target => target.click()")  # As the finger leaves: it does not open.
    assert selected(phone) == ([0], "1 selected")
    card(phone, 1).locator(".rz-open").tap()
    assert selected(phone) == ([0, 1], "2 selected")
    phone.picture("select-phone")
    assert phone.narrow()
    phone.close()


def test_all_files_of_the_list_by_date_are_selected(desk, library):
    page = desk.page
    page.get_by_role("button", name="Clear the search").click()
    page.wait_for_selector("#rz-home .rz-card[data-item]")
    cards = page.locator("#rz-home .rz-card")
    for number in (1, 4):
        modifiers = ["Shift"] if number == 4 else []
        cards.nth(number).hover()
        cards.nth(number).locator(".rz-select").click(modifiers=modifiers)
    assert selected(desk)[1] == "4 selected"
    cards.nth(1).locator(".rz-open").focus()
    page.keyboard.press("Control+a")
    total = sum(library.catalog.stats().items.values())
    page.wait_for_function(
        "text => document.querySelector('.rz-selected-count').textContent === text",
        arg=f"{total} selected",
    )
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_function(
        "total => { const shown = [...document.querySelectorAll('#rz-home .rz-card[data-item]')];"
        "return shown.length && shown.every(card => 'selected' in card.dataset) }"
    )
    page.go_back()
    page.wait_for_selector("#rz-results .rz-card[data-item]")
    assert selected(desk) == ([], "")


def test_removing_asks_and_takes_the_cards_away(desk, library):
    names = desk.page.locator("#rz-results .rz-title b").all_inner_texts()[3:5]
    found = int(desk.page.locator("#rz-results [data-heading]").inner_text().split()[0])
    check(desk, 3)
    check(desk, 4)
    desk.page.get_by_role("button", name="Remove", exact=True).click()
    question = desk.page.locator(".rz-question")
    assert "Remove 2 files from the library?" in question.inner_text()
    desk.page.keyboard.press("Escape")
    assert selected(desk)[0] == [3, 4]
    desk.page.get_by_role("button", name="Remove", exact=True).click()
    question.get_by_role("button", name="Remove from the library").click()
    desk.wait_until(lambda: not library.catalog.items(name=names[0]))
    desk.page.wait_for_function("!document.querySelector('#rz-selection:not([data-empty])')")
    assert not {*names} & {*desk.page.locator("#rz-results .rz-title b").all_inner_texts()}
    desk.wait_for_message("2 files removed from the library.")
    desk.page.get_by_text(f"{found - 2} matches").wait_for()
    seen = desk.answer()
    desk.picture("removed")
    desk.page.get_by_role("button", name="Undo").click()
    desk.wait_for_message("2 files are back in the library.")
    desk.wait_for_answer(seen)
    desk.page.wait_for_function("!document.querySelector('.rz-toast .rz-link')")
    assert all(library.catalog.items(name=name) for name in names)
    assert {*names} <= {*desk.page.locator("#rz-results .rz-title b").all_inner_texts()}


def test_keyboard_goes_to_undo_and_then_to_the_card_behind(desk):
    page = desk.page
    names = page.locator("#rz-results .rz-title b").all_inner_texts()
    page.locator("#rz-results .rz-open").nth(2).focus()
    page.keyboard.press("x")
    page.get_by_role("button", name="Remove", exact=True).press("Enter")
    page.get_by_role("button", name="Remove from the library").press("Enter")
    page.wait_for_function("document.activeElement.textContent === 'Undo'")
    page.keyboard.press("Escape")
    focused = "document.activeElement.closest('.rz-card').querySelector('.rz-title b').textContent"
    assert page.evaluate(focused) == names[3]
