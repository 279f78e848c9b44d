"""Showing files in programs of this machine: who may, which files, and with what command."""

import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from PIL import Image
from sample_library import copy_library, segment_of
from starlette.testclient import TestClient

from app import desktop, services
from app.config import AppConfig
from app.desktop import desktop_router, is_opened
from app.routes import media_router
from indexer import Library

HERE = ("127.0.0.1", 50_000)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the programs of other systems")


@pytest.fixture(scope="module")
def library(sample_folder, tmp_path_factory):
    with Library.open(copy_library(sample_folder, tmp_path_factory.mktemp("desktop"))) as opened:
        yield opened


def client_of(library, scratch, *, trusted=True, client=HERE):
    searches = services.build(AppConfig(), library, scratch).searches
    app = FastAPI()
    app.include_router(media_router(library, searches, paths=trusted))
    app.include_router(desktop_router(library, trusted=trusted))
    return TestClient(app, client=client)


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder of programs in place of this machine's; each writes what it is given."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("DISPLAY", ":0")

    def install(name: str, status: int = 0) -> None:
        (folder / name).write_text(
            f'#!/bin/sh\nfor one in "$@"; do echo "$one"; done > {folder}/{name}.given\n'
            f"exit {status}\n"
        )
        (folder / name).chmod(0o755)

    install.given = lambda name: (folder / f"{name}.given").read_text().splitlines()
    return install


@pytest.fixture
def client(library, programs, tmp_path):
    return client_of(library, tmp_path / "scratch")


def item_of(library, name):
    (item,) = library.catalog.items(name=name)
    return item


def test_file_is_selected_in_the_file_manager(client, library, programs):
    programs("dbus-send")
    item = item_of(library, "red.jpg")
    assert client.post(f"/desktop/{item.id}/show").status_code == 204
    *_, method, addresses, _ = programs.given("dbus-send")
    assert method == "org.freedesktop.FileManager1.ShowItems"
    assert addresses == f"array:string:{item.path.as_uri()}"


def test_folder_is_opened_where_no_file_manager_answers(client, library, programs):
    programs("dbus-send", status=1)
    programs("xdg-open")
    item = item_of(library, "red.jpg")
    assert client.post(f"/desktop/{item.id}/show").status_code == 204
    assert programs.given("xdg-open") == [str(item.path.parent)]


def test_file_is_opened_with_its_program(client, library, programs):
    programs("xdg-open")
    item = item_of(library, "red.jpg")
    assert client.post(f"/desktop/{item.id}/open").status_code == 204
    assert programs.given("xdg-open") == [str(item.path)]


def test_name_is_one_argument(library, programs, tmp_path):
    programs("xdg-open")
    programs("dbus-send")
    name = tmp_path / "a, b;$(touch c) -d.png"
    Image.new("RGB", (9, 9), "red").save(name)
    desktop.open_file(name)
    assert programs.given("xdg-open") == [str(name)]
    desktop.show(name)
    assert programs.given("dbus-send")[-2] == f"array:string:{name.as_uri()}"
    assert "," not in programs.given("dbus-send")[-2]


def test_missing_program_is_told(client, library):
    item = item_of(library, "red.jpg")
    shown = client.post(f"/desktop/{item.id}/show")
    opened = client.post(f"/desktop/{item.id}/open")
    assert (shown.status_code, shown.text) == (409, "no file manager of this machine answered")
    assert (opened.status_code, opened.text) == (409, "no program of this machine opens red.jpg")


@pytest.mark.parametrize(
    ("name", "opens"),
    [("a.JPG", True), ("a.mp4", True), ("a.pdf", True), ("a.docx", True), ("notes.txt", True)]
    + [(f"a.{end}", False) for end in ("sh", "desktop", "py", "bat", "js", "html", "svg", "docm")]
    + [("a", False)],
)
def test_what_may_run_is_not_opened(tmp_path, name, opens):
    assert is_opened(tmp_path / name) is opens


def test_link_to_what_may_run_is_not_opened(tmp_path, programs):
    programs("xdg-open")
    (tmp_path / "run.sh").write_text("echo")
    (tmp_path / "photo.jpg").symlink_to(tmp_path / "run.sh")
    with pytest.raises(desktop.NoProgram, match=r"photo\.jpg may run as programs"):
        desktop.open_file(tmp_path / "photo.jpg")


def test_file_attached_to_a_mail_is_not_opened(tmp_path, programs):
    programs("xdg-open")
    (tmp_path / "trip.eml").write_text("Subject: Trip")
    with pytest.raises(desktop.NoProgram, match=r"photo\.jpg is attached to a mail"):
        desktop.open_file(tmp_path / "trip.eml" / "photo.jpg")


@pytest.mark.parametrize(
    ("trusted", "address", "headers", "screen"),
    [
        (False, HERE, {}, ":0"),
        (True, ("192.168.1.7", 50_000), {}, ":0"),
        (True, ("testclient", 50_000), {}, ":0"),
        (True, HERE, {"X-Forwarded-For": "192.168.1.7"}, ":0"),
        (True, HERE, {}, ""),
    ],
    ids=["untrusted", "another machine", "no address", "through a proxy", "no screen"],
)
def test_only_the_own_user_of_this_machine_is_served(
    library, programs, tmp_path, monkeypatch, trusted, address, headers, screen
):
    programs("xdg-open")
    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    client = client_of(library, tmp_path / "scratch", trusted=trusted, client=address)
    item, segment = item_of(library, "red.jpg"), segment_of(library, "red.jpg")
    assert client.post(f"/desktop/{item.id}/open", headers=headers).status_code == 403
    assert "data-desktop" not in client.get(f"/detail/{segment}", headers=headers).text


def test_detail_offers_what_opens(client, library):
    picture, script = (segment_of(library, name) for name in ("red.jpg", "page.html"))
    assert client.get(f"/detail/{picture}").text.count("data-desktop") == 2
    shown = client.get(f"/detail/{script}").text
    assert "/show" in shown
    assert "/open" not in shown


def test_files_that_are_not_there_are_told(client, library, tmp_path):
    (tmp_path / "gone.txt").write_text("Soon gone")
    (tmp_path / "other.txt").write_text("Stays")
    library.ingest([tmp_path])
    item = item_of(library, "gone.txt")
    item.path.unlink()
    answer = client.post(f"/desktop/{item.id}/open")
    assert answer.status_code == 404
    assert "gone.txt no longer exists" in answer.text
    assert client.post("/desktop/999999/open").status_code == 404
    library.forget([Path(tmp_path)])
