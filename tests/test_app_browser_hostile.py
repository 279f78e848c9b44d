"""The page in a real browser: hostile names and files, logins and tokens."""

import re
import sys

import pytest
from browser import MARKS, TIMEOUT, Window, take_picture
from hostile_page import IMAGE, TEXT, make_hostile_media, make_media_of_odd_bytes
from sample_library import served_here

from indexer import Library, Status

pytestmark = MARKS


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A library of files whose names and words are scripts."""
    folder = tmp_path_factory.mktemp("hostile")
    make_hostile_media(folder / "media")
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([folder / "media"])
        yield library


@pytest.fixture(scope="module")
def hostile_window(chromium, hostile, tmp_path_factory):
    """One window on that library for all tests, on a page that takes small files only."""
    scratch = tmp_path_factory.mktemp("hostile-scratch")
    with served_here(hostile, scratch, max_upload_mb=1) as address:
        window = Window(chromium, address)
        yield window
        window.close()


@pytest.fixture
def window(hostile_window):
    yield hostile_window
    assert not hostile_window.problems


NOTHING_RAN = "!('pwned' in window) && document.title.endsWith('RzenEmbed Search')"


def test_hostile_names_run_no_scripts(window):
    page = window.page
    page.on("dialog", lambda dialog: window.problems.append(dialog.message))
    page.wait_for_selector("#rz-home .rz-card")
    for words, ending in (("marmalade", ".txt"), ("marmalade", ".pdf"), ("pwned", ".png")):
        window.search(words)
        assert IMAGE in page.locator("#rz-results").inner_text()
        window.open(ending)
        page.wait_for_timeout(200)
        assert page.evaluate(NOTHING_RAN)
        window.picture(f"20-hostile{ending}")
        page.keyboard.press("Escape")
        page.wait_for_function("!location.search.includes('open=')")
    seen = window.answer()
    page.locator("#rz-file").set_input_files(
        {"name": f"{IMAGE}.txt", "mimeType": "text/plain", "buffer": TEXT.encode()}
    )
    window.wait_for_answer(seen)
    assert IMAGE in page.locator(".rz-attached-name").inner_text()
    page.locator("#rz-file").set_input_files(
        {"name": f"{IMAGE}.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    )
    page.get_by_text("cannot be used as a query").wait_for()
    page.get_by_role("button", name="Clear the search").click()
    window.search(TEXT[:300])
    look_through_library(window)
    assert page.evaluate(NOTHING_RAN)


def look_through_library(window):
    """Every list of the library tab, a job from start to end, and a folder that is not there."""
    page = window.page
    page.get_by_role("tab", name="Library").click()
    for state in ("Skipped", "Indexed", "Failed"):
        page.get_by_role("button", name=re.compile(rf"^{state}( |$)")).click()
        page.wait_for_function("document.querySelectorAll('#rz-files tbody tr').length > 3")
        assert IMAGE in page.locator("#rz-files").inner_text()
    options = page.locator('#rz-file-form [data-narrow="folder"] option').all_inner_texts()
    assert any(IMAGE in option for option in options)
    page.get_by_label("Find files by name").fill(IMAGE)
    page.locator("#rz-path").fill(f"/no/{IMAGE}")
    page.get_by_role("button", name="Add folder").click()
    page.get_by_text(f"There is no folder /no/{IMAGE}").wait_for()
    page.locator("#rz-retry").click()
    page.get_by_text("failed in").wait_for()
    assert IMAGE in page.locator("[data-ingest=ended]").inner_text()
    window.picture("21-hostile-failures")


@pytest.mark.skipif(sys.platform != "linux", reason="others allow only names in Unicode")
def test_undecodable_names_on_the_page(chromium, tmp_path):
    make_media_of_odd_bytes(tmp_path / "media")
    with (
        Library.open(tmp_path / "library", model="toy") as library,
        served_here(library, tmp_path / "scratch") as address,
    ):
        window = Window(chromium, address)
        page = window.page
        page.get_by_role("tab", name="Library").click()
        page.locator("#rz-path").fill(str(tmp_path / "media"))
        page.get_by_role("button", name="Add folder").click()
        page.get_by_text("d\ufffdfect.jpg").first.wait_for()
        for state, name in (("Skipped", "o\ufffd.bin"), ("Indexed", "caf\ufffd.png")):
            page.get_by_role("button", name=re.compile(rf"^{state}( |$)")).click()
            page.locator("#rz-files").get_by_text(name).wait_for()
        page.get_by_role("tab", name="Search").click()
        window.search("marmalade")
        window.picture("22-odd-bytes")
        window.open("r\ufffdsum\ufffd.txt")
        assert "stra\ufffde" in page.locator(".rz-path").first.inner_text()
        assert not window.problems
        window.close()


def test_originals_run_no_scripts(window, hostile):
    ids = [
        hostile.catalog.segments(item.id)[0].id
        for item in hostile.catalog.items(status=Status.INDEXED)
    ]
    for one in ids:
        answer = window.context.request.get(f"{window.address}/media/{one}")
        pdf = answer.headers["content-type"] == "application/pdf"
        assert "html" not in answer.headers["content-type"]
        assert "svg" not in answer.headers["content-type"]
        assert pdf or "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if not pdf:  # Chromium downloads it here.
            window.page.goto(f"{window.address}/media/{one}")
            assert window.page.evaluate("!('pwned' in window)")


def test_refused_upload_shows_reason(window, tmp_path):
    window.load()
    (tmp_path / "large.txt").write_bytes(b"x" * (8 << 20))
    window.page.locator("#rz-file").set_input_files(tmp_path / "large.txt")
    window.page.get_by_text("upload limit of 1 MB").wait_for()


def test_login_and_logout(chromium, hostile, tmp_path):
    auth = ("me", "right")
    with served_here(hostile, tmp_path / "scratch", auth=auth) as address:
        context = chromium.new_context()
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.goto(address)

        def log_in(password):
            page.get_by_label("User").fill("me")
            page.get_by_label("Password").fill(password)
            take_picture(page, f"22-login-{password}")
            page.get_by_role("button", name="Log in").click()

        log_in("wrong")
        page.get_by_text("Incorrect username or password.").wait_for()
        heart = page.locator(".rz-card [data-favourite]").first
        for control in (heart, page.get_by_role("tab", name="Collections")):
            log_in("right")
            heart.wait_for()
            context.clear_cookies()  # As a restart of the server ends all sessions.
            control.click()
            page.get_by_label("Password").wait_for()
        log_in("right")
        page.wait_for_selector("html[data-rz-ready]")
        page.goto(f"{address}/logout")
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Password").wait_for()
        assert page.goto(f"{address}/config").status == 401
        context.close()


def test_token_and_links_from_other_sites_open_the_page(chromium, hostile, tmp_path):
    token = "0123456789abcdef"
    # With a proxy, the programs of this user need the token, too.
    needed = {"token": token, "proxy": ("192.0.2.1",)}
    with served_here(hostile, tmp_path / "scratch", **needed) as address:
        context = chromium.new_context()
        elsewhere = f'<a href="{address}/">page</a> <a href="{address}/?token={token}">token</a>'
        context.route("http://elsewhere.example/", lambda route: route.fulfill(body=elsewhere))
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        assert page.goto(address).status == 401
        for link in ("token", "page"):
            page.goto("http://elsewhere.example/")
            page.get_by_role("link", name=link).click()
            page.wait_for_selector("html[data-rz-ready]")
            assert page.url == f"{address}/", "the token is not left in the address"
        context.close()
