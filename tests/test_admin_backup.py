"""Backups: made while the library is in use, verified, and restored completely or not at all."""

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from maintained_library import copy
from PIL import Image

from embedder import Content
from indexer import Library, LibraryError, Query, QueryPart
from indexer.admin import main
from indexer.errors import LibraryBusy
from indexer.maintenance.backup import back_up, restore, verify
from indexer.maintenance.check import check
from indexer.maintenance.storage import _delete_unfinished, open_storage

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files in `media` and a library of them, to be copied."""
    base = tmp_path_factory.mktemp("made")
    media = base / "media"
    media.mkdir()
    for number in range(5):
        (media / f"{number}.txt").write_text(f"text number{number} about red things")
    for colour in COLOURS:
        Image.new("RGB", (96, 64), colour).save(media / f"{colour}.png")
    with Library.open(base / "library", model="toy") as library:
        library.uploads.mkdir()
        (library.uploads / "mine.txt").write_text("an uploaded text")
        library.ingest([media, library.uploads])
    return base


@pytest.fixture
def where(made: Path, tmp_path: Path) -> Path:
    return copy(tmp_path, made)


def run(command: str, *arguments: object) -> int:
    return main([command, *map(str, arguments)])


def found(where: Path) -> list[str]:
    with Library.open(where, create=False) as library:
        query = Query((QueryPart(Content(text="red text number")),), limit=99)
        return sorted(hit.item.path.name for hit in library.search(query))


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All that is in the tables, output without the code that is tested."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%VIRTUAL%'"
        ).fetchall()
        return {n: sorted(connection.execute(f"SELECT * FROM {n}"), key=repr) for (n,) in names}


def files(folder: Path, *, below: tuple[str, ...] = ("uploads", "thumbnails")) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in below
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def change(where: Path) -> None:
    """Takes something in and something out."""
    media = where.parent / "media"
    (media / "0.txt").unlink()
    (media / "later.txt").write_text("a later text about red")
    with Library.open(where) as library:
        library.ingest([media])


def test_backup_equals_the_library(where, tmp_path, capsys):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    assert "a library of 9 files" in capsys.readouterr().out
    assert rows(tmp_path / "backup/library.sqlite3") == rows(where / "library.sqlite3")
    assert files(tmp_path / "backup") == files(where)
    assert len(files(where)) == 4
    lines = (tmp_path / "backup/files.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert {one["path"]: one["sha256"] for one in listed} == files(where)
    assert not (tmp_path / "backup.partial").exists()
    assert run("restore", tmp_path / "backup", "--dry-run") == 0


def test_corrupt_library_is_not_backed_up(where, tmp_path, capsys):
    path = where / "library.sqlite3"
    data = bytearray(path.read_bytes())
    data[8192:12288] = bytes(4096)
    path.write_bytes(data)
    assert run("backup", tmp_path / "backup", "--library", where) == 2
    assert "the copy of the library's database is damaged" in capsys.readouterr().err
    assert not list(tmp_path.glob("backup*"))


def test_restored_library_equals_the_original(where, tmp_path, capsys):
    expected = found(where)
    before = rows(where / "library.sqlite3")
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    change(where)
    assert found(where) != expected
    assert run("restore", tmp_path / "backup", "--library", where, "--replace", "--json") == 0
    report = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert found(where) == expected
    after = rows(where / "library.sqlite3")
    assert after.pop("library")[0][1] != before.pop("library")[0][1]
    assert after == before
    kept = Path(report["kept"])
    assert kept.parent == where.parent
    assert "later.txt" in found(kept)
    assert run("check", "--library", where) == 0


def test_library_is_restored_elsewhere_with_its_uploads(where, tmp_path):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    shutil.rmtree(where)
    other = tmp_path / "new" / "place"
    assert run("restore", tmp_path / "backup", "--library", other) == 0
    assert len(found(other)) == 9
    with Library.open(other) as library:
        (mine,) = library.catalog.items(name="mine")
        assert mine.path == other / "uploads/mine.txt"
        assert library.ingest([library.uploads]).unchanged == 1
    assert run("check", "--library", other, "--files") == 0


def test_restored_library_ignores_the_replaced_index(where, tmp_path):
    """Both come to the same generation with other segments under the same numbers."""
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    change(where)
    with Library.open(where) as library:
        generation = library.catalog.generation()
    assert run("restore", tmp_path / "backup", "--library", where, "--replace") == 0
    (kept,) = tmp_path.glob("library.before-*")
    (tmp_path / "media/0.txt").unlink(missing_ok=True)
    (tmp_path / "media/later.txt").write_text("another green text")
    with Library.open(where) as library:
        library.ingest([tmp_path / "media"])
        assert library.catalog.generation() == generation
    shutil.rmtree(where / "vectors")
    shutil.copytree(kept / "vectors", where / "vectors")
    with Library.open(where) as library:
        vector = library.embedder.embed([Content(text="another green text")], "query")[0]
        (item,) = library.catalog.items(name="later")
        (segment,) = library.catalog.segments(item.id)
        scores, ids = library.vectors.search(vector, 1, segment.kind)
        assert (ids[0], scores[0] > 0.99) == (segment.id, True)


def test_backup_during_an_ingest_is_consistent(where, tmp_path, monkeypatch):
    """Files come and go all the while; whatever is in the backup is whole."""
    monkeypatch.setattr("indexer.ingest.pipeline.Pipeline.commit_seconds", 0.0)
    monkeypatch.setattr("indexer.catalog.sqlite._PAGES_PER_STEP", 2)
    media, stop, problems = where.parent / "media", threading.Event(), []

    def work() -> None:
        number = 100
        with Library.open(where) as library:
            while not stop.is_set():
                number += 1
                (media / f"{number}.txt").write_text(f"text number{number}")
                Image.new("RGB", (64, number), (number % 256, 9, 9)).save(media / f"{number}.png")
                (library.uploads / f"{number}.txt").write_text(f"upload number{number}")
                for old in (media / f"{number - 2}.txt", media / f"{number - 1}.png"):
                    old.unlink(missing_ok=True)
                library.ingest([media, library.uploads])
                gone = [one.id for one in library.catalog.items(name=f"{number - 1}.txt")]
                library.remove(gone)
                try:
                    found(where)
                except Exception as error:
                    problems.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with open_storage(where, read_only=True) as place:
            for number in range(3):
                target = tmp_path / f"backup{number}"
                assert back_up(place, target).missing == ()
                verify(target)
    finally:
        stop.set()
        worker.join()
    assert problems == []
    for number in range(3):
        restore(tmp_path / f"backup{number}", tmp_path / f"restored{number}")
        with open_storage(tmp_path / f"restored{number}") as place:
            assert check(place).faults == ()


def test_existing_folders_are_never_overwritten(where, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert run("backup", tmp_path / "mine", "--library", where) == 2
    assert "already exists" in capsys.readouterr().err
    assert run("backup", where / "uploads" / "backup", "--library", where) == 2
    assert "inside the library" in capsys.readouterr().err
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    before = rows(where / "library.sqlite3")
    assert run("restore", tmp_path / "backup", "--library", where) == 2
    assert "with --replace it is kept" in capsys.readouterr().err
    (tmp_path / "mine/photo.jpg").write_text("mine")
    assert run("restore", tmp_path / "backup", "--library", tmp_path / "mine", "--replace") == 2
    assert "is no library and not empty" in capsys.readouterr().err
    assert (tmp_path / "mine/photo.jpg").exists()
    assert rows(where / "library.sqlite3") == before
    (tmp_path / "backup2.partial").mkdir()
    (tmp_path / "backup2.partial/photo.jpg").write_text("mine")
    assert run("backup", tmp_path / "backup2", "--library", where) == 2
    assert "is in the way" in capsys.readouterr().err
    assert (tmp_path / "backup2.partial/photo.jpg").exists()


DAMAGE = {
    "a row": lambda backup: _sql(backup, "UPDATE items SET error = 'x' WHERE id = 1"),
    "a vector": lambda backup: _sql(
        backup, "UPDATE vectors SET data = zeroblob(240) WHERE segment_id = 1"
    ),
    "a table": lambda backup: _sql(backup, "DELETE FROM words", "DELETE FROM removals"),
    "a file": lambda backup: (backup / "uploads/mine.txt").write_text("an uploaded tExt"),
    "a file that is gone": lambda backup: (backup / "uploads/mine.txt").unlink(),
    "the list": lambda backup: (backup / "files.jsonl").write_text(""),
    "the database": lambda backup: (backup / "library.sqlite3").write_bytes(b"SQLite" * 99),
    "no manifest": lambda backup: (backup / "backup.json").unlink(),
    "a newer one": lambda backup: (backup / "backup.json").write_text('{"format": 99}'),
}


def _sql(backup: Path, *statements: str) -> None:
    with closing(sqlite3.connect(backup / "library.sqlite3")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO removals VALUES (777, 'text', 1)")
        connection.commit()


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_backup_is_refused(where, tmp_path, damage, capsys):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    DAMAGE[damage](tmp_path / "backup")
    before = rows(where / "library.sqlite3")
    assert run("restore", tmp_path / "backup", "--dry-run") == 2
    assert run("restore", tmp_path / "backup", "--library", where, "--replace") == 2
    assert str(tmp_path / "backup") in capsys.readouterr().err
    assert rows(where / "library.sqlite3") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "library", "media"]


def listing(backup: Path, **changed: object) -> None:
    """Changes the first file of a backup's list, and all sums with it, as a stranger can."""
    first, *others = (backup / "files.jsonl").read_text().splitlines()
    lines = [json.dumps(json.loads(first) | changed), *others]
    (backup / "files.jsonl").write_text("".join(f"{line}\n" for line in lines))
    manifest = json.loads((backup / "backup.json").read_text())
    manifest["list"] = hashlib.sha256((backup / "files.jsonl").read_bytes()).hexdigest()
    (backup / "backup.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    ["../outside.txt", "uploads/../../outside.txt", "{}/outside.txt", "uploads", "library.sqlite3"],
)
def test_backup_with_foreign_paths_is_refused(where, tmp_path, name, capsys):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    (tmp_path / "outside.txt").write_text("mine")
    sum_of_it = hashlib.sha256(b"mine").hexdigest()
    listing(tmp_path / "backup", path=name.format(tmp_path), bytes=4, sha256=sum_of_it)
    (tmp_path / "deep").mkdir()
    assert run("restore", tmp_path / "backup", "--library", tmp_path / "deep/library") == 2
    assert "which is no file of a library" in capsys.readouterr().err
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.parametrize(
    "stated",
    ["[]", "{}", '{"format": Infinity}', '{"format": "1"}', '{"format": 1}', "[" * 100_000],
)
def test_incomplete_manifest_is_refused(where, tmp_path, stated, capsys):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    (tmp_path / "backup/backup.json").write_text(stated)
    assert run("restore", tmp_path / "backup", "--dry-run") == 2
    assert "is not a complete backup" in capsys.readouterr().err


