"""Decoding on request: errors become messages, and callers wait for a bounded time."""

import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pymupdf
import pytest
from hostile_files import film
from PIL import Image

from embedder.media import Kind, Limits, MediaError, read_content
from indexer import LibraryBusy, LibraryError, QueryError
from indexer.decoding import on_demand
from indexer.decoding.on_demand import Bounds, OnDemandDecoder
from indexer.search.query import file_part

BOUNDS = Bounds(processes=2, waiting=1, wait_seconds=30.0, spare_seconds=0.1, idle_seconds=60.0)
WORDS = "".join(f"Line {number} of a long letter.\n" for number in range(300))


@pytest.fixture(autouse=True)
def _decoder_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture(scope="module")
def patient() -> Iterator[OnDemandDecoder]:
    made = OnDemandDecoder()
    yield made
    made.close()


@pytest.fixture
def misled(monkeypatch: pytest.MonkeyPatch) -> Iterator[OnDemandDecoder]:
    """One whose decoder does what a file's name says."""
    monkeypatch.setattr(on_demand, "_MEMORY_BYTES", 400 << 20)
    with OnDemandDecoder(BOUNDS, performer="misbehaving_decoder:misbehave") as decoder:
        yield decoder


def picture(folder: Path, name: str) -> Path:
    path = folder / f"{name}.png"
    Image.new("RGB", (60, 40), (220, 30, 30)).save(path)
    return path


def test_query_files_are_read_as_in_place(patient, tmp_path):
    note, paper, video = (tmp_path / name for name in ("note.txt", "paper.pdf", "video.mp4"))
    note.write_text(WORDS)
    film(video, "mp4v", 90)
    document = pymupdf.open()
    for text in ("one", "two"):
        document.new_page(width=200, height=100).insert_text((20, 50), text)
    document.save(paper)
    limits = Limits(frame_side=50)
    pages = {picture(tmp_path, "red"): None, note: None, video: None, paper: 2}
    for path, page in pages.items():
        there, here = patient.content(path, limits, page), read_content(path, limits, page)
        assert (there.text, there.modality) == (here.text, here.modality)
        assert [one.tobytes() for one in there.frames] == [one.tobytes() for one in here.frames]
    assert patient.page(paper, 1, 300).size == (300, 150)
    assert patient.picture(picture(tmp_path, "red"), 30).size == (30, 20)


def test_long_text_is_truncated(patient, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("word " * 100_000)
    assert len(patient.content(path, Limits()).text) == 200_000


def test_passage_has_its_context(patient, tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text(WORDS)
    start = WORDS.index("Line 150 ")
    found = patient.passage(path, (start, start + 9), 100)
    assert (found.text, found.first, found.last) == ("Line 150 ", False, False)
    assert found.before + found.text + found.after == WORDS[start - 100 : start + 109]
    whole = patient.passage(path, (0, len(WORDS)), 100)
    assert (whole.before, whole.text, whole.after) == ("", WORDS, "")
    assert (whole.first, whole.last) == (True, True)
    with pytest.raises(MediaError, match="has changed"):
        patient.passage(path, (len(WORDS) + 500, len(WORDS) + 600), 100)


def test_unexpected_kind_is_refused(patient, tmp_path):
    with pytest.raises(QueryError, match="kind image, not pdf"):
        file_part(picture(tmp_path, "red"), expected=Kind.PDF, viewer=patient)
    with pytest.raises(QueryError, match=r"lost\.png cannot be used as a query: .* not exist"):
        file_part(tmp_path / "lost.png", viewer=patient)


DEEDS = {
    "hang": "no progress for 1 seconds",
    "abort": "crashed",
    "segfault": "crashed",
    "garbage": "invalid answer",
    "huge": "invalid answer",
    "pages": "invalid answer",
    "bomb": "too much memory",
    "error": "cannot be decoded",
}


@pytest.mark.skipif(sys.platform != "linux", reason="signals and the limit on memory")
@pytest.mark.parametrize("deed", DEEDS)
def test_misbehaving_decoder_is_reported(misled, tmp_path, monkeypatch, deed):
    if deed == "hang":
        monkeypatch.setattr(on_demand, "_SILENCE_SECONDS", 1.0)
    path = picture(tmp_path, deed)
    with pytest.raises(MediaError, match=DEEDS[deed]):
        misled.picture(path, 64)
    assert misled.picture(picture(tmp_path, "sound"), 30).size == (30, 20)


@pytest.mark.skipif(sys.platform != "linux", reason="signals")
def test_too_many_callers_are_refused(misled, tmp_path, monkeypatch):
    monkeypatch.setattr(misled, "_bounds", replace(BOUNDS, wait_seconds=0.5))
    ended: list[tuple[str, float]] = []

    def look(name: str) -> None:
        started = time.monotonic()
        try:
            misled.picture(picture(tmp_path, name), 64)
        except (LibraryError, MediaError) as error:
            ended.append((type(error).__name__, time.monotonic() - started))

    hanging = [threading.Thread(target=look, args=("hang",)) for _ in range(2)]
    for thread in hanging:
        thread.start()
    while len(misled._busy) < 2:
        time.sleep(0.01)
    waiting = [threading.Thread(target=look, args=("sound",)) for _ in range(4)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(20)
    assert [name for name, _ in ended] == [LibraryBusy.__name__] * 4
    assert sum(seconds >= 0.5 for _, seconds in ended) == 1, "the others were sent away at once"
    misled.close()
    for thread in hanging:
        thread.join(20)
    assert len(ended) == 6, "closing interrupts the busy ones"


def test_processes_start_in_advance_and_end_when_idle(tmp_path):
    bounds = replace(BOUNDS, idle_seconds=0.3)
    with OnDemandDecoder(bounds) as made:
        made.prepare()
        made.prepare()
        (process,) = made._idle
        made.picture(picture(tmp_path, "red"), 30)
        assert process.files == 1
        while made._idle:
            time.sleep(0.02)
        process._process.wait(10)
        assert made.picture(picture(tmp_path, "red"), 30).size == (30, 20)


def test_busy_process_is_waited_for(tmp_path):
    bounds = replace(BOUNDS, spare_seconds=20.0)
    with OnDemandDecoder(bounds) as made:
        path = picture(tmp_path, "red")
        with ThreadPoolExecutor(4) as pool:
            sizes = list(pool.map(lambda _: made.picture(path, 30).size, range(12)))
        assert sizes == [(30, 20)] * 12
        (process,) = made._idle
        assert process.files == 12


def test_second_process_starts_if_the_first_stays_busy(misled, tmp_path):
    hanging = threading.Thread(target=_looks_in_vain, args=(misled, picture(tmp_path, "hang")))
    hanging.start()
    while not misled._busy:
        time.sleep(0.01)
    assert misled.picture(picture(tmp_path, "sound"), 64).size
    misled.close()
    hanging.join(20)


def _looks_in_vain(viewer, path):
    with pytest.raises((LibraryError, MediaError)):
        viewer.picture(path, 64)
