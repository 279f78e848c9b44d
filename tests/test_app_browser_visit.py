"""What a first visit asks for, in a real browser, of a library with many photos."""

from pathlib import Path

import pytest
from browser import MARKS, TIMEOUT, Window
from PIL import Image
from sample_library import served_here

from indexer import Library
from indexer.ingest.thumbnails import Thumbnails

pytestmark = MARKS
SAMPLES = Path(__file__).parent.parent / "samples" / "media" / "photos"
PHOTOS = 48
SCREEN = {"width": 1280, "height": 900}
MAX_BYTES = 290_000  # Without pictures, directly after the start of the page.
MAX_PICTURES = 12  # Three rows of four.
MAX_REQUESTS = 64


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
        write_thumbnails(library, folder)
        with served_here(library, folder / "scratch") as found:
            yield found


def write_thumbnails(library, folder):
    """As large as other models have them: the toy looks at pictures of 64 pixels."""
    thumbnails = Thumbnails(folder / "library" / "thumbnails")
    for item in library.catalog.items(limit=PHOTOS):
        (segment,) = library.catalog.segments(item.id)
        with Image.open(item.path) as photo:
            photo.thumbnail((384, 384))
            thumbnails.write(segment.content_hash, segment.position, photo)


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


FETCHED = (
    "performance.getEntriesByType('resource').filter(({ name }) => /thumbnail/.test(name)).length"
)


def tops(page, pictures):
    """How far below the top of the screen the cards are whose pictures match a selector."""
    found = page.locator(f"#rz-timeline .rz-card:has(img{pictures})")
    return found.evaluate_all("all => all.map((one) => one.getBoundingClientRect().top)")


def test_pictures_below_the_screen_are_asked_for_once_the_page_is_used(window):
    page, limit = window.page, SCREEN["height"]
    wait_for_pictures(page)
    shown, left_out = tops(page, ":not([hidden])"), tops(page, "[hidden]")
    # Browsers list what they have fetched a moment later.
    page.wait_for_function(f"shown => {FETCHED} >= shown", arg=len(shown))
    assert page.evaluate(FETCHED) == len(shown) > 0
    assert max(shown) <= limit
    assert min(left_out) > limit
    page.mouse.move(600, 600)
    page.wait_for_function("!document.querySelector('#rz-timeline img[hidden]')")
    page.evaluate("scrollTo(0, 600)")
    page.wait_for_function("scrollY >= 600")
    wait_for_pictures(page)
    assert not tops(page, "[hidden]")


class Traffic:
    """What a page has asked for and got, counted as it was sent, with its headers."""

    def __init__(self, page):
        self.addresses, self.sizes, self._received = {}, {}, {}
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.requestWillBeSent", self._asked)
        network.on("Network.dataReceived", self._got)
        network.on("Network.loadingFinished", self._ended)
        network.on("Network.loadingFailed", self._ended)  # As streams that the page has read.

    def _asked(self, event):
        self.addresses[event["requestId"]] = event["request"]["url"]

    def _got(self, event):
        request = event["requestId"]
        self._received[request] = self._received.get(request, 0) + event["encodedDataLength"]

    def _ended(self, event):
        received = self._received.get(event["requestId"], 0)
        self.sizes[event["requestId"]] = event.get("encodedDataLength", received)

    def pending(self):
        return [self.addresses[one] for one in self.addresses.keys() - self.sizes.keys()]

    def has(self, part):
        return any(part in address for address in self.addresses.values())

    def sizes_of(self, part=""):
        return [size for one, size in self.sizes.items() if part in self.addresses[one]]


@pytest.mark.parametrize("sharpness", [1, 2])
def test_first_visit_is_small(chromium, address, sharpness):
    context = chromium.new_context(viewport=SCREEN, device_scale_factor=sharpness)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    traffic = Traffic(page)
    page.goto(address)
    page.wait_for_selector("html[data-rz-ready]")
    wait_for_pictures(page)
    for _ in range(TIMEOUT // 50):
        if traffic.has("queue/data") and not traffic.pending():
            break
        page.wait_for_timeout(50)
    context.close()
    assert not traffic.pending()
    pictures = traffic.sizes_of("/thumbnail/")
    assert 0 < len(pictures) <= MAX_PICTURES
    assert sum(traffic.sizes_of()) - sum(pictures) <= MAX_BYTES
    assert len([size for size in traffic.sizes_of() if size]) <= MAX_REQUESTS
