"""Ingest: what becomes of new, changed, moved, deleted and damaged files."""

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from decoders import InProcess
from PIL import Image

from embedder import Content, EmbedError, open_embedder
from embedder.media import Draft
from embedder.media.kinds import Kind, Limits, MediaError
from embedder.toy import ToyEmbedder
from indexer import Filters, IngestOptions, IngestReport, Library, LibraryBusy, Status
from indexer.progress import Progress

RED, GREEN, BLUE = (220, 30, 30), (30, 160, 60), (30, 60, 220)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures and a text."""
    folder = tmp_path / "media"
    (folder / "trip").mkdir(parents=True)
    picture(folder / "red.png", RED)
    picture(folder / "trip" / "green.png", GREEN)
    picture(folder / "trip" / "blue.png", BLUE)
    (folder / "notes.txt").write_text("A lighthouse stands on the cliff above the harbour.")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy") as library:
        yield library


def picture(path: Path, colour: tuple[int, int, int]) -> None:
    Image.new("RGB", (96, 64), colour).save(path)


def counts(report: IngestReport) -> dict[str, int]:
    """Return the counts that are not 0."""
    values = {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "moved": report.moved,
        "copies": report.copies,
        "removed": report.removed,
        "skipped": len(report.skipped),
        "failed": len(report.failures),
    }
    return {name: value for name, value in values.items() if value}


def nearest(library: Library, colour: str, kind: Kind = Kind.IMAGE) -> str:
    """Return the name of the file whose vector is nearest to a word."""
    vector = library.embedder.embed([Content(text=colour)], "query")[0]
    _, ids = library.vectors.search(vector, 1, kind)
    return library.catalog.item_of(int(ids[0])).name


def test_ingested_files_are_found(library, folder):
    report = library.ingest([folder])
    assert counts(report) == {"added": 4}
    assert report.segments == 4
    assert nearest(library, "green") == "green.png"
    assert library.catalog.find_words(["lighthouse", "cliffs"]).every.tolist() == [True]
    (named,) = library.catalog.find_names(["blue"], Filters(), 9)[Kind.IMAGE]
    assert library.catalog.item_of(named.segment_id).name == "blue.png"
    assert library.catalog.folders() == [(folder, 2), (folder / "trip", 2)]


def test_unchanged_files_are_not_read(library, folder, monkeypatch):
    def read(*_: object) -> NoReturn:
        raise AssertionError("a file is read")

    library.ingest([folder])
    monkeypatch.setattr(ToyEmbedder, "embed", None)
    library.decoders = InProcess(read)
    monkeypatch.setattr("indexer.ingest.stages.detect", read)
    generation = library.catalog.generation()
    assert counts(library.ingest([folder])) == {"unchanged": 4}
    assert library.catalog.generation() == generation


def test_unchanged_folder_loads_no_model(library, folder, tmp_path):
    library.ingest([folder])
    library.close()
    with Library.open(tmp_path / "library") as again:
        assert counts(again.ingest([folder])) == {"unchanged": 4}
        assert again._model._current is None
        assert again._index._index is None


def test_moved_file_keeps_its_ids(library, folder):
    library.ingest([folder])
    (item,) = library.catalog.items(name="green")
    (segment,) = library.catalog.segments(item.id)
    (folder / "elsewhere").mkdir()
    (folder / "trip" / "green.png").rename(folder / "elsewhere" / "leaf.png")
    assert counts(library.ingest([folder])) == {"moved": 1, "unchanged": 3}
    moved = library.catalog.item(item.id)
    assert moved.path == folder / "elsewhere" / "leaf.png"
    assert library.catalog.segments(item.id) == [segment]
    assert library.catalog.find_names(["leaf"], Filters(), 9)
    assert not library.catalog.find_names(["green"], Filters(), 9)


def test_files_that_swap_names(library, folder):
    library.ingest([folder])
    red, green = folder / "red.png", folder / "trip" / "green.png"
    red.rename(folder / "other.png")
    green.rename(red)
    (folder / "other.png").rename(green)
    os.utime(red, ns=(1, 1))
    os.utime(green, ns=(2, 2))
    assert counts(library.ingest([folder])) == {"updated": 2, "unchanged": 2}
    assert nearest(library, "green") == "red.png"


def test_copies_share_segments(library, folder):
    library.ingest([folder])
    copy = folder / "copy.png"
    copy.write_bytes((folder / "red.png").read_bytes())
    assert counts(library.ingest([folder])) == {"copies": 1, "unchanged": 4}
    (segment,) = library.catalog.segments(library.catalog.items(name="red")[0].id)
    resolved = library.catalog.resolve([segment.id], Filters())
    assert [item.name for item in resolved[segment.id][1]] == ["red.png", "copy.png"]
    thumbnail = library.thumbnail(segment.id)
    assert thumbnail is not None

    (folder / "red.png").unlink()
    assert counts(library.ingest([folder])) == {"removed": 1, "unchanged": 4}
    assert library.catalog.item_of(segment.id).name == "copy.png"
    copy.unlink()
    assert counts(library.ingest([folder])) == {"removed": 1, "unchanged": 3}
    assert library.catalog.resolve([segment.id], Filters()) == {}
    assert nearest(library, "red") != "copy.png"
    assert not thumbnail.exists()


def test_same_bytes_are_embedded_once(library, folder):
    for number in range(5):
        (folder / f"copy{number}.txt").write_bytes((folder / "notes.txt").read_bytes())
    report = library.ingest([folder], IngestOptions(workers=4))
    assert counts(report) == {"added": 4, "copies": 5}
    assert report.segments == 4
    assert [len(group) for group in library.catalog.duplicates().exact] == [6]


def test_deleted_file_is_removed(library, folder):
    library.ingest([folder])
    (folder / "notes.txt").unlink()
    assert counts(library.ingest([folder])) == {"removed": 1, "unchanged": 3}
    assert library.catalog.find_words(["lighthouse"]).ids.size == 0
    assert len(library.vectors) == 3


def test_removal_stays_below_existing_paths(library, folder):
    library.ingest([folder])
    (folder / "red.png").unlink()
    assert counts(library.ingest([folder / "trip"])) == {"unchanged": 2}


def test_changed_file_gets_new_ids(library, folder):
    library.ingest([folder])
    (item,) = library.catalog.items(name="red")
    (before,) = library.catalog.segments(item.id)
    picture(folder / "red.png", (245, 140, 30))
    assert counts(library.ingest([folder])) == {"updated": 1, "unchanged": 3}
    (after,) = library.catalog.segments(item.id)
    assert after.id > before.id
    assert after.content_hash != before.content_hash
    assert nearest(library, "orange") == "red.png"


def test_touched_file_is_not_embedded_again(library, folder):
    library.ingest([folder])
    os.utime(folder / "red.png", ns=(5, 5))
    report = library.ingest([folder])
    assert (counts(report), report.segments) == ({"unchanged": 4}, 0)
    assert library.catalog.items(name="red")[0].mtime_ns == 5


def test_failed_file_is_retried_on_request(library, folder):
    bad = folder / "bad.png"
    bad.write_bytes((folder / "red.png").read_bytes()[:60])
    (folder / "tool.bin").write_bytes(b"\0\1\2\3")
    report = library.ingest([folder])
    assert counts(report) == {"added": 4, "skipped": 1, "failed": 1}
    assert report.failures[0].path == bad
    (failed,) = library.catalog.items(status=Status.FAILED)
    assert failed.error == report.failures[0].reason
    assert counts(library.ingest([folder])) == {"unchanged": 6}
    assert counts(library.ingest([folder], IngestOptions(retry_failed=True))) == {
        "unchanged": 5,
        "failed": 1,
    }
    assert counts(library.ingest([], IngestOptions(retry_failed=True))) == {"failed": 1}
    picture(bad, BLUE)
    assert counts(library.ingest([folder])) == {"copies": 1, "unchanged": 5}
    assert library.catalog.items(status=Status.FAILED) == []


def test_retry_removes_deleted_failed_files(library, folder):
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    library.ingest([folder])
    (folder / "bad.png").unlink()
    assert counts(library.ingest([], IngestOptions(retry_failed=True))) == {"removed": 1}
    assert library.catalog.stats().failed == 0


def test_damaged_file_is_no_longer_found(library, folder):
    library.ingest([folder])
    (folder / "red.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    assert counts(library.ingest([folder])) == {"failed": 1, "unchanged": 3}
    assert nearest(library, "red") != "red.png"
    (item,) = library.catalog.items(name="red")
    assert (item.status, item.content_hash, item.segments) == (Status.FAILED, None, 0)


def test_names_that_are_not_unicode(library, folder):
    odd = os.fsdecode(os.fsencode(folder) + b"/caf\xe9 trip.png")
    picture(folder / "x.png", (245, 140, 30))
    os.rename(folder / "x.png", odd)  # noqa: PTH104
    library.ingest([folder])
    (item,) = library.catalog.items(name="trip")
    assert str(item.path) == odd
    assert counts(library.ingest([folder])) == {"unchanged": 5}
    Path(odd).unlink()
    assert counts(library.ingest([folder])) == {"unchanged": 4, "removed": 1}


def test_library_skips_its_own_folder(folder):
    with Library.open(folder / "library", model="toy") as library:
        library.ingest([folder])
        assert counts(library.ingest([folder])) == {"unchanged": 4}


def test_ingest_reports_progress(library, folder):
    reports: list[Progress] = []
    library.ingest([folder], on_progress=reports.append)
    assert reports[-1].stage == "finish"
    assert (reports[-1].done, reports[-1].total) == (4, 4)


def test_concurrent_ingest_is_refused(library, folder):
    refused: list[Exception] = []

    def intrude(_progress: Progress) -> None:
        if not refused:
            try:
                library.ingest([folder])
            except LibraryBusy as error:
                refused.append(error)

    assert counts(library.ingest([folder], on_progress=intrude)) == {"added": 4}
    assert "another program is adding to the library" in str(refused[0])


def test_ingest_without_paths_is_refused(library):
    with pytest.raises(ValueError, match="remembers no folder"):
        library.ingest([])


class Moody(ToyEmbedder):
    """Refuses contents with a certain word; raises an unexpected error at another."""

    def _embed_batch(self, contents: Sequence[Content], role: str) -> np.ndarray:
        for position, content in enumerate(contents):
            if "refuse" in (content.text or ""):
                raise EmbedError(position, "no such words")
            if "crash" in (content.text or ""):
                raise RuntimeError("shape mismatch")
        return super()._embed_batch(contents, "document")


@pytest.fixture
def moody(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", embedder=Moody()) as library:
        yield library


@pytest.mark.parametrize(
    ("word", "reason"),
    [("refuse", "it cannot be embedded: no such words"), ("crash", "shape mismatch")],
)
def test_embed_error_fails_one_file(moody, tmp_path, word, reason):
    for number in range(9):
        text = f"number {number} {word if number == 4 else ''}"
        (tmp_path / f"{number}.txt").write_text(text)
    report = moody.ingest([tmp_path])
    assert counts(report) == {"added": 8, "failed": 1}
    assert report.failures[0].path.name == "4.txt"
    assert reason in report.failures[0].reason
    ids = [
        moody.catalog.segments(item.id)[0].id for item in moody.catalog.items(status=Status.INDEXED)
    ]
    texts = [moody.catalog.segment(one).text for one in ids]
    expected = open_embedder("toy").embed([Content(text=text) for text in texts], "document")
    assert np.allclose(moody.catalog.vectors_of(ids), expected, atol=1e-3)


def test_broken_model_ends_the_ingest(moody, tmp_path):
    from embedder import EmbedderError

    for number in range(9):
        (tmp_path / f"{number}.txt").write_text(f"crash {number}")
    with pytest.raises(EmbedderError, match="does not work"):
        moody.ingest([tmp_path], IngestOptions(workers=1))
    assert moody.catalog.stats().failed < 4


def drafts(count: int) -> Iterator[Draft]:
    for number in range(count):
        yield Draft(Content(text=f"passage {number}"), span=(number, number + 1))


def test_truncated_file_leaves_nothing(library, tmp_path):
    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        yield Draft(Content(text="cover"), thumbnail=Image.new("RGB", (32, 32)))
        yield from drafts(50)
        raise MediaError("it breaks off")

    library.decoders = InProcess(cut)
    (tmp_path / "a.txt").write_text("words")
    report = library.ingest([tmp_path / "a.txt"])
    assert counts(report) == {"failed": 1}
    assert (len(library.vectors), library.catalog.stats().segments) == (0, {})
    assert list(library.directory.rglob("*.jpg")) == []


@pytest.mark.parametrize("times", [1, 2])
def test_file_that_changes_while_read_is_read_again(library, tmp_path, times):
    path = tmp_path / "a.txt"
    path.write_text("first")
    reads: list[str] = []

    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        reads.append(path.read_text())
        yield Draft(Content(text=path.read_text()))
        if len(reads) <= times:
            path.write_text("later " * (len(reads) + 1))

    library.decoders = InProcess(cut)
    report = library.ingest([path])
    assert len(reads) == 2
    if times == 1:
        assert counts(report) == {"added": 1}
        assert library.catalog.segment(1).text == "later later "
    else:
        assert "changed twice while it was read" in report.failures[0].reason
        assert counts(library.ingest([path])) == {"added": 1}


def test_copies_of_a_failed_file_all_fail(library, tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    report = library.ingest([tmp_path], IngestOptions(workers=3))
    assert counts(report) == {"failed": 6}


def test_cancel_keeps_what_is_done(library, tmp_path):
    for number in range(120):
        (tmp_path / f"{number:03}.txt").write_text(f"text number {number}")
    cancel = threading.Event()

    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        if path.name == "060.txt":
            cancel.set()
        yield Draft(Content(text=path.read_text()))

    library.decoders = InProcess(cut)
    report = library.ingest([tmp_path], cancel=cancel)
    assert report.cancelled
    assert report.seconds < 5
    assert 0 < report.added < 120
    assert library.catalog.stats().items == {Kind.TEXT: report.added}
    rest = library.ingest([tmp_path])
    assert (rest.added, rest.unchanged) == (120 - report.added, report.added)
    assert len(library.vectors) == 120


def test_cancel_removes_nothing(library, folder):
    library.ingest([folder])
    (folder / "red.png").rename(folder / "trip" / "crimson.png")
    cancel = threading.Event()
    cancel.set()
    assert library.ingest([folder], cancel=cancel).cancelled
    assert counts(library.ingest([folder])) == {"moved": 1, "unchanged": 3}


def test_cancel_abandons_a_long_file(library, tmp_path):
    cancel = threading.Event()

    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        for number, draft in enumerate(drafts(1_000_000)):
            if number == 100:
                cancel.set()
            yield draft

    library.decoders = InProcess(cut)
    (tmp_path / "a.txt").write_text("words")
    report = library.ingest([tmp_path / "a.txt"], cancel=cancel)
    assert report.cancelled
    assert report.seconds < 8
    assert library.catalog.items() == []


def test_long_file_is_bounded_in_memory(library, tmp_path):
    alive = most = 0

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        nonlocal alive, most
        for number in range(300):
            frame = Image.new("RGB", (700, 700), (number % 256, 0, 0))
            weakref.finalize(frame, freed)
            alive += 1
            most = max(most, alive)
            yield Draft(Content(frames=[frame]))

    library.decoders = InProcess(cut)
    (tmp_path / "a.txt").write_text("words")
    assert library.ingest([tmp_path / "a.txt"]).segments == 300
    assert most < 120


def test_search_during_ingest_sees_commits(library, tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03}.txt").write_text(f"red text number {number}")
    seen: list[int] = []
    done = threading.Event()

    def search() -> None:
        vector = open_embedder("toy").embed([Content(text="red")], "query")[0]
        while not done.is_set():
            _, ids = library.vectors.search(vector, 500, Kind.TEXT)
            library.catalog.resolve(ids.tolist(), Filters())
            seen.append(len(ids))

    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        done.wait(0.01)
        yield Draft(Content(text=path.read_text()))

    library.decoders = InProcess(cut)
    thread = threading.Thread(target=search)
    thread.start()
    try:
        library.ingest([tmp_path])
    finally:
        done.set()
        thread.join()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert len(library.vectors) == 200


def test_plan_matches_the_ingest(library, folder):
    library.ingest([folder])
    (folder / "red.png").rename(folder / "crimson.png")
    (folder / "notes.txt").unlink()
    picture(folder / "trip" / "green.png", (240, 220, 40))
    (folder / "copy.png").write_bytes((folder / "trip" / "blue.png").read_bytes())
    (folder / "new.txt").write_text("new")
    (folder / "tool.bin").write_bytes(b"\0\1")
    (folder / "empty.jpg").touch()
    plan = library.plan([folder])
    assert plan.added == (folder / "new.txt",)
    assert plan.updated == (folder / "trip" / "green.png",)
    assert plan.moved == ((folder / "red.png", folder / "crimson.png"),)
    assert plan.copies == (folder / "copy.png",)
    assert plan.removed == (folder / "notes.txt",)
    assert [failure.path.name for failure in plan.skipped] == ["tool.bin"]
    assert [failure.path.name for failure in plan.failures] == ["empty.jpg"]
    assert plan.unchanged == 1
    report = library.ingest([folder])
    assert counts(report) == {
        "added": 1,
        "updated": 1,
        "moved": 1,
        "copies": 1,
        "removed": 1,
        "skipped": 1,
        "failed": 1,
        "unchanged": 1,
    }
