"""The page in a real browser: what a person does with it, from an empty library on."""

import os
from dataclasses import replace

import pytest
from browser import DESKTOP, MARKS, PHONE, Window
from hub_server import tiny_hub
from PIL import Image
from sample_library import copy_library, make_media, served_here

from embedder import Modality
from embedder.toy import ToyEmbedder
from indexer import Library

pytestmark = MARKS


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "My media"
    make_media(folder, reds=40)
    os.utime(folder / "photos" / "blue.jpg", (1_241_611_200, 1_241_611_200))  # noon of 6 May 2009
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with (
        Library.open(folder / "library", model="toy") as library,
        served_here(library, folder / "scratch") as found,
    ):
        yield found


@pytest.fixture(scope="module")
def window(chromium, address):
    """One window for all tests on a desktop: loading Gradio takes seconds."""
    window = Window(chromium, address)
    yield window
    window.close()


@pytest.fixture
def desk(filled, window):
    """The window with an empty search bar, as after loading."""
    yield window
    page = window.page
    if page.evaluate("document.querySelector('#rz-detail').open"):
        page.keyboard.press("Escape")
    page.get_by_role("tab", name="Search").click()
    for chip in page.locator("#rz-form .rz-chip[data-kind][aria-pressed=true]").all():
        chip.click()
    page.get_by_label("What are you looking for?").focus()
    page.keyboard.press("Escape")
    page.wait_for_selector("#rz-home .rz-card")
    assert not window.problems


@pytest.fixture(scope="module")
def filled(window, media):
    """The report after a folder was uploaded through the page."""
    page = window.page
    page.wait_for_selector(".rz-welcome")
    window.picture("01-empty")
    page.get_by_role("button", name="Add your files").click()
    page.wait_for_selector("#rz-drop")
    window.picture("02-library-empty")
    page.locator("#rz-pick-folder").set_input_files(media)
    page.wait_for_selector("[data-ingest=running], [data-ingest=ended]")
    window.picture("03-progress")
    page.wait_for_selector("[data-ingest=ended]")
    page.wait_for_selector("#rz-files tbody tr")
    window.picture("04-library")
    return page.locator("[data-ingest=ended]").inner_text()


def test_upload_folder_lists_failures(filled, desk):
    assert "50 added, 1 failed" in filled
    assert "broken.jpg" in filled
    page = desk.page
    page.get_by_role("tab", name="Library").click()
    page.locator("#rz-files tbody tr", has_text="blue.jpg").get_by_text("6 May 2009").wait_for()
    page.get_by_role("button", name="Failed 1").click()
    row = page.locator("#rz-files tbody tr")
    row.get_by_text("broken.jpg").wait_for()
    assert len(row.locator("td").last.inner_text()) > 20
    page.locator("#rz-retry").click()
    page.get_by_text("1 failed in").wait_for()


def test_search_separates_weak_matches(desk):
    desk.page.keyboard.press("/")
    desk.search("blue")
    assert desk.names()[0] == "blue.jpg"
    assert desk.page.locator("#rz-results .rz-weak[open] .rz-card").first.is_visible()
    desk.picture("05-results")


def test_search_folds_weak_matches(desk):
    desk.search("red")
    weak = desk.page.locator("#rz-results .rz-weak .rz-card")
    assert weak.count() > 0
    assert not weak.first.is_visible()


def test_scrolling_loads_more_results(desk):
    desk.search("red")
    desk.page.locator(".rz-more").first.scroll_into_view_if_needed()
    desk.page.wait_for_function(
        "document.querySelectorAll('#rz-results > * .rz-grid:first-of-type .rz-card').length > 24"
    )


def test_search_with_dropped_picture(desk, media):
    data = desk.page.evaluate_handle(
        """async ([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/jpeg'}));
            return transfer; }""",
        ["sea.jpg", list((media / "photos" / "blue.jpg").read_bytes())],
    )
    desk.page.dispatch_event("#rz-form", "dragenter", {"dataTransfer": data})
    desk.picture("06-dropping")
    seen = desk.answer()
    desk.page.dispatch_event("#rz-form", "drop", {"dataTransfer": data})
    desk.wait_for_answer(seen)
    assert "blue.jpg" in desk.names()[:2]
    desk.search("film")
    assert desk.page.locator("#rz-balance").is_visible()
    desk.picture("07-words-and-file")


def test_search_with_pasted_picture(desk, media):
    seen = desk.answer()
    desk.page.evaluate(
        """async (bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], 'p.jpg', {type: 'image/jpeg'}));
            document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer})); }""",
        list((media / "photos" / "green.jpg").read_bytes()),
    )
    desk.wait_for_answer(seen)
    assert "green.jpg" in desk.names()[:2]


def test_search_with_unusable_file(desk, media):
    desk.page.locator("#rz-file").set_input_files(media / "photos" / "broken.jpg")
    desk.page.get_by_text("cannot be used as a query").wait_for()


