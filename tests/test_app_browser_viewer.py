"""The detail dialog in a real browser: one result, large, and the way to the others."""

import pytest
from browser import DESKTOP, MARKS, PHONE, Window
from sample_library import served_here

from indexer import Library

pytestmark = MARKS

HOLD = """segment => {
    const ask = window.fetch, held = new Promise(done => { window.release = done });
    window.fetch = async (address, ...rest) => {
        if (String(address).includes(`detail/${segment}?`)) await held;
        return ask(address, ...rest);
    };
    window.unhold = () => { window.release(); window.fetch = ask };
}"""

LOADED = """end =>
    performance.getEntriesByType('resource').some(({ name }) => name.endsWith(end))"""


@pytest.fixture(scope="module")
def window(chromium, sample_folder, tmp_path_factory):
    """One window for all tests."""
    scratch = tmp_path_factory.mktemp("scratch")
    with (
        Library.open(sample_folder / "library") as library,
        served_here(library, scratch) as address,
    ):
        window = Window(chromium, address)
        yield window
        window.close()


@pytest.fixture
def desk(window):
    """The window with the dialog closed."""
    # Else a browser notes no more than 250 of what all tests have loaded.
    window.page.evaluate("performance.setResourceTimingBufferSize(5000)")
    yield window
    window.page.unroute_all()
    window.page.evaluate("window.unhold?.()")
    window.page.evaluate("document.querySelector('#rz-detail').close()")
    window.page.wait_for_function("!document.querySelector('#rz-detail-title')")
    assert not window.problems


def segments(desk):
    """Those of the cards, in order."""
    cards = desk.page.locator("#rz-results .rz-open")
    return cards.evaluate_all("cards => cards.map(card => card.dataset.segment)")


def shown(desk):
    return desk.page.locator("#rz-detail .rz-detail").get_attribute("data-segment")


def test_late_answer_does_not_replace_a_newer_one(desk):
    page = desk.page
    desk.search("red")
    _, second, third, *_ = segments(desk)
    page.evaluate(HOLD, second)
    page.locator("#rz-results .rz-open").first.click()
    page.wait_for_selector("#rz-detail .rz-detail")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{third}']")
    with page.expect_response(f"**/detail/{second}?*"):
        page.evaluate("window.unhold()")
    page.wait_for_timeout(100)
    assert shown(desk) == third


def test_messages_are_seen_over_the_dialog(desk):
    page = desk.page
    desk.search("blue")
    desk.open("blue.jpg")
    page.get_by_role("button", name="Copy the path").click()
    toast = page.locator(".rz-toast")
    toast.wait_for()
    assert toast.evaluate(
        "toast => { const { x, y, width, height } = toast.getBoundingClientRect();"
        "return document.elementFromPoint(x + width / 2, y + height / 2) === toast }"
    )


def test_next_ends_before_what_is_folded(desk):
    page = desk.page
    desk.search("blue")
    page.locator("#rz-results .rz-weak[open] summary").click()
    matches = page.locator("#rz-results .rz-grid").first.locator(".rz-open")
    count = matches.count()
    matches.last.click()
    page.wait_for_selector("#rz-detail .rz-detail")
    last = shown(desk)
    assert page.locator(".rz-position").inner_text() == f"{count} of {count}"
    assert page.get_by_role("button", name="Next result").is_disabled()
    page.keyboard.press("Escape")
    page.wait_for_function("last => document.activeElement.dataset.segment === last", arg=last)


def test_next_loads_further_results(desk):
    page = desk.page
    desk.search("red")
    page.locator("#rz-results .rz-open").first.click()
    for number in range(2, 31):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "number => document.querySelector('.rz-position').textContent.startsWith(number)",
            arg=f"{number} of ",
        )
    matches = page.locator("#rz-results .rz-grid").first.locator(".rz-open")
    shown_last = matches.nth(29).get_attribute("data-segment")
    page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{shown_last}']")
    assert page.locator(".rz-position").inner_text() == f"30 of {matches.count()}"


def test_list_stays_at_the_result_that_was_shown_last(desk):
    page = desk.page
    desk.search("red")
    page.locator("#rz-results .rz-open").first.click()
    last = segments(desk)[20]
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{last}']")
    page.keyboard.press("Escape")
    page.wait_for_function("!new URLSearchParams(location.search).has('open')")
    page.wait_for_timeout(200)  # In which a browser may scroll back.
    card = page.locator(f"#rz-results .rz-open[data-segment='{last}']")
    assert card.evaluate("card => document.activeElement === card")
    assert 0 < card.bounding_box()["y"] < DESKTOP["height"]


