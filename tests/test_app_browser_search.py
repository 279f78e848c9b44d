"""The state of the search in a real browser: answers out of order, filters, failures, addresses."""

import pytest
from browser import MARKS, PHONE, Window, parameters
from sample_library import copy_served_here, served_here

from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def address(sample_folder, tmp_path_factory):
    with copy_served_here(sample_folder, tmp_path_factory.mktemp("searched")) as found:
        yield found


@pytest.fixture(scope="module")
def browser_window(chromium, address):
    """One window whose language is not the page's."""
    window = Window(chromium, address, locale="fr-FR")
    yield window
    window.close()


@pytest.fixture
def window(browser_window):
    """The window without a search; requests are answered as usual again after each test."""
    browser_window.load()
    yield browser_window
    browser_window.page.unroute_all()
    browser_window.page.set_viewport_size({"width": 1280, "height": 900})


def box(page):
    return page.get_by_label("What are you looking for?")


# ---- answers


def test_earlier_search_never_replaces_later_one(window):
    page, held = window.page, []

    def hold_first(route):
        if "yellow" in route.request.post_data:
            held.append(route)
        else:
            route.continue_()

    page.route("**/results", hold_first)
    box(page).fill("yellow")
    page.keyboard.press("Enter")
    window.wait_until(lambda: held)
    window.search("blue")
    held[0].continue_()
    page.wait_for_timeout(500)
    assert window.names()[0] == "blue.jpg"
    assert box(page).input_value() == "blue"


def test_first_search_shows_where_results_will_be(window):
    page, held = window.page, []
    page.route("**/results", lambda route: held.append(route))  # noqa: PLW0108 -- as Playwright needs
    box(page).fill("red")
    page.keyboard.press("Enter")
    page.locator("#rz-results .rz-ghost").first.wait_for()
    window.picture("30-waiting")
    window.wait_until(lambda: held)
    held[0].continue_()
    page.locator("#rz-results [data-answer]").wait_for()
    assert not page.locator("#rz-results .rz-ghost").count()


def test_server_that_is_gone_and_back(window):
    page = window.page
    window.search("red")
    page.route("**/results", lambda route: route.abort())
    box(page).fill("blue")
    page.keyboard.press("Enter")
    page.get_by_text("The server does not answer").wait_for()
    assert not page.locator("#rz-results .rz-card").count(), "the results of another search"
    assert not page.locator(".rz-save").is_visible(), "beside an answer that is none"
    window.picture("31-no-server")
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    window.wait_for_answer(None)
    assert window.names()[0] == "blue.jpg"


def test_search_in_empty_library(chromium, tmp_path):
    with (
        Library.open(tmp_path / "library", model="toy") as library,
        served_here(library, tmp_path / "scratch") as address,
    ):
        window = Window(chromium, address)
        box(window.page).fill("red")
        window.page.keyboard.press("Enter")
        window.page.locator("#rz-results").get_by_role("button", name="Add your files").click()
        window.page.locator("#rz-drop").wait_for()
        window.close()


# ---- the address


def first_name(window, name):
    """Wait until the results begin with this file."""
    window.page.wait_for_function(
        "name => document.querySelector('#rz-results .rz-title b')?.textContent === name"
        "&& !document.querySelector('.rz-waiting')",
        arg=name,
    )


def test_address_says_what_was_searched_for(window):
    page = window.page
    page.get_by_role("button", name="Photos").click()
    page.get_by_role("button", name="PDFs").click()
    page.get_by_label("Not like").fill("green")
    window.search("blue & red")
    assert parameters(page) == {"q": "blue & red", "kind": "image,pdf", "not": "green"}
    assert page.title() == "blue & red – RzenEmbed Search"
    names = window.names()
    page.reload()
    first_name(window, names[0])
    assert window.names() == names
    assert box(page).input_value() == "blue & red"
    assert page.get_by_label("Not like").input_value() == "green"
    pressed = page.locator("#rz-form .rz-chip[data-kind][aria-pressed=true]")
    assert pressed.all_inner_texts() == ["Photos", "PDFs"]


