"""Removed files are brought back, as long as that can be undone."""

from concurrent.futures import Future
from pathlib import Path

import pytest
from fastapi import FastAPI
from following import state_once
from starlette.testclient import TestClient

from app import removal
from app.selection import removal_router
from indexer import IngestReport, Library, NotFound


@pytest.fixture
def library(tmp_path):
    """Two files of a folder, and an upload."""
    with Library.open(tmp_path / "library", model="toy") as library:
        for path in (tmp_path / "media" / "a.txt", library.uploads / "trip" / "b.txt"):
            path.parent.mkdir(parents=True)
            path.write_text(f"A note: {path.name}.")
        (tmp_path / "media" / "other.txt").write_text("Another one.")
        library.ingest([tmp_path / "media", library.uploads])
        yield library


@pytest.fixture
def page(library, page_over):
    return page_over(library)


@pytest.fixture
def client(page):
    app = FastAPI()
    app.include_router(removal_router(page))
    return TestClient(app)


def names(library):
    return sorted(item.name for item in library.catalog.items())


def remove(client, library, *chosen):
    ids = [item.id for name in chosen for item in library.catalog.items(name=name)]
    return client.post("/items/remove", json={"item_ids": ids}).json()


def restore(client, answer):
    return client.post("/items/restore", json={"undo": answer["undo"]})


def kept(library: Library) -> list[Path]:
    return [path for path in (library.directory / "incoming").rglob("*") if path.is_file()]


def test_files_and_uploads_are_brought_back(client, library, tmp_path):
    (upload,) = library.uploads.rglob("b.txt")
    before = upload.stat()
    (tmp_path / "media" / "new.txt").write_text("Not asked for.")
    (item,) = library.catalog.items(name="a.txt")
    library.albums.add(1, [item.id])
    answer = remove(client, library, "a.txt", "b.txt")
    assert answer["removed"] == 2
    assert names(library) == ["other.txt"]
    assert not upload.parent.exists()
    assert restore(client, answer).json() == {"restored": 2}
    assert names(library) == ["a.txt", "b.txt", "other.txt"], "and nothing else is scanned"
    assert (upload.read_text(), upload.stat().st_mtime_ns) == (
        *("A note: b.txt.", before.st_mtime_ns),
    )
    assert library.albums.get(1).files == 1
    assert kept(library) == []
    refused = restore(client, answer)
    assert refused.status_code == 404
    assert "no longer be undone" in refused.json()["error"]


def test_an_upload_comes_back_beside_another_one_with_its_name(client, library):
    answer = remove(client, library, "b.txt")
    other = library.uploads / "trip" / "b.txt"
    other.parent.mkdir()
    other.write_text("Uploaded meanwhile.")
    assert restore(client, answer).json() == {"restored": 1}
    assert names(library) == ["a.txt", "b (2).txt", "other.txt"]
    assert other.read_text() == "Uploaded meanwhile."


def test_a_copy_is_deleted_when_its_time_is_over(client, library, monkeypatch):
    timers = []

    class Timer:
        def __init__(self, seconds, function, arguments):
            timers.append(lambda: function(*arguments))

        start = lambda self: None  # noqa: E731

    monkeypatch.setattr(removal, "Timer", Timer)
    answer = remove(client, library, "b.txt")
    assert len(kept(library)) == 1
    timers[0]()
    assert kept(library) == []
    assert restore(client, answer).status_code == 404


def test_what_is_not_there_is_removed_for_good(client, library, tmp_path):
    (tmp_path / "media" / "a.txt").unlink()
    answer = remove(client, library, "a.txt", "b.txt")
    assert (answer["removed"], answer["undo"]) == (2, None)
    assert not list(library.uploads.rglob("b.txt"))
    assert kept(library) == []


def test_files_wait_for_a_job_that_runs(page, client, library, monkeypatch):
    monkeypatch.setattr("app.selection._WAIT_SECONDS", 0.05)
    running = Future[IngestReport]()
    answers = [remove(client, library, name) for name in ("a.txt", "b.txt")]
    page.jobs.start("Adding", lambda *_: running.result(60))
    assert [restore(client, answer).json() for answer in answers] == [{"restored": None}] * 2
    assert names(library) == ["other.txt"]
    assert page.jobs.state.following == "Bringing files back"
    running.set_result(IngestReport())
    state_once(page, lambda state: not state.running and not state.following)
    assert names(library) == ["a.txt", "b.txt", "other.txt"], "both"


def test_unknown_removals_are_refused(page):
    with pytest.raises(NotFound):
        page.removals.bring_back("no such")