def test_back_leads_from_a_related_file_to_the_one_before(desk):
    page = desk.page
    desk.search("blue")
    desk.open("blue.jpg")
    first = shown(desk)
    for _ in range(2):
        other = page.locator("#rz-detail [data-goto]").first
        related = other.get_attribute("data-goto")
        other.click()
        page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{related}']")
    for _ in range(2):
        page.go_back()
    page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{first}']")
    assert page.locator(".rz-position").inner_text().startswith("1 of")
    page.go_forward()
    page.wait_for_function("first => !location.search.includes(`open=${first}`)", arg=first)
    page.keyboard.press("Escape")
    page.wait_for_function("!new URLSearchParams(location.search).has('open')")
    assert not page.locator("#rz-detail").is_visible()
    assert page.locator("#rz-results .rz-card").count()


def test_shown_file_is_put_into_an_album(desk):
    page = desk.page
    desk.search("blue")
    desk.open("blue.jpg")
    page.locator("#rz-detail").get_by_role("button", name="Add to album").click()
    page.get_by_role("dialog", name="Add to which album?").get_by_text("Favourites").click()
    desk.wait_for_message("1 file added to Favourites.")
    page.locator("#rz-detail [data-favourite][aria-pressed=true]").wait_for()
    page.locator("#rz-detail [data-favourite]").click()
    desk.picture("add-from-detail")


def test_thumbnail_is_shown_until_the_picture_comes(desk):
    page = desk.page
    desk.search("red")
    first, second, *_ = segments(desk)
    name = desk.names()[0]
    page.evaluate(HOLD, first)
    page.locator("#rz-results .rz-open").first.click()
    assert page.locator("#rz-detail h2").inner_text() == name
    assert page.locator(f"#rz-detail .rz-stage img[src='thumbnail/{first}']").is_visible()
    page.evaluate("window.unhold()")
    page.wait_for_selector(f"#rz-detail img[src='media/{first}']")
    page.wait_for_function(LOADED, arg=f"media/{second}")


def test_stopped_server_is_told_in_the_dialog(desk):
    page = desk.page
    desk.search("green")
    page.route("**/detail/**", lambda route: route.abort())
    page.locator("#rz-results .rz-open").first.click()
    page.locator("#rz-detail").get_by_text("The server does not answer").wait_for()
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector("#rz-detail .rz-detail")


def test_video_stops_at_the_end_of_its_clip(desk):
    page = desk.page
    desk.search("blue")
    desk.open("walk.webm")
    end = float(page.locator("video").get_attribute("data-end"))
    page.evaluate("end => { document.querySelector('video').currentTime = end - 0.2 }", end)
    page.wait_for_function(
        "end => { const video = document.querySelector('video');"
        "return video.paused && Math.abs(video.currentTime - end) < 1 }",
        arg=end,
    )


def test_clip_repeats_on_request(desk):
    page = desk.page
    desk.search("blue")
    desk.open("walk.webm")
    page.keyboard.press("r")
    start, end = (
        float(page.locator("video").get_attribute(f"data-{name}")) for name in ("start", "end")
    )
    page.evaluate("end => { document.querySelector('video').currentTime = end - 0.2 }", end)
    page.wait_for_function(
        "start => { const video = document.querySelector('video');"
        "return !video.paused && video.currentTime < start + 2 }",
        arg=start,
    )
    page.keyboard.press("r")
    assert page.locator(".rz-loop").get_attribute("aria-pressed") == "false"


def test_card_of_a_video_moves_under_the_mouse(desk):
    page = desk.page
    desk.search("blue")
    card = page.locator("#rz-results .rz-card", has_text="walk.webm").first
    picture = card.locator(".rz-thumb img")
    card.locator(".rz-thumb").hover()
    picture.and_(page.locator("[src*='frame/']")).wait_for()
    page.mouse.move(0, 0)
    picture.and_(page.locator("[src*='thumbnail/']")).wait_for()
    page.emulate_media(reduced_motion="reduce")
    card.locator(".rz-thumb").hover()
    page.wait_for_timeout(800)
    assert "thumbnail/" in picture.get_attribute("src")
    page.emulate_media(reduced_motion="no-preference")
    page.mouse.move(0, 0)


def test_strip_of_moments_marks_matches_and_seeks(desk):
    page = desk.page
    desk.search("blue")
    desk.open("walk.webm")
    strip = page.locator(".rz-strip .rz-moment")
    assert page.locator(".rz-strip .rz-matching").count() >= 1
    strip.first.click()
    page.wait_for_function("document.querySelector('video').currentTime < 2")
    assert strip.first.get_attribute("aria-current") == "true"
    desk.picture("video-strip")


