"""Two million files by date in a real browser, whose elements end long before such a list does."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from browser import MARKS, Window
from sample_library import served_here

from indexer import Library

pytestmark = MARKS
FILES = 2_000_000
MONTHS = [f"{year}-{month:02}" for year in range(2020, 2000, -1) for month in range(12, 0, -1)]
A_MONTH = FILES // len(MONTHS)
SIZES = [A_MONTH] * (len(MONTHS) - 1) + [FILES - A_MONTH * (len(MONTHS) - 1)]
MAX_NODES = 1_500
FILES_PER_PIXEL = 4 / 278  # There are four in a row.
LEFT = 220_000  # Pixels to an end of the element, a little more than where nothing is left out.
TURNED = 3_500  # Pixels in one frame, less than what only the scrollbar does.
# The files of which at least half is on the screen.
ON_SCREEN = """
() => {
  const bar = document.querySelector('#rz-search').getBoundingClientRect().bottom;
  const isSeen = (card) => {
    const { top, height } = card.getBoundingClientRect();
    return top + height / 2 > bar && top + height / 2 < innerHeight;
  };
  const cards = [...document.querySelectorAll('#rz-timeline .rz-card')].filter(isSeen);
  return cards.map((card) => Number(card.dataset.item));
}
"""
LISTED = """
document.querySelector('#rz-timeline .rz-open')
&& !document.querySelector('#rz-timeline [aria-busy], #rz-home.rz-waiting')
"""
# Scrolls in each frame, as a user who turns the wheel does.
TURN = """
([by, times]) => new Promise((resolve) => {
  const step = () => {
    scrollBy({ top: by, behavior: 'instant' });
    if ((times -= 1)) requestAnimationFrame(step);
    else requestAnimationFrame(() => resolve());
  };
  requestAnimationFrame(step);
})
"""


def answer(route):
    """Answer in place of the server, for a library that would take an hour to fill."""
    address = urlsplit(route.request.url)
    given = {name: values[0] for name, values in parse_qs(address.query).items()}
    if address.path.endswith("/timeline"):
        months = [{"month": m, "files": n} for m, n in zip(MONTHS, SIZES, strict=True)]
        route.fulfill(json={"months": months, "kinds": {"text": FILES}, "notice": None})
        return
    first = MONTHS.index(given["month"]) * A_MONTH + int(given["offset"])
    cards = (
        f'<div class="rz-card" role="listitem" data-item="{one}" data-kind="text">'
        f'<a class="rz-open" href="?open=1" data-segment="1"><span class="rz-thumb"></span>'
        f'<span class="rz-title"><b>{one}</b></span></a></div>'
        for one in range(first, first + int(given["limit"]))
    )
    route.fulfill(content_type="text/html", body="".join(cards))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    (folder / "note.txt").write_text("a note")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([folder / "note.txt"])
        with served_here(library, folder / "scratch") as found:
            yield found


@pytest.fixture
def window(chromium, address):
    window = Window(chromium, address, viewport={"width": 1280, "height": 800})
    window.go("about:blank")  # Or a late request of the page so far would get the answers, too.
    window.page.route(re.compile(r"/timeline(/items)?\?"), answer)
    window.load()
    shown(window.page, 0)
    window.page.evaluate("document.activeElement.blur()")  # The box, in which keys do other things.
    yield window
    window.close()


def shown(page, file):
    """Wait until a file is on the screen, with all around it; return those on the screen."""
    found = page.wait_for_function(
        f"file => {{ if (!({LISTED})) return false;"
        f"const seen = ({ON_SCREEN})(); return seen.includes(file) && seen }}",
        arg=file,
        polling=100,
    )
    seen = found.json_value()
    assert seen == list(range(seen[0], seen[-1] + 1))
    return seen


def press(page, key):
    """Press a key that scrolls, and return what is on the screen afterwards."""
    before = page.evaluate("window.lastY = scrollY")
    page.keyboard.press(key)
    page.wait_for_function(
        "before => { const last = window.lastY; window.lastY = scrollY;"
        "return scrollY !== before && scrollY === last }",
        arg=before,
        polling=100,
    )
    return settled(page)


def settled(page):
    """Return what is on the screen once the list has been scrolled."""
    page.wait_for_timeout(150)  # Only then are the cards asked for that were not scrolled past.
    page.wait_for_function(LISTED)
    seen = page.evaluate(ON_SCREEN)
    assert seen == list(range(seen[0], seen[-1] + 1))
    return seen


def thumb_to(page, part):
    """Drag the scrubber's thumb to a part of its length."""
    box = page.locator("#rz-scrubber").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 1)
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + part * box["height"], steps=3)
    page.mouse.up()
    return settled(page)


