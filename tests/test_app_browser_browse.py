"""The library by date in a real browser: a long list, its scrubber, filters, and the way back."""

import re

import pytest
from browser import MARKS, PHONE, Window, parameters
from made_up_files import add_files
from sample_library import served_here

from embedder.media.kinds import Kind
from indexer import Filters, Library
from indexer.catalog.sqlite import Database
from indexer.config import LIBRARY_FILE

pytestmark = MARKS
FILES = 3_000
DAYS = range(17_000, 19_000, 3)
FOLDERS = ("/home/ada/Pictures/2019/beach", "/home/ada/Pictures/2019/city", "/home/ada/Papers")
MAX_NODES = 1_500


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browsed")
    (folder / "note.txt").write_text("a note")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([folder / "note.txt"])  # So that it has a model.
        library.remove([1])
        database = Database(folder / "library" / LIBRARY_FILE)
        kinds = (Kind.TEXT, Kind.TEXT, Kind.TEXT, Kind.IMAGE)
        add_files(database, range(10, FILES), days=DAYS, kinds=kinds, folders=FOLDERS)
        database.close()
        yield library


@pytest.fixture(scope="module")
def address(library, tmp_path_factory):
    with served_here(library, tmp_path_factory.mktemp("scratch")) as found:
        yield found


@pytest.fixture(scope="module")
def browser_window(chromium, address):
    window = Window(chromium, address, viewport={"width": 1280, "height": 800})
    yield window
    window.close()


@pytest.fixture
def window(browser_window):
    browser_window.go("about:blank")  # The same address again would keep the place.
    browser_window.load()
    listed(browser_window.page)
    return browser_window


def listed(page):
    """Wait until all that is near the screen is there."""
    page.wait_for_function(
        "document.querySelector('#rz-timeline .rz-open')"
        "&& !document.querySelector('#rz-timeline [aria-busy], #rz-home.rz-waiting')"
    )


def scroll(page, top):
    page.evaluate("top => scrollTo(0, top)", top)
    page.wait_for_timeout(250)
    listed(page)


def months(page):
    return [text.split("\n")[0] for text in page.locator(".rz-month").all_inner_texts()]


def first_visible(page):
    """The first file that lies below the bar."""
    return page.evaluate(
        "[...document.querySelectorAll('#rz-timeline .rz-card')].find((card) =>"
        "card.getBoundingClientRect().top >="
        "document.querySelector('#rz-search').offsetHeight - 60)?.dataset.item"
    )


def total(page):
    return int(re.sub(r"\D", "", page.locator("#rz-timeline-count").inner_text()))


def test_everything_is_listed_and_little_is_in_the_document(window, library):
    page, expected = window.page, library.catalog.timeline.ids(Filters(), 2 * FILES)
    assert total(page) == len(expected)
    page.evaluate(
        "window.shifts = 0; new PerformanceObserver((list) => list.getEntries().forEach((one) =>"
        "{ window.shifts += one.value })).observe({ type: 'layout-shift' })"
    )
    height = page.evaluate("document.documentElement.scrollHeight")
    for part in (0, 0.001, 0.5, 0.9, 1):
        scroll(page, part * height)
        assert page.evaluate("document.querySelectorAll('*').length") <= MAX_NODES
    window.picture("60-browse-end")
    cards = page.locator("#rz-timeline .rz-card")
    shown = [int(one) for one in cards.evaluate_all("all => all.map(one => one.dataset.item)")]
    assert shown == expected[-len(shown) :]
    assert page.evaluate("document.documentElement.scrollHeight") == height
    assert page.evaluate("window.shifts") < 0.001


def test_cards_are_drawn_without_layers(window):
    """Hundreds of them would make each frame of scrolling late."""
    layers = window.page.evaluate(
        "[...document.querySelectorAll('#rz-timeline .rz-card *')].filter((one) => {"
        "const { backdropFilter, maskImage } = getComputedStyle(one);"
        "return backdropFilter !== 'none' || maskImage !== 'none' }).map((one) => one.className)"
    )
    assert layers == []


def test_place_is_kept_on_the_way_back(window):
    page = window.page
    scroll(page, 9_000)
    before = first_visible(page)
    page.locator("#rz-timeline .rz-open").nth(14).click()
    page.locator("#rz-detail[open]").wait_for()
    page.go_back()
    page.locator("#rz-detail").wait_for(state="hidden")
    assert first_visible(page) == before
    page.wait_for_function("history.state?.at")
    page.get_by_label("What are you looking for?").fill("a note")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-rz-searched]")
    page.go_back()
    page.wait_for_selector("body:not([data-rz-searched])")
    listed(page)
    page.wait_for_timeout(300)
    assert first_visible(page) == before
    page.reload()
    listed(page)
    page.wait_for_timeout(300)
    assert first_visible(page) == before
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_timeout(300)
    listed(page)
    assert page.locator(f'#rz-timeline [data-item="{before}"]').count()
    page.set_viewport_size({"width": 1280, "height": 800})