def test_detail_plays_video_from_clip(desk):
    desk.page.get_by_role("button", name="Videos").click()
    desk.search("blue")
    desk.open("walk.webm")
    start = float(desk.page.locator("video").get_attribute("data-start"))
    assert start > 0
    desk.page.wait_for_function(
        "start => { const video = document.querySelector('video');"
        "return video.readyState >= 2 && video.currentTime >= start - 0.1 }",
        arg=start,
    )
    desk.picture("08-video")


def test_detail_marks_pdf_words_and_turns(desk):
    desk.search("lighthouse")
    desk.open("harbour.pdf")
    page = desk.page
    page.get_by_label("Page 2 of 3").wait_for()
    mark = page.locator(".rz-sheet i")
    page.wait_for_function("document.querySelector('.rz-sheet img').complete")
    sheet = page.locator(".rz-sheet").bounding_box()
    box = mark.bounding_box()
    assert sheet["x"] < box["x"] < sheet["x"] + sheet["width"] / 2
    assert 0.2 < (box["y"] - sheet["y"]) / sheet["height"] < 0.3
    desk.picture("09-pdf")
    page.keyboard.press("PageDown")
    page.get_by_label("Page 3 of 3").wait_for()


def test_detail_shows_passage_in_context(desk):
    desk.search("a lantern in the windmill")
    desk.open("diary.md")
    assert desk.page.locator(".rz-passage mark").first.is_visible()
    desk.picture("10-passage")


def test_keyboard_navigation(desk):
    page = desk.page
    desk.search("red")
    page.locator("#rz-results .rz-open").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#rz-detail .rz-detail")
    first = page.locator("#rz-detail .rz-detail").get_attribute("data-segment")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "first => document.querySelector('#rz-detail .rz-detail')?.dataset.segment !== first",
        arg=first,
    )
    shown = page.locator("#rz-detail .rz-detail").get_attribute("data-segment")
    page.keyboard.press("Escape")
    page.wait_for_function("shown => document.activeElement.dataset.segment === shown", arg=shown)


def test_more_like_this(desk):
    desk.search("yellow")
    desk.open("yellow.jpg")
    seen = desk.answer()
    desk.page.get_by_role("button", name="More like this").click()
    desk.wait_for_answer(seen)
    assert desk.names()[0] == "yellow.jpg"
    assert desk.page.locator(".rz-attached-name").inner_text() == "yellow.jpg"
    desk.picture("11-similar")


def test_add_missing_folder(desk):
    desk.page.get_by_role("tab", name="Library").click()
    desk.page.locator("#rz-path").fill("/no/such/folder")
    desk.page.get_by_role("button", name="Add folder").click()
    desk.page.get_by_text("There is no folder /no/such/folder").wait_for()
    desk.picture("12-no-folder")


def test_folder_that_is_unplugged_and_then_removed(desk, tmp_path):
    page, disk = desk.page, tmp_path / "Holiday disk"
    disk.mkdir()
    (disk / "letter.txt").write_text("A letter from the quokka island.")
    Image.new("RGB", (640, 480), "teal").save(disk / "teal quokka.png")
    page.get_by_role("tab", name="Library").click()
    page.locator("#rz-path").fill(str(disk))
    page.get_by_role("button", name="Add folder").click()
    page.get_by_text(f"{disk}2 files").wait_for()
    disk.rename(tmp_path / "unplugged")
    page.get_by_role("button", name="Scan all again").click()
    page.get_by_text("2 files kept: Holiday disk is not connected.").wait_for()
    page.get_by_text("2 files · scanned just now · not connected").wait_for()
    desk.picture("13-folders")
    page.get_by_role("tab", name="Search").click()
    desk.search("quokka")
    assert (
        page.locator("#rz-results .rz-absent").first.inner_text() == "Not connected: Holiday disk"
    )
    desk.picture("14-not-connected")
    desk.open("teal quokka.png")
    page.get_by_text("teal quokka.png cannot be opened: Holiday disk is not connected").wait_for()
    assert page.locator("#rz-detail").get_by_text("Download").count() == 0
    desk.picture("15-not-connected-detail")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Library").click()
    page.get_by_label(f"Remove {disk} from the library").click()
    page.get_by_role("button", name="Remove from the library").click()
    desk.wait_for_message("2 files removed from the library.")
    page.locator(".rz-folders").wait_for(state="hidden")


def test_remove_files_after_confirmation(desk):
    page = desk.page
    desk.list_files("grey.jpg")
    page.get_by_role("checkbox", name="Select grey.jpg").check()
    page.locator("#rz-remove").click()
    page.get_by_role("button", name="Remove from the library").click()
    desk.wait_for_message("1 file removed from the library.")
    page.get_by_text("No file fits these filters").wait_for()


@pytest.fixture(scope="module")
def phone(filled, chromium, address):
    window = Window(chromium, address, viewport=PHONE, has_touch=True)
    yield window
    window.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_layout_fits_phone_and_dark_mode(phone, scheme):
    window, page = phone, phone.page
    page.emulate_media(color_scheme=scheme)
    window.load()
    window.search("red")
    page.locator("#rz-more-filters").click()
    assert window.narrow()
    window.picture(f"13-phone-{scheme}")
    window.open("red.jpg")
    assert window.narrow()
    window.picture(f"14-phone-detail-{scheme}")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Library").click()
    assert window.narrow()
    window.picture(f"15-phone-library-{scheme}")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(251, 251, 252)", "dark": "rgb(17, 17, 20)"}[scheme]


