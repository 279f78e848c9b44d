"""Re-embedding: what is computed, what is kept, and how open libraries follow."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoders import InProcess
from maintained_library import copy
from PIL import Image

from embedder import Content, EmbedderError, Modality
from embedder.interface import EmbedError, normalised
from embedder.media import Draft, cut
from embedder.media.kinds import Kind
from embedder.registry import open_embedder
from embedder.toy import ToyEmbedder
from indexer import Library, LibraryBusy, ModelMismatch, Query, QueryPart, Status


class Other(ToyEmbedder):
    """The toy with the dimensions in another order, or fewer of them; counts what it embeds."""

    def __init__(self, name: str, revision: str, dim: int | None = None) -> None:
        super().__init__()
        self.info = replace(self.info, name=name, revision=revision, dim=dim or self.info.dim)
        self.embedded: list[Content] = []
        self.before: Callable[[Content], None] = lambda content: None

    def _embed_batch(self, contents, role):
        for content in contents:
            if role == "document":
                self.before(content)
                self.embedded.append(content)
        return normalised(super()._embed_batch(contents, role)[:, ::-1][:, : self.info.dim])


class Shop:
    """Opens models by name as the registry does; keeps the last of each."""

    def __init__(self) -> None:
        self.opened: dict[str, Other] = {}
        self.instructions: list[Mapping[Modality, str] | None] = []
        self.before: Callable[[Content], None] = lambda content: None

    def __call__(self, spec, *, device=None, dtype=None, instructions=None):
        self.instructions.append(instructions)
        family, _, _ = spec.partition(":")
        if family not in ("same", "small", "version"):
            return open_embedder(spec)
        suffix = "" if not instructions else repr(sorted(instructions.items()))
        one = Other(spec, f"{family}{suffix}", 100 if family == "small" else None)
        one.before = self.before
        self.opened[spec] = one
        return one


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop()
    monkeypatch.setattr("indexer.library.open_embedder", shop)
    return shop


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files in `media` and a library of them, to be copied."""
    base = tmp_path_factory.mktemp("made")
    folder = base / "media"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"text number {number} about red things")
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 60, 220))):
        Image.new("RGB", (64, 48), colour).save(folder / f"{name}.png")
    frames = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(
        folder / "moving.gif", save_all=True, append_images=frames[1:], duration=1500, loop=0
    )
    with Library.open(base / "library", model="toy") as library:
        assert not library.ingest([folder]).failures
    return base


@pytest.fixture
def media(made: Path, tmp_path: Path) -> Path:
    """A copy of the files without their library."""
    return shutil.copytree(made / "media", tmp_path / "media")


@pytest.fixture
def library(made: Path, tmp_path: Path, media: Path, shop: Shop) -> Iterator[Library]:
    with Library.open(copy(tmp_path, made)) as library:
        yield library


def found(library: Library, word: str = "red") -> list[str]:
    hits = library.search(Query((QueryPart(content=Content(text=word)),), limit=50))
    return [hit.item.name for hit in hits]


def segments(library: Library) -> list[object]:
    return [one for item in library.catalog.items() for one in library.catalog.segments(item.id)]


def is_whole(library: Library) -> bool:
    """Whether every vector in use is the model's own, in the tables and in what is searched."""
    every = segments(library)
    embedder, store = library.snapshot()
    vectors = library.catalog.vectors_of([one.id for one in every])
    for one, vector in zip(every, vectors, strict=True):
        score, nearest = store.search(vector, 1, one.kind, ids=np.array([one.id]))
        if nearest.tolist() != [one.id] or abs(score[0] - 1) > 0.01:
            return False
        if one.text and not one.page:
            expected = embedder.embed([Content(text=one.text)], "document")[0]
            if abs(float(expected @ vector) - 1) > 0.01:
                return False
    return len(store) == len({one.id for one in every}) == len(every)