def test_both_ends_and_all_between_can_be_reached(window):
    page = window.page
    assert page.evaluate("document.documentElement.scrollHeight") < 16_000_000
    assert press(page, "End")[-1] == FILES - 1
    assert "January 2001" in page.locator("#rz-scrubber").get_attribute("aria-valuetext")
    window.picture("64-long-list-end")
    assert press(page, "Home")[0] == 0
    for part in (0.2, 0.5, 0.83):
        seen = thumb_to(page, part)
        assert seen[0] == pytest.approx(part * FILES, rel=0.02)
        for key, sign in (*[("PageDown", 1)] * 8, *[("PageUp", -1)] * 12):
            before, seen = seen, press(page, key)
            assert 0 < sign * (seen[0] - before[0]) <= 16  # Four rows.
        assert page.evaluate("document.querySelectorAll('*').length") <= MAX_NODES
    assert thumb_to(page, 1)[-1] == FILES - 1
    scrubber = page.locator("#rz-scrubber")
    scrubber.focus()
    page.keyboard.press("PageUp")
    shown(page, MONTHS.index("2002-01") * A_MONTH)
    page.keyboard.press("Home")
    shown(page, 0)


@pytest.mark.parametrize("end", [False, True])
def test_what_is_scrolled_through_ends_where_the_list_does(window, end):
    page = window.page
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.evaluate("top => scrollTo(0, top)", whole - LEFT if end else LEFT)
    seen = settled(page)
    left = FILES - seen[-1] if end else seen[0]
    assert left > 1.1 * LEFT * FILES_PER_PIXEL  # Some are left out of the element.
    moved = []
    while seen[0] > 0 and seen[-1] < FILES - 1:
        page.evaluate(TURN, [TURNED if end else -TURNED, 5])
        last, seen = seen, settled(page)
        moved.append(abs(seen[0] - last[0]))
        assert moved[-1], "the element has ended before the list"
    assert moved[:-1] == pytest.approx([5 * TURNED * FILES_PER_PIXEL] * (len(moved) - 1), rel=0.02)
    assert sum(moved) == pytest.approx(left, rel=0.02)


def test_place_in_the_middle_is_kept_on_the_way_back(window):
    page = window.page
    seen = thumb_to(page, 0.6)
    page.wait_for_function("history.state?.at")
    page.get_by_label("What are you looking for?").fill("a note")
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-rz-searched]")
    page.go_back()
    page.wait_for_selector("body:not([data-rz-searched])")
    assert shown(page, seen[0]) == seen
    page.reload()
    assert shown(page, seen[0]) == seen
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_function(
        "document.querySelector('#rz-timeline').style.getPropertyValue('--rz-columns') < 4"
    )
    shown(page, seen[0])


def test_focus_leads_back_to_a_file_that_is_far_away(window):
    page = window.page
    file = thumb_to(page, 0.3)[0]
    month = page.locator("#rz-scrubber").get_attribute("aria-valuetext")
    page.locator(f'#rz-timeline [data-item="{file}"] .rz-open').focus()
    assert thumb_to(page, 0.7)[0] > 2 * file
    page.evaluate("const one = document.activeElement; one.blur(); one.focus()")
    page.wait_for_function(
        "month => document.querySelector('#rz-scrubber').ariaValueText === month", arg=month
    )
    shown(page, file)