def test_frames_are_shown_of_a_video_that_cannot_be_played(desk):
    page = desk.page
    page.route("**/media/**", lambda route: route.fulfill(body="none", content_type="video/webm"))
    desk.search("blue")
    desk.open("walk.webm")
    page.get_by_text("This browser cannot play this kind of video").wait_for()
    first = page.locator(".rz-strip .rz-moment").first
    first.click()
    frame = f"frame/{first.get_attribute('data-clip')}?"
    page.wait_for_function(
        "frame => document.querySelector('.rz-frame img').src.includes(frame)", arg=frame
    )
    button = page.locator(".rz-film")
    assert button.inner_text() == "Pause"
    button.click()
    assert button.inner_text() == "Play"
    desk.picture("video-frames")


def scale(desk):
    """How far what the stage shows is zoomed."""
    return desk.page.locator("#rz-detail :is(img.rz-full, .rz-sheet)").first.evaluate(
        "shown => new DOMMatrix(getComputedStyle(shown).transform).a"
    )


def test_picture_zooms_and_moves(desk):
    page = desk.page
    desk.search("blue")
    desk.open("blue.jpg")
    picture = page.locator("#rz-detail img[src^='media/']")
    box = picture.bounding_box()
    assert box["width"] > 640, "a picture of 320 pixels is enlarged"
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.dblclick(*middle)
    assert scale(desk) == 3
    desk.picture("zoomed")
    before = picture.bounding_box()["x"]
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 70, middle[1])
    page.mouse.up()
    assert picture.bounding_box()["x"] == pytest.approx(before + 70, abs=1)
    page.keyboard.press("+")
    assert scale(desk) == 4.5
    page.keyboard.press("0")
    assert picture.bounding_box() == pytest.approx(box)
    page.mouse.move(box["x"] + 10, middle[1])
    page.mouse.wheel(0, -500)
    page.wait_for_function("document.querySelector('.rz-stage').dataset.zoomed")
    assert picture.bounding_box()["x"] == pytest.approx(box["x"] - 10 * (scale(desk) - 1), abs=1)
    page.keyboard.press("ArrowRight")
    page.wait_for_function("!document.querySelector('.rz-stage').dataset.zoomed")


def test_zoomed_page_is_drawn_sharper(desk):
    page = desk.page
    desk.search("lighthouse")
    desk.open("harbour.pdf")
    page.wait_for_function("document.querySelector('.rz-sheet img').naturalWidth === 1600")
    page.keyboard.press("+")
    page.wait_for_function("document.querySelector('.rz-sheet img').naturalWidth === 2400")


def test_swipe_and_pinch(desk):
    page = desk.page
    page.set_viewport_size(PHONE)
    desk.search("red")
    _, second, *_ = segments(desk)
    page.locator("#rz-results .rz-open").first.click()
    page.wait_for_selector("#rz-detail .rz-detail")
    desk.picture("phone")
    fingers = desk.context.new_cdp_session(page)

    def touch(kind, *points):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (300, 300))
    touch("touchMove", (200, 305))
    touch("touchMove", (120, 305))
    touch("touchEnd")
    page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{second}']")
    touch("touchStart", (180, 300), (220, 300))
    touch("touchMove", (160, 300), (240, 300))
    touch("touchMove", (120, 300), (280, 300))
    touch("touchEnd")
    assert scale(desk) == pytest.approx(4, rel=0.1)
    assert shown(desk) == second
    page.set_viewport_size(DESKTOP)


def test_full_screen_and_slide_show(desk):
    page = desk.page
    desk.search("red")
    _, second, *_ = segments(desk)
    page.locator("#rz-results .rz-open").first.click()
    page.wait_for_selector("#rz-detail .rz-detail")
    page.keyboard.press("F")
    page.wait_for_function("document.fullscreenElement")
    assert not page.locator("#rz-detail .rz-side").is_visible()
    page.keyboard.press("F")
    page.wait_for_function("!document.fullscreenElement")
    page.evaluate("window.setInterval = next => { window.next = next; return 1 }")
    page.keyboard.press(" ")
    button = page.locator(".rz-slides")
    assert button.get_attribute("aria-pressed") == "true"
    page.evaluate("window.next()")
    page.wait_for_selector(f"#rz-detail .rz-detail[data-segment='{second}']")
    page.keyboard.press("i")
    assert button.get_attribute("aria-pressed") == "false"
    assert not page.locator("#rz-detail .rz-side").is_visible()
    page.keyboard.press("i")


def test_page_is_chosen_by_its_number(desk):
    page = desk.page
    desk.search("lighthouse")
    desk.open("harbour.pdf")
    following = page.locator(".rz-turn > [data-turn]").last.get_attribute("data-turn")
    page.wait_for_function(LOADED, arg=f"page/{following}.webp?side=1600")
    page.get_by_label("Page 2 of 3").fill("3")
    page.keyboard.press("Enter")
    page.get_by_label("Page 3 of 3").wait_for()
    page.keyboard.press("PageUp")
    page.get_by_label("Page 2 of 3").wait_for()


