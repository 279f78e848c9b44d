"""The routes for media, results and uploads."""

import base64
import io
import os
from pathlib import Path

import pytest
from fastapi import FastAPI
from PIL import Image
from sample_library import copy_library, segment_of
from starlette.testclient import TestClient

from app import services
from app.config import AppConfig
from app.page import events
from app.pictures import DrawnPictures
from app.routes import media_router, search_router, upload_router
from app.search import SearchForm
from embedder import Content
from embedder.media import Kind
from indexer import Library, LibraryBusy, LibraryError, Query, QueryPart
from indexer.decoding import on_demand


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("media"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(library, tmp_path_factory):
    return services.build(AppConfig(max_upload_mb=1), library, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def client(page):
    app = FastAPI()
    app.include_router(media_router(page.library, page.searches))
    app.include_router(search_router(events.LibraryView(page), page.searches))
    app.include_router(upload_router(page.library, page.uploads, page.files))
    return TestClient(app)


@pytest.fixture
def film(library):
    return segment_of(library, "walk.webm")


def original(library, name: str) -> bytes:
    (item,) = library.catalog.items(name=name)
    return item.path.read_bytes()


def test_original_has_media_type(client, library):
    response = client.get(f"/media/{segment_of(library, 'red.jpg')}")
    assert response.content == original(library, "red.jpg")
    assert response.headers["content-type"] == "image/jpeg"
    assert "sandbox" in response.headers["content-security-policy"]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
@pytest.mark.parametrize("route", ["/media/{}", "/thumbnail/{}", "/page/{}.png", "/detail/{}"])
def test_segment_ids_out_of_range(client, route, number):
    assert client.get(route.format(number)).status_code in {404, 422}


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-50", -50, None)],
)
def test_ranges_of_a_video(client, library, film, wanted, start, end):
    response = client.get(f"/media/{film}", headers={"Range": wanted})
    assert response.status_code == 206
    assert response.content == original(library, "walk.webm")[start:end]
    assert response.headers["content-range"].startswith("bytes ")
    assert response.headers["content-type"] == "video/webm"


def test_range_beyond_the_end(client, film):
    assert client.get(f"/media/{film}", headers={"Range": "bytes=99999999-"}).status_code == 416


def test_head_returns_length(client, library, film):
    response = client.head(f"/media/{film}")
    assert response.headers["accept-ranges"] == "bytes"
    assert int(response.headers["content-length"]) == len(original(library, "walk.webm"))


def test_download_has_the_name(client, library):
    response = client.get(f"/media/{segment_of(library, 'onerror')}?download=1")
    assert response.headers["content-disposition"].startswith("attachment; filename*=utf-8''%3Cimg")


def test_html_is_served_as_text(client, library):
    response = client.get(f"/media/{segment_of(library, 'page.html')}")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert "sandbox" in response.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/media/999999",
        "/thumbnail/999999",
        "/page/999999.png",
        "/detail/999999",
        "/results/unknown",
        "/media/0",
    ],
)
def test_unknown_segments_are_not_found(client, path):
    assert client.get(path).status_code == 404


def test_thumbnails(client, library, film):
    response = client.get(f"/thumbnail/{film}")
    assert max(Image.open(io.BytesIO(response.content)).size) <= 384
    assert client.get(f"/thumbnail/{segment_of(library, 'diary.md')}").status_code == 404


@pytest.mark.parametrize(("asked", "given"), [(1, 256), (800, 800), (99999, 2400)])
def test_page_size_is_bounded(client, library, asked, given):
    response = client.get(f"/page/{segment_of(library, 'harbour.pdf')}.png?side={asked}")
    assert response.headers["content-type"] == "image/png"
    assert max(Image.open(io.BytesIO(response.content)).size) == given


def test_page_as_webp_is_smaller_and_the_same(client, library, tmp_path):
    shown = {}
    for form in ("png", "webp"):
        response = client.get(f"/page/{segment_of(library, 'harbour.pdf')}.{form}")
        assert response.headers["content-type"] == f"image/{form}"
        shown[form] = response.content
    assert len(shown["webp"]) < len(shown["png"]) / 2
    png, webp = (Image.open(io.BytesIO(data)).convert("RGB").tobytes() for data in shown.values())
    assert png == webp


def test_frames_of_a_clip(client, library):
    (item,) = library.catalog.items(name="walk.webm")
    green, blue = (library.catalog.segments(item.id)[position] for position in (0, -1))
    for clip, channel in ((green, 1), (blue, 2)):
        for at in (0, 2.6, 9999):
            response = client.get(f"/frame/{clip.id}?at={at}&side=1")
            assert response.headers["content-type"] == "image/webp"
            pixel = Image.open(io.BytesIO(response.content)).convert("RGB").getpixel((50, 50))
            assert max(range(3), key=pixel.__getitem__) == channel
    assert client.get(f"/frame/{segment_of(library, 'red.jpg')}").status_code == 404