def test_open_library_is_not_replaced(where, tmp_path, capsys):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    code = (
        "import sys, pathlib; from indexer import Library\n"
        "with Library.open(pathlib.Path(sys.argv[1])) as library:\n"
        "    print(library.catalog.stats().bytes, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as page:
        assert page.stdout is not None
        page.stdout.readline()
        assert run("restore", tmp_path / "backup", "--library", where, "--replace") == 2
        assert "has the library" in capsys.readouterr().err
        assert len(found(where)) == 9
        page.communicate(b"")
    assert run("restore", tmp_path / "backup", "--library", where, "--replace") == 0
    assert sorted(path.name for path in tmp_path.iterdir() if "." not in path.name) == [
        "backup",
        "library",
        "media",
    ]


def test_failed_restore_leaves_the_library_in_place(where, tmp_path, monkeypatch):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".restoring"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(LibraryError, match="cannot be written: Input/output error"):
        restore(tmp_path / "backup", where, replace=True)
    monkeypatch.undo()
    assert len(found(where)) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "library", "media"]


def test_killed_cleanup_can_be_repeated(tmp_path, monkeypatch):
    partial = tmp_path / "backup.partial"
    (partial / "uploads").mkdir(parents=True)
    names = ("unfinished", "library.sqlite3", "files.jsonl", "uploads/mine.txt")
    for name in names:
        (partial / name).touch()
    unlink, left = Path.unlink, list[bool]()

    def watched(self: Path, missing_ok: bool = False) -> None:
        left.append((partial / "unfinished").exists())
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    _delete_unfinished(partial)
    assert left == [True, True]
    assert not partial.exists()