def test_back_and_forward_walk_through_searches(window):
    page = window.page
    window.search("blue")
    window.search("yellow")
    page.go_back()
    first_name(window, "blue.jpg")
    assert box(page).input_value() == "blue"
    page.go_back()
    page.locator("#rz-home .rz-open").first.wait_for()
    assert box(page).input_value() == ""
    page.go_forward()
    first_name(window, "blue.jpg")
    assert page.title() == "blue – RzenEmbed Search"


def test_back_closes_open_result(window):
    page, dialog = window.page, window.page.locator("#rz-detail")
    window.search("blue")
    window.open("blue.jpg")
    shown = page.locator("#rz-detail .rz-detail").get_attribute("data-segment")
    assert parameters(page) == {"q": "blue", "open": shown}
    page.go_back()
    dialog.wait_for(state="hidden")
    assert window.names()[0] == "blue.jpg"
    page.go_forward()
    page.locator("#rz-detail .rz-detail").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    page.wait_for_function("!location.search.includes('open')")
    page.go_back()
    page.locator("#rz-home .rz-open").first.wait_for()


def test_link_to_result_opens_in_another_tab(window):
    window.search("blue")
    with window.context.expect_page() as opened:
        window.page.locator("#rz-results .rz-open").first.click(button="middle")
    tab = opened.value
    tab.locator("#rz-detail h2", has_text="blue.jpg").wait_for()
    assert box(tab).input_value() == "blue"
    assert not window.page.locator("#rz-detail").is_visible()
    tab.keyboard.press("Escape")
    tab.locator("#rz-detail").wait_for(state="hidden")
    assert tab.locator("#rz-results .rz-card").first.is_visible()
    tab.close()


def test_more_like_this_after_reload_and_back(window):
    page = window.page
    window.search("yellow")
    window.open("yellow.jpg")
    seen = window.answer()
    page.get_by_role("button", name="More like this").click()
    window.wait_for_answer(seen)
    assert list(parameters(page)) == ["like"]
    page.reload()
    first_name(window, "yellow.jpg")
    assert page.locator(".rz-attached-name").inner_text() == "yellow.jpg"
    page.go_back()
    page.locator("#rz-detail h2", has_text="yellow.jpg").wait_for()


def test_search_begins_at_the_top(window):
    page = window.page
    page.set_viewport_size({"width": 1280, "height": 400})
    page.locator("#rz-timeline .rz-open").first.wait_for()
    page.evaluate("scrollTo(0, 300)")
    window.search("red")
    assert page.evaluate("scrollY") == 0
    page.evaluate("scrollTo(0, 300)")
    page.get_by_role("button", name="Clear the search").click()
    page.locator("#rz-timeline .rz-open").first.wait_for()
    assert page.evaluate("scrollY") == 0


def test_tab_is_in_the_address(window):
    page = window.page
    selected = page.locator("#rz-tabs [role=tab][aria-selected=true]")
    window.search("blue")
    page.get_by_role("tab", name="Collections").click()
    assert parameters(page) == {"q": "blue", "tab": "collections"}
    page.locator("#rz-collections-list [data-follow]").first.click()
    page.locator("#rz-album-head h2").wait_for()
    page.go_back()
    page.locator("#rz-collections-list").wait_for()
    assert selected.inner_text() == "Collections"
    page.reload()
    page.locator("#rz-collections-list [data-follow]").first.wait_for()
    assert selected.inner_text() == "Collections"
    page.keyboard.press("/")
    page.wait_for_function("document.activeElement.id === 'rz-text'")
    assert parameters(page) == {"q": "blue"}
    assert window.names()[0] == "blue.jpg"


# ---- filters


def all_files(page):
    return page.locator("#rz-form [data-all]").get_attribute("data-count")


