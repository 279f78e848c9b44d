"""Re-embedding: how libraries that are open follow a change of the model."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from maintained_library import copy
from PIL import Image
from reembedding import Other, Shop, found, is_whole, make_library

from embedder import Content, Modality
from embedder.media.kinds import Kind
from embedder.toy import ToyEmbedder
from indexer import Library, LibraryBusy, ModelMismatch, Query, QueryPart


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
