"""What happens when a disk is full or read-only, the database locked, or a run interrupted.

Vector files that are missing, truncated or of another generation are in
`tests/test_indexer_library.py`, concurrent and killed ingests in `tests/test_ingest_cli.py`, files
that change while they are read in `tests/test_ingest.py` and `tests/test_reembed.py`.
"""

import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import programs
import pytest
from decoders import InProcess
from maintained_library import copy
from PIL import Image

from embedder import Content
from embedder.media import Draft, Kind, Limits
from indexer import Library, LibraryBusy, LibraryError, Query, QueryPart, Status
from indexer.admin import main
from indexer.catalog.writer import CatalogWriter
from indexer.maintenance.check import check
from indexer.maintenance.compact import compact
from indexer.maintenance.storage import open_storage
from indexer.vectors.sync import IndexSync


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 120 files in `media` and a library of them, to be copied."""
    base = tmp_path_factory.mktemp("made")
    folder = base / "media"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(60):
        words = " ".join(f"word{one}" for one in rng.integers(0, 9_999, 200))
        (folder / f"{number:02}.txt").write_text(f"unique{number:02} {words}")
        noise = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.png", compress_level=0)
    with Library.open(base / "library", model="toy") as library:
        library.ingest([folder])
    return base


@pytest.fixture
def media(made: Path, tmp_path: Path) -> Path:
    """A copy of the files without their library."""
    shutil.copytree(made / "media", tmp_path / "media")
    return tmp_path / "media"


@pytest.fixture
def where(made: Path, tmp_path: Path) -> Path:
    """A copy of the library, with its files beside it."""
    return copy(tmp_path, made)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a disk of a size in kilobytes, or resizes it; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = False

    def sized(kilobytes: int) -> Path:
        nonlocal mounted
        options = f"{'remount,' if mounted else ''}size={kilobytes}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk])
        if done.returncode:
            pytest.skip("a small disk can be mounted by root only")
        mounted = True
        return disk

    yield sized
    if mounted:
        subprocess.run(["umount", "--lazy", disk], check=True)


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = programs.run(f"indexer.{module}", *arguments)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def found(where: Path, word: str = "word1") -> list[str]:
    with Library.open(where, create=False) as library:
        hits = library.search(Query((QueryPart(Content(text=word)),), limit=200))
        return sorted(hit.item.name for hit in hits)


def admin(*arguments: object) -> int:
    """Run `rzen-admin` in this process."""
    return main([*map(str, arguments)])


def is_sound(where: Path) -> bool:
    with open_storage(where, read_only=True) as place:
        return not check(place).faults


def fill(disk: Path) -> None:
    """Fill a disk."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass


def test_ingest_onto_a_full_disk_is_completed_by_the_next(small_disk, media):
    disk = small_disk(800)
    done = run("ingest", media, "--library", disk / "library", "--model", "toy")
    assert done.returncode == 2
    assert "the disk is full: free some space in " in done.stderr
    with Library.open(disk / "library") as library:
        stored = library.catalog.items(limit=200)
        assert 0 < len(stored) < 120
        assert all(item.status is Status.INDEXED for item in stored)
    assert is_sound(disk / "library")
    assert found(disk / "library") == sorted(item.name for item in stored)
    small_disk(40_000)
    done = run("ingest", media, "--library", disk / "library")
    assert done.returncode == 0
    assert f"{len(stored)} unchanged" in done.stdout
    assert len(found(disk / "library")) == 120
    assert is_sound(disk / "library")


def test_vectors_that_cannot_be_saved_lose_nothing(small_disk, media, monkeypatch):
    disk = small_disk(40_000)
    save = IndexSync.save

    def without_room(self: IndexSync) -> None:
        fill(disk)
        save(self)

    with Library.open(disk / "library", model="toy") as library:
        monkeypatch.setattr(IndexSync, "save", without_room)
        with pytest.raises(LibraryError, match=r"Cannot save .*: No space left.*Nothing is lost"):
            library.ingest([media])
    monkeypatch.undo()
    assert len(found(disk / "library")) == 120
    assert is_sound(disk / "library")
    (disk / "ballast").unlink()
    done = run("ingest", media, "--library", disk / "library")
    assert (done.returncode, done.stdout.startswith("120 unchanged")) == (0, True)
    assert (disk / "library/vectors/state.json").exists()


def test_compaction_on_a_full_disk_changes_nothing(small_disk, where, capsys):
    disk = small_disk(40_000)
    shutil.copytree(where, disk / "library")
    with Library.open(disk / "library", model="toy") as library:
        library.remove([item.id for item in library.catalog.items(limit=60)])
    expected = found(disk / "library")
    fill(disk)
    assert admin("compact", "--library", disk / "library") == 2
    assert "the disk is full" in capsys.readouterr().err
    (disk / "ballast").unlink()
    assert found(disk / "library") == expected
    assert admin("compact", "--library", disk / "library") == 0
    assert found(disk / "library") == expected


