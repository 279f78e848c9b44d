"""The routes of the library tab: the table of files, and the folders that are remembered."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from following import state_once
from sample_library import HOSTILE, copy_library
from starlette.testclient import TestClient

from app import services as actions
from app.files import files_router
from app.folders import folders_router
from app.page import library_tab
from app.page.labels import folder_id
from embedder.media.kinds import Kind
from indexer import Library, Status


def client_of(page: Any) -> TestClient:
    app = FastAPI()
    app.include_router(files_router(page))
    app.include_router(folders_router(page))
    return TestClient(app)


@pytest.fixture(scope="module")
def library(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("table"))) as library:
        yield library


@pytest.fixture
def client(library: Library, page_over: Any) -> TestClient:
    return client_of(page_over(library))


def names(shown: str) -> list[str]:
    return [unescape(name) for name in re.findall(r"<b>(.*?)</b>", shown)]


@pytest.mark.parametrize(
    ("asked", "first", "total"),
    [
        ({}, ["walk.webm", HOSTILE], 50),
        ({"kind": "text", "order": "name"}, [HOSTILE, "diary.md", "page.html"], 3),
        ({"kind": "pdf"}, ["harbour.pdf"], 1),
        ({"order": "name", "descending": "true"}, ["yellow.jpg", "walk.webm"], 50),
        ({"order": "size", "kind": "text"}, [HOSTILE, "page.html", "diary.md"], 3),
        ({"name": "RED-0", "descending": "true"}, ["red-09.png", "red-08.png"], 10),
        ({"status": "failed"}, ["broken.jpg"], 1),
        ({"status": "failed", "kind": "text"}, [], 0),
        ({"offset": "49"}, ["yellow.jpg"], 50),
    ],
)
def test_files_are_narrowed_sorted_and_counted(client, asked, first, total):
    shown = client.get("/files", params=asked).text
    assert names(shown)[: len(first)] == first
    assert f"&#34;total&#34;: {total}," in shown


def test_files_of_a_folder(client, library):
    films = next(path for path, _ in library.catalog.folders() if path.name == "films")
    assert names(client.get("/files", params={"folder": folder_id(films)}).text) == ["walk.webm"]
    refused = client.get("/files", params={"folder": "elsewhere"})
    assert (refused.status_code, "no such folder" in refused.text) == (400, True)


def test_rows_open_the_viewer_and_failed_ones_say_why(client, library):
    (film,) = library.catalog.items(kind=Kind.VIDEO)
    segment = library.catalog.segments(film.id)[0].id
    shown = client.get("/files", params={"kind": "video"}).text
    assert f'data-segment="{segment}"' in shown
    assert f'src="thumbnail/{segment}"' in shown
    failed = client.get("/files", params={"status": "failed"}).text
    assert "rz-open" not in failed
    assert "The file is truncated: it ends before the picture does." in failed
    assert client.get("/files", params={"order": "colour"}).status_code == 400


def test_a_failed_file_is_tried_again_alone(library, page_over):
    page = page_over(library)
    (broken,) = library.catalog.items(status=Status.FAILED)
    assert client_of(page).post("/files/retry", json={"item_id": broken.id}).status_code == 200
    state = state_once(page, lambda state: not state.running)
    assert state.title == "Retrying broken.jpg"
    assert [failure.path.name for failure in state.report.failures] == ["broken.jpg"]
    assert (state.report.unchanged, state.report.removed) == (0, 0)
    refused = client_of(page).post("/files/retry", json={"item_id": 10**9})
    assert (refused.status_code, "no file" in refused.json()["error"]) == (400, True)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    for name in ("a.txt", "private/b.txt", "private/c.txt", "old/d.txt"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"A note about {name}.")
    return tmp_path / "texts"


def test_all_files_that_are_listed_are_removed(tmp_path, texts, page_over):
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([texts])
        page = page_over(library)
        asked = {"status": "indexed", "folder": folder_id(texts / "private"), "limit": 1}
        client = client_of(page)
        for counted in ({}, {"files": 3}):  # Not what the user was asked about.
            refused = client.post("/files/remove", json=asked | counted)
            assert refused.status_code >= 400
        assert len(library.catalog.items()) == 4
        removed = client.post("/files/remove", json=asked | {"files": 2})
        assert removed.json()["removed"] == 2
        assert [item.name for item in library.catalog.items()] == ["a.txt", "d.txt"]
        assert (texts / "private" / "b.txt").exists()


def test_folders_are_excluded_after_a_question_and_included_again(tmp_path, texts, page_over):
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([texts])
        page = page_over(library)
        client, folder = client_of(page), f"/folders/{folder_id(texts)}"

        def ended() -> Any:
            return state_once(page, lambda state: not state.running).report

        asked = client.post(f"{folder}/exclude", json={"pattern": "private"}).json()["question"]
        assert asked == "Exclude private? 2 files leave the library. On disk they stay."
        assert len(library.catalog.items()) == 4
        confirmed = {"pattern": "private", "confirmed": True}
        assert client.post(f"{folder}/exclude", json=confirmed).json() == {}
        assert (ended().removed, ended().unchanged) == (2, 2)
        assert client.post(f"{folder}/exclude", json={"pattern": "*.tmp"}).json() == {}
        ended()
        shown = client.get("/folders").text
        assert "Without private, *.tmp" in shown
        assert "2 files · scanned just now" in shown
        client.post(f"{folder}/include", json={"pattern": "private"})
        assert (ended().added, ended().unchanged) == (2, 2)
        client.post(f"{folder}/scan")
        assert ended().unchanged == 4
        refused = client.post(f"{folder}/exclude", json={"pattern": " "})
        assert (refused.status_code, "name what" in refused.json()["error"].lower()) == (400, True)
        texts.rename(tmp_path / "renamed")
        assert "not connected" in client.get("/folders").text
        assert client.post(f"{folder}/forget", json={}).json() == {"removed": 4}
        assert client.post(f"{folder}/forget", json={}).status_code == 400


def test_strangers_neither_see_nor_change_folders(library, page_over):
    page = page_over(library, host="0.0.0.0")
    (root,) = library.catalog.roots()
    client, folder = client_of(page), f"/folders/{folder_id(root.path)}"
    assert client.get("/folders").status_code == 403
    for route, values in (
        (f"{folder}/scan", {}),
        (f"{folder}/forget", {}),
        (f"{folder}/exclude", {"pattern": "*", "confirmed": True}),
        (f"{folder}/include", {"pattern": "*"}),
        ("/folders/watch", {"on": True}),
    ):
        refused = client.post(route, json=values)
        assert (refused.status_code, "requires a login" in refused.text) == (403, True)
    assert library.catalog.roots() == [root]


def test_uploads_are_added_once_the_running_job_has_ended(page_over, tmp_path):
    with Library.open(tmp_path / "library", model="toy") as library:
        page = page_over(library)
        library.uploads.mkdir()
        (library.uploads / "note.txt").write_text("A note about rain.")
        page.jobs.start("Adding Pictures", lambda _, cancel: cancel.wait(10))
        actions.add_uploads(page)
        assert page.jobs.state.title == "Adding Pictures"
        assert "After that: Adding your files" in library_tab.job(page.jobs.state)
        page.jobs.cancel()
        state = state_once(page, lambda state: state.report and not state.running)
        assert (state.title, state.report.added) == ("Adding your files", 1)
