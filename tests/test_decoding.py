"""Decoder processes: a misbehaving one costs the file that it was given, and no other."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from PIL import Image

from embedder import Content
from embedder.media import Draft, Kind, Limits, MediaError
from embedder.media.kinds import Details, Word
from indexer import IngestOptions, Library, Status
from indexer.decoding import protocol
from indexer.decoding.pool import DecoderPool
from indexer.errors import Closed, LibraryError

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
LIMITS = Limits(frame_side=64, memory_bytes=1 << 30)
BRIEF = replace(LIMITS, silence_seconds=0.5)
PERFORMER = "misbehaving_decoder:misbehave"
UNCONFINED = "unconfined_decoder:misbehave"


@pytest.fixture(autouse=True)
def _decoder_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture(scope="module")
def workers() -> Iterator[DecoderPool]:
    with DecoderPool(performer=PERFORMER) as workers:
        yield workers


def file(folder: Path, name: str) -> Path:
    """A sound picture with a telling name."""
    path = folder / f"{name}.png"
    Image.new("RGB", (8, 8), (220, 30, 30)).save(path)
    return path


def cut(workers: DecoderPool, folder: Path, name: str, limits: Limits = LIMITS) -> list[Draft]:
    return list(workers.cut(file(folder, name), Kind.IMAGE, limits))


def stream(
    workers: DecoderPool, folder: Path, name: str, limits: Limits = LIMITS
) -> Generator[Draft]:
    """The drafts of a file of many, each sent when it is there."""
    return workers.cut(file(folder, name), Kind.PDF, limits)


def worker_of(workers: DecoderPool, folder: Path) -> int:
    """The process that decodes now."""
    (draft,) = cut(workers, folder, "who")
    return int(draft.content.text or "")


def is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def soon(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_processes_are_reused(workers, tmp_path):
    first = worker_of(workers, tmp_path)
    assert first != os.getpid()
    (draft,) = cut(workers, tmp_path, "a")
    assert draft.content.frames[0].getpixel((3, 3)) == (220, 30, 30)
    assert worker_of(workers, tmp_path) == first


def test_errors_are_those_of_decoding_in_place(workers, tmp_path):
    path = file(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MediaError, match="truncated"):
        list(workers.cut(path, Kind.IMAGE, LIMITS))
    with pytest.raises(MediaError, match="does not exist"):
        list(workers.cut(tmp_path / "nowhere.txt", Kind.TEXT, LIMITS))
    with pytest.raises(MediaError, match=r"cannot be decoded: ZeroDivisionError"):
        cut(workers, tmp_path, "error")
    before = worker_of(workers, tmp_path)
    assert before == worker_of(workers, tmp_path), "a bad file does not cost the process"


CRASHES = {
    "hang": "no progress for 0.5 seconds",
    "lock": "no progress for 0.5 seconds",
    "half": "no progress for 0.5 seconds",
    "abort": "SIGABRT",
    "kill": "SIGKILL",
    "segfault": "SIGSEGV",
    "exit": "exit code 0",
    "garbage": "invalid answer",
    "boast": "invalid answer",
    "negative": "invalid answer",
    "nest": "invalid answer",
    "pickle": "invalid answer",
    "huge": "invalid answer",
}


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", CRASHES)
@pytest.mark.parametrize("after", ["", "-later"])
def test_misbehaving_decoder_costs_its_file_only(workers, tmp_path, how, after):
    before = worker_of(workers, tmp_path)
    limits = BRIEF if "no progress" in CRASHES[how] else LIMITS
    with pytest.raises(MediaError, match=CRASHES[how]) as raised:
        list(stream(workers, tmp_path, how + after, limits))
    assert len(str(raised.value)) < 120
    assert not is_running(before)
    assert worker_of(workers, tmp_path) != before


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("how", ["fork", "fork-later"])
def test_process_that_a_decoder_leaves_behind_is_not_waited_for(tmp_path, how):
    with DecoderPool(performer=UNCONFINED) as workers:
        before = worker_of(workers, tmp_path)
        with pytest.raises(MediaError, match=r"no progress for 0\.5 seconds"):
            list(stream(workers, tmp_path, how, BRIEF))
        assert worker_of(workers, tmp_path) != before


@linux
def test_memory_bomb_costs_its_file_only(workers, tmp_path):
    before = worker_of(workers, tmp_path)
    with pytest.raises(MemoryError):
        cut(workers, tmp_path, "bomb", replace(LIMITS, memory_bytes=300 << 20))
    assert not is_running(before)
    assert len(cut(workers, tmp_path, "a")) == 1


def test_printed_text_is_no_answer(workers, tmp_path):
    with pytest.raises(MemoryError):
        cut(workers, tmp_path, "print")
    assert len(cut(workers, tmp_path, "a")) == 1


@linux
def test_decoder_killed_from_outside_is_replaced(workers, tmp_path):
    drafts = stream(workers, tmp_path, "steady", replace(LIMITS, silence_seconds=30.0))
    pages = [next(drafts).page, next(drafts).page]
    (process,) = workers._busy
    os.kill(process._process.pid, signal.SIGKILL)
    pages += [draft.page for draft in drafts]
    assert pages == list(range(1, 9))


@linux
def test_decoders_killed_while_they_start_are_replaced(tmp_path):
    with DecoderPool(performer=PERFORMER) as workers, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(cut, workers, tmp_path, "a")
        killed: set[int] = set()
        while len(killed) < 3:
            for process in list(workers._busy):
                if process._process.pid not in killed:
                    os.kill(process._process.pid, signal.SIGKILL)
                    killed.add(process._process.pid)
            time.sleep(0.01)
        assert len(reading.result(60)) == 1


@linux
def test_decoders_that_are_always_killed_while_they_start_are_reported(tmp_path):
    with (
        DecoderPool(performer="killed_decoder:perform") as workers,
        pytest.raises(LibraryError, match="killed while they start"),
    ):
        cut(workers, tmp_path, "a")


@linux
def test_file_is_not_blamed_for_a_sleep_of_the_machine(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom embedder.media import Kind, Limits\n"
        "from indexer.decoding.pool import DecoderPool\n"
        "workers = DecoderPool(performer='misbehaving_decoder:misbehave')\n"
        "for draft in workers.cut(Path(sys.argv[1]), Kind.PDF, Limits(silence_seconds=1)):\n"
        "    (worker,) = workers._busy\n"
        "    print(worker._process.pid, draft.page, flush=True)\n"
        "workers.close()\n"
    )
    command = [sys.executable, "-c", program, str(file(tmp_path, "steady"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        group = [parent.pid, int(parent.stdout.readline().split()[0])]
        for one in group:
            os.kill(one, signal.SIGSTOP)
        time.sleep(8)  # more than the decoder waits for the program to kill it
        for one in group:
            os.kill(one, signal.SIGCONT)
        pages = [int(line.split()[1]) for line in parent.stdout]
    assert pages == list(range(2, 9))


def test_slow_file_with_progress_is_not_stopped(workers, tmp_path):
    assert len(cut(workers, tmp_path, "steady", replace(LIMITS, silence_seconds=3.0))) == 8


def test_total_time_of_a_file_is_limited(workers, tmp_path):
    limits = replace(LIMITS, file_seconds=3.0)
    with pytest.raises(MediaError, match="took longer than 3 seconds"):
        cut(workers, tmp_path, "drip", limits)


def test_slow_reader_is_no_silence(workers, tmp_path):
    limits = replace(LIMITS, silence_seconds=1.0)
    drafts = stream(workers, tmp_path, "pages", limits)
    next(drafts)
    time.sleep(2 * limits.silence_seconds)
    assert next(drafts).page == 2
    drafts.close()


def test_abandoned_file_leaves_no_process_behind(workers, tmp_path):
    before = worker_of(workers, tmp_path)
    drafts = stream(workers, tmp_path, "pages")
    assert [next(drafts).page, next(drafts).page] == [1, 2]
    drafts.close()
    assert not is_running(before)
    assert worker_of(workers, tmp_path) != before


def test_close_interrupts_waiting_threads(tmp_path):
    workers = DecoderPool(performer=PERFORMER)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            cut(workers, tmp_path, "hang", Limits())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert soon(lambda: any(one.files == 1 for one in list(workers._busy)))
    workers.close()
    thread.join(timeout=30)
    assert [type(error) for error in ended] == [Closed]
    with pytest.raises(Closed):
        cut(workers, tmp_path, "a")


def test_cancel_interrupts_a_hanging_file(tmp_path):
    cancel = threading.Event()
    with DecoderPool(performer=PERFORMER, cancel=cancel) as workers:
        drafts = stream(workers, tmp_path, "hang-later", Limits())
        next(drafts)
        cancel.set()
        with pytest.raises(Closed):
            next(drafts)


@linux
@pytest.mark.parametrize("how", ["hang", "pages", "who", "lock"])
def test_process_ends_with_its_parent(tmp_path, how):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom embedder.media import Kind, Limits\n"
        "from indexer.decoding.pool import DecoderPool\n"
        "workers = DecoderPool(performer='misbehaving_decoder:misbehave')\n"
        "drafts = workers.cut(Path(sys.argv[1]), Kind.PDF, Limits(silence_seconds=1))\n"
        "if 'who' not in sys.argv[1]: next(drafts)\n"
        "else: list(drafts)\n"
        "(worker,) = [*workers._busy, *workers._idle]\n"
        "print(worker._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    name = how if how in ("who", "pages") else f"{how}-later"
    command = [sys.executable, "-c", program, str(file(tmp_path, name))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert is_running(worker)
        parent.kill()
    assert soon(lambda: not is_alive_by_proc(worker))


def is_alive_by_proc(number: int) -> bool:
    """Zombies count as ended: the process that adopted them may reap them late."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_process_that_does_not_start_is_reported(tmp_path):
    with (
        DecoderPool(performer="nowhere:cut") as workers,
        pytest.raises(LibraryError, match="does not start"),
    ):
        cut(workers, tmp_path, "a")


