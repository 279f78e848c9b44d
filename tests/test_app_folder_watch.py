"""Folders that the page keeps up to date, beside the jobs that users start."""

import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from types import SimpleNamespace

import pytest
from following import state_once

from app import folder_watch, services
from app.folder_watch import FolderWatch
from app.jobs import Busy, Jobs
from indexer import IngestReport, Library, LibraryError


@pytest.fixture
def bursts(monkeypatch):
    """What the system reports as changed; None ends it."""
    changed: Queue[list[Path] | None] = Queue()

    def reported(*_, cancel, **__):
        while not cancel.is_set():
            with suppress(Empty):
                burst = changed.get(timeout=0.01)
                if burst is None:
                    return
                yield burst

    monkeypatch.setattr(folder_watch, "changed_paths", reported)
    monkeypatch.setattr(folder_watch, "_RETRY_SECONDS", 0.01)
    yield changed
    changed.put(None)


def once(condition):
    for _ in range(12_000):  # A minute: starting decoders takes long on a loaded machine.
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not happen")


def test_folders_are_kept_up_to_date_until_that_is_switched_off(tmp_path, page_over, bursts):
    media = tmp_path / "pictures"
    media.mkdir()
    (media / "one.txt").write_text("A note about rain.")
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([media])
        (media / "two.txt").write_text("A note about snow.")
        page = page_over(library)
        page.watch.start()
        assert not page.watch.is_on
        services.keep_up_to_date(page, True)
        once(lambda: page.watch.latest)
        assert page.watch.latest.report.added == 1, "what changed while nothing was watched"
        assert page.jobs.state.report is None, "users see the jobs that they started"
        page.close()

        again = page_over(library)
        again.watch.start()
        assert again.watch.is_on, "after a restart, too"
        (media / "three.txt").write_text("A note about hail.")
        bursts.put([media])
        once(lambda: again.watch.latest)
        bursts.put(None)
        services.keep_up_to_date(again, False)
        assert not again.watch.is_on
        assert not library.catalog.watched()
        strangers = page_over(library, host="0.0.0.0")
        with pytest.raises(services.NotAllowed, match="requires a login"):
            services.keep_up_to_date(strangers, True)


def test_a_job_of_a_user_goes_before_an_update():
    jobs, order = Jobs(str), []
    begun = threading.Event()

    def update(_, cancel):
        begun.set()
        cancel.wait(10)
        order.append("update")
        return IngestReport(cancelled=True)

    def background():
        with pytest.raises(Busy, match="given way"):
            jobs.run_in_background("Updating", update)
        order.append("gave way")

    thread = threading.Thread(target=background)
    thread.start()
    begun.wait()
    assert jobs.state.background
    jobs.start("Adding", lambda *_: order.append("job") or IngestReport(added=1))
    thread.join()
    page = SimpleNamespace(jobs=jobs)
    state = state_once(page, lambda state: not state.running)  # type: ignore[arg-type]
    assert (state.title, state.report.added) == ("Adding", 1)
    assert order.index("update") < order.index("job")


class Refusing:
    """A library whose ingest fails a given number of times."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.ingests = list(errors), 0
        self.catalog = SimpleNamespace(watched=lambda: True, roots=list)

    def ingest(self, paths, *, on_progress, cancel):
        self.ingests += 1
        if self.errors:
            raise self.errors.pop(0)
        return IngestReport(added=2)


def test_an_update_that_fails_says_why_and_the_next_one_is_tried(bursts):
    library = Refusing(LibraryError("the disk is full"))
    watch = FolderWatch(library, Jobs(str), str)  # type: ignore[arg-type]
    watch.start()
    bursts.put([Path("a")])
    once(lambda: watch.problem)
    assert watch.problem == "the disk is full"
    bursts.put([Path("a")])
    once(lambda: watch.latest)
    assert (watch.problem, library.ingests) == ("", 2)
    bursts.put(None)
    watch.close()


class Slow(Refusing):
    """A library whose ingests end when they may, whether or not they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.is_watched, self.running, self.most = False, 0, 0
        self.catalog.watched = lambda: self.is_watched
        self.catalog.roots = lambda: [Path("a")]
        self.may_end = threading.Event()

    def set_watched(self, on):
        self.is_watched = on

    def ingest(self, paths, *, on_progress, cancel):
        self.running += 1
        self.most = max(self.most, self.running)
        self.may_end.wait()
        self.running -= 1
        return super().ingest(paths, on_progress=on_progress, cancel=cancel)


def test_switching_off_and_on_waits_for_no_update(bursts, monkeypatch):
    monkeypatch.setattr(folder_watch, "_STOP_SECONDS", 3600.0)
    library, seen = Slow(), []
    watch = FolderWatch(library, Jobs(str), str)  # type: ignore[arg-type]

    def switch():
        for on in (False, True, False, True):
            watch.switch(on)
            seen.append(watch.is_on)

    watch.switch(True)
    once(lambda: library.running)
    switching = threading.Thread(target=switch, daemon=True)
    switching.start()
    switching.join(30)
    library.may_end.set()
    assert seen == [False, True, False, True]
    once(lambda: library.ingests == 2)
    watch.close()
    assert (library.ingests, library.most) == (2, 1), "one update at a time"
    assert not [one for one in threading.enumerate() if one.name == "folder-watch"]


def test_a_cancelled_job_is_resumed():
    jobs, runs = Jobs(str), []

    def work(_, cancel):
        runs.append(cancel)
        return IngestReport(cancelled=cancel.wait(10) if len(runs) == 1 else False)

    page = SimpleNamespace(jobs=jobs)
    jobs.resume()
    assert not jobs.state.running, "there was none"
    jobs.start("Adding", work)
    jobs.cancel()
    state_once(page, lambda state: not state.running)  # type: ignore[arg-type]
    jobs.resume()
    state = state_once(page, lambda state: not state.running)  # type: ignore[arg-type]
    assert (state.title, state.report.cancelled, len(runs)) == ("Adding", False, 2)
