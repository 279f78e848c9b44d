"""Duplicates: the groups and their order, dismissing, and the trash, which takes no last copy."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from app import services
from app.config import AppConfig
from app.duplicates import duplicates_router
from app.trash import trash_copies
from indexer import Library
from indexer.catalog.duplicates import DuplicateKind

NEAR, EXACT = DuplicateKind.NEAR, DuplicateKind.EXACT


def picture(number: int) -> Image.Image:
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((240, 180), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pictures in three sizes or forms, and one with two copies."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number in range(2):
        picture(number).resize((120, 90)).save(folder / f"small {number}.jpg", quality=80)
        picture(number).save(folder / f"large {number}.jpg", quality=70)
        picture(number).save(folder / f"large {number}.png")
    picture(7).save(folder / "beach.png")
    shutil.copy(folder / "beach.png", folder / "beach (1).png")
    shutil.copy(folder / "beach.png", folder / "more" / "beach.png")
    for path in folder.rglob("beach*"):
        os.utime(path, (10, 10))
    return folder


@pytest.fixture
def library(tmp_path, folder):
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([folder])
        yield library


@pytest.fixture
def client(library, tmp_path):
    """Makes clients of the page's routes."""

    def made(**config):
        app = FastAPI()
        page = services.build(AppConfig(**config), library, tmp_path / "scratch")
        app.include_router(duplicates_router(page))
        return TestClient(app)

    return made


@pytest.fixture
def trash(tmp_path):
    """A trash that is a folder."""
    there = tmp_path / "trash"
    there.mkdir()

    def move(path: str) -> None:
        os.rename(path, there / os.path.basename(path))  # noqa: PTH104

    move.folder = there
    return move


def names(group):
    return [file.item.name for file in group.files]


def ids(library, *wanted):
    return [library.catalog.items(name=name)[0].id for name in wanted]


def test_the_best_of_a_group_comes_first(library, folder, monkeypatch):
    page = library.duplicates.page(NEAR, 10)
    assert page.total == 2
    first, second = sorted(page.groups, key=names)
    assert names(first) == ["large 0.png", "large 0.jpg", "small 0.jpg"]
    assert names(second) == ["large 1.png", "large 1.jpg", "small 1.jpg"]
    assert first.files[0].pixels == (240, 180)
    (exact,) = library.duplicates.page(EXACT, 10).groups
    assert names(exact) == ["beach.png", "beach.png", "beach (1).png"]
    monkeypatch.setattr("indexer.catalog.duplicates.RAW_SUFFIXES", {".jpg"})
    assert names(library.duplicates.page(NEAR, 10).groups[0])[0].startswith("large")
    assert names(library.duplicates.page(NEAR, 10).groups[0])[0].endswith(".jpg")
    os.utime(folder / "beach (1).png", (1, 1))
    library.ingest([folder])
    (exact,) = library.duplicates.page(EXACT, 10).groups
    assert names(exact)[0] == "beach (1).png"  # The oldest.


def test_a_file_that_is_attached_to_a_mail_is_the_last_of_its_group(library, folder, trash):
    mail = EmailMessage()
    mail["Date"] = "Thu, 01 Jan 1970 00:00:01 +0000"
    mail.set_content("The beach.")
    data = (folder / "beach.png").read_bytes()
    mail.add_attachment(data, maintype="image", subtype="png", filename="b.png")
    (folder / "letter.eml").write_bytes(bytes(mail))
    library.ingest([folder])
    (exact,) = library.duplicates.page(EXACT, 10).groups
    assert names(exact)[-1] == "b.png"
    moved = trash_copies(library, [exact.files[-1].item.id], trash)
    assert [one.reason for one in moved.kept] == ["it is attached to a mail, which stays as it is"]


def test_groups_come_in_pages_and_are_found_again_when_files_have_gone(library):
    first, second = (library.duplicates.page(NEAR, 1, offset) for offset in (0, 1))
    assert (first.total, second.total) == (2, 2)
    assert first.groups != second.groups
    assert library.duplicates.page(NEAR, 1, 2).groups == ()
    library.remove([file.item.id for file in first.groups[0].files[1:]])
    assert library.duplicates.page(NEAR, 10).groups == second.groups


def test_a_dismissed_group_comes_back_with_another_file_only(library, folder):
    (group,) = library.duplicates.page(EXACT, 10).groups
    library.duplicates.dismiss(group.key)
    library.duplicates.dismiss(group.key)
    assert library.duplicates.page(EXACT, 10).total == 0
    library.ingest([folder])
    assert library.duplicates.page(EXACT, 10).total == 0
    shutil.copy(folder / "beach.png", folder / "beach (2).png")
    library.ingest([folder])
    assert library.duplicates.page(EXACT, 10).total == 1
    library.remove(ids(library, "beach (2).png"))
    assert library.duplicates.page(EXACT, 10).total == 0
    library.duplicates.restore(group.key)
    assert library.duplicates.page(EXACT, 10).groups == (group,)


def test_copies_go_to_the_trash_and_leave_the_library(library, trash):
    wanted = ids(library, "beach (1).png", "small 0.jpg", "small 1.jpg")
    moved = trash_copies(library, wanted, trash)
    assert (set(moved.item_ids), moved.kept) == (set(wanted), ())
    there = {path.name for path in trash.folder.iterdir()}
    assert there == {"beach (1).png", "small 0.jpg", "small 1.jpg"}
    assert library.catalog.files(wanted) == []


