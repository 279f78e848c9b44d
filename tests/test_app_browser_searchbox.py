"""The search box in a real browser: files, suggestions, dates in words, and keys."""

from base64 import b64encode

import pytest
from browser import MARKS, Window, parameters
from sample_library import copy_served_here

pytestmark = MARKS


@pytest.fixture(scope="module")
def address(sample_folder, tmp_path_factory):
    with copy_served_here(sample_folder, tmp_path_factory.mktemp("box")) as found:
        yield found


@pytest.fixture(scope="module")
def browser_window(chromium, address):
    window = Window(chromium, address, viewport={"width": 1280, "height": 900})
    yield window
    window.close()


@pytest.fixture
def window(browser_window):
    """The window with an empty search box, without loading it again."""
    browser_window.page.evaluate(
        "() => { history.pushState(null, '', location.pathname);"
        "dispatchEvent(new PopStateEvent('popstate')); }"
    )
    yield browser_window
    browser_window.page.unroute_all()


def first_name(window, name):
    """Wait until the results begin with this file."""
    window.page.wait_for_function(
        "name => document.querySelector('#rz-results .rz-title b')?.textContent === name"
        "&& !document.querySelector('.rz-waiting')",
        arg=name,
    )


# ---- files


DROP = """([files, data]) => {
    const transfer = new DataTransfer();
    for (const [name, bytes] of files) {
        transfer.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/jpeg'}));
    }
    for (const [type, text] of Object.entries(data)) transfer.setData(type, text);
    const event = new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});
    return !document.querySelector('#rz-form').dispatchEvent(event);
}"""


def photos(sample_folder, *names):
    folder = sample_folder / "media" / "photos"
    return [[name, list((folder / name).read_bytes())] for name in names]


def attached(page):
    return page.locator(".rz-attached-name").all_text_contents()


def test_several_dropped_files_are_searched_with(window, sample_folder):
    page = window.page
    assert page.evaluate(DROP, [photos(sample_folder, "blue.jpg", "green.jpg"), {}])
    window.wait_for_answer(None)
    assert attached(page) == ["blue.jpg", "green.jpg"]
    assert page.locator("#rz-attached img").count() == 2
    assert page.title().startswith("blue.jpg")
    window.picture("40-two-files")
    page.locator("#rz-file").set_input_files(sample_folder / "media" / "photos" / "grey.jpg")
    page.wait_for_function(
        "document.querySelectorAll('#rz-attached > :not([data-busy])').length === 3"
    )
    seen = window.answer()
    page.get_by_role("button", name="Remove green.jpg").click()
    page.get_by_role("button", name="Remove grey.jpg").click()
    window.wait_for_answer(seen)
    assert attached(page) == ["blue.jpg"]
    page.go_back()
    page.wait_for_function("document.querySelectorAll('#rz-attached > *').length === 2")


def test_no_more_than_eight_files(window, sample_folder):
    page = window.page
    (photo,) = photos(sample_folder, "blue.jpg")
    assert page.evaluate(DROP, [[photo] * 9, {}])
    window.wait_for_message("A search takes at most 8 files")
    window.wait_for_answer(None)
    assert len(attached(page)) == 8
    page.set_viewport_size({"width": 390, "height": 844})
    window.picture("41-eight-files-phone")
    assert window.narrow()
    page.set_viewport_size({"width": 1280, "height": 900})


def test_dropped_folder_says_where_it_is_added(window, sample_folder):
    cdp = window.context.new_cdp_session(window.page)
    dropped = {"items": [], "dragOperationsMask": 1}
    dropped["files"] = [str(sample_folder / "media" / "photos")]
    for event in ("dragEnter", "dragOver", "drop"):
        cdp.send("Input.dispatchDragEvent", {"type": event, "x": 640, "y": 90, "data": dropped})
    window.wait_for_message("drop it in the Library tab")
    assert attached(window.page) == []


def test_picture_dragged_from_another_page(window, sample_folder):
    page = window.page
    link = {"text/uri-list": "https://example.org/sea.jpg"}
    html = "<a href='https://example.org'><img src='{}'></a>"
    assert page.evaluate(DROP, [[], link])
    window.wait_for_message("handed over only the picture's address")
    unreadable = {"text/html": html.format("blob:https://example.org/1-2")}
    assert page.evaluate(DROP, [[], link | unreadable])
    window.wait_for_message("handed over only the picture's address")
    picture = (sample_folder / "media" / "photos" / "green.jpg").read_bytes()
    data = "data:image/jpeg;base64," + b64encode(picture).decode()
    assert page.evaluate(DROP, [[], link | {"text/html": html.format(data)}])
    first_name(window, "green.jpg")


# ---- suggestions


def suggested(page):
    page.locator("#rz-suggestions li").first.wait_for()
    return page.locator("#rz-suggestions li").all_inner_texts()