def test_numbers_on_chips_are_those_of_what_is_shown(window):
    page, held = window.page, []
    page.wait_for_function("document.querySelector('#rz-form [data-all]').dataset.count")
    everything = all_files(page)
    window.search("blue")
    assert all_files(page) != everything
    page.go_back()
    page.locator("#rz-timeline .rz-open").first.wait_for()
    assert all_files(page) == everything
    page.route("**/timeline?*", lambda route: held.append(route))  # noqa: PLW0108 -- as Playwright needs
    page.get_by_role("button", name="PDFs").click()
    window.wait_until(lambda: held)
    box(page).fill("blue")
    page.keyboard.press("Enter")
    page.locator("#rz-results [data-answer]").wait_for()
    page.locator("#rz-form [data-all][data-count]").wait_for()
    numbers = all_files(page)
    held[0].continue_()
    page.wait_for_timeout(500)
    assert all_files(page) == numbers, "those of an answer that came late"


def test_not_like_alone_asks_for_words(window):
    window.page.get_by_label("Not like").fill("green")
    window.page.keyboard.press("Enter")
    window.wait_for_message("Say what to look for first")


def test_bar_stays_and_filters_do_not_move_the_page(window):
    page = window.page
    page.set_viewport_size({"width": 1280, "height": 800})
    window.search("red")
    top = "document.querySelector('#rz-results').getBoundingClientRect().top"
    before = page.evaluate(top)
    page.get_by_role("button", name="Photos").click()
    page.get_by_role("button", name="Reset filters").wait_for()
    assert page.evaluate(top) == before
    page.mouse.wheel(0, 1200)
    page.wait_for_function("scrollY > 600")
    assert page.locator("#rz-search").bounding_box()["y"] == 0
    window.picture("33-scrolled")


def test_open_filters_scroll_away_on_a_phone(window):
    page = window.page
    window.search("red")
    page.set_viewport_size(PHONE)
    page.locator("#rz-more-filters").click()
    page.mouse.wheel(0, 1200)
    page.wait_for_function("scrollY > 600")
    assert page.locator("#rz-rest").bounding_box()["y"] < -100
    window.picture("35-phone-filters-scrolled")
    page.locator("#rz-more-filters").evaluate("button => button.click()")
    page.wait_for_function("document.querySelector('#rz-search').getBoundingClientRect().y === 0")


# ---- accessibility


FOCUSED = "document.activeElement.id || document.activeElement.textContent"


def test_focus_stays_in_the_form_when_a_button_hides_itself(window):
    page = window.page
    window.search("red")
    page.get_by_label("Sort").select_option("newest")
    page.get_by_role("button", name="Reset filters").press("Enter")
    page.get_by_role("button", name="Reset filters").wait_for(state="hidden")
    assert page.evaluate(FOCUSED).startswith("All")
    box(page).fill("red in July 1997")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Search for the date as words").press("Enter")
    page.locator("#rz-period").wait_for(state="hidden")
    assert page.evaluate(FOCUSED) == "rz-text"


def test_names_and_roles_of_results(window):
    page = window.page
    assert page.evaluate("document.documentElement.lang") == "en"
    window.search("a lantern in the windmill")
    for role in page.locator("#rz-results [role=list] > *").evaluate_all(
        "all => all.map(one => one.getAttribute('role'))"
    ):
        assert role == "listitem"
    card = page.locator("#rz-results .rz-open", has_text="diary.md").first
    name = card.inner_text()
    assert "windmill" in name
    assert card.get_attribute("aria-label") is None, "it would hide passage and reason"
    assert page.get_by_role("heading", level=2).first.is_visible()
    box(page).focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.className") == "rz-open"
    page.get_by_role("link", name="Skip to the results").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "rz-open"


def test_page_for_fingers(chromium, address):
    window = Window(chromium, address, viewport=PHONE, has_touch=True, is_mobile=True)
    page = window.page
    assert box(page).get_attribute("placeholder") == "Describe it"
    window.search("red")
    left = page.locator("#rz-results .rz-card").first.bounding_box()["x"]
    assert left == 14, "the margin is there twice"
    page.locator("#rz-more-filters").click()
    window.picture("34-phone-filters")
    page.get_by_role("tab", name="Library").click()
    page.locator("#rz-drop").wait_for()
    assert not page.get_by_text("Choose a folder").is_visible()
    size = page.locator(".rz-check input").first.bounding_box()
    assert min(size["width"], size["height"]) >= 24
    assert window.narrow()
    window.close()