def cancelled_after(library: Library, shop: Shop, count: int, model: str = "same"):
    """Run a re-embedding that is cancelled once `count` contents have been embedded."""
    cancel, seen = threading.Event(), []

    def before(content: Content) -> None:
        seen.append(content)
        if len(seen) == count:
            cancel.set()

    shop.before = before
    report = library.reembed(model, cancel=cancel, workers=1)
    shop.before = lambda content: None
    return report


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
    assert report.segments == library.catalog.stats().segments[Kind.TEXT] + 2 + len(
        library.catalog.segments(library.catalog.items(name="moving")[0].id)
    )
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


def test_open_libraries_follow_a_switch(library, shop, media):
    for model in ("same", "small"):  # Of the same dimension, and of another one.
        with Library.open(library.directory) as other:
            assert "red.png" in found(other)
            old_embedder, old_vectors = other.snapshot()
            library.reembed(model)
            assert other.model == model
            assert "red.png" in found(other)
            assert is_whole(other)
            embedder, vectors = other.snapshot()
            assert embedder.info.name == model
            assert vectors is not old_vectors
            assert vectors.fingerprint == embedder.info.fingerprint
            # A search that began before ends with what it began with.
            query = old_embedder.embed([Content(text="red")], "query")[0]
            assert len(old_vectors.search(query, 3, Kind.TEXT)[1]) == 3


def test_unused_library_follows_a_switch(library, shop):
    with Library.open(library.directory) as other:
        library.reembed("small")
        assert other.embedder.info.name == other.model == "small"


def test_switch_while_a_model_is_opened(library, shop, monkeypatch):
    other = Library.open(library.directory)
    opener = other._model._opener
    opened = []

    def late(spec, instructions):
        embedder = opener(spec, instructions)
        if not opened:
            library.reembed("small")
        opened.append(spec)
        return embedder

    monkeypatch.setattr(other._model, "_opener", late)
    assert other.embedder.info.name == "small"
    assert opened == ["toy", "small"]
    other.close()


def test_snapshot_never_mixes_models(library, shop, monkeypatch):
    other = Library.open(library.directory)
    current, switched = other._index.current, []

    def late():
        if not switched:
            switched.append(library.reembed("same").switched)
        return current()

    monkeypatch.setattr(other._index, "current", late)
    embedder, vectors = other.snapshot()
    assert switched == [True]
    assert vectors.fingerprint == embedder.info.fingerprint
    assert embedder.info.name == "same"
    assert library.catalog.holds_vectors_of(embedder.info)
    other.close()


def test_search_during_reembed(library, shop):
    inside, go_on = threading.Event(), threading.Event()

    def before(content: Content) -> None:
        inside.set()
        assert go_on.wait(20)

    shop.before = before
    reports = []
    thread = threading.Thread(target=lambda: reports.append(library.reembed("small")))
    thread.start()
    try:
        assert inside.wait(20)
        assert "red.png" in found(library)
        assert library.model == "toy"
        with pytest.raises(LibraryBusy):
            library.reembed("small")
        with pytest.raises(LibraryBusy):
            library.discard_pending()
    finally:
        go_on.set()
        thread.join(20)
    assert reports[0].switched
    assert "red.png" in found(library)


