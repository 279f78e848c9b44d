"""The section of duplicates in a real browser."""

import shutil

import pytest
from browser import MARKS, PHONE, Window
from sample_library import COLOURS, served_here
from test_app_duplicates import picture

from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Two pictures in two sizes each, and one with two copies."""
    folder = tmp_path_factory.mktemp("duplicates")
    photos = folder / "photos"
    (photos / "more").mkdir(parents=True)
    for number in range(2):
        picture(number).resize((120, 90)).save(photos / f"small {number}.jpg", quality=80)
        picture(number).save(photos / f"large {number}.png")
    for number in range(len(COLOURS)):
        picture(10 + number).save(photos / f"alone {number}.png")
    for name in ("beach (1).png", "beach (2).png", "beach.png"):
        shutil.copy2(photos / "alone 0.png", photos / "more" / name)
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([photos])
        yield library


@pytest.fixture(scope="module")
def window(chromium, library, tmp_path_factory):
    """One window for all tests."""
    with served_here(library, tmp_path_factory.mktemp("scratch")) as address:
        window = Window(chromium, address)
        yield window
        window.close()


@pytest.fixture
def desk(window):
    """The window at the section."""
    show(window)
    yield window
    assert not window.problems


def show(window):
    window.page.get_by_role("tab", name="Collections").click()
    window.page.wait_for_selector("#rz-duplicate-groups", state="attached")
    window.page.evaluate("document.querySelector('#rz-duplicate-groups').replaceChildren()")
    window.page.get_by_role("button", name="Exact copies").click()
    window.page.wait_for_selector("#rz-duplicate-groups .rz-count")


def kept(desk):
    return desk.page.locator("#rz-duplicate-groups .rz-card:has(input:checked) b").all_inner_texts()


def test_one_file_of_each_group_is_kept(desk):
    page = desk.page
    assert kept(desk) == ["beach.png"]
    desk.picture("duplicates-desktop")
    page.locator(".rz-group .rz-card", has_text="beach.png").locator("[data-keep]").click()
    desk.wait_for_message("mark another one first")
    assert kept(desk) == ["beach.png"]
    page.locator(".rz-group .rz-card", has_text="alone 0.png").locator("[data-keep]").check()
    page.locator(".rz-group .rz-card", has_text="beach.png").locator("[data-keep]").uncheck()
    assert kept(desk) == ["alone 0.png"]


def test_pictures_that_look_the_same_are_apart(desk):
    page = desk.page
    page.get_by_role("button", name="Pictures that look the same").click()
    page.wait_for_function("document.querySelectorAll('.rz-group').length === 2")
    assert sorted(kept(desk)) == ["large 0.png", "large 1.png"]
    assert page.locator(".rz-group").first.get_by_text("120 × 90").count()


def test_a_group_is_dismissed_and_brought_back(desk):
    page = desk.page
    page.get_by_role("button", name="Not duplicates").click()
    page.wait_for_function("!document.querySelector('.rz-group')")
    page.get_by_role("button", name="Undo").click()
    page.wait_for_selector(".rz-group")
    page.reload()
    page.wait_for_selector("html[data-rz-ready]")
    show(desk)
    assert page.locator(".rz-group").count() == 1


def test_a_phone_has_room(desk, chromium):
    phone = Window(chromium, desk.address, viewport=PHONE, has_touch=True, color_scheme="dark")
    show(phone)
    phone.page.locator(".rz-group").scroll_into_view_if_needed()
    phone.picture("duplicates-phone-dark")
    assert phone.narrow()
    phone.close()


def test_copies_go_to_the_trash_after_a_question(desk, library):
    page = desk.page
    doomed = library.catalog.items(name="beach (1).png")[0].path
    page.get_by_role("button", name="Move copies to the trash").click()
    question = page.locator(".rz-question p").inner_text()
    assert "Move 3 files" in question
    assert "alone 0.png, beach (1).png, beach (2).png" in question
    page.locator(".rz-question").get_by_role("button", name="Cancel").click()
    assert doomed.exists()
    moved = library.catalog.items(name="beach (2).png")[0].path
    moved.write_bytes(b"changed")
    page.get_by_role("button", name="Move copies to the trash").click()
    page.get_by_role("button", name="Move to the trash", exact=True).click()
    page.wait_for_selector("#rz-duplicate-groups .rz-notice")
    assert "1 file stays where it is" in page.locator(".rz-notice h2").inner_text()
    assert "beach (2).png" in page.locator("#rz-duplicate-groups .rz-notice").inner_text()
    assert not doomed.exists()
    assert moved.exists()
    assert len(library.catalog.items(name="beach")) == 2
