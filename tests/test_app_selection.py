"""Several files at once: selecting all, downloading, paths, removing."""

import io
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from sample_library import copy_library, segment_of
from starlette.testclient import TestClient

from app import downloads, services
from app.config import AppConfig
from app.search import SearchForm, validated
from app.selection import removal_router, selection_router
from indexer import Library


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("media"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def clients(library, tmp_path_factory):
    """Of a trusted user, and of one that is not."""
    found = []
    for number, config in enumerate([AppConfig(), AppConfig(host="0.0.0.0")]):
        page = services.build(config, library, tmp_path_factory.mktemp(f"scratch{number}"))
        app = FastAPI()
        app.include_router(selection_router(page))
        app.include_router(removal_router(page))
        app.state.page = page
        found.append(TestClient(app))
    return found


@pytest.fixture
def client(clients):
    return clients[0]


def ids(library, *names):
    return [library.catalog.items(name=name)[0].id for name in names]


def opened(response) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(response.content))


def test_an_archive_holds_the_files_as_they_are(client, library):
    chosen = ids(library, "walk.webm", "blue.jpg", "diary.md")
    response = client.post("/items/download", data={"items": ",".join(map(str, chosen))})
    archive = opened(response)
    assert archive.testzip() is None
    assert archive.namelist() == ["walk.webm", "blue.jpg", "diary.md"]
    for item in library.catalog.files(chosen):
        entry = archive.getinfo(item.name)
        assert archive.read(entry) == item.path.read_bytes()
        assert entry.compress_type == zipfile.ZIP_STORED
        assert entry.date_time[:5] == item.modified_at.timetuple()[:5]


def test_the_archive_is_named_after_the_folder(client, library):
    chosen = ids(library, "blue.jpg", "green.jpg")
    response = client.post("/items/download", data={"items": ",".join(map(str, chosen))})
    assert response.headers["content-disposition"] == "attachment; filename*=utf-8''photos.zip"
    assert response.headers["content-type"] == "application/zip"


def test_a_single_file_comes_as_it_is(client, library):
    (chosen,) = ids(library, "blue.jpg")
    response = client.post("/items/download", data={"items": str(chosen)})
    assert response.headers["content-disposition"] == 'attachment; filename="blue.jpg"'
    assert response.content == library.catalog.item(chosen).path.read_bytes()


@pytest.mark.parametrize(("items", "status"), [("", 404), ("999999", 404), ("x", 400), ("-1", 400)])
def test_archives_of_nothing_are_refused(client, items, status):
    refused = client.post("/items/download", data={"items": items})
    assert refused.status_code == status
    assert refused.headers["content-type"].startswith("text/plain"), "browsers show it"


@pytest.fixture
def files(tmp_path, library):
    """Makes files and returns what a library would know of them."""
    (known,) = library.catalog.items(name="blue.jpg")

    def made(*paths):
        for number, path in enumerate(paths):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(b"%d" % number)
        return [replace(known, path=tmp_path / path) for path in paths]

    return made


def archived(items, **how) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(b"".join(downloads.zipped(items, **how))))


def test_thousands_of_files_may_have_the_same_name(files):
    before = time.thread_time()
    next(downloads.zipped(files("x.jpg") * 4_000))
    assert time.thread_time() - before < 2


def test_names_in_an_archive_are_told_apart_and_lead_nowhere_else(files):
    items = files("a/x.jpg", "b/x.jpg", "b/X.JPG", "a/x (2).jpg", "a/con", "a/k:l?.txt", "b/. .")
    items += files("a/Not included.txt")
    assert archived(items).namelist() == [
        *("x.jpg", "x (2).jpg", "X (3).JPG", "x (2) (2).jpg", "_con", "k_l_.txt", "file"),
        "Not included (2).txt",
    ]


def test_files_that_are_not_there_are_named_with_the_reason(files):
    here, gone, unplugged, folder = files("here.jpg", "gone.jpg", "away.jpg", "folder")
    gone.path.unlink()
    folder.path.unlink()
    folder.path.mkdir()
    archive = archived(
        [here, gone, unplugged, folder],
        absence=lambda item: "not connected: Disk" if item is unplugged else "",
    )
    assert archive.namelist() == ["here.jpg", "Not included.txt"]
    assert archive.read("Not included.txt").decode().splitlines()[2:] == [
        "gone.jpg: the file does not exist",
        "away.jpg: not connected: Disk",
        "folder: this is a folder, not a file",
    ]


class Failing(io.BytesIO):
    """A file on a disk that fails."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 2:
            raise OSError(5, "Input/output error")
        return super().read(1)


def test_a_file_that_fails_while_it_is_sent_is_told(files, monkeypatch):
    broken, whole = files("broken.jpg", "whole.jpg")
    real = downloads.open_media
    monkeypatch.setattr(
        downloads,
        "open_media",
        lambda path: Failing(b"12345") if path == broken.path else real(path),
    )
    archive = archived([broken, whole])
    assert archive.namelist() == ["broken.jpg", "whole.jpg", "Not included.txt"]
    assert archive.read("whole.jpg") == b"1"
    assert b"broken.jpg: the file cannot be read: Input/output error" in archive.read(
        "Not included.txt"
    )


def test_large_files_get_the_form_of_entry_that_can_hold_them(files, monkeypatch):
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 1 << 10)  # In place of two gigabytes.
    (large,) = files("large.mp4")
    large.path.write_bytes(bytes(1 << 12))
    monkeypatch.setattr(downloads, "_BLOCK_BYTES", 1 << 10)
    blocks = list(downloads.zipped([large]))
    assert max(map(len, blocks)) < 1 << 11  # It is not kept until it is whole.
    archive = zipfile.ZipFile(io.BytesIO(b"".join(blocks)))
    assert archive.read("large.mp4") == bytes(1 << 12)


def test_paths_are_for_trusted_users(clients, library):
    chosen = ids(library, "blue.jpg", "walk.webm")
    trusted, other = (one.post("/items/paths", json={"item_ids": chosen}) for one in clients)
    assert trusted.json()["paths"] == [str(item.path) for item in library.catalog.files(chosen)]
    assert other.status_code == 403
    assert "requires a login" in other.json()["error"]
    assert "blue.jpg" not in other.text


def test_all_files_of_a_search(client, library):
    page = client.app.state.page
    session = page.searches.open(validated(SearchForm, {"text": "red"}))
    answer = client.get("/items", params={"search": session.token}).json()
    found = session.page(size=960).cards
    assert answer["is_all"]
    assert answer["item_ids"] == [card.hit.item.id for card in found]
    assert len(answer["item_ids"]) > 24
    assert client.get("/items", params={"search": "unknown"}).status_code == 404


def test_files_are_removed_from_the_library_and_stay_on_the_disk(client, library):
    (item,) = library.catalog.items(name="page.html")
    answer = client.post("/items/remove", json={"item_ids": [item.id, 999_999]})
    assert answer.json()["removed"] == 1
    assert library.catalog.items(name="page.html") == []
    assert Path(item.path).is_file()
    assert segment_of(library, "diary.md")


def test_nothing_but_ids_is_taken(client):
    for values in ({"item_ids": ["/etc/passwd"]}, {"item_ids": [True]}, {"item_ids": [2**63]}):
        for route in ("paths", "remove"):
            assert client.post(f"/items/{route}", json=values).status_code in {400, 404, 422}