def test_backup_onto_a_full_disk_leaves_nothing_behind(small_disk, where, tmp_path, capsys):
    with Library.open(where, model="toy") as library:
        library.uploads.mkdir()
        shutil.copy(tmp_path / "media" / "00.png", library.uploads / "mine.png")
        library.ingest([library.uploads])
    for kilobytes in (16, 300, 800):  # in the database, in the thumbnails, in the uploads
        disk = small_disk(kilobytes)
        assert admin("backup", disk / "backup", "--library", where) == 2
        assert re.search(r"the disk (of .* )?is full", capsys.readouterr().err)
        assert list(disk.iterdir()) == []
    disk = small_disk(40_000)
    assert admin("backup", disk / "backup", "--library", where) == 0
    small_disk(sum(p.stat().st_size for p in disk.rglob("*") if p.is_file()) // 1024 + 900)
    assert admin("restore", disk / "backup", "--library", disk / "library") == 2
    assert [path.name for path in disk.iterdir()] == ["backup"]


def test_file_size_limit_is_reported_like_a_full_disk(media, tmp_path):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    where = tmp_path / "library"
    command = [sys.executable, "-m", "indexer.ingest", media, "--library", where, "--model", "toy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=limited)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr, done.stderr
    assert "the disk that holds" in done.stderr
    assert is_sound(where)
    assert run("ingest", media, "--library", where).returncode == 0
    assert len(found(where)) == 120


READ_ONLY = """
import ctypes, json, os, sys
if os.environ.pop("WITH_RIGHTS", ""):
    for capability in (1, 2):  # With these, root writes wherever it likes.
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
    os.execv(sys.executable, sys.orig_argv)  # Only what is executed is without them.
import programs
done = [programs.run(*command) for command in json.loads(sys.argv[1])]
print(json.dumps([[one.returncode, one.stdout, one.stderr] for one in done]))
"""


@pytest.fixture
def read_only(where: Path) -> Iterator[Path]:
    """A library in a folder that cannot be written to."""
    folders = [where, *(path for path in where.rglob("*") if path.is_dir())]
    for path in where.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    where.chmod(0o555)
    yield where
    for path in folders:
        path.chmod(0o755)


def run_without_rights(where: Path, *commands: Sequence[object]) -> list[tuple[int, str, str]]:
    """Run commands on a library in a process that root's rights do not help; return what they say.

    Returns:
        Exit status, output and error output of each.
    """
    asked = [
        [f"indexer.{name}", *map(str, more), "--library", str(where)] for name, *more in commands
    ]
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, json.dumps(asked)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"WITH_RIGHTS": "yes", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    said = [tuple(one) for one in json.loads(done.stdout)]
    assert not [err for _, _, err in said if "Traceback" in err]
    return said


def test_read_only_library_is_searched_checked_and_backed_up(read_only, tmp_path):
    searched, *others = run_without_rights(
        read_only,
        ("search", "unique07", "--limit", "1"),
        ("admin", "stats"),
        ("admin", "check"),
        ("admin", "backup", tmp_path / "backup"),
    )
    assert searched[0] == 0, searched
    assert "07.txt" in searched[1]
    assert [status for status, _, _ in others] == [0, 0, 0], others
    assert len(found(tmp_path / "backup")) == 120


def test_writing_to_a_read_only_library_is_refused(read_only, tmp_path):
    media = tmp_path / "media"
    (media / "new.txt").write_text("new")
    commands = (
        ("ingest", media),
        ("reembed", "--model", "toy"),
        ("admin", "repair"),
        ("admin", "compact"),
    )
    for status, _, said in run_without_rights(read_only, *commands):
        assert status == 2, said
        assert "cannot be written to: check its permissions" in said


def test_locked_database_is_waited_for_then_reported(media, tmp_path, monkeypatch):
    monkeypatch.setattr("indexer.catalog.sqlite.BUSY_SECONDS", 0.3)
    where = tmp_path / "library"
    with Library.open(where, model="toy") as library:
        library.ingest([media])
    (media / "new.txt").write_text("new words")
    with closing(sqlite3.connect(where / "library.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Library.open(where) as library:
            with pytest.raises(LibraryBusy, match="try again when it has finished"):
                library.ingest([media])
            assert len(found(where)) == 120
        with open_storage(where) as place:
            with pytest.raises(LibraryBusy):
                compact(place)
            assert check(place).faults == ()
        other.execute("ROLLBACK")
    with Library.open(where) as library:
        assert library.ingest([media]).added == 1


def test_interrupted_removal_is_final_for_every_search(where, tmp_path, monkeypatch):
    """The process is killed between removing the files and what only they had."""
    media = tmp_path / "media"

    def killed(self: CatalogWriter) -> list[str]:
        raise KeyboardInterrupt

    with Library.open(where, model="toy") as library:
        monkeypatch.setattr(CatalogWriter, "remove_orphans", killed)
        with pytest.raises(KeyboardInterrupt):
            library.remove([item.id for item in library.catalog.items(name="07")])
        monkeypatch.undo()
        for word in ("unique07", "word1", "07"):
            hits = library.search(Query((QueryPart(Content(text=word)),), limit=200))
            assert len(hits) == 118
            assert not [hit for hit in hits if hit.item.name.startswith("07")]
        assert library.ingest([media / "07.txt"]).added == 1
    assert is_sound(where)


def test_file_that_changes_after_it_was_read_is_indexed_by_the_next_run(
    media, tmp_path, monkeypatch
):
    """Until then the library has what was read, with the mtime of that."""
    path = media / "07.txt"
    record = CatalogWriter.record

    def changed_before(self: CatalogWriter, outcomes: list[object]) -> object:
        if any(one.candidate.path == path for one in outcomes) and "later" not in path.read_text():
            path.write_text("later words")
            os.utime(path, ns=(1, 1))
        return record(self, outcomes)

    with Library.open(tmp_path / "library", model="toy") as library:
        monkeypatch.setattr(CatalogWriter, "record", changed_before)
        assert library.ingest([media]).added == 120
        monkeypatch.undo()
        (item,) = library.catalog.items(name="07.txt")
        assert "unique07" in (library.catalog.segments(item.id)[0].text or "")
        assert library.ingest([media]).updated == 1
        assert library.catalog.segments(item.id)[0].text == "later words"
        assert library.ingest([media]).unchanged == 120


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what is below a folder, with sizes and times."""
    found = {path: path.stat() for path in folder.rglob("*")}
    return {str(path): (status.st_size, status.st_mtime_ns) for path, status in found.items()}


def moved_away(where: Path) -> None:
    where.rename(where.with_name("elsewhere"))


def moved_away_from_a_mount_point(where: Path) -> None:
    moved_away(where)
    where.mkdir()


def replaced(where: Path) -> None:
    moved_away(where)
    shutil.copytree(where.with_name("elsewhere"), where)


@pytest.mark.parametrize(
    "happen", [shutil.rmtree, moved_away, moved_away_from_a_mount_point, replaced]
)
def test_library_that_moved_while_open_is_not_made_again(where, happen):
    media = where.parent / "media"
    with Library.open(where) as library:
        assert library.search(Query((QueryPart(Content(text="unique03")),)))
        (item,) = library.catalog.items(limit=1)
        happen(where)
        left = listing(where)
        (media / "new.txt").write_text("something new")
        for change in (
            lambda: library.ingest([media]),
            lambda: library.remove([item.id]),
            lambda: library.reembed("mini"),
            library.check_unchanged,
        ):
            with pytest.raises(LibraryError, match="moved, deleted or replaced while it was open"):
                change()
        assert library.search(Query((QueryPart(Content(text="unique03")),)))
        assert listing(where) == left
        if where.with_name("elsewhere").exists():
            shutil.rmtree(where, ignore_errors=True)
            where.with_name("elsewhere").rename(where)
            assert library.ingest([media]).added == 1


def test_library_that_moves_during_an_ingest_is_not_made_again(where):
    def cut(path: Path, kind: Kind, limits: Limits) -> Iterator[Draft]:
        moved_away(where)
        yield Draft(Content(text="new"), thumbnail=Image.new("RGB", (8, 8)))

    (where.parent / "media" / "new.txt").write_text("something new")
    with Library.open(where, decoders=InProcess(cut)) as library, pytest.raises(LibraryError):
        library.ingest([where.parent / "media"])
    assert not where.exists()


@pytest.mark.parametrize("deleted", [["-wal"], ["-wal", "-shm"]])
def test_log_that_was_deleted_while_open_costs_one_attempt(where, deleted):
    media = where.parent / "media"
    with Library.open(where) as library:
        (media / "first.txt").write_text("something new")
        library.ingest([media])
        for suffix in deleted:
            (where / f"library.sqlite3{suffix}").unlink()
        (media / "second.txt").write_text("something else")
        with pytest.raises(LibraryError, match="deleted while it was open: try again"):
            library.ingest([media])
        assert library.ingest([media]).added == 1
        assert library.catalog.stats().items[Kind.TEXT] == 62
    with open_storage(where, read_only=True) as files:
        assert check(files).faults == ()


def test_tables_that_a_newer_program_has_changed_are_not_written_to(where):
    media = where.parent / "media"
    with Library.open(where) as library:
        (item,) = library.catalog.items(limit=1)
        with closing(sqlite3.connect(where / "library.sqlite3")) as connection:
            connection.execute("PRAGMA user_version = 999")
        (media / "new.txt").write_text("something new")
        for change in (
            lambda: library.ingest([media]),
            lambda: library.remove([item.id]),
            lambda: library.reembed("mini"),
            lambda: library._writer.remove([item.id]),
        ):
            with pytest.raises(LibraryError, match=r"newer version.*update the program"):
                change()
        assert library.search(Query((QueryPart(Content(text="unique03")),)))
        assert sum(library.catalog.stats().items.values()) == 120