def refused(library, trash, *wanted) -> list[str]:
    """Why files stay, though the trash was asked to take them."""
    moved = trash_copies(library, ids(library, *wanted), trash)
    assert moved.item_ids == ()
    assert list(trash.folder.iterdir()) == []
    return [one.reason for one in moved.kept]


def test_the_last_copy_stays(library, trash):
    group = library.duplicates.page(EXACT, 1).groups[0]
    everything = [file.item.id for file in group.files]
    moved = trash_copies(library, everything, trash)
    assert moved.item_ids == ()
    assert {one.reason for one in moved.kept} == {"it would be the last copy: keep another one"}
    for file in group.files[1:]:
        file.item.path.unlink()
    assert refused(library, trash, group.files[0].item.name) == [
        "no other copy is there as it was indexed"
    ]


def test_files_that_are_no_copies_stay(library, folder, trash):
    picture(9).save(folder / "alone.png")
    library.ingest([folder])
    assert refused(library, trash, "alone.png") == ["no other file holds the same"]


def test_changed_and_absent_files_stay(library, folder, trash):
    picture(3).save(folder / "small 0.jpg")
    (folder / "small 1.jpg").unlink()
    assert refused(library, trash, "small 0.jpg", "small 1.jpg") == [
        "it was changed since it was indexed: scan its folder again",
        "it is not there: its disk may not be connected",
    ]


def test_a_copy_stays_where_the_other_one_was_changed(library, folder, trash):
    for name in ("large 0.png", "large 0.jpg"):
        picture(4).save(folder / name)
    assert refused(library, trash, "small 0.jpg") == ["no other copy is there as it was indexed"]


def test_a_file_stays_where_its_copy_is_a_link_to_it(library, folder, trash):
    group = library.duplicates.page(EXACT, 1).groups[0]
    first, *others = (file.item.path for file in group.files)
    for other in others:
        other.unlink()
        other.symlink_to(first)
    moved = trash_copies(library, [group.files[0].item.id], trash)
    assert [one.reason for one in moved.kept] == ["the copy to keep is a link to this file"]


def test_two_windows_leave_a_copy(client, library, trash, monkeypatch):
    def slow(path: str) -> None:
        time.sleep(0.2)
        trash(path)

    monkeypatch.setattr("app.trash._system_trash", slow)
    (group,) = library.duplicates.page(EXACT, 1).groups
    first, *others = (file.item.id for file in group.files)
    window = client()

    def drop(chosen):
        return window.post("/duplicates/trash", json={"item_ids": chosen}).json()["item_ids"]

    with ThreadPoolExecutor() as threads:
        dropped = [*threads.map(drop, ([first], others))]
    assert [] in dropped
    assert any(file.item.path.exists() for file in group.files)


def test_a_trash_that_refuses_is_told(library, trash):
    def full(path: str) -> None:
        raise OSError(28, "No space left on device")

    moved = trash_copies(library, ids(library, "small 0.jpg"), full)
    (kept,) = moved.kept
    assert kept.reason == "the trash did not take it: No space left on device"
    assert library.catalog.files([kept.item.id])


def test_groups_are_shown_to_all_and_folders_to_trusted_users(client, folder):
    trusted, other = client(), client(host="0.0.0.0")
    shown = trusted.get("/duplicates?kind=exact").text
    assert str(folder / "more") in shown
    assert shown.count("checked") == 1
    assert "Move copies to the trash" in shown
    hidden = other.get("/duplicates?kind=exact").text
    assert str(folder) not in hidden
    assert "more" in hidden
    assert "trash" not in hidden
    assert other.get("/duplicates?kind=other").status_code in {404, 422}


def test_the_trash_is_for_trusted_users(client, library):
    wanted = ids(library, "small 0.jpg")
    answer = client(host="0.0.0.0").post("/duplicates/trash", json={"item_ids": wanted})
    assert answer.status_code == 403
    assert "requires a login" in answer.json()["error"]
    assert library.catalog.files(wanted)[0].path.is_file()


def test_the_trash_is_that_of_the_system(client, library):
    wanted = ids(library, "small 0.jpg")
    (item,) = library.catalog.files(wanted)
    answer = client().post("/duplicates/trash", json={"item_ids": [*wanted, 999_999]}).json()
    assert answer == {"item_ids": wanted, "problems": []}
    assert not item.path.exists()
    trashed = Path(os.environ["XDG_DATA_HOME"]) / "Trash/files/small 0.jpg"
    assert trashed.stat().st_size == item.size


def test_groups_are_dismissed_and_brought_back(client, library):
    page = client()
    (group,) = library.duplicates.page(EXACT, 10).groups
    assert page.post("/duplicates/dismiss", json={"group": group.key}).status_code == 200
    assert "No file is in the library twice" in page.get("/duplicates").text
    page.post("/duplicates/dismiss", json={"group": group.key, "undo": True})
    assert group.key in page.get("/duplicates").text
    assert page.post("/duplicates/dismiss", json={"group": "x"}).status_code in {404, 422}
