"""The page in a real browser for everyone: axe's rules, both themes, from phones to desktops."""

import json

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from browser import MARKS, Window
from sample_library import copy_library, served_here

from indexer import Library

pytestmark = MARKS
WIDTHS = {"desktop": 1280, "phone": 390}
VIOLATIONS = """async () => {
    const { violations } = await axe.run();
    return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
}"""

# What is cut off at the sides, unless it can be scrolled there.
STICKING_OUT = """() => [...document.querySelectorAll("body *")].filter((one) => {
    const { left, right, width, height } = one.getBoundingClientRect();
    if (!width || !height || !one.checkVisibility({ opacityProperty: true })) return false;
    if (left >= -1 && right <= innerWidth + 1) return false;
    for (let around = one; around !== document.body; around = around.parentElement) {
        if (["auto", "scroll"].includes(getComputedStyle(around).overflowX)) return false;
    }
    return true;
}).map((one) => one.outerHTML.slice(0, 200))"""
MAX_BAR = {390: 100, 768: 150, 1024: 110, 1280: 150}  # Pixels, by the width of the window.


@pytest.fixture(scope="module")
def window(chromium, sample_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("accessible")
    with Library.open(copy_library(sample_folder, folder)) as library:
        library.albums.add(1, [item.id for item in library.catalog.items(name="blue")])
        library.albums.create("Reds", search={"text": "red", "kinds": ["image"]}, border=0.1)
        library.albums.save_search("Boats", {"text": "boats"})
        with served_here(library, folder / "scratch") as address:
            window = Window(chromium, address)
            window.page.add_init_script(AXE_SCRIPT)
            yield window
            window.close()


def screens(window):
    """Go through the page, and name what is shown."""
    page = window.page
    page.locator("#rz-home .rz-open").first.wait_for()
    yield "everything"
    window.search("red")
    yield "results"
    window.open("red.jpg")
    page.wait_for_load_state("networkidle")
    yield "detail"
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Collections").click()
    page.locator("#rz-collections-list .rz-album").first.wait_for()
    page.wait_for_load_state("networkidle")
    yield "collections"
    page.get_by_role("tab", name="Library").click()
    page.locator("#rz-files tbody tr").first.wait_for()
    yield "library"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violations(window, theme, width):
    page = window.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.set_viewport_size({"width": WIDTHS[width], "height": 844})
    window.load()
    found = {}
    for screen in screens(window):
        window.picture(f"accessibility-{screen}-{theme}-{width}")
        if violations := page.evaluate(VIOLATIONS):
            found[screen] = violations
    assert not found, json.dumps(found, indent=1)
    assert not window.problems


@pytest.mark.parametrize("width", MAX_BAR)
def test_nothing_sticks_out(window, width):
    page = window.page
    page.set_viewport_size({"width": width, "height": 844})
    window.load()
    found = {}
    for screen in screens(window):
        window.picture(f"width-{screen}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if sticking_out := page.evaluate(STICKING_OUT):
            found[screen] = sticking_out
        if screen == "everything":
            assert page.locator("#rz-form").bounding_box()["height"] <= MAX_BAR[width]
    assert not found, json.dumps(found, indent=1)


@pytest.mark.parametrize("width", WIDTHS.values())
def test_first_cards_come_where_their_places_were(window, width):
    page = window.page
    page.set_viewport_size({"width": width, "height": 844})
    page.route("**/timeline?*", lambda route: None)  # It is not answered.
    window.load()
    place = page.locator("#rz-timeline .rz-ghost").first.bounding_box()
    page.unroute("**/timeline?*")
    window.load()
    card = page.locator("#rz-timeline .rz-card:not(.rz-ghost)").first
    card.wait_for()
    box = card.bounding_box()
    for side in ("x", "y"):  # Browsers count a shift from 3 pixels on.
        assert box[side] == pytest.approx(place[side], abs=1)


def test_filters_stay_when_they_can_be_reset(window):
    page = window.page
    page.set_viewport_size({"width": 1280, "height": 844})
    sort = page.get_by_label("Sort")
    before = sort.bounding_box()
    sort.select_option("newest")
    page.get_by_role("button", name="Reset filters").wait_for()
    assert sort.bounding_box() == before
