"""Frames while long lists are scrolled by wheel: everything by date, and 500 results of a search.

    python -m benchmarks.scrolling LIBRARY [--words river] [--seconds 8] [--speed 3000]

LIBRARY is the folder of a library such as `benchmarks/filled.py` makes (`--segments 185000` for
100,000 files). Thumbnails are answered in place of the server, which has none of made-up files.
Needs Chromium, as the tests of the page do.

Frames a second suffer from everything that the machine does besides, and from drawing without a
graphics card. The processor time of the page's main thread, from one frame to the next, does not:
with 16.7 ms, 60 frames a second are possible.
"""

import argparse
import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright

from benchmarks.page import FLAGS, LATE_MS, served

RESULTS = 500
_TIMEOUT_MS = 120_000  # The vector index may be built meanwhile.
_VIEWPORT = {"width": 1280, "height": 900}
_CATEGORIES = [  # Of tasks, and of the beginnings of frames.
    "disabled-by-default-devtools.timeline",
    "disabled-by-default-devtools.timeline.frame",
]
_THUMBNAIL = (384, 288)
_PICTURES = 12

_WATCH = """
() => {
  window.watched = { frames: [], elements: 0 };
  const every = document.getElementsByTagName('*'); // Kept up to date by the browser.
  let last = performance.now();
  const step = (now) => {
    if (!window.watched) return;
    watched.frames.push(now - last);
    watched.elements = Math.max(watched.elements, every.length);
    last = now;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
"""
_WATCHED = "() => { const seen = watched; window.watched = null; return seen }"
_SEARCH = """
(words) => {
  document.querySelector('#rz-text').value = words;
  document.querySelector('#rz-form').requestSubmit();
}
"""
_CARDS = "document.querySelectorAll('#rz-answer .rz-card').length"
_MORE = "[...document.querySelectorAll('#rz-answer .rz-more')].some((one) => one.checkVisibility())"


def pictures() -> list[bytes]:
    """Return made-up thumbnails, as detailed as those of photos."""
    chance = np.random.default_rng(1)
    made = []
    for _ in range(_PICTURES):
        coarse = chance.integers(256, size=(24, 32, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize(_THUMBNAIL, Image.Resampling.BICUBIC).save(file, "WEBP")
        made.append(file.getvalue())
    return made


class Scroller:
    """A window on a page whose lists are scrolled, and what that costs."""

    def __init__(self, browser: Browser, address: str, speed: int) -> None:
        self.page: Page = browser.new_page(viewport=_VIEWPORT)
        self.page.set_default_timeout(_TIMEOUT_MS)
        self._browser, self._speed, self._pictures = browser, speed, pictures()
        self._devices = self.page.context.new_cdp_session(self.page)
        self.page.route("**/thumbnail/**", self._answer)
        self.page.goto(address)
        self.page.wait_for_selector("html[data-rz-ready]")
        self.page.wait_for_selector("#rz-timeline .rz-open")

    def _answer(self, route: Route) -> None:
        body = self._pictures[hash(route.request.url) % _PICTURES]
        headers = {"Cache-Control": "max-age=3600"}
        route.fulfill(body=body, content_type="image/webp", headers=headers)

    def turn(self, seconds: float) -> None:
        """Turn the wheel for some seconds, as far as the page goes."""
        self._devices.send(
            "Input.synthesizeScrollGesture",
            {"x": 640, "y": 500, "yDistance": -seconds * self._speed, "speed": self._speed}
            | {"gestureSourceType": "mouse"},
        )

    def browse(self, seconds: float) -> dict[str, float]:
        """Scroll everything by date from its beginning."""
        self._begin()
        self.turn(seconds)
        return self._end()

    def load_results(self, words: str) -> dict[str, float]:
        """Search, and scroll until 500 results are there."""
        self.page.evaluate(_SEARCH, words)
        self.page.wait_for_selector("#rz-answer .rz-card[data-item]")
        self._begin()
        while self.page.evaluate(_CARDS) < RESULTS and self.page.evaluate(_MORE):
            self.turn(0.5)
        return self._end() | {"results": self.page.evaluate(_CARDS)}

    def scroll_results(self, seconds: float) -> dict[str, float]:
        """Scroll through the results that are there."""
        self.page.evaluate("scrollTo(0, 0)")
        self.page.wait_for_timeout(500)
        self._begin()
        self.turn(seconds)
        return self._end()

    def _begin(self) -> None:
        self._browser.start_tracing(page=self.page, categories=_CATEGORIES)
        self.page.evaluate(_WATCH)

    def _end(self) -> dict[str, float]:
        seen = self.page.evaluate(_WATCHED)
        events = json.loads(self._browser.stop_tracing())["traceEvents"]
        return figures(seen["frames"][1:]) | main_thread(events) | {"elements": seen["elements"]}


def figures(frames: list[float]) -> dict[str, float]:
    """Return what lengths of frames in milliseconds mean for who looks at them."""
    return {
        "frames a second": 1000 * len(frames) / sum(frames),
        "a frame, ms: median": median(frames),
        "a frame, ms: longest": max(frames),
        f"frames over {LATE_MS} ms, %": 100 * sum(one > LATE_MS for one in frames) / len(frames),
    }


def main_thread(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the processor time of a page's main thread from one frame to the next.

    Args:
        events: Of Chromium's trace, with tasks and the beginnings of frames; times in microseconds.
    """
    by_thread: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        thread = event["pid"], event["tid"]
        if event["name"] == "BeginMainThreadFrame":
            by_thread[thread].append((event["ts"], -1))
        elif event["name"] == "RunTask":
            by_thread[thread].append((event["ts"], event.get("tdur", 0) / 1000))
    # Other pages and workers draw less.
    times = max(by_thread.values(), key=lambda one: sum(spent < 0 for _, spent in one))
    frames: list[float] = []
    for _, spent in sorted(times):
        if spent < 0:
            frames.append(0)
        elif frames:
            frames[-1] += spent
    return {
        "main thread, ms a frame: median": median(frames),
        "main thread, ms a frame: 95 %": quantiles(frames, n=20)[-1],
        "main thread, ms a frame: most": max(frames),
    }


def main() -> None:
    """Scroll, and print the figures side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("library", type=Path)
    parser.add_argument("--words", default="river", help="what to search for")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--speed", type=int, default=3_000, help="pixels a second")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with served(str(given.library)) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        scroller = Scroller(browser, address, given.speed)
        columns = {
            "by date": scroller.browse(given.seconds),
            "loading results": scroller.load_results(given.words),
            "results": scroller.scroll_results(given.seconds),
        }
        browser.close()
    print(" " * 34 + "".join(f"{name:>18}" for name in columns))
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        values = (column.get(name) for column in columns.values())
        cells = ("" if value is None else f"{value:.1f}" for value in values)
        print(f"{name:34}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