class Numbered(ToyEmbedder):
    """Texts and colours by number alone, each model in another order: a mixture finds nothing."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.start = {"first": 0, "second": 31, "third": 77}[name]
        dim = 250 if name == "third" else 200
        self.info = replace(self.info, name=name, revision=name, dim=dim)

    def _embed_batch(self, contents, role):
        rows = np.zeros((len(contents), self.info.dim), dtype=np.float32)
        for row, one in zip(rows, contents, strict=True):
            number = int(one.text.split()[1]) if one.text else one.frames[0].getpixel((0, 0))[0]
            row[(7 * number + self.start) % 200] = 1
        return rows


def test_searches_never_mix_models(tmp_path, monkeypatch):
    monkeypatch.setattr("indexer.library.open_embedder", lambda spec, **_: Numbered(spec))
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"text {number}")
    library = Library.open(tmp_path / "library", model="first")
    library.ingest([tmp_path / f"{number}.txt" for number in range(60)])
    other = Library.open(tmp_path / "library")
    ids = {
        int(item.path.stem): library.catalog.segments(item.id)[0].id
        for item in library.catalog.items()
    }
    wrong, done = [], threading.Event()

    def search(where: Library) -> None:
        number = 0
        while not done.is_set():
            number = (number + 7) % 60
            like = QueryPart(content=Content(frames=[Image.new("RGB", (4, 4), (number, 0, 0))]))
            same = QueryPart(segment_id=ids[number])
            try:
                best = where.search(Query(((like,), (same,), (like, same))[number % 3], limit=1))[0]
                if best.segment.id != ids[number]:
                    wrong.append(number)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=search, args=(one,)) for one in (library, other, other)]
    for thread in threads:
        thread.start()
    try:
        for model in ("second", "third", "first") * 3:
            assert library.reembed(model).switched
    finally:
        done.set()
        for thread in threads:
            thread.join()
        other.close()
        library.close()
    assert wrong == []


def test_given_embedder_is_kept_open(tmp_path, media, shop):
    with ToyEmbedder() as toy:
        with Library.open(tmp_path / "library", embedder=toy) as library:
            library.ingest([media])
            library.reembed("small")
            assert library.embedder.info.name == "small"
            assert is_whole(library)
        assert toy.embed([Content(text="still open")], "query").any()


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


def test_mismatch_names_the_command(library, shop):
    where = library.directory
    with pytest.raises(ModelMismatch) as refusal:
        Library.open(where, model="same")
    assert str(refusal.value) == (
        f"the library in {where} has the model toy, not same: use --model toy, or "
        f"re-embed it with `python -m indexer.reembed --library {where} --model same`"
    )
    assert not shop.opened  # It takes no opening to see that.
    with pytest.raises(ModelMismatch, match="another version of the model toy: re-embed it"):
        Library.open(where, embedder=Other("toy", "2"))


def test_same_model_under_another_name(library, shop):
    library.reembed("version:/old")
    with Library.open(library.directory, model="version:/new") as moved:
        assert moved.model == "version:/new"
        assert is_whole(moved)
    with Library.open(library.directory) as again:
        assert again.model == "version:/new"


def test_instructions_are_stored_with_the_model(library, shop):
    instructions = {Modality.IMAGE: "What is painted here?"}
    library.reembed("version", instructions=instructions)
    assert shop.instructions[-1] == instructions
    with Library.open(library.directory) as again:
        assert again.embedder.info.name == "version"
        assert shop.instructions[-1] == instructions
    with Library.open(library.directory, model="version", instructions=dict(instructions)) as again:
        assert is_whole(again)
    for other, flag in (({Modality.TEXT: "it's"}, "'text=it'\"'\"'s'"), ({}, "default")):
        with pytest.raises(ModelMismatch, match="other instructions") as refusal:
            Library.open(library.directory, instructions=other)
        assert f"--model version --instruction {flag}`" in str(refusal.value)
    kept = library.reembed("version:/new", instructions=None)
    assert not kept.switched  # The same instructions, and so the same vectors.
    assert library.model == library.catalog.model().name == "version:/new"
    assert shop.instructions[-1] == instructions
    assert library.reembed("version:/new", instructions={}).switched
    assert library.catalog.model().instructions is None


def test_device_and_dtype_reach_the_model(tmp_path, monkeypatch):
    calls = []

    def opener(spec, **options):
        calls.append(options)
        return ToyEmbedder()

    monkeypatch.setattr("indexer.library.open_embedder", opener)
    with Library.open(tmp_path / "x", model="toy", device="cuda", dtype="bfloat16") as library:
        assert library.embedder
    assert calls == [{"device": "cuda", "dtype": "bfloat16", "instructions": None}]