# ---- the model


@pytest.fixture
def models_library(sample_folder, tmp_path):
    return copy_library(sample_folder, tmp_path)


@pytest.fixture
def changed_library(models_library, tmp_path):
    """A library whose model changes and changes back, and the page over it."""
    with (
        Library.open(models_library) as library,
        served_here(library, tmp_path / "scratch") as address,
    ):
        yield models_library, address


def test_change_model(chromium, changed_library):
    path, address = changed_library
    window = Window(chromium, address, viewport=PHONE, color_scheme="dark")
    page = window.page
    page.locator(".rz-model", has_text="toy").wait_for(state="attached")
    page.get_by_role("tab", name="Library").click()
    page.get_by_role("radio", name="mini").check()
    window.picture("16-model")
    page.get_by_role("button", name="Re-embed everything").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-ingest=running]")
    page.wait_for_function("document.activeElement.dataset.cancel === 'ingest'")
    window.picture("17-model-progress")
    page.get_by_text("The library now uses the model mini").wait_for()
    page.locator(".rz-model", has_text="mini").wait_for(state="attached")
    assert "dimensions" in page.locator(".rz-model").get_attribute("title")
    page.get_by_role("radio", name="toy").wait_for()
    assert not page.locator("[name=rz-offer]:checked").count(), "the choice was another model"
    for viewport in (DESKTOP, PHONE):
        page.set_viewport_size(viewport)
        assert window.narrow()
        window.picture(f"18-model-changed-{viewport['width']}")
    page.get_by_role("tab", name="Search").click()
    window.search("red")
    assert page.locator("#rz-results .rz-card").count()
    assert not page.locator("#rz-instruction").is_visible()
    with Library.open(path) as other:
        other.reembed("toy")
    window.search("blue")
    page.locator(".rz-model", has_text="toy").wait_for(state="attached")
    window.close()


@pytest.fixture
def suggesting(models_library, tmp_path, monkeypatch):
    """The page over a library of photos on `mini`, and the hub that has a tiny `siglip2`."""
    with tiny_hub(monkeypatch, tmp_path) as hub, Library.open(models_library) as library:
        library.reembed("mini")
        with served_here(library, tmp_path / "scratch") as address:
            yield address, hub


def test_suggested_model_is_downloaded_once_agreed(chromium, suggesting):
    address, hub = suggesting
    window = Window(chromium, address, viewport=PHONE)
    page = window.page
    page.get_by_role("tab", name="Library").click()
    page.get_by_role("button", name="No, thanks").click()
    page.reload()
    page.get_by_role("tab", name="Library").click()
    page.get_by_role("radio", name="siglip2").focus()
    assert not page.locator("#rz-suggestion").is_visible()
    window.close()
    window = Window(chromium, address)  # Another person, who has not dismissed it.
    page = window.page
    page.get_by_role("tab", name="Library").click()
    for answer in ("Cancel", "Download and re-embed"):
        page.get_by_role("button", name="Change to siglip2").click()
        page.get_by_role("dialog", name="your files stay here").wait_for()
        for viewport in (DESKTOP, PHONE):
            page.set_viewport_size(viewport)
            window.picture(f"20-question-{viewport['width']}")
        assert not hub.requests
        page.get_by_role("button", name=answer).click()
    page.get_by_text("The library now uses the model siglip2").wait_for()
    assert hub.requests
    page.locator("#rz-suggestion").wait_for(state="detached")
    assert window.narrow()
    window.close()


class Obedient(ToyEmbedder):
    """The toy as if it took instructions; remembers those it was given."""

    def __init__(self):
        super().__init__()
        instructions = {(Modality.TEXT, Modality.IMAGE): "Find <me> a picture."}
        self.info = replace(self.info, instructions=instructions)
        self.given = []

    def _embed_batch(self, contents, role):
        self.given += [content.instruction for content in contents]
        return super()._embed_batch(contents, role)


def test_instruction_field(chromium, models_library, tmp_path):
    embedder = Obedient()
    with (
        Library.open(models_library, embedder=embedder) as library,
        served_here(library, tmp_path / "scratch") as address,
    ):
        window = Window(chromium, address)
        field = window.page.get_by_label("Instruction")
        field.wait_for()
        assert field.get_attribute("placeholder") == "Find <me> a picture."
        window.search("red")
        assert embedder.given
        assert "Be exact." not in embedder.given
        embedder.given.clear()
        field.fill("Be exact.")
        window.search("blue")
        assert set(embedder.given) == {"Be exact."}
        window.picture("19-instruction")
        embedder.given.clear()
        window.page.get_by_role("button", name="Reset filters").click()
        # Leaving the field may have started one more search with the instruction before.
        window.wait_until(lambda: embedder.given and embedder.given[-1] != "Be exact.")
        window.close()