def test_text_of_a_page_can_be_selected(desk):
    page = desk.page
    desk.search("lighthouse")
    desk.open("harbour.pdf")
    page.wait_for_function("document.querySelector('.rz-sheet img').naturalWidth")
    box = page.locator(".rz-page-text text", has_text="lighthouse").bounding_box()
    mark = page.locator(".rz-sheet i").bounding_box()
    assert box["x"] == pytest.approx(mark["x"], abs=2)
    assert box["width"] == pytest.approx(mark["width"], rel=0.1)
    first, last = (
        page.locator(".rz-page-text text").all()[0],
        page.locator(".rz-page-text text").last,
    )
    start, end = first.bounding_box(), last.bounding_box()
    page.mouse.move(start["x"] + 1, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + end["width"] - 1, end["y"] + end["height"] / 2, steps=5)
    page.mouse.up()
    desk.picture("selected-text")
    selected = page.evaluate("getSelection().toString()")
    assert selected.split() == "A lighthouse keeper counts the boats by night.".split()


def test_slide_show_waits_for_a_clip(desk):
    page = desk.page
    desk.search("blue")
    desk.open("walk.webm")
    page.wait_for_function("!document.querySelector('video').paused")
    page.evaluate("window.setInterval = next => { window.next = next; return 1 }")
    page.locator(".rz-slides").click()
    page.evaluate("window.next()")
    assert page.locator(".rz-slides").get_attribute("aria-pressed") == "true"
    assert page.locator("#rz-detail .rz-detail").get_attribute("data-name") == "walk.webm"


def test_name_stays_on_a_phone_and_buttons_cover_nothing(desk):
    page = desk.page
    desk.search("blue")
    desk.open("blue.jpg")
    page.locator("[data-related] .rz-moment").first.wait_for()
    page.evaluate("document.querySelector('.rz-side').scrollTop = 9999")
    behind = page.locator(".rz-close").evaluate(
        "button => { const { x, y } = button.getBoundingClientRect();"
        "button.style.visibility = 'hidden';"
        "const found = document.elementFromPoint(x + 4, y + 4); button.style.visibility = '';"
        "return found.className }"
    )
    assert behind == "rz-side-kind"
    page.set_viewport_size(PHONE)
    page.keyboard.press("i")
    assert page.locator("#rz-detail-title").is_visible()
    assert not page.locator("[data-related]").is_visible()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#rz-detail .rz-detail[data-name='walk.webm']")
    page.keyboard.press("i")
    page.locator("[data-related] .rz-moment").first.wait_for()
    page.set_viewport_size(DESKTOP)


def test_what_was_shown_stays_until_a_page_is_drawn(desk):
    page, held = desk.page, []
    desk.search("lighthouse")
    page.route("**/page/*", lambda route: held.append(route))  # noqa: PLW0108 -- as Playwright needs
    page.locator("#rz-results .rz-card", has_text="harbour.pdf").locator(".rz-open").click()
    desk.wait_until(lambda: held)
    assert page.locator(".rz-opening img.rz-full").is_visible()
    assert not page.locator(".rz-sheet").count()
    for route in held:
        route.continue_()
    page.unroute_all()
    page.locator(".rz-sheet img").wait_for()
    assert page.evaluate("document.querySelector('.rz-sheet img').naturalWidth") == 1600


def test_find_in_document(desk):
    page = desk.page
    desk.search("lighthouse")
    desk.open("harbour.pdf")
    page.get_by_label("Page 2 of 3").wait_for()
    for label in ("Page 1 of 3", "Page 3 of 3", "Page 1 of 3"):
        page.get_by_label("Find in this document").fill("harbour")
        page.keyboard.press("Enter")
        page.get_by_label(label).wait_for()
        page.wait_for_function("document.activeElement.matches('[data-find]')")
    assert page.locator(".rz-found").inner_text() == "13"
    assert page.locator(".rz-sheet i").count() == 1
    page.get_by_label("Find in this document").fill("volcano")
    page.keyboard.press("Enter")
    page.get_by_text("Not in this document").wait_for()
    page.get_by_label("Find in this document").dblclick()
    assert scale(desk) == 1
    page.wait_for_function("document.querySelector('.rz-sheet img').naturalWidth")
    desk.picture("find")
    page.set_viewport_size(PHONE)
    assert desk.narrow()
    desk.picture("find-phone")
    page.set_viewport_size(DESKTOP)