def test_scrubber_leads_to_any_month(window):
    page, scrubber = window.page, window.page.locator("#rz-scrubber")
    newest = scrubber.get_attribute("aria-valuetext")
    assert newest == months(page)[0] == "January 2022"
    scrubber.focus()
    for key, expected in (
        ("ArrowDown", "December 2021"),
        ("PageDown", "December 2020"),
        ("ArrowUp", "January 2021"),
        ("End", "July 2016"),
        ("Home", "January 2022"),
    ):
        page.keyboard.press(key)
        page.wait_for_function(
            "month => document.querySelector('#rz-scrubber').ariaValueText === month", arg=expected
        )
    box = scrubber.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2, steps=4)
    window.picture("61-scrubber")
    page.mouse.up()
    listed(page)
    assert "2019" in scrubber.get_attribute("aria-valuetext")
    assert any("2019" in month for month in months(page))


def test_filters_narrow_the_list_and_each_other(window):
    page = window.page
    everything = total(page)
    chips = page.locator("#rz-form .rz-chip[data-kind]")
    counts = {
        one["kind"]: int(one.get("count", "0").replace(",", ""))
        for one in chips.evaluate_all("all => all.map(one => ({...one.dataset}))")
    }
    assert sum(counts.values()) == everything
    page.locator("#rz-form .rz-chip[data-kind=image]").click()
    page.wait_for_function("document.querySelectorAll('.rz-card[data-kind=text]').length === 0")
    listed(page)
    assert total(page) == counts["image"]
    page.get_by_role("button", name="Folder Any folder").click()
    tree = page.locator("#rz-folders-popover")
    tree.get_by_role("button", name="Folders in Pictures / 2019").click()
    beach = tree.get_by_role("button", name=re.compile(r"^beach"))
    window.picture("62-folders")
    inside = int(re.sub(r"\D", "", beach.inner_text()))
    beach.click()
    page.get_by_text(f"{inside} files").first.wait_for()
    assert set(parameters(page)) == {"kind", "folder"}
    assert page.locator("#rz-folder-name").inner_text() == "beach"
    page.get_by_label("To", exact=True).fill("2017-03-31")
    page.locator(".rz-month").filter(has_text="March 2017").wait_for()
    assert months(page)[0] == "March 2017"
    page.get_by_label("Sort").select_option("oldest")
    page.locator(".rz-month").filter(has_text="July 2016").wait_for()
    assert months(page)[0] == "July 2016"
    page.reload()
    listed(page)
    assert months(page)[0] == "July 2016"
    assert page.locator("#rz-folder-name").inner_text() == "beach"
    page.get_by_role("button", name="Reset filters").click()
    page.locator(".rz-month").filter(has_text="January 2022").wait_for()
    assert parameters(page) == {}
    assert total(page) == everything


def test_filters_that_nothing_fits_can_be_reset(window):
    page = window.page
    page.get_by_label("From").fill("2030-01-01")
    page.get_by_text("Nothing in the library matches these filters").wait_for()
    page.locator("#rz-timeline").get_by_role("button", name="Reset filters").click()
    listed(page)


def test_viewer_goes_through_the_whole_list(window):
    page = window.page
    everything = total(page)
    page.locator("#rz-timeline .rz-open").nth(3).click()
    position = page.locator(".rz-position")
    for step in range(4, 24):
        page.wait_for_function(
            "text => document.querySelector('.rz-position').textContent === text",
            arg=f"{step} of {everything:,}",
        )
        page.keyboard.press("ArrowRight")
    seen = page.locator("#rz-detail .rz-after").is_enabled()
    assert seen, position.inner_text()
    page.keyboard.press("Escape")
    page.locator("#rz-detail").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.closest('#rz-timeline') !== null")


def test_keyboard_stays_on_its_file_when_the_list_is_read_again(window):
    page = window.page
    card = page.locator("#rz-timeline .rz-open").nth(2)
    segment = card.get_attribute("data-segment")
    card.focus()
    page.evaluate("document.activeElement.dataset.before = 'yes'")
    page.evaluate("dispatchEvent(new CustomEvent('rz-removed'))")
    page.wait_for_function(
        "segment => { const { dataset } = document.activeElement;"
        "return dataset.segment === segment && !dataset.before }",
        arg=segment,
    )


def test_arrow_keys_walk_over_rows_and_months(window):
    page = window.page
    page.locator("#rz-timeline .rz-open").first.focus()
    box = "document.activeElement.getBoundingClientRect().toJSON()"
    for _ in range(12):
        before = page.evaluate(f"({{...{box}, y: {box}.y + scrollY}})")
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(60)
        listed(page)
        after = page.evaluate(f"({{...{box}, y: {box}.y + scrollY}})")
        assert after["y"] > before["y"]
        assert after["x"] <= before["x"]
    assert page.evaluate("document.activeElement.className") == "rz-open"


def test_all_files_can_be_selected(window):
    page = window.page
    everything = total(page)
    page.locator("#rz-timeline .rz-open").first.focus()
    page.keyboard.press("Control+a")
    page.get_by_text(f"{everything:,} selected").wait_for()
    page.keyboard.press("Escape")


def test_list_on_a_phone(chromium, address):
    window = Window(chromium, address, viewport=PHONE, has_touch=True, is_mobile=True)
    page = window.page
    listed(page)
    scroll(page, 5_000)
    window.picture("63-browse-phone")
    assert window.narrow()
    lefts = page.locator("#rz-timeline .rz-card").evaluate_all(
        "all => [...new Set(all.map(one => Math.round(one.getBoundingClientRect().left)))]"
    )
    assert len(lefts) == 2
    assert page.evaluate("document.querySelectorAll('*').length") <= MAX_NODES
    window.close()