def test_current_folder_is_not_imported_from(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    with DecoderPool() as workers:
        assert len(cut(workers, tmp_path, "a")) == 1


def test_process_loads_no_models_or_databases():
    program = (
        "import sys, indexer.decoding.worker\n"
        "print(*{'onnxruntime', 'torch', 'faiss', 'sqlalchemy', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_unchanged_folder_starts_no_process(tmp_path, monkeypatch, own_decoders):
    (tmp_path / "media").mkdir()
    file(tmp_path / "media", "a")
    with Library.open(tmp_path / "library", model="toy") as library:
        assert library.ingest([tmp_path / "media"]).added == 1
        monkeypatch.setattr("indexer.decoding.pool.DecoderProcess", None)
        assert library.ingest([tmp_path / "media"]).unchanged == 1


@pytest.mark.skipif(sys.platform != "linux", reason="signals and the limit on memory")
def test_ingest_indexes_the_files_beside_bad_ones(tmp_path):
    before = set(children())  # those of other tests
    folder = tmp_path / "media"
    folder.mkdir()
    bad = ("hang", "abort", "kill-later", "segfault", "bomb", "garbage", "exit-later")
    for number, name in enumerate([*bad, *(f"good{number}" for number in range(9))]):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(folder / f"{name}.png")

    def misled(cancel: threading.Event) -> DecoderPool:
        return DecoderPool(cancel=cancel, performer=PERFORMER)

    with Library.open(tmp_path / "library", model="toy", decoders=misled) as library:
        limits = replace(LIMITS, silence_seconds=6.0, memory_bytes=300 << 20)
        report = library.ingest([folder], IngestOptions(workers=2, limits=limits))
        assert report.added == 9
        assert {failure.path.stem for failure in report.failures} == set(bad)
        assert len(library.catalog.items(status=Status.FAILED)) == len(bad)
        assert set(children()) <= before


def children() -> list[int]:
    """Processes that this one has started and not waited for."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    return found


PAGE = Draft(
    Content("a \ud800 b", [Image.new("RGB", (5, 3))], "page", times=[1.5]),
    Image.new("RGB", (2, 1), (1, 2, 3)),
    page=3,
    words=(Word("a", 0.0, 0.25, 0.5, 1.0),),
    details=Details(
        datetime(2009, 5, 6, 7, 8, tzinfo=timezone(timedelta(hours=2))),
        -33.9,
        151.2,
        words=(("Title", "Harbour"), ("Keywords", "boats, sea")),
        facts=(("Camera", "Canon EOS 5D"),),
    ),
)
DETAILS = {"captured_at": None, "place": None, "words": [], "facts": []}


def decoded(change: dict[str, object], pixels: bytes | None = None) -> Draft:
    """The draft of a message in which some fields were changed."""
    data, pictures = protocol.encode_draft(PAGE)
    left = io.BytesIO(b"".join(one.tobytes() for one in pictures) if pixels is None else pixels)
    (draft,) = protocol.decode_drafts([{**json.loads(data), **change}], left.read, LIMITS)
    assert not left.read()
    return draft


def test_draft_is_transmitted_unchanged():
    draft = decoded({})
    assert draft.content.text == "a ? b", "no database takes half a character"
    assert (draft.page, draft.words, draft.span) == (3, PAGE.words, None)
    assert draft.content.frames[0].tobytes() == PAGE.content.frames[0].tobytes()
    assert draft.content.times == (1.5,)
    assert draft.thumbnail is not None
    assert draft.thumbnail.getpixel((1, 0)) == (1, 2, 3)
    assert draft.details == PAGE.details


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": [[5, 3], [2, 2]]},
        {"sizes": [[5, -3], [2, 1]]},
        {"sizes": [[1 << 40, 1 << 40], [2, 1]]},
        {"sizes": [[5, 3, 3], [2, 1]]},
        {"sizes": [[5, 3], [2, True]]},
        {"sizes": [[5, 3], [1, 400]]},
        {"sizes": [[65, 1], [2, 1]]},
        {"sizes": [[1, 1]] * (LIMITS.clip_frames + 2)},
        {"sizes": "53"},
        {"thumbnail": False, "modality": "image"},
        {"sizes": []},
        {"text": 3},
        {"modality": "sound"},
        {"page": 0},
        {"page": 2**63},
        {"page": True},
        {"start": float("nan"), "end": 1},
        {"end": -1},
        {"span": [1]},
        {"span": [-1, 3]},
        {"words": [["a", 0, 0, 0]]},
        {"words": [["a", 0, 0, 0, 2]]},
        {"words": [[b"a".hex(), 0, 0, 0, None]]},
        {"picture_hash": "1"},
        {"picture_hash": 2**63},
        {"details": {}},
        {"details": DETAILS | {"captured_at": "yesterday"}},
        {"details": DETAILS | {"place": [91, 0]}},
        {"details": DETAILS | {"place": [1]}},
        {"details": DETAILS | {"words": [["Title"]]}},
        {"details": DETAILS | {"words": [["Title", 3]]}},
        {"details": DETAILS | {"facts": [["Camera", "x" * 20_001]]}},
        {"details": DETAILS | {"facts": [["Camera", "x"]] * 101}},
        {"times": [0.5, 1.5]},
        {"times": [-1]},
        {"times": ["1"]},
        {"times": [float("inf")]},
        {"times": 1.5},
    ],
    ids=str,
)
def test_invalid_draft_is_refused(change):
    with pytest.raises(protocol.DecoderError):
        decoded(change)


def test_truncated_pixels_are_refused():
    with pytest.raises(protocol.DecoderError, match="not 45"):
        decoded({}, bytes(44))


def test_sizes_are_refused_before_pixels_are_received():
    def receive(count: int) -> bytes:
        raise AssertionError(count)

    fields = json.loads(protocol.encode_draft(PAGE)[0])
    side = LIMITS.frame_side
    for sizes in ([[1 << 20, 1 << 20], [1, 1]], [[side, side]] * (LIMITS.clip_frames + 2)):
        with pytest.raises(protocol.DecoderError):
            protocol.decode_drafts([{**fields, "sizes": sizes}], receive, LIMITS)
    with pytest.raises(protocol.DecoderError, match="batch"):
        protocol.decode_drafts([fields, fields], receive, LIMITS)


@pytest.mark.parametrize("unit", ["[[[[[[[[0]]]]]]]],", "{},", '["a",0,0,0,0],', '"a",'])
def test_malicious_answer_takes_bounded_memory(unit):
    words = unit * ((1 << 18) // len(unit))
    draft = {
        "text": None,
        "modality": "page",
        "sizes": [],
        "times": [],
        "thumbnail": False,
    } | dict.fromkeys(("page", "start", "end", "span", "picture_hash", "details"))
    body = (json.dumps({"drafts": [draft]})[:-3] + f', "words": [{words[:-1]}]}}]}}').encode()
    tracemalloc.start()
    try:
        with pytest.raises(protocol.DecoderError):
            protocol.decode_drafts(protocol.decode(body)["drafts"], bytes, LIMITS)
        taken = tracemalloc.get_traced_memory()[1] / len(body)
    finally:
        tracemalloc.stop()
    assert taken * protocol.MAX_JSON_BYTES < 1 << 30
