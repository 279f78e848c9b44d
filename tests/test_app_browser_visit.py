"""What a first visit asks for, in a real browser, of a library with many photos."""

from pathlib import Path

import pytest
from browser import MARKS, Window
from PIL import Image
from sample_library import served_here

from indexer import Library

pytestmark = MARKS
SAMPLES = Path(__file__).parent.parent / "samples" / "media" / "photos"
PHOTOS = 48
SCREEN = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visited")
    (folder / "photos").mkdir()
    samples = sorted(SAMPLES.rglob("*.jpg"))
    for number in range(PHOTOS):
        with Image.open(samples[number % len(samples)]) as photo:
            inset = number // len(samples)
            cut = photo.crop((inset, inset, *photo.size))
            cut.save(folder / "photos" / f"{number:02}.jpg", quality=90)
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([folder / "photos"])
        with served_here(library, folder / "scratch") as found:
            yield found


@pytest.fixture
def window(chromium, address):
    window = Window(chromium, address, viewport=SCREEN)
    yield window
    window.close()


def wait_for_pictures(page):
    """Wait until all pictures of the list are there that are not left out."""
    page.wait_for_function(
        "document.querySelector('#rz-timeline .rz-open')"
        "&& !document.querySelector('#rz-timeline [aria-busy], #rz-home.rz-waiting')"
        "&& [...document.querySelectorAll('#rz-timeline .rz-card')].every((card) => {"
        "const picture = card.querySelector('img');"
        "return picture.hidden || picture.complete && picture.naturalWidth"
        "|| card.getBoundingClientRect().top > innerHeight })"
    )


def tops(page, pictures):
    """How far below the top of the screen the cards are whose pictures match a selector."""
    found = page.locator(f"#rz-timeline .rz-card:has(img{pictures})")
    return found.evaluate_all("all => all.map((one) => one.getBoundingClientRect().top)")


def test_pictures_far_below_are_asked_for_once_the_page_is_scrolled(window):
    page, limit = window.page, 1.25 * SCREEN["height"]
    wait_for_pictures(page)
    requests = page.evaluate(
        "performance.getEntriesByType('resource').filter(({ name }) => /thumbnail/.test(name))"
    )
    shown, left_out = tops(page, ":not([hidden])"), tops(page, "[hidden]")
    assert len(requests) == len(shown) > 0
    assert max(shown) <= limit
    assert min(left_out) > limit
    page.mouse.move(600, 600)
    page.mouse.wheel(0, 100)
    page.wait_for_function("!document.querySelector('#rz-timeline img[hidden]')")
    page.evaluate("scrollTo(0, 600)")
    page.wait_for_function("scrollY >= 600")
    wait_for_pictures(page)
    assert not tops(page, "[hidden]")