@pytest.mark.parametrize("moment", ["at once", "in the middle", "before the last step"])
def test_killed_backup_blocks_no_other(where, tmp_path, moment, monkeypatch):
    partial = tmp_path / "backup.partial"
    if moment == "before the last step":
        monkeypatch.setattr("indexer.maintenance.storage._delete_unfinished", lambda _partial: None)
        monkeypatch.setattr(Path, "rename", lambda *_given: (_ for _ in ()).throw(OSError(5, "x")))
        assert run("backup", tmp_path / "backup", "--library", where) == 2
        monkeypatch.undo()
        assert (partial / "backup.json").exists()
    else:
        partial.mkdir()
        if moment == "in the middle":
            (partial / "unfinished").touch()
            (partial / "half").write_text("half")
        assert run("restore", partial, "--dry-run") == 2
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    assert files(tmp_path / "backup") == files(where)
    assert not (tmp_path / "backup/unfinished").exists()
    assert not partial.exists()


def test_library_being_written_to_is_not_replaced(where, tmp_path):
    assert run("backup", tmp_path / "backup", "--library", where) == 0
    with open_storage(where) as place, place.writer.held(), pytest.raises(LibraryBusy):
        restore(tmp_path / "backup", where, replace=True)
    assert len(found(where)) == 9
