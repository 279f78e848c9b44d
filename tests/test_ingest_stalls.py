"""Reading never hangs: a disk that stalls costs its files, and only regular files are opened."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from embedder.media import kinds
from indexer import IngestOptions, Library, LibraryError
from indexer.errors import Closed
from indexer.ingest import discovery, pipeline, stages, stalls

linux = pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures."""
    folder = tmp_path / "media"
    folder.mkdir()
    for number, name in enumerate(("first", "second", "stuck")):
        Image.new("RGB", (40, 40), (60 * number, 90, 9)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy") as library:
        yield library


@pytest.fixture
def stall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object, str], None]]:
    """Makes a function of a module hang for the path of a stuck file until the test has ended."""
    monkeypatch.setattr(stalls, "STALLED_SECONDS", 1.0)
    answered = threading.Event()

    def make(module: object, name: str) -> None:
        real = getattr(module, name)

        def stalled(path: Path, *arguments: object) -> object:
            if "stuck" in str(path):
                answered.wait()
            return real(path, *arguments)

        monkeypatch.setattr(module, name, stalled)

    yield make
    answered.set()


@pytest.mark.parametrize("name", ["open_media", "detect", "sha256_of", "stat_file"])
def test_file_whose_disk_stalls_fails_alone(folder, library, stall, name):
    stall(stages, name)
    report = library.ingest([folder], IngestOptions(workers=1))
    assert report.added == 2
    (failure,) = report.failures
    assert failure.path.stem == "stuck"
    assert "a disk or network folder has not answered" in failure.reason


def test_file_that_waited_for_a_stalled_copy_is_indexed(folder, library, stall):
    (folder / "then.png").write_bytes((folder / "stuck.png").read_bytes())
    stall(stages, "stat_file")
    report = library.ingest([folder], IngestOptions(workers=1))
    assert report.added == 3
    assert [failure.path.stem for failure in report.failures] == ["stuck"]


def test_thread_that_is_answered_late_does_nothing(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stalls, "monotonic", lambda: now[0])
    watch = stalls.StallWatch[str]()

    def wait_for_an_answer() -> list[str]:
        given_up = []
        for _ in range(100):
            now[0] += 1.0
            given_up += watch.give_up_stalled()
        return [wait.work for wait in given_up]

    with pytest.raises(Closed), watch.over("a file"):
        given_up = wait_for_an_answer()
    assert given_up == ["a file"]


def test_many_stalled_files_end_the_ingest(folder, library, stall, monkeypatch):
    monkeypatch.setattr(pipeline, "_MAX_STALLED_THREADS", 0)
    stall(stages, "open_media")
    with pytest.raises(LibraryError, match="unmount or exclude it"):
        library.ingest([folder], IngestOptions(workers=1))


def test_folder_that_stalls_ends_the_ingest_after_what_was_listed(folder, library, stall):
    (folder / "zz-stuck").mkdir()
    stall(discovery.os, "scandir")
    with pytest.raises(LibraryError, match="while files were listed: unmount or exclude it"):
        library.ingest([folder], IngestOptions(workers=1))
    library.ingest([folder / "first.png"], IngestOptions(workers=1))


def test_work_that_gets_further_is_not_given_up(monkeypatch):
    monkeypatch.setattr(stalls, "STALLED_SECONDS", 1.5)
    watch, now = stalls.StallWatch[str](), [0.0]
    monkeypatch.setattr(stalls, "monotonic", lambda: now[0])
    with watch.over("a file"):
        for _ in range(5):
            now[0] += 0.4
            kinds.report_progress()
            assert not watch.give_up_stalled()
    now[0] += 3_600
    with watch.over("a file"):
        assert not watch.give_up_stalled(), "what came before does not count"


def test_sleep_of_the_machine_does_not_count(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(stalls, "monotonic", lambda: now[0])
    watch = stalls.StallWatch[str]()
    with watch.over("a file"):
        now[0] += 8 * 3_600
        assert not watch.give_up_stalled()


@linux
@pytest.mark.parametrize("what", ["pipe", "zeros", "log", "socket"])
@pytest.mark.parametrize("name", ["detect", "sha256_of"])
def test_what_is_no_regular_file_is_refused(tmp_path, what, name):
    path = tmp_path / f"{what}.txt"
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"zeros": "/dev/zero", "log": "/proc/kmsg", "socket": "/dev/log"}[what])
    program = (
        "import sys\nfrom pathlib import Path\nfrom embedder.media import MediaError, detect\n"
        "from embedder.media.kinds import sha256_of\n"
        f"try:\n    {name}(Path(sys.argv[1]))\nexcept (MediaError, OSError) as error:\n"
        "    print(error)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=30)


def test_file_that_grows_is_not_read_for_ever(tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    path.write_bytes(b"x" * (1 << 19))

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"x" * (1 << 19))

    monkeypatch.setattr(kinds, "report_progress", append)
    with pytest.raises(OSError, match="it grew while it was read"):
        kinds.sha256_of(path)


@linux
def test_pipe_in_the_place_of_a_file_fails_alone(folder, library, monkeypatch):
    real = discovery.compare

    def compare(*arguments: object) -> Iterator[object]:
        listed = list(real(*arguments))
        (folder / "stuck.png").unlink()
        os.mkfifo(folder / "stuck.png")
        return iter(listed)

    monkeypatch.setattr(pipeline, "compare", compare)
    report = library.ingest([folder])
    assert report.added == 2
    assert [failure.path.stem for failure in report.failures] == ["stuck"]
