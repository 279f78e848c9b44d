"""A real browser on the page, for tests.

If RZEN_SCREENSHOTS names a folder, pictures of each step are written to it.
"""

import os
import shutil
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright import sync_api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TIMEOUT = 60_000  # Milliseconds: a machine under load is no fault of the page.
SCREENSHOTS = os.environ.get("RZEN_SCREENSHOTS")  # Read before the tests' own environment is set.
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium in the PATH"),
]
# Messages are recorded: they are gone after seconds, which a machine may be busy for.
RECORD_MESSAGES = """
window.shownMessages = [];
new MutationObserver((changes) => {
  for (const { addedNodes } of changes)
    for (const added of addedNodes)
      if (added.classList?.contains("rz-toast")) window.shownMessages.push(added.textContent);
}).observe(document, { childList: true, subtree: true });
"""


def take_picture(page, name):
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.wait_for_timeout(300)  # Until nothing moves.
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def parameters(page):
    """What the address says after its question mark."""
    return dict(parse_qsl(urlsplit(page.url).query))


class Window:
    """A browser window on the page that records errors and requests to other hosts.

    Each window has a cache of its own: to load the page again in one takes a quarter of the
    processor time of another window.
    """

    def __init__(self, browser, address, **context):
        self.context = browser.new_context(**{"viewport": DESKTOP, **context})
        self.context.add_init_script(RECORD_MESSAGES)
        self.page = self.context.new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.problems = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url, address))
        self.address = address
        self.load()

    def go(self, address):
        """Load an address, once the page has gone back from a result that was closed."""
        self.page.wait_for_function(
            "document.querySelector('#rz-detail')?.open || !location.search.includes('open=')"
        )
        self.page.goto(address)

    def load(self):
        self.go(self.address)
        self.page.wait_for_selector("html[data-rz-ready]")

    def _note(self, url, address):
        if not url.startswith((address, "data:", "blob:")):
            self.problems.append(f"request to {url}")

    def picture(self, name):
        take_picture(self.page, name)

    def answer(self):
        """What names the results that are shown."""
        return self.page.evaluate(
            "document.querySelector('#rz-results [data-answer]')?.dataset.answer ?? null"
        )

    def search(self, words):
        seen = self.answer()
        self.page.get_by_label("What are you looking for?").fill(words)
        self.page.keyboard.press("Enter")
        self.wait_for_answer(seen)

    def wait_for_answer(self, seen):
        self.page.wait_for_function(
            "seen => { const found = document.querySelector('#rz-results [data-answer]');"
            "return found && found.dataset.answer !== seen"
            "&& !document.querySelector('.rz-waiting') }",
            arg=seen,
        )

    def wait_for_message(self, words):
        """Wait for a short message that has not been waited for, and forget it and those before."""
        try:
            self.page.wait_for_function(
                "words => { const found = shownMessages.findIndex((one) => one.includes(words));"
                "return shownMessages.splice(0, found + 1).length }",
                arg=words,
            )
        except sync_api.TimeoutError:
            pytest.fail(f"no message {words!r}, but {self.page.evaluate('shownMessages')}")

    def wait_until(self, condition):
        """Wait for what the page causes on the server."""
        for _ in range(TIMEOUT // 50):
            if condition():
                return
            self.page.wait_for_timeout(50)
        pytest.fail("the page did not cause it")

    def names(self):
        return (
            self.page.locator("#rz-results .rz-grid >> nth=0")
            .locator(".rz-title b")
            .all_inner_texts()
        )

    def open(self, name):
        folded = self.page.locator("#rz-results .rz-weak:not([open]) summary")
        if folded.count():
            folded.click()
        self.page.locator("#rz-results .rz-card", has_text=name).first.locator(".rz-open").click()
        self.page.wait_for_selector("#rz-detail .rz-detail")

    def list_files(self, name):
        """The one indexed file with this in its name, in the library tab."""
        self.page.get_by_role("tab", name="Library").click()
        self.page.get_by_role("button", name="Indexed").click()
        self.page.get_by_label("Find files by name").fill(name)
        self.page.wait_for_function(
            "name => { const rows = document.querySelectorAll('#rz-listed tbody tr');"
            "return rows.length === 1 && rows[0].textContent.includes(name) }",
            arg=name,
        )

    def narrow(self):
        """Nothing sticks out to the right."""
        return self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    def close(self):
        self.context.close()
        assert not self.problems, self.problems
