"""What the page costs its users: bytes, waiting, moving parts, and frames while they scroll.

    python -m benchmarks.page PAGE [PAGE …] [--visits 5] [--width 1280]

A page is the folder of a library, which is served meanwhile, or the address of a page that runs
already, such as that of another version. Several are visited in turns, so that what else the
machine does slows all of them. Needs Chromium, as the tests of the page do.

The search bar counts as there when it has a size, and an answer when the frame with it is drawn.
Layout shift is the sum that browsers report, also of what follows a click. A frame is late if it
took more than 50 ms.
"""

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from statistics import median, quantiles
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

QUERIES = (
    "a cat",
    "bridge at night",
    "how do I bake a lemon cake",
    "an orchestra",
    "a flower with a bee",
    "holiday",
    "red",
    "people on a beach",
    "what may ducks be fed",
    "a street in the rain",
    "invoice 2026",
)
LATE_MS = 50
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_HEIGHT = 900

_OBSERVE = """
window.seen = {shift: 0};
new PerformanceObserver((list) => {
  for (const {value} of list.getEntries()) seen.shift += value;
}).observe({type: 'layout-shift', buffered: true});
const look = () => {
  if (document.querySelector('#rz-text')?.offsetHeight) seen.bar = performance.now();
  else requestAnimationFrame(look);
};
look();
document.addEventListener('load', ({target}) => {
  if (target.src?.includes('thumbnail/')) seen.picture ??= performance.now();
}, true);
"""
_SEARCH = """
(words) => new Promise((resolve) => {
  const answer = () => document.querySelector('#rz-results [data-answer]')?.dataset.answer;
  const before = answer();
  const start = performance.now();
  const look = () => {
    if (answer() && answer() !== before && !document.querySelector('.rz-waiting')) {
      requestAnimationFrame(() => resolve(performance.now() - start));
    } else requestAnimationFrame(look);
  };
  document.querySelector('#rz-text').value = words;
  document.querySelector('#rz-form').requestSubmit();
  look();
})
"""
_SCROLL = """
() => new Promise((resolve) => {
  const frames = [];
  let last = performance.now();
  const step = (now) => {
    frames.push(now - last);
    last = now;
    scrollBy(0, 40);
    if (frames.length < 150) requestAnimationFrame(step);
    else resolve(frames.slice(1));
  };
  requestAnimationFrame(step);
})
"""

Figures = dict[str, list[float]]


class Visit:
    """One person's visit, with an empty cache at first."""

    def __init__(self, browser: Browser, address: str, width: int) -> None:
        viewport = {"width": width, "height": _HEIGHT}
        self.context = browser.new_context(viewport=viewport)
        self.page: Page = self.context.new_page()
        self.page.add_init_script(_OBSERVE)
        self._address = address
        self._sizes: list[float] = []
        network = self.context.new_cdp_session(self.page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", self._note)

    def _note(self, event: dict[str, Any]) -> None:
        self._sizes.append(event["encodedDataLength"])

    def load(self, figures: Figures, name: str) -> None:
        """Load the page, and note what that took."""
        self._sizes.clear()
        self.page.goto(self._address)
        self.page.wait_for_selector("html[data-rz-ready]")
        self.page.wait_for_function("window.seen.picture", timeout=30_000)
        self.page.wait_for_load_state("networkidle")
        seen = self.page.evaluate("seen")
        figures[f"{name}: requests"].append(len([size for size in self._sizes if size]))
        figures[f"{name}: kB"].append(sum(self._sizes) / 1000)
        figures[f"{name}: search bar, ms"].append(seen["bar"])
        figures[f"{name}: first thumbnail, ms"].append(seen["picture"])
        figures[f"{name}: layout shift"].append(seen["shift"])

    def use(self, figures: Figures) -> None:
        """Search, open the filters, and scroll."""
        figures["Enter to results, ms"] += [self.page.evaluate(_SEARCH, words) for words in QUERIES]
        figures["layout shift while searching"].append(self.take_shift())
        for selector in ("#rz-more-filters", "#rz-form [data-kind=image]", "#rz-form [data-reset]"):
            self.page.evaluate("(one) => document.querySelector(one)?.click()", selector)
            self.page.wait_for_timeout(700)
        figures["layout shift of filters"].append(self.take_shift())
        figures["frames of scrolling, ms"] += self.page.evaluate(_SCROLL)

    def take_shift(self) -> float:
        """Return the layout shift since this was asked for last."""
        return float(self.page.evaluate("const sum = seen.shift; seen.shift = 0; sum"))


@contextlib.contextmanager
def served(page: str) -> Iterator[str]:
    """Yield the address of a page, which is started if a library is given."""
    if page.startswith("http"):
        yield page
        return
    command = [sys.executable, "-m", "app", "--library", page, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            started = (re.search(r"http\S+", line) for line in process.stdout)
            yield next(found[0] for found in started if found)
        finally:
            process.terminate()


def measured(browser: Browser, address: str, width: int, figures: Figures) -> None:
    """Visit a page for the first time and again, use it, and add what was seen."""
    visit = Visit(browser, address, width)
    visit.load(figures, "first visit")
    visit.load(figures, "later visit")
    visit.take_shift()
    visit.use(figures)
    visit.context.close()


def rows(figures: Figures) -> dict[str, float]:
    """Return the medians, and for frames how many were late."""
    table = {name: median(values) for name, values in figures.items()}
    frames = figures["frames of scrolling, ms"]
    table["frames of scrolling, ms, 95 %"] = quantiles(frames, n=20)[-1]
    table["late frames, %"] = 100 * sum(frame > LATE_MS for frame in frames) / len(frames)
    return table


def main() -> None:
    """Visit the pages in turns, and print the figures side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("pages", nargs="+", metavar="PAGE")
    parser.add_argument("--visits", type=int, default=5)
    parser.add_argument("--width", type=int, default=1280)
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with contextlib.ExitStack() as stack, sync_playwright() as driver:
        addresses = [stack.enter_context(served(page)) for page in given.pages]
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        figures: list[Figures] = [defaultdict(list) for _ in addresses]
        for _ in range(given.visits):
            for address, seen in zip(addresses, figures, strict=True):
                measured(browser, address, given.width, seen)
        browser.close()
    columns = [rows(seen) for seen in figures]
    for name in columns[0]:
        print(f"{name:34}" + "".join(f"{column[name]:10.3f}" for column in columns))


if __name__ == "__main__":
    main()
