"""The vector store of a library as it grows: built in the background, saved, closed."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from maintained_library import copy
from PIL import Image

from embedder import Content
from embedder.media.kinds import Kind
from indexer import Library, admin
from indexer.catalog.sqlite import WriterLock
from indexer.maintenance.check import Fault, check
from indexer.maintenance.storage import open_storage
from indexer.vectors import Description, build, faiss_index, partition, storage
from indexer.vectors.build import Stopped
from indexer.vectors.faiss_index import FaissIndex
from indexer.vectors.partition import IndexPolicy
from indexer.vectors.storage import state_of

COUNT = 400
SMALL = IndexPolicy(
    exact_components=1_000, recall=0.9, speed=1e9, questions=16, rounds=2, gathered=20
)


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Inverted lists from a few vectors on."""
    monkeypatch.setattr(faiss_index, "IndexPolicy", lambda: SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts in `media` and a library of them, to be copied."""
    base = tmp_path_factory.mktemp("made")
    (base / "media").mkdir()
    for number in range(COUNT):
        text = f"text number {number} about {number % 7} things"
        (base / "media" / f"{number:03}.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_index, "IndexPolicy", lambda: SMALL)
        with Library.open(base / "library", model="toy") as library:
            library.ingest([base / "media"])
            assert index_of(library) == "inverted"
    return base


@pytest.fixture
def media(made: Path, tmp_path: Path) -> Path:
    """A copy of the files without their library."""
    return shutil.copytree(made / "media", tmp_path / "media")


@pytest.fixture
def library(made: Path, tmp_path: Path) -> Iterator[Library]:
    """A copy of the library; its files are in the folder `media` beside it."""
    with Library.open(copy(tmp_path, made)) as library:
        yield library


def index_of(library: Library) -> str:
    return library.vectors.describe()[Kind.TEXT].index


def found(library: Library) -> list[int]:
    vector = library.embedder.embed([Content(text="things")], "query")[0]
    return sorted(library.vectors.search(vector, 2 * COUNT, Kind.TEXT)[1].tolist())


def test_an_ingest_leaves_the_index_that_the_size_makes_due(library):
    with Library.open(library.directory) as again:
        assert index_of(again) == "inverted"
        assert not again.vectors._worker.busy
        assert len(found(again)) == COUNT


def test_what_comes_and_goes_afterwards_is_followed(library):
    media = library.directory.parent / "media"
    (media / "000.txt").unlink()
    (media / "new.txt").write_text("new things")
    library.ingest([media])
    after = found(library)
    assert (len(after), index_of(library)) == (COUNT, "inverted")
    library.close()
    with Library.open(library.directory) as again:
        assert found(again) == after


def test_the_index_is_filled_again_when_most_of_it_is_removed_vectors(library, monkeypatch):
    media = library.directory.parent / "media"
    monkeypatch.setattr(partition, "_MIN_GAPS", 10)
    library.ingest([media])  # A copied folder could be another disk's until its files are found.
    for number in range(COUNT // 2):
        (media / f"{number:03}.txt").unlink()
    library.ingest([media])
    after = found(library)
    assert (len(after), index_of(library)) == (COUNT // 2, "inverted")
    rows = next(library.directory.glob("vectors/*.rows"))
    assert rows.stat().st_size == COUNT // 2 * 2 * library.vectors.dim
    library.close()
    with Library.open(library.directory) as again:
        assert found(again) == after


def test_an_ingest_that_is_told_to_stop_does_not_wait_for_an_index(tmp_path, media, monkeypatch):
    cancel, started = threading.Event(), threading.Event()

    def endless(view, policy, stopped):
        started.set()
        cancel.set()
        while not stopped():
            threading.Event().wait(0.01)
        raise Stopped

    monkeypatch.setattr(build, "build", endless)
    with Library.open(tmp_path / "library", model="toy") as library:
        assert library.ingest([media], cancel=cancel).added == COUNT
        assert started.is_set()
        assert index_of(library) == "exact"
        assert len(found(library)) == COUNT
    monkeypatch.undo()
    with Library.open(library.directory) as again:
        assert len(found(again)) == COUNT


def test_a_search_does_not_wait_while_the_vectors_are_saved(library, monkeypatch):
    saving, go = threading.Event(), threading.Event()
    save = FaissIndex.save

    def slow(*arguments):
        saving.set()
        assert go.wait(60)
        save(*arguments)

    before = found(library)
    library._index._on_disk = -1
    monkeypatch.setattr(FaissIndex, "save", slow)
    saver = threading.Thread(target=library._index.save)
    saver.start()
    assert saving.wait(60)
    assert found(library) == before
    go.set()
    saver.join()


SEARCHING = """
import sys
from indexer import Library
from indexer.vectors import faiss_index

policy = faiss_index.IndexPolicy(
    exact_components=1_000, recall=0.9, speed=1e9, questions=16, rounds=2, gathered=20
)
faiss_index.IndexPolicy = lambda: policy
with Library.open(sys.argv[1]) as library:
    library.vectors.settle()
    print(*(said.index for said in library.vectors.describe().values()))
"""


def test_a_process_that_only_searches_saves_what_it_has_built_unless_somebody_is_writing(
    tmp_path, media, monkeypatch
):
    monkeypatch.setattr(faiss_index, "IndexPolicy", IndexPolicy)
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([media])

    def search() -> None:
        command = [sys.executable, "-c", SEARCHING, str(tmp_path / "library")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["inverted"]

    def saved() -> str:
        return state_of(tmp_path / "library" / "vectors")["partitions"]["text"]["description"][
            "index"
        ]

    with WriterLock(tmp_path / "library" / "writer.lock").held():
        search()
    assert saved() == "exact"
    search()
    assert saved() == "inverted"
    monkeypatch.setattr(build, "build", pytest.fail)
    with Library.open(tmp_path / "library") as again:
        assert index_of(again) == "inverted"
        assert again.vectors.settle()
        assert len(found(again)) == COUNT


def test_closing_waits_for_a_save_in_the_background_and_does_not_stand_in_its_way(
    library, monkeypatch
):
    saving, go = threading.Event(), threading.Event()
    save = FaissIndex.save

    def slow(*arguments):
        saving.set()
        assert go.wait(60)
        save(*arguments)

    library.close()
    shutil.rmtree(library.directory / "vectors")
    monkeypatch.setattr(FaissIndex, "save", slow)
    with Library.open(library.directory) as again:
        assert len(found(again)) == COUNT
        assert saving.wait(60)
        closer = threading.Thread(target=again.close)
        closer.start()
        assert len(found(again)) == COUNT
        go.set()
        closer.join(60)
        assert not closer.is_alive()
    state = state_of(library.directory / "vectors")
    assert state["partitions"]["text"]["description"]["index"] == "inverted"


def test_statistics_say_how_thoroughly_each_kind_is_searched(library, capsys):
    media = library.directory.parent / "media"
    Image.new("RGB", (64, 64), "teal").save(media / "teal.png")
    library.ingest([media])
    library.close()
    assert admin.main(["stats", "--library", str(library.directory)]) == 0
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["image:"] == "search      image: exact, 1 vectors"
    assert re.fullmatch(
        r"search      text: [\d]+ of 50 lists of 400 vectors, [\d]+ compared exactly; "
        r"recall@10 (9\d\.\d|100\.0) % when it was built",
        lines["text:"],
    )
    assert admin.main(["stats", "--json", "--library", str(library.directory)]) == 0
    searching = json.loads(capsys.readouterr().out)["searching"]
    with Library.open(library.directory) as again:
        for kind, described in again.vectors.describe().items():
            said = Description.of(searching[kind])
            assert replace(said, memory=described.memory) == described


def test_a_check_reads_what_opening_does_not(library, monkeypatch):
    monkeypatch.setattr(storage, "_PROBES", 2)  # The files of this test are small.
    library.close()
    shutil.rmtree(library.directory / "vectors")
    with open_storage(library.directory) as place, place.index() as index:
        index.settle()
        index.save()
    path = next(library.directory.glob("vectors/*.rows"))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with Library.open(library.directory) as again:
        assert len(found(again)) >= COUNT - 1
    with open_storage(library.directory, read_only=True) as place:
        (fault,) = check(place).faults
    assert (fault.fault, fault.examples) == (Fault.INDEX, (path.name,))