def box(page):
    return page.get_by_role("combobox", name="What are you looking for?")


def test_suggestions_by_keyboard(window):
    page = window.page
    box(page).press_sequentially("phot", delay=20)
    first = suggested(page)[0]
    assert "photos" in first
    assert "files" in first
    window.picture("42-suggestions")
    assert box(page).get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    chosen = page.locator("#rz-suggestions [aria-selected=true]")
    assert box(page).get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    page.keyboard.press("Escape")
    assert not page.locator("#rz-suggestions").is_visible()
    assert box(page).input_value() == "phot", "only the suggestions are gone"
    page.keyboard.press("o")
    suggested(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?folder=*")
    assert list(parameters(page)) == ["folder"]
    assert box(page).input_value() == ""


def test_completed_word_and_latest_searches(window):
    page = window.page
    box(page).press_sequentially("old lant", delay=20)
    assert suggested(page) == ["lantern"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    assert box(page).input_value() == "old lantern "
    page.keyboard.press("Enter")
    window.wait_for_answer(None)
    page.get_by_label("Clear the search").click()
    box(page).click()
    assert "old lantern" in suggested(page)[0]
    window.picture("43-latest-searches")
    page.get_by_role("button", name="Clear recent searches").click()
    page.keyboard.press("Escape")
    box(page).click()
    assert not page.locator("#rz-suggestions").is_visible()


def test_late_suggestions_do_not_come_after_the_search(window):
    page, held = window.page, []
    page.route("**/suggestions*", lambda route: held.append(route))  # noqa: PLW0108 -- as Playwright needs
    box(page).press_sequentially("blue")
    window.wait_until(lambda: held)
    window.search("blue")
    with_answer = held[-1]
    with_answer.continue_()
    page.wait_for_timeout(300)
    assert not page.locator("#rz-suggestions").is_visible()


def test_click_on_suggested_file(window):
    page = window.page
    box(page).fill("yell")
    page.locator("#rz-suggestions li", has_text="yellow.jpg").click()
    window.wait_for_answer(None)
    assert parameters(page)["q"] == "yellow.jpg"
    assert window.names()[0] == "yellow.jpg"


# ---- dates


def test_date_in_words_is_a_filter_until_taken_off(window):
    page = window.page
    box(page).fill("blue in July 1997")
    page.keyboard.press("Enter")
    chip = page.locator("#rz-period")
    page.get_by_text("Nothing in the library matches these filters.").wait_for()
    assert chip.inner_text().strip() == "July 1997"
    window.picture("44-date")
    assert parameters(page) == {"q": "blue in July 1997"}
    page.set_viewport_size({"width": 390, "height": 844})
    assert box(page).bounding_box()["width"] > 100
    window.picture("46-date-phone")
    page.set_viewport_size({"width": 1280, "height": 900})
    box(page).fill("blue in July")
    assert not chip.is_visible(), "it is of the words before"
    page.keyboard.press("Escape")
    page.go_back()
    chip.wait_for()
    page.get_by_role("button", name="Search for the date as words").click()
    first_name(window, "blue.jpg")
    assert not chip.is_visible()
    assert parameters(page)["literal"] == "in July 1997"
    page.go_back()
    page.get_by_text("July 1997", exact=True).wait_for()
    window.search("yellow")
    assert not chip.is_visible()
    assert list(parameters(page)) == ["q"]


def test_date_alone_lists_its_files(window):
    page = window.page
    box(page).fill("all photos of today")
    page.keyboard.press("Enter")
    page.locator("#rz-period").wait_for()
    page.get_by_text("red-39.png").first.wait_for()
    assert page.title().startswith("all photos of today")


# ---- keys


def test_typing_after_loading_goes_into_the_box(window):
    page = window.page
    window.load()
    page.wait_for_function("document.activeElement.id === 'rz-text'")
    page.keyboard.type("lantern")
    assert box(page).input_value() == "lantern"


def test_question_mark_lists_the_keys(window):
    page, keys = window.page, window.page.get_by_role("dialog", name="Keys")
    window.search("blue")
    page.keyboard.press("?")
    assert not keys.is_visible()
    assert box(page).input_value() == "blue?"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    box(page).focus()
    page.keyboard.press("?")
    keys.wait_for()
    window.picture("45-keys")
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    keys.wait_for(state="detached")
    assert page.evaluate("document.activeElement.id") == "rz-text"
    window.search("yellow")
    window.open("yellow.jpg")
    shown = page.locator("#rz-detail .rz-detail").get_attribute("data-segment")
    page.keyboard.press("?")
    keys.wait_for()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    keys.wait_for(state="detached")
    assert page.locator("#rz-detail .rz-detail").get_attribute("data-segment") == shown
    page.keyboard.press("Escape")
