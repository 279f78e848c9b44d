"""The detail of a segment, what is related to it, and further results."""

import os
import re
import shutil
from datetime import datetime

import pymupdf
import pytest
from fastapi import FastAPI
from PIL import Image
from sample_library import COLOURS, copy_library, segment_of
from starlette.testclient import TestClient

from app import services
from app.config import AppConfig
from app.page import events
from app.routes import media_router, search_router
from app.search import SearchForm
from indexer import Library


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("detail"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(library, tmp_path_factory):
    return services.build(AppConfig(), library, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def client(page):
    return client_of(page)


def client_of(page):
    app = FastAPI()
    app.include_router(media_router(page.library, page.searches))
    app.include_router(search_router(events.LibraryView(page), page.searches))
    return TestClient(app)


@pytest.mark.parametrize("paths", [True, False])
def test_detail_shows_paths_to_trusted_users(page, library, paths):
    app = FastAPI()
    app.include_router(media_router(library, page.searches, paths=paths))
    (item,) = library.catalog.items(name="diary.md")
    shown = TestClient(app).get(f"/detail/{segment_of(library, 'diary.md')}").text
    assert (str(item.path) in shown) is paths
    assert f"{item.path.parent.name}/diary.md" in shown


def test_detail_of_pdf_page(page, client, library):
    session = page.searches.open(SearchForm(text="lighthouse"))
    hit = next(one.hit for one in session.page().cards if one.hit.item.name == "harbour.pdf")
    shown = client.get(f"/detail/{hit.segment.id}?search={session.token}").text
    assert "Page 2 of 3" in shown
    assert shown.count('<i style="left:') == 1
    pages = library.catalog.segments(hit.item.id)
    assert f'data-turn="{pages[0].id}"' in shown
    assert f'data-turn="{pages[2].id}"' in shown


def test_detail_of_what_was_removed(client):
    gone = client.get("/detail/999999")
    assert gone.status_code == 404
    assert "no longer in the library" in gone.text


def test_page_of_a_document_by_its_number(client, library):
    segment = segment_of(library, "harbour.pdf")
    for asked, shown in ((3, 3), (99, 3), (1, 1)):
        assert f"Page {shown} of 3" in client.get(f"/detail/{segment}?page={asked}").text
    assert 'class="rz-full"' in client.get(f"/detail/{segment_of(library, 'red.jpg')}?page=2").text
    page = client.get(f"/detail/{segment}").text
    assert re.findall(r"<text [^>]+>([^<]+) </text>", page)[:3] == ["The", "harbour", "was"]


def boxes(shown):
    """What is marked on a page: left, top, width and height in percent."""
    values = r"left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%;height:([\d.]+)%"
    return [tuple(map(float, box)) for box in re.findall(values, shown)]


@pytest.mark.parametrize(
    ("find", "pages", "marks"),
    [
        ("harbour", [1, 3], 1),
        ("ARBO", [1, 3], 1),
        ("harbours", [], 0),
        ("e har", [1, 3], 2),
        ("harbour was", [1], 2),
        ("- ?", [], 0),
    ],
)
def test_what_is_sought_in_a_document_is_marked_and_nothing_else(
    client, library, find, pages, marks
):
    segment = segment_of(library, "harbour.pdf")
    shown = client.get(f"/detail/{segment}", params={"find": find}).text
    found = shown.partition('class="rz-found"')[2]
    assert [int(one) for one in re.findall(r'aria-label="Page (\d)" aria-current', found)] == pages
    assert len(boxes(shown)) == marks


def test_mark_covers_the_letters_that_were_sought(client, library):
    segment = segment_of(library, "harbour.pdf")

    def box(find):
        ((left, _, width, _),) = boxes(client.get(f"/detail/{segment}?find={find}").text)
        return left, left + width

    whole, part = box("harbour"), box("bour")
    assert part[1] == pytest.approx(whole[1], abs=0.02)
    assert part[1] - part[0] == pytest.approx((whole[1] - whole[0]) * 4 / 7, abs=0.02)


def test_detail_of_video(client, library):
    (item,) = library.catalog.items(name="walk.webm")
    last = library.catalog.segments(item.id)[-1]
    shown = client.get(f"/detail/{last.id}").text
    assert last.start > 0
    assert f'data-start="{last.start:.3f}"' in shown


def test_detail_of_passage(page, client):
    session = page.searches.open(SearchForm(text="lantern windmill"))
    hit = next(one.hit for one in session.page().cards if one.hit.item.name == "diary.md")
    shown = client.get(f"/detail/{hit.segment.id}?search={session.token}").text
    inside = shown[shown.index("rz-passage") :]
    assert "<mark>lantern</mark>" in inside
    assert "Nothing but rain" in shown[: shown.index("rz-passage")]


def test_detail_with_expired_search(client, library):
    response = client.get(f"/detail/{segment_of(library, 'diary.md')}?search=old")
    assert response.status_code == 200


def test_more_results(page, client):
    session = page.searches.open(SearchForm(text="red"))
    session.page()
    shown = client.get(f"/results/{session.token}?offset=24").text
    assert 0 < shown.count('class="rz-card"') < 24
    assert "data-more" not in shown


def related(client, library, name) -> tuple[list[str], list[str]]:
    """The names of what is shown as related, and as around a file."""
    shown = client.get(f"/detail/{segment_of(library, name)}/related").text
    like, _, around = shown.partition("Around this")
    return tuple(re.findall(r'title="([^"]+)"', part) for part in (like, around))


def test_related_files_are_of_other_kinds_and_around_it_of_the_time(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    Image.new("RGB", (320, 240), COLOURS["red"]).save(media / "photo.jpg")
    Image.new("RGB", (320, 240), COLOURS["red"]).save(media / "same.png")
    document = pymupdf.open()
    sheet = document.new_page(width=320, height=240)
    sheet.draw_rect(sheet.rect, color=None, fill=[part / 255 for part in COLOURS["red"]])
    document.save(media / "brochure.pdf")
    for hour in range(1, 20):
        note = media / f"note-{hour:02}.txt"
        note.write_text(f"Nothing but rain in hour {hour}.")
        os.utime(note, (3_600 * hour, 3_600 * hour))
    (media / "later.txt").write_text("Written three weeks later.")
    os.utime(media / "later.txt", (1_814_400, 1_814_400))
    shutil.copy2(media / "note-10.txt", media / "copy.txt")
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([media])
        client = client_of(services.build(AppConfig(), library, tmp_path / "scratch"))
        like, _ = related(client, library, "photo.jpg")
        _, around = related(client, library, "note-10.txt")
        _, first = related(client, library, "note-01.txt")
        _, later = related(client, library, "later.txt")
        assert client.get("/detail/99999/related").status_code == 404
    assert like == ["brochure.pdf"]
    assert around == [f"note-{hour:02}.txt" for hour in range(4, 17) if hour != 10]
    assert first == [f"note-{hour:02}.txt" for hour in range(2, 8)]
    assert later == [f"note-{hour:02}.txt" for hour in range(14, 20)]


def test_detail_shows_when_where_with_what_and_what_was_written(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x0110] = "<b>Toboggan</b> race", "Canon EOS 5D"
    exif.get_ifd(0x8769)[0x9003] = "2009:05:06 23:30:10"
    exif.get_ifd(0x8825).update({1: "S", 2: (47.0, 46.0, 33.0), 3: "E", 4: (13.0, 26.0, 2.0)})
    media = tmp_path / "media"
    media.mkdir()
    Image.new("RGB", (90, 60), "red").save(media / "race.jpg", exif=exif)
    Image.new("RGB", (90, 60), "blue").save(media / "IMG_20110203_101112.png")
    (media / "pond.txt").write_text("Tulips")
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([media])
        page = services.build(AppConfig(), library, tmp_path / "scratch")
        client, search = client_of(page), page.searches.open(SearchForm(text="toboggan"))
        shown = client.get(f"/detail/{segment_of(library, 'race')}?search={search.token}").text
        named, plain = (
            client.get(f"/detail/{segment_of(library, name)}").text for name in ("IMG_2011", "pond")
        )
        day = f"{datetime.now():%b %Y}"  # noqa: DTZ005 -- as the page shows it
    assert ">6 May 2009, 23:30</a></dd>" in shown
    assert 'href="?after=2009-05-06&amp;before=2009-05-06"' in shown
    assert "&lt;b&gt;<mark>Toboggan</mark>&lt;/b&gt; race" in shown
    assert "47.77583° S, 13.43389° E" in shown
    assert 'href="geo:-47.77583,13.43389"' in shown
    assert 'href="https://www.openstreetmap.org/?mlat=-47.77583&amp;mlon=13.43389' in shown
    assert 'rel="noreferrer noopener"' in shown
    assert "<dt>Camera</dt><dd>Canon EOS 5D</dd>" in shown
    assert "<dd>90 × 60 pixels · " in shown
    assert "3 Feb 2011, 10:11</a> <small>(from the file name)</small>" in named
    assert re.search(rf"{day}, \d\d:\d\d</a> <small>\(modified\)</small>", plain)
