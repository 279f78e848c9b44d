"""Re-embedding: what is computed, what is kept, and what stands in the way."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from decoders import InProcess
from maintained_library import copy
from PIL import Image
from reembedding import Other, Shop, cancelled_after, found, is_whole, make_library, segments

from embedder import Content, EmbedderError
from embedder.interface import EmbedError
from embedder.media import Draft, cut
from embedder.media.kinds import Kind
from indexer import Library, Status


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr("indexer.library.open_embedder", shop)
    return shop


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("made"))


@pytest.fixture
def media(made: Path, tmp_path: Path) -> Path:
    """A copy of the files without their library."""
    return shutil.copytree(made / "media", tmp_path / "media")


@pytest.fixture
def library(made: Path, tmp_path: Path, media: Path, shop: Shop) -> Iterator[Library]:
    with Library.open(copy(tmp_path, made)) as library:
        yield library


@pytest.mark.parametrize("model", ["same", "small"])
def test_reembed_keeps_segment_ids(library, shop, model):
    before = segments(library)
    pictures = [library.thumbnail(one.id) for one in before]
    assert "red.png" in found(library)
    report = library.reembed(model)
    assert (report.model, report.segments, report.reused) == (model, len(before), 0)
    assert (report.switched, report.cancelled, report.failures) == (True, False, ())
    assert library.model == model == library.embedder.info.name
    assert segments(library) == before
    assert [library.thumbnail(one.id) for one in before] == pictures
    assert is_whole(library)
    assert "red.png" in found(library)
    assert library._staged.count() == 0
    with Library.open(library.directory) as again:
        assert again.model == model
        assert is_whole(again)


def test_removed_segments_lose_their_vectors(library, media):
    for model in ("same", "toy", "small"):
        assert library.reembed(model).switched
        gone = library.catalog.items()[0]
        ids = [one.id for one in library.catalog.segments(gone.id)]
        library.remove([gone.id])
        assert not library.catalog.vectors_of(ids).any()
        with library._database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            tables = "SELECT name FROM sqlite_master WHERE name LIKE '%vectors'"
            names = connection.exec_driver_sql(tables).scalars()
            assert sorted(names) == ["pending_vectors", "vectors"]
        assert is_whole(library)


def test_removed_segments_lose_their_staged_vectors(library, media, shop):
    assert cancelled_after(library, shop, 3).cancelled
    there = library._staged.count()
    assert there
    library.remove([item.id for item in library.catalog.items()])
    assert library._staged.count() == 0


def test_texts_are_embedded_without_their_files(library, media):
    for path in media.glob("*.txt"):
        path.unlink()
    assert library.reembed("same").switched
    assert is_whole(library)


def test_reembed_with_the_same_model_changes_nothing(library, shop):
    before = library.catalog.generation()
    report = library.reembed("toy")
    assert (report.switched, report.segments, report.failures) == (False, 0, ())
    assert library.catalog.generation() == before
    assert library.plan_reembed("toy").same


def test_reembed_an_empty_library(tmp_path, shop, media):
    with Library.open(tmp_path / "library", model="toy") as library:
        assert library.reembed("small").switched
        assert library.model == "small"
        assert found(library) == []
        library.ingest([media])
        assert library.catalog.model().name == "small"
        assert is_whole(library)


def test_cancelled_reembed_resumes(library, shop):
    total = len(segments(library))
    stopped = cancelled_after(library, shop, 3)
    assert stopped.cancelled
    assert not stopped.switched
    assert 0 < stopped.segments < total
    assert library.model == "toy"
    assert is_whole(library)
    assert library.plan_reembed("same").reused == stopped.segments
    report = library.reembed("same")
    assert (report.switched, report.segments, report.reused) == (True, total, stopped.segments)
    assert len(shop.opened["same"].embedded) == total - stopped.segments
    assert is_whole(library)


def test_staged_vectors_of_another_model_are_discarded(library, shop):
    assert cancelled_after(library, shop, 3).segments
    report = library.reembed("small")
    assert (report.switched, report.reused) == (True, 0)
    assert is_whole(library)
    assert library.reembed("same").reused == 0


def test_discard_staged_vectors(library, shop):
    stopped = cancelled_after(library, shop, 3)
    assert library.discard_pending() == stopped.segments
    assert library.plan_reembed("same").reused == 0


def test_retired_vectors_are_not_reused(library, monkeypatch):
    """The program may be killed after the switch and before the old vectors are deleted."""
    with monkeypatch.context() as patch:
        patch.setattr("indexer.catalog.staged.StagedVectors.clear", lambda self: 0)
        assert library.reembed("same").switched
    assert library._staged.count() == len(segments(library))
    assert library.plan_reembed("small").reused == 0
    report = library.reembed("small")
    assert (report.switched, report.reused) == (True, 0)
    assert is_whole(library)


def test_resumed_reembed_sees_changed_files(library, shop, media):
    stopped = cancelled_after(library, shop, 3)
    (media / "new.txt").write_text("a new text about green things")
    Image.new("RGB", (32, 32), (30, 160, 60)).save(media / "green.png")
    (media / "0.txt").unlink()
    library.ingest([media])
    assert library.catalog.model().name == "toy"
    assert is_whole(library)
    report = library.reembed("same")
    assert report.switched
    assert report.segments == len(segments(library))
    assert 0 < report.reused <= stopped.segments
    assert is_whole(library)
    assert "green.png" in found(library, "green")


def test_ingest_after_a_switch(library, media):
    library.reembed("small")
    (media / "new.txt").write_text("a new text about red things")
    assert library.ingest([media]).added == 1
    assert is_whole(library)
    assert "new.txt" in found(library)


def test_reembed_reads_any_copy(library, shop, media):
    (media / "copy.png").write_bytes((media / "red.png").read_bytes())
    assert library.ingest([media]).copies == 1
    (media / "red.png").unlink()
    assert library.plan_reembed("same").failures == ()
    report = library.reembed("same")
    assert report.switched
    assert report.segments == sum(library.catalog.stats().segments.values())
    assert len(shop.opened["same"].embedded) == report.segments


def gone(path: Path) -> None:
    path.unlink()


def changed(path: Path) -> None:
    Image.new("RGB", (64, 48), (240, 220, 40)).save(path)


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (gone, "the file is missing"),
        (changed, "has changed since it was indexed"),
        (damaged, "\\w"),
        (a_folder, "\\w"),
    ],
)
def test_unreadable_file_blocks_the_switch(library, shop, media, harm, reason):
    import re

    kept = (media / "red.png").read_bytes()
    harm(media / "red.png")
    report = library.reembed("same")
    assert [failure.path for failure in report.failures] == [media / "red.png"]
    assert re.search(reason, report.failures[0].reason)
    assert not report.switched
    assert library.model == "toy"
    assert is_whole(library)
    if (media / "red.png").is_dir():
        (media / "red.png").rmdir()
    (media / "red.png").write_bytes(kept)
    again = library.reembed("same")
    assert (again.switched, again.segments - again.reused) == (True, 1)
    assert is_whole(library)


def test_left_out_files_can_be_retried(library, media):
    kept = (media / "red.png").read_bytes()
    (media / "red.png").unlink()
    (segment,) = library.catalog.segments(library.catalog.items(name="red")[0].id)
    thumbnail = library.thumbnail(segment.id)
    report = library.reembed("same", leave_out=True)
    assert report.switched
    assert [failure.path.name for failure in report.failures] == ["red.png"]
    (item,) = library.catalog.items(status=Status.FAILED)
    assert (item.path, item.error) == (media / "red.png", report.failures[0].reason)
    assert not thumbnail.exists()
    assert "red.png" not in found(library)
    assert is_whole(library)
    (media / "red.png").write_bytes(kept)
    from indexer import IngestOptions

    assert library.ingest([], IngestOptions(retry_failed=True)).added == 1
    assert "red.png" in found(library)
    assert is_whole(library)


def test_file_cut_differently_fails(library, media):
    def cut_more(path, kind, limits):
        yield from cut(path, kind, limits)
        if Path(path).name == "red.png":
            yield from cut(path, kind, limits)

    pool, library.decoders = library.decoders, InProcess(cut_more)
    report = library.reembed("same")
    assert [failure.path.name for failure in report.failures] == ["red.png"]
    assert "cut into other segments" in report.failures[0].reason
    assert library.plan_reembed("same").segments == {Kind.IMAGE: 1}
    library.decoders = pool
    assert library.reembed("same").switched


LONG = 24


@pytest.fixture
def long(tmp_path: Path, shop: Shop) -> Iterator[Library]:
    """A library of one file with many pages, which are cut slowly."""

    def cut(path, kind, limits):
        for number in range(1, LONG + 1):
            shop.at(number)
            time.sleep(0.02)
            picture = Image.new("RGB", (32, 32), (number, 2 * number, 0))
            page = number + shop.shift
            if number <= shop.pages:
                yield Draft(Content(frames=[picture], modality="page"), page=page)

    shop.shift, shop.pages, shop.at = 0, LONG, lambda number: None
    Image.new("RGB", (8, 8)).save(tmp_path / "long.png")
    with Library.open(tmp_path / "long", model="toy", decoders=InProcess(cut)) as library:
        assert library.ingest([tmp_path / "long.png"]).segments == LONG
        yield library


def test_reembed_stores_no_part_of_a_file(long, shop):
    assert cancelled_after(long, shop, LONG // 2).segments == 0
    assert long._staged.count() == 0
    report = long.reembed("same")
    assert (report.switched, report.reused) == (True, 0)
    assert len(shop.opened["same"].embedded) == LONG
    assert is_whole(long)


@pytest.mark.parametrize(("shift", "pages"), [(1, LONG), (0, LONG - 1)])
def test_changed_pages_fail(long, shop, shift, pages):
    shop.shift, shop.pages = shift, pages
    report = long.reembed("same")
    assert "cut into other segments" in report.failures[0].reason
    assert (report.switched, report.segments) == (False, 0)
    assert long._staged.missing() == {Kind.IMAGE: LONG}


def test_reembed_stores_nothing_read_after_a_change(long, shop, tmp_path):
    """The run is cancelled before the file has been read to its end."""
    cancel = threading.Event()

    def at(number: int) -> None:
        if number == LONG // 3:
            (tmp_path / "long.png").write_bytes(b"something else")
        if number == LONG - 2:
            cancel.set()

    shop.at = at
    assert not long.reembed("same", cancel=cancel).switched
    assert long._staged.count() == 0


def test_file_that_changes_while_read_gives_no_vector(library, media):
    def cut_and_change(path, kind, limits):
        yield from cut(path, kind, limits)
        if Path(path).name == "red.png":
            Path(path).write_bytes(b"something else")

    library.decoders = InProcess(cut_and_change)
    report = library.reembed("same")
    assert [failure.path.name for failure in report.failures] == ["red.png"]
    assert library._staged.missing() == {Kind.IMAGE: 1}


def test_reembed_names_a_file_that_fails(library, monkeypatch):
    class Picky(Other):
        def embed(self, contents, role):
            for position, content in enumerate(contents):
                if content.text and "number 3" in content.text:
                    raise EmbedError(position, "it is too odd")
            return super().embed(contents, role)

    monkeypatch.setattr("indexer.library.open_embedder", lambda spec, **_: Picky(spec, "picky"))
    report = library.reembed("same")
    assert [failure.path.name for failure in report.failures] == ["3.txt"]
    assert report.failures[0].reason == "it cannot be embedded: it is too odd"
    assert not report.switched


def test_failing_model_changes_nothing(library, shop):
    def before(content: Content) -> None:
        raise EmbedderError("out of memory")

    before_that = segments(library)
    shop.before = before
    with pytest.raises(EmbedderError, match="out of memory"):
        library.reembed("same")
    assert library.model == "toy"
    assert segments(library) == before_that
    assert is_whole(library)


def test_reembed_reports_progress(library, shop):
    stopped = cancelled_after(library, shop, 3)
    reports = []
    library.reembed("same", on_progress=reports.append)
    total = len(segments(library))
    assert {one.total for one in reports} == {total}
    assert [one.stage for one in reports][-1] == "switch"
    assert reports[-1].done == total
    assert all(one.done >= one.reused == stopped.segments for one in reports)
    assert reports[-1].rate == (total - stopped.segments) / reports[-1].seconds
