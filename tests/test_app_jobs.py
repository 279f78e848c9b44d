"""Background jobs, and the pages that follow them."""

import asyncio
import threading
from pathlib import Path

import pytest
from anyio import to_thread
from following import follow, state_once

from app import services
from app.api import Api
from app.config import AppConfig
from app.jobs import Busy
from app.page import events, folders, labels, library_tab
from indexer import IndexerError, IngestReport, Library, Status


class SlowLibrary:
    """Stands still in the middle of an ingest until it may continue or is cancelled."""

    model = "toy"

    def __init__(self, uploads: Path) -> None:
        self.directory, self.uploads = uploads.parent, uploads
        self.go_on = threading.Event()

    def check_unchanged(self) -> None:
        pass

    def ingest(self, paths, options, *, on_progress, cancel):
        while not (self.go_on.wait(0.01) or cancel.is_set()):
            pass
        if self.go_on.is_set():
            raise IndexerError("the disk is full")
        return IngestReport(cancelled=cancel.is_set())


@pytest.fixture
def slow(tmp_path):
    library = SlowLibrary(tmp_path / "uploads")
    built = services.build(AppConfig(), library, tmp_path)  # type: ignore[arg-type]
    yield library, built
    built.jobs.close()


def test_one_job_at_a_time(slow):
    _, page = slow
    services.add_uploads(page)
    with pytest.raises(Busy, match="Adding your files"):
        services.retry_failed(page)


def test_cancel_job(slow):
    _, page = slow
    services.add_uploads(page)
    assert page.jobs.cancel()
    assert "Stopping" in library_tab.job(page.jobs.state) or not page.jobs.state.running
    page.jobs.close()
    assert page.jobs.state.report.cancelled
    assert "Stopped" in library_tab.job(page.jobs.state)
    assert not page.jobs.cancel()


def test_following_a_job_takes_no_thread(slow, monkeypatch):
    library, page = slow
    for name in ("_everything", "model"):  # They ask the library, in threads.
        monkeypatch.setattr(events.LibraryView, name, lambda _: events.Update())
    services.add_uploads(page)

    async def crowd() -> None:
        seen = [0] * 60

        async def watch(number: int) -> None:
            async for _ in events.LibraryView(page).follow():
                seen[number] += 1

        followers = [asyncio.create_task(watch(number)) for number in range(len(seen))]
        while min(seen) < 3:
            assert not any(one.done() for one in followers)
            await asyncio.sleep(0.05)
        assert to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert page.jobs.state.running
        library.go_on.set()
        await asyncio.gather(*followers)

    asyncio.run(crowd())


def test_failed_job_shows_error(slow):
    library, page = slow
    services.add_uploads(page)
    library.go_on.set()
    state = state_once(page, lambda state: not state.running)
    assert state.error == "the disk is full"
    assert "The disk is full." in library_tab.job(state)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("", "name a folder"),
        ("/no/such/place", "no folder /no/such/place"),
        ("a\0b", "no folder"),
        ("~no-such-user/x", "no folder"),
    ],
)
def test_add_missing_folder(slow, folder, expected):
    _, page = slow
    with pytest.raises(IndexerError, match=expected):
        services.add_folder(page, folder)


def test_add_folder_requires_trust(slow, tmp_path):
    library, _ = slow
    page = services.build(AppConfig(host="0.0.0.0"), library, tmp_path)
    with pytest.raises(services.NotAllowed, match="upload the files"):
        Api(page).ingest_folder(str(tmp_path))
    assert AppConfig(host="0.0.0.0", auth=("a", "b")).trusted


def test_folders_are_scanned_again_and_removed(tmp_path, page_over):
    with Library.open(tmp_path / "library", model="toy") as library:
        page = page_over(library)
        with pytest.raises(IndexerError, match="no folder of this machine"):
            services.scan_folders(page)
        media = tmp_path / "pictures"
        media.mkdir()
        (media / "note.txt").write_text("A note about rain.")
        library.ingest([media])
        Api(page).scan_folders()
        state = state_once(page, lambda state: not state.running)
        assert state.report.unchanged == 1
        shown = folders.folders(library.indexed_folders(), page.watch, page.jobs.state)
        assert f"{media}</b><small>1 file · scanned just now</small>" in shown
        with pytest.raises(IndexerError, match="no such folder"):
            services.forget_folder(page, "elsewhere")
        assert services.forget_folder(page, labels.folder_id(media)) == 1
        assert library.indexed_folders() == []
        strangers = page_over(library, host="0.0.0.0")
        with pytest.raises(services.NotAllowed, match="requires a login"):
            Api(strangers).scan_folders()
        with pytest.raises(services.NotAllowed, match="requires a login"):
            services.forget_folder(strangers, labels.folder_id(media))


def test_list_and_remove_files(tmp_path):
    with Library.open(tmp_path / "library", model="toy") as library:
        library.uploads.mkdir()
        (library.uploads / "note.txt").write_text("A note about rain.")
        (library.uploads / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
        page = services.build(AppConfig(), library, tmp_path / "scratch")
        services.add_uploads(page)
        *_, last = follow(page)
        assert "1 added" in last[0]
        assert "bad.jpg" in last[0]
        (item,) = library.catalog.items(status=Status.INDEXED)
        assert library.remove([item.id]) == 1
        assert not (library.uploads / "note.txt").exists()
        page.jobs.close()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the disk is full", "The disk is full."),
        ("photo.jpg cannot be read", "photo.jpg cannot be read."),
        ("http://a/b was refused", "http://a/b was refused."),
        ("wait. Then go on", "Wait. Then go on."),
    ],
)
def test_messages_begin_with_a_capital_unless_it_is_a_name(message, shown):
    assert labels.sentence(message) == shown
