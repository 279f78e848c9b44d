"""A library as its callers see it: opening, models, several processes, vectors that follow."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from decoders import InProcess
from PIL import Image

import indexer
from embedder import Content
from embedder.media.kinds import Kind
from embedder.toy import ToyEmbedder
from indexer import Library, LibraryError, ModelMismatch, NotFound, Status, default_library
from indexer.config import typed_path


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(f"text number {number} about red things")
    Image.new("RGB", (64, 64), (220, 30, 30)).save(folder / "red.png")
    return folder


@pytest.fixture
def library(tmp_path: Path, media: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([media])
        yield library


def found(library: Library) -> list[int]:
    """Every text that a search finds."""
    vector = library.embedder.embed([Content(text="red")], "query")[0]
    return sorted(library.vectors.search(vector, 99, Kind.TEXT)[1].tolist())


def reopened(library: Library) -> Library:
    library.close()
    return Library.open(library.directory)


def test_every_public_name_can_be_had_and_importing_loads_nothing_heavy():
    for name in indexer.__all__:
        assert getattr(indexer, name).__name__ == name
    code = (
        "import sys, indexer; from indexer.ingest.__main__ import parser; parser()\n"
        "print([m for m in ('faiss', 'sqlalchemy', 'torch', 'gradio', 'onnxruntime', 'cv2', 'av')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_library_that_does_not_exist_is_not_made_by_reading(tmp_path):
    with pytest.raises(LibraryError, match=r"there is no library in .*indexer\.ingest"):
        Library.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


def test_without_a_folder_the_default_library_is_opened(monkeypatch, tmp_path):
    monkeypatch.setenv("RZEN_LIBRARY", str(tmp_path / "mine"))
    with Library.open(model="toy") as library:
        assert library.directory == tmp_path / "mine" == default_library()
    monkeypatch.delenv("RZEN_LIBRARY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if sys.platform == "linux":
        assert default_library() == tmp_path / "data" / "rzen-search" / "library"


def test_a_folder_that_cannot_hold_a_library_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(LibraryError, match="cannot create"):
        Library.open(tmp_path / "file" / "library")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "library.sqlite3").write_text("not a database at all, but text" * 99)
    with pytest.raises(LibraryError, match="is not the database of a library"):
        Library.open(tmp_path / "other")


@pytest.mark.parametrize(
    "command",
    [
        *("ingest .", "ingest --dry-run .", "search words", "reembed --model toy"),
        *("admin check", "admin backup nowhere", "admin restore nowhere"),
    ],
)
def test_unreadable_folder_is_reported_by_every_command(tmp_path, command, capsys, monkeypatch):
    # Too long for a name, which holds for the superuser too; missing permissions end there as well.
    folder = tmp_path / ("a" * 300) / "library"
    program, *arguments = command.split()
    name = (
        f"indexer.{program}.__main__" if program in ("ingest", "search") else f"indexer.{program}"
    )
    module = import_module(name)
    for effect in ("lower_priority", "stop_on_signals"):  # what lasts beyond the command
        monkeypatch.setattr(module, effect, lambda *_: None, raising=False)
    assert module.main([*arguments, "--library", str(folder)]) == 2
    assert f"{folder} cannot be looked into (File name too long)" in capsys.readouterr().err


def test_a_home_of_nobody_is_a_folder_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LibraryError, match="there is no library in "):
        Library.open(Path("~no-such-user/library"), create=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert typed_path("~/library") == tmp_path / "library"


def test_a_library_remembers_its_model_and_refuses_another(library):
    with reopened(library) as again:
        assert again.model == again.embedder.info.name == "toy"
    with pytest.raises(ModelMismatch, match="has the model toy, not mini: use --model toy"):
        Library.open(library.directory, model="mini")


def test_another_version_of_the_model_is_refused(library):
    class Newer(ToyEmbedder):
        def __init__(self) -> None:
            super().__init__()
            self.info = replace(self.info, revision="2")

    with pytest.raises(ModelMismatch, match="another version of the model toy"):
        Library.open(library.directory, embedder=Newer())


def test_a_library_that_holds_nothing_takes_any_model(library):
    library.remove([item.id for item in library.catalog.items()])
    library.close()
    with Library.open(library.directory, model="mini") as emptied:
        assert emptied.model == "mini"


def test_a_given_embedder_stays_open(tmp_path, media):
    with ToyEmbedder() as toy:
        with Library.open(tmp_path / "library", embedder=toy) as library:
            library.ingest([media])
        assert toy.embed([Content(text="still open")], "query").shape == (1, toy.info.dim)


@pytest.mark.parametrize(
    ("version", "advice"), [(0, r"older version.*index\b.*indexer\.ingest"), (999, "newer.*update")]
)
def test_a_library_with_other_tables_is_refused_and_left_alone(library, version, advice):
    library.close()
    path = library.directory / "library.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(LibraryError, match=advice):
        Library.open(library.directory)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda vectors: None,
        shutil.rmtree,
        lambda vectors: next(vectors.glob("text-*")).write_bytes(b"short"),
        lambda vectors: (vectors / "state.json").unlink(),
    ],
)
def test_vectors_on_disk_may_be_as_they_are_missing_or_damaged(library, damage):
    expected = found(library)
    assert len(expected) == 12
    library.close()
    damage(library.directory / "vectors")
    with Library.open(library.directory) as again:
        assert found(again) == expected


def test_older_vectors_are_caught_up_with_what_came_and_went(library, media, tmp_path):
    found(library)
    shutil.copytree(library.directory / "vectors", tmp_path / "old")
    (media / "00.txt").unlink()
    (media / "new.txt").write_text("a new red text")
    library.ingest([media])
    expected = found(library)
    library.close()
    shutil.rmtree(library.directory / "vectors")
    shutil.copytree(tmp_path / "old", library.directory / "vectors")
    with Library.open(library.directory) as again:
        assert found(again) == expected
        assert len(again.vectors) == again.catalog.stats().segments[Kind.TEXT] + 1


def test_vectors_newer_than_the_database_are_made_anew(library, media, tmp_path):
    found(library)
    before = found(library)
    library.close()
    shutil.copy(library.directory / "library.sqlite3", tmp_path / "backup")
    with Library.open(library.directory) as later:
        (media / "new.txt").write_text("a new red text")
        later.ingest([media])
        assert len(found(later)) == 13
    for name in ("library.sqlite3-wal", "library.sqlite3-shm"):
        (library.directory / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup", library.directory / "library.sqlite3")
    with Library.open(library.directory) as again:
        assert found(again) == before


def test_the_commits_of_another_process_are_seen_by_the_next_search(library, media):
    assert len(found(library)) == 12
    (media / "new.txt").write_text("a new red text")
    (media / "00.txt").unlink()
    command = [sys.executable, "-m", "indexer.ingest", str(media)]
    subprocess.run([*command, "--library", str(library.directory)], check=True)
    after = found(library)
    assert len(after) == 12
    assert max(after) > 13


def test_removing_forgets_a_file_and_deletes_only_uploads(library, media):
    library.uploads.mkdir()
    upload = library.uploads / "mine.txt"
    upload.write_text("an uploaded red text")
    library.ingest([library.uploads])
    ids = {item.name: item.id for item in library.catalog.items()}
    assert library.remove([ids["mine.txt"], ids["00.txt"], 9_999]) == 2
    assert not upload.exists()
    assert (media / "00.txt").exists()
    assert len(found(library)) == 11
    with pytest.raises(NotFound):
        library.catalog.item(ids["00.txt"])


def test_removing_uploads_deletes_the_folders_they_leave_empty(library):
    for name in ("a/b/c/1.txt", "a/2.txt", "3.txt"):
        path = library.uploads / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"an uploaded text, {name}")
    library.ingest([library.uploads])
    ids = {item.name: item.id for item in library.catalog.items()}
    library.remove([ids["1.txt"]])
    kept = {library.uploads / name for name in ("a", "a/2.txt", "3.txt")}
    assert set(library.uploads.rglob("*")) == kept
    library.remove([ids["2.txt"], ids["3.txt"]])
    assert not list(library.uploads.iterdir())


def test_ids_are_never_used_again(library, media):
    highest = max(found(library))
    library.remove([item.id for item in library.catalog.items()])
    library.ingest([media])
    assert min(found(library)) > highest


def test_unknown_ids_are_not_found(library):
    for ask in (
        library.catalog.item,
        library.catalog.segment,
        library.catalog.item_of,
        library.catalog.segments,
    ):
        with pytest.raises(NotFound, match="has no"):
            ask(9_999)
    assert library.catalog.words(9_999) == ()


def test_files_are_listed_by_state_kind_and_name_in_pages(library, media):
    (media / "IMG_2041.txt").write_text("named by a camera")
    (media / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    library.ingest([media])
    assert [item.name for item in library.catalog.items(kind=Kind.IMAGE)] == ["bad.png", "red.png"]
    assert [item.name for item in library.catalog.items(status=Status.FAILED)] == ["bad.png"]
    assert [item.name for item in library.catalog.items(name="img_20")] == ["IMG_2041.txt"]
    assert library.catalog.items(name="%") == []
    assert [item.name for item in library.catalog.items(limit=2, offset=1)] == ["01.txt", "02.txt"]


def test_words_of_a_page_come_back_with_their_places(tmp_path):
    from embedder.media import Draft
    from embedder.media.kinds import Word

    words = (Word("héllo", 0.1, 0.2, 0.3, 0.4), Word('"', 0, 0, 1, 1))

    def cut(path, kind, limits):
        yield Draft(Content(text='héllo "'), page=1, words=words)

    (tmp_path / "a.txt").write_text("x")
    with Library.open(tmp_path / "library", model="toy", decoders=InProcess(cut)) as library:
        library.ingest([tmp_path / "a.txt"])
        assert library.catalog.words(1) == words
        assert library.catalog.segment(1).page == 1


def test_pictures_that_look_the_same_are_told_from_exact_copies(tmp_path):
    rng = np.random.default_rng(1)
    folder = tmp_path / "media"
    folder.mkdir()
    for number in range(3):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        photo = coarse.resize((480, 360), Image.Resampling.BICUBIC)
        photo.save(folder / f"{number}.png")
        if number == 0:
            photo.resize((240, 180)).save(folder / "small.jpg", quality=80)
    (folder / "copy.png").write_bytes((folder / "1.png").read_bytes())
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 60, 220))):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    with Library.open(tmp_path / "library", model="toy") as library:
        assert library.ingest([folder]).near_duplicates == 1
        assert library.ingest([folder]).near_duplicates == 1
        duplicates = library.catalog.duplicates()
    assert [{item.name for item in group} for group in duplicates.near] == [{"0.png", "small.jpg"}]
    assert [{item.name for item in group} for group in duplicates.exact] == [{"1.png", "copy.png"}]