def test_frames_are_decoded_several_at_once(library, film, monkeypatch):
    pictures = DrawnPictures(library)
    first = pictures.frame(film, 0.0, 256)
    monkeypatch.delattr(type(library.viewer), "frames")
    assert pictures.frame(film, 1.9, 256)
    assert pictures.frame(film, 0.1, 256) is first


def test_page_is_cached(library):
    pictures = DrawnPictures(library)
    segment = segment_of(library, "harbour.pdf")
    assert pictures.page(segment, 300) is pictures.page(segment, 300)


def test_cache_of_pages_is_bounded(library):
    segment = segment_of(library, "harbour.pdf")
    size = len(DrawnPictures(library).page(segment, 300))
    pictures = DrawnPictures(library, max_bytes=2 * size + 99)
    kept = [pictures.page(segment, side) for side in (300, 301, 302)]
    assert pictures.page(segment, 302) is kept[2]
    assert sum(map(len, pictures._kept.values())) <= 2 * size + 99
    assert pictures.page(segment, 300) is not kept[0]


def test_pages_of_a_tiff(client, library, tmp_path):
    first, second = (Image.new("RGB", (90, 120), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "scan.tif", save_all=True, append_images=[second])
    library.ingest([tmp_path])
    (item,) = library.catalog.items(name="scan.tif")
    segments = library.catalog.segments(item.id)
    assert [one.page for one in segments] == [1, 2]
    for path in (f"/page/{segments[1].id}.png", f"/thumbnail/{segments[1].id}"):
        shown = Image.open(io.BytesIO(client.get(path).content)).convert("RGB")
        assert shown.getpixel((9, 9))[2] > 200, path
    detail = client.get(f"/detail/{segments[1].id}").text
    assert "Page 2 of 2" in detail
    assert f'data-turn="{segments[0].id}"' in detail
    query = Query((QueryPart(content=Content(frames=[second])),), limit=1)
    assert library.search(query)[0].segment.id == segments[1].id
    (tmp_path / "scan.tif").unlink()
    library.ingest([tmp_path])


def test_text_has_no_page(client, library):
    assert client.get(f"/page/{segment_of(library, 'diary.md')}.png").status_code == 404


def test_deleted_file(page, client, library, tmp_path):
    vanishing = tmp_path / "vanishing.txt"
    vanishing.write_text("Soon to be gone.")
    (tmp_path / "other.txt").touch()
    library.ingest([vanishing])
    segment = segment_of(library, "vanishing.txt")
    vanishing.unlink()
    assert client.get(f"/media/{segment}").status_code == 404
    assert "no longer exists" in client.get(f"/detail/{segment}").text


def test_file_of_a_disk_that_is_not_connected(page, client, library, tmp_path):
    usb = tmp_path / "usb"
    usb.mkdir()
    Image.new("RGB", (64, 48), "gold").save(usb / "coin.png")
    (usb / "coin.txt").write_text("A coin of gold.")
    library.ingest([usb])
    picture, text = segment_of(library, "coin.png"), segment_of(library, "coin.txt")
    usb.rename(tmp_path / "unplugged")
    sentence = "coin.png cannot be opened: usb is not connected"
    for path in (f"/media/{picture}", f"/page/{picture}.png", f"/detail/{picture}"):
        assert sentence in client.get(path).text
    assert client.get(f"/media/{picture}").status_code == 404
    assert client.get(f"/thumbnail/{picture}").status_code == 200
    assert "A coin of gold." in client.get(f"/detail/{text}").text
    assert "not connected: usb" in events.LibraryView(page).results({"text": "coin gold"})
    library.forget([usb])


def test_file_that_may_not_be_read(client, library, monkeypatch):
    def refused(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Path, "open", refused)
    answer = client.get(f"/media/{segment_of(library, 'red.jpg')}")
    assert answer.status_code == 404
    assert answer.text == "red.jpg cannot be opened: Permission denied."


# ---- decoding


def test_page_decodes_in_other_processes(page, client, library, monkeypatch):
    sent = {
        name: original(library, name)
        for name in ("red.jpg", "walk.webm", "harbour.pdf", "diary.md")
    }

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("decoded in the page's process")

    for place in ("PIL.Image.open", "pymupdf.open", "av.open"):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr("embedder.media.text.decode", refuse)
    for name, content in sent.items():
        assert client.get(f"/detail/{segment_of(library, name)}").status_code == 200
        key = client.post(f"/query-files?name={name}", content=content).json()["id"]
        assert "data-answer" in events.LibraryView(page).results({"files": [key]})
    assert client.get(f"/page/{segment_of(library, 'harbour.pdf')}.png?side=500").status_code == 200
    assert client.get(f"/page/{segment_of(library, 'red.jpg')}.png?side=500").status_code == 200
    assert client.get(f"/frame/{segment_of(library, 'walk.webm')}?side=300").status_code == 200
    animation = io.BytesIO()
    Image.new("L", (9, 9)).save(animation, format="GIF")
    address = "data:image/gif;base64," + base64.b64encode(animation.getvalue()).decode()
    assert "data-answer" in events.LibraryView(page).results({"files": [address]})


@pytest.fixture
def misled(library, monkeypatch):
    """The library, with decoders that do what a file's name says."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(on_demand, "_SILENCE_SECONDS", 1.0)
    with on_demand.OnDemandDecoder(performer="misbehaving_decoder:misbehave") as decoder:
        monkeypatch.setattr(library, "_viewer", decoder)
        yield library


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_query_file_that_crashes_its_decoder(page, client, misled):
    picture = original(misled, "red.jpg")
    for name, expected in (("segfault.jpg", "decoder crashed"), ("hang.jpg", "no progress")):
        key = client.post(f"/query-files?name={name}", content=picture).json()["id"]
        shown = events.LibraryView(page).results({"files": [key]})
        assert f"{name[1:]} cannot be used as a query" in shown
        assert expected in shown
    assert "data-answer" in events.LibraryView(page).results({"text": "red"})


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_detail_of_file_that_crashes_its_decoder(client, misled, tmp_path):
    (tmp_path / "segfault.txt").write_text("A tale of rain and of wind. " * 400)
    Image.new("RGB", (99, 99)).save(tmp_path / "segfault.tif")
    misled.ingest([tmp_path])
    text, picture = (segment_of(misled, f"segfault.{end}") for end in ("txt", "tif"))
    assert "A tale of rain" in client.get(f"/detail/{text}").text
    refused = client.get(f"/page/{picture}.png")
    assert (refused.status_code, "crash" in refused.text) == (404, True)


def test_busy_decoders_ask_to_retry(client, library, monkeypatch):
    def busy(*_: object) -> None:
        raise LibraryBusy("too many")

    monkeypatch.setattr(library.viewer, "page", busy)
    refused = client.get(f"/page/{segment_of(library, 'harbour.pdf')}.png?side=321")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


@pytest.fixture
def own(sample_folder, tmp_path):
    """Services over a library of this test's own, and a client."""
    with Library.open(copy_library(sample_folder, tmp_path)) as library:
        parts = services.build(AppConfig(), library, tmp_path / "scratch")
        app = FastAPI()
        app.include_router(media_router(library, parts.searches))
        app.include_router(upload_router(library, parts.uploads, parts.files))
        yield parts, TestClient(app)


def test_damaged_database_is_unavailable(own, caplog):
    parts, client = own
    segment = segment_of(parts.library, "red.jpg")
    os.truncate(parts.library.directory / "library.sqlite3", 0)
    for route in ("media", "thumbnail", "detail"):
        refused = client.get(f"/{route}/{segment}")
        assert refused.status_code == 503
        assert "the reason is in the server&#39;s log" in refused.text.replace("'", "&#39;")
        assert str(parts.library.directory) not in refused.text
    assert "is damaged: restore it from a copy" in caplog.text


def test_uploads_do_not_make_a_library_that_is_gone_again(own):
    parts, client = own
    parts.library.directory.rename(parts.library.directory.with_name("elsewhere"))
    refused = client.post("/uploads?path=a.txt", content=b"words")
    assert refused.status_code == 503
    assert refused.json() == {
        "error": "the library cannot do that now: the reason is in the server's log"
    }
    with pytest.raises(LibraryError, match="moved, deleted or replaced"):
        services.add_uploads(parts)
    assert not parts.library.directory.exists()


# ---- coming in


def test_query_file_gets_an_id(page, client, library):
    sent = original(library, "blue.jpg")
    answer = client.post("/query-files?name=my%20sea.jpg", content=sent).json()
    assert answer["name"] == "my sea.jpg"
    assert page.files.resolve(answer["id"]).read_bytes() == sent
    found = page.searches.open(SearchForm(files=(answer["id"],), kinds=(Kind.IMAGE,))).page().cards
    assert found[0].hit.item.name == "blue.jpg"


def test_uploads_keep_their_folders(client, library):
    assert client.post("/uploads?path=Trip/day 1/a.txt", content=b"x").status_code == 200
    assert (library.uploads / "Trip" / "day 1" / "a.txt").read_bytes() == b"x"
    before = set(Path(library.directory).rglob("*"))
    client.post("/uploads?path=../../../evil.txt", content=b"x")
    assert set(Path(library.directory).rglob("*")) - before == {library.uploads / "evil.txt"}


@pytest.mark.parametrize(
    ("path", "body", "status", "expected"),
    [("", b"x", 400, "without a name"), ("big.bin", b"x" * (2 << 20), 413, "upload limit of 1 MB")],
)
def test_refused_uploads(client, path, body, status, expected):
    response = client.post(f"/uploads?path={path}", content=body)
    assert response.status_code == status
    assert expected in response.json()["error"]


def test_upload_without_length_is_bounded(client, library):
    parts = (b"x" * (1 << 16) for _ in range(32))
    assert client.post("/uploads?path=long.bin", content=parts).status_code == 413
    parts = (b"x" * (1 << 16) for _ in range(32))
    assert client.post("/query-files?name=long.bin", content=parts).status_code == 413
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    form = (part for part in [head, *[b"x" * (1 << 20)] * 3, b"\r\n--b--\r\n"])
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/gradio_api/upload", content=form, headers=kind).status_code == 413
    assert not list(library.directory.rglob("long*"))
