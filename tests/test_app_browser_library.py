"""The library tab in a real browser: its table of files, folders, and uploads."""

import re
import threading

import pytest
from browser import MARKS, PHONE, Window
from PIL import Image
from sample_library import copy_library, served_here

from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that the library remembers, and that tests may change."""
    folder = tmp_path_factory.mktemp("library-tab") / "Notes"
    folder.mkdir()
    for name in ("one.txt", "two.txt"):
        (folder / name).write_text(f"A note about {name}.")
    return folder


@pytest.fixture(scope="module")
def library(sample_folder, folder):
    with Library.open(copy_library(sample_folder, folder.parent)) as library:
        library.ingest([folder])
        yield library


@pytest.fixture(scope="module")
def address(library, folder):
    with served_here(library, folder.parent / "scratch") as found:
        yield found


@pytest.fixture(scope="module")
def opened(chromium, address):
    window = Window(chromium, address, viewport={"width": 1280, "height": 900})
    window.page.get_by_role("tab", name="Library").click()
    window.page.wait_for_selector("#rz-listed tbody tr")
    yield window
    window.close()


@pytest.fixture
def window(opened):
    yield opened
    opened.page.get_by_role("button", name=re.compile("^Indexed")).click()
    opened.page.get_by_label("Find files by name").fill("")
    for field in opened.page.locator("#rz-file-form select").all():
        field.select_option("")
    assert not opened.problems


def rows(page):
    return page.locator("#rz-listed .rz-name b").all_inner_texts()


def choose_folder(page):
    option = page.locator("#rz-file-form option", has_text="Notes").get_attribute("value")
    page.locator("#rz-file-form").get_by_label("Folder").select_option(option)


def until(window, names):
    window.wait_until(lambda: rows(window.page) == names)


def test_a_late_answer_does_not_replace_a_later_one(window):
    page, held = window.page, threading.Event()

    def late(route):
        page.wait_for_timeout(600)
        route.continue_()
        held.set()

    page.route(re.compile(r"/files\?.*name=red-0"), late)
    field = page.get_by_label("Find files by name")
    with page.expect_request(re.compile("name=red-0")):
        field.fill("red-0")
    field.fill("diary")
    until(window, ["diary.md"])
    window.wait_until(held.is_set)
    page.wait_for_timeout(200)
    assert rows(page) == ["diary.md"]
    page.unroute_all()


def test_files_are_counted_filtered_and_sorted(window):
    page = window.page
    form = page.locator("#rz-file-form")
    form.get_by_role("button", name=re.compile("^Failed 1")).wait_for()
    form.get_by_label("Kind").select_option("text")
    page.get_by_role("button", name="Size").click()
    window.wait_until(lambda: rows(page)[:1] == ["diary.md"])
    page.get_by_role("button", name="Size ↓").click()
    window.wait_until(lambda: rows(page)[-1:] == ["diary.md"])
    assert page.evaluate("document.activeElement.dataset.order") == "size"
    form.get_by_role("button", name="Indexed 5").wait_for()
    choose_folder(page)
    window.wait_until(lambda: sorted(rows(page)) == ["one.txt", "two.txt"])
    page.get_by_text("1 – 2 of 2").wait_for()
    window.picture("library-1-table")
    page.get_by_role("button", name="Folder", exact=True).click()


def test_rows_open_the_viewer_and_lead_on(window):
    page = window.page
    page.get_by_label("Find files by name").fill("red-0")
    page.locator("#rz-listed .rz-open", has_text="red-00.png").click()
    page.locator("#rz-detail-title", has_text="red-00.png").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator("#rz-detail-title", has_text="red-01.png").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.textContent.includes('red-01.png')")
    page.get_by_role("tab", name="Library", selected=True).wait_for()


def test_failed_files_say_why_and_are_tried_again_one_by_one(window):
    page = window.page
    page.get_by_role("button", name=re.compile("^Failed")).click()
    row = page.locator("#rz-listed tbody tr", has_text="broken.jpg")
    row.get_by_text("The file is truncated: it ends before the picture does.").wait_for()
    row.get_by_label("Retry broken.jpg").click()
    page.get_by_text("Retrying broken.jpg: done").wait_for()
    page.locator("[data-ingest=ended]").get_by_text("1 failed").wait_for()


def test_what_is_removed_is_what_was_asked_about(window):
    page = window.page
    window.list_files("one.txt")
    page.get_by_role("checkbox", name="Select one.txt").check()
    page.locator("#rz-remove").click()
    # As a name that was typed just before does, the table changes beneath the question.
    page.evaluate("document.querySelector('#rz-file-form [data-status=failed]').click()")
    page.get_by_text("No file fits these filters").wait_for()
    page.get_by_role("button", name="Remove from the library").click()
    window.wait_for_message("1 file removed from the library.")
    page.get_by_role("button", name="Undo").click()
    window.wait_for_message("1 file is back in the library.")
    page.get_by_text("Bringing files back: done").wait_for()
    window.list_files("one.txt")


def test_all_files_of_a_folder_are_removed_and_scanned_again(window):
    page = window.page
    page.get_by_label("Find files by name").fill(".txt")
    choose_folder(page)
    window.wait_until(lambda: sorted(rows(page)) == ["one.txt", "two.txt"])
    page.get_by_role("checkbox", name="Select all").check()
    page.get_by_text("2 files selected").wait_for()
    page.locator("#rz-remove").click()
    page.get_by_role("button", name="Remove from the library").click()
    window.wait_for_message("2 files removed from the library.")
    page.get_by_label(re.compile("^Scan .*Notes again$")).click()
    page.get_by_text("Scanning Notes: done").wait_for()
    page.get_by_role("button", name="Show what was added").click()
    window.wait_until(lambda: sorted(rows(page)[:2]) == ["one.txt", "two.txt"])


def test_exclusions_ask_before_files_leave(window, folder):
    page = window.page
    exclusions = page.locator(".rz-folders details").filter(
        has=page.get_by_label(re.compile("exclude from .*Notes$"))
    )
    exclusions.locator("summary").click()
    exclusions.get_by_role("textbox").fill("two*")
    page.keyboard.press("Enter")
    question = page.get_by_role("dialog")
    question.get_by_text("Exclude two*? 1 file leaves the library.").wait_for()
    window.picture("library-2-exclude")
    question.get_by_role("button", name="Exclude").click()
    exclusions.get_by_text("Without two*").wait_for()
    assert exclusions.get_attribute("open") is not None, "it stays unfolded"
    page.get_by_text("1 file · scanned just now").wait_for()
    exclusions.get_by_label("Stop excluding two*").click()
    page.get_by_text("2 files · scanned just now").wait_for()
    assert (folder / "two.txt").exists()


def test_folders_are_kept_up_to_date(window, folder, library):
    page = window.page
    page.get_by_label("Keep up to date").check()
    window.wait_until(library.catalog.watched)
    page.get_by_text("No changes since the page was started.").wait_for()
    (folder / "three.txt").write_text("A note about an albatross.")
    page.get_by_text("1 file added, just now.").wait_for()
    page.get_by_text("3 files · scanned just now").wait_for()
    window.picture("library-3-watched")
    page.get_by_role("button", name="Indexed 53").wait_for()
    page.get_by_label("Keep up to date").uncheck()
    window.wait_until(lambda: not library.catalog.watched())


def test_uploads_pause_at_a_full_disk_and_go_on(window, tmp_path):
    page, sent = window.page, []
    for number in range(12):
        Image.new("RGB", (60, 40), (10 * number, 90, 40)).save(tmp_path / f"leaf-{number:02}.png")

    def full(route):
        sent.append(route.request.url)
        route.fulfill(status=507, json={"error": "the disk has less than 256 MB left"})

    page.route(re.compile("/uploads"), full)
    page.locator("#rz-pick-files").set_input_files(sorted(tmp_path.iterdir()))
    page.get_by_text("The disk has less than 256 MB left.").wait_for()
    page.get_by_text("12 files were not sent yet.").wait_for()
    assert len(sent) <= 3, "nothing is sent in vain"
    window.picture("library-4-full")
    page.unroute_all()
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("Adding your files: done").wait_for()
    page.get_by_text("12 added").wait_for()
    page.get_by_role("button", name="Show what was added").click()
    window.wait_until(lambda: rows(page)[0].startswith("leaf-"))


def test_refused_uploads_are_listed_and_the_rest_is_counted(window, tmp_path):
    page = window.page
    for number in range(25):
        (tmp_path / f"note-{number:02}.txt").write_text("x")
    refusal = {"error": "the file is too large"}
    page.route(re.compile("/uploads"), lambda route: route.fulfill(status=413, json=refusal))
    page.locator("#rz-pick-files").set_input_files(sorted(tmp_path.iterdir()))
    page.get_by_text("25 files could not be sent").wait_for()
    page.get_by_text("note-00.txt – The file is too large.").wait_for()
    page.get_by_text("… and 5 more.").wait_for()
    page.unroute_all()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_library_tab_fits_a_phone(window, scheme):
    page = window.page
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    assert window.narrow()
    window.picture(f"library-5-phone-{scheme}")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
