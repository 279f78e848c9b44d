"""Ingest: which files that are not there any more leave the library, and which stay."""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from embedder.toy import ToyEmbedder
from indexer import Hit, IngestOptions, IngestReport, Library, LibraryError, Query
from indexer.catalog.writer import CatalogWriter
from indexer.ingest.watch import watch
from indexer.presence import FolderId, PresenceCheck
from indexer.search.query import text_part
from indexer.types import Failure, Kept, Root


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library.open(tmp_path / "library", model="toy") as library:
        yield library


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Texts on a disk that is mounted in a folder, and others beside it."""
    return texts(tmp_path / "media", *NAMES)


NAMES = ("notes.txt", "trip/a.txt", "trip/b.txt", "usb/1.txt", "usb/2.txt", "usb/sub/3.txt")


def texts(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a text about {path}")
    return folder


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Numbers of disks by those of the folders on them; 1 is that of all others."""
    found: dict[int, int] = {}

    def of(_class: type, status: os.stat_result) -> FolderId:
        return FolderId(found.get(status.st_ino, 1), status.st_ino)

    monkeypatch.setattr(FolderId, "of", classmethod(of))
    return found


def put_on(disks: dict[int, int], folder: Path, number: int) -> None:
    """Say that a folder and all below are on another disk."""
    disks |= {path.stat().st_ino: number for path in [folder, *folder.rglob("*/")]}


def lost(report: IngestReport) -> tuple[int, tuple[Kept, ...]]:
    """Return how many files were removed, and what was kept."""
    assert (report.added, report.updated, report.failures) == (0, 0, ())
    return report.removed, report.kept


def unmount(folder: Path) -> None:
    folder.rename(folder.parents[1] / "unplugged")
    folder.mkdir()


def test_files_of_an_empty_mount_point_stay(library, media, monkeypatch):
    library.ingest([media])
    unmount(media / "usb")
    assert lost(library.ingest([media])) == (0, (Kept(media / "usb", 3),))
    assert library.catalog.find_words(["text"]).ids.size == 6
    (media / "usb").rmdir()
    (media.parent / "unplugged").rename(media / "usb")
    monkeypatch.setattr(ToyEmbedder, "embed", None)
    report = library.ingest([media])
    assert (report.unchanged, lost(report)) == (6, (0, ()))


def test_a_mount_point_that_holds_all_files_of_a_root(library, tmp_path):
    media = texts(tmp_path / "media", "usb/1.txt", "usb/sub/2.txt")
    library.ingest([media])
    unmount(media / "usb")
    assert lost(library.ingest([media])) == (0, (Kept(media / "usb", 2),))


def test_files_stay_when_the_mount_point_goes_with_the_disk(library, media, disks):
    put_on(disks, media / "usb", 2)
    library.ingest([media])
    (media / "usb").rename(media.parent / "unplugged")
    assert lost(library.ingest([media])) == (0, (Kept(media / "usb", 3),))


@pytest.mark.parametrize("number", [2, 3])
def test_files_stay_when_another_disk_is_mounted_instead(library, media, disks, number):
    put_on(disks, media / "usb", 2)
    library.ingest([media])
    unmount(media / "usb")
    texts(media / "usb", "other.txt")
    put_on(disks, media / "usb", number)
    report = library.ingest([media])
    assert (report.added, report.removed) == (1, 0)
    assert sum(one.files for one in report.kept) == 3


def test_files_of_disks_that_are_mounted_in_turn_stay(library, media, disks):
    usb, other = media / "usb", media.parent / "other"
    library.ingest([media])
    usb.rename(media.parent / "first")
    put_on(disks, texts(usb, "note.txt", "sub/note.txt"), 2)
    for _ in range(3):
        report = library.ingest([media])
        assert (report.removed, report.kept) == (0, (Kept(usb, 3),))
    usb.rename(other)
    (media.parent / "first").rename(usb)
    assert lost(library.ingest([media])) == (0, (Kept(usb, 2),))
    shutil.rmtree(usb)
    other.rename(usb)
    assert lost(library.ingest([media])) == (0, (Kept(usb, 3),))


def test_files_stay_when_a_link_leads_to_a_disk_that_is_gone(library, media):
    folder = texts(media.parent / "disk", "DCIM/3.txt") / "DCIM"
    (media / "card").symlink_to(folder)
    library.ingest([media])
    shutil.rmtree(folder)
    report = library.ingest([media])
    assert report.failures == (Failure(media / "card", "the link is broken"),)
    assert (report.removed, report.kept) == (0, (Kept(media / "card", 1),))


def test_a_folder_deleted_from_a_disk_with_a_new_number(library, media, disks):
    put_on(disks, media, 2)
    library.ingest([media])
    put_on(disks, media, 3)
    shutil.rmtree(media / "trip")
    (media / "usb" / "sub" / "3.txt").unlink()
    assert lost(library.ingest([media])) == (3, ())


@pytest.mark.parametrize("ruin", [shutil.rmtree, unmount])
def test_files_of_a_missing_or_empty_root_stay(library, media, ruin):
    library.ingest([media, texts(media.parent / "other", "x.txt")])
    ruin(media)
    report = library.ingest([media, media.parent / "other"])
    assert (report.unchanged, report.removed, report.kept) == (1, 0, (Kept(media, 6),))
    missing = Failure(media, "there is no such file or folder")
    assert report.failures == (() if media.exists() else (missing,))


@pytest.mark.parametrize(
    ("delete", "removed"),
    [
        (lambda media: (media / "trip" / "a.txt").unlink(), 1),
        (lambda media: shutil.rmtree(media / "trip"), 2),
        (lambda media: [path.unlink() for path in (media / "trip").iterdir()], 2),
        (lambda media: (media / "usb" / "sub" / "3.txt").unlink(), 1),
        (lambda media: shutil.rmtree(media / "usb" / "sub"), 1),
    ],
    ids=["one file", "a folder", "all files of a folder", "the only file", "a deep folder"],
)
def test_deleted_files_leave(library, media, delete: Callable[[Path], object], removed):
    library.ingest([media])
    delete(media)
    assert lost(library.ingest([media])) == (removed, ())


@pytest.mark.parametrize(("others", "stay"), [(19, True), (21, False)])
def test_most_files_of_a_root_are_not_believed_to_be_deleted(library, tmp_path, others, stay):
    names = [f"shared/{n}.txt" for n in range(20)] + [f"own/{n}.txt" for n in range(others)]
    media = texts(tmp_path / "media", *names)
    library.ingest([media])
    shutil.rmtree(media / "shared")
    kept = (Kept(media / "shared", 20),) if stay else ()
    assert lost(library.ingest([media])) == (0 if stay else 20, kept)


def test_single_files_may_be_most_of_a_root(library, tmp_path):
    media = texts(tmp_path / "media", *(f"{n}.txt" for n in range(30)))
    library.ingest([media])
    for n in range(25):
        (media / f"{n}.txt").unlink()
    assert lost(library.ingest([media])) == (25, ())


def test_files_stay_after_an_ingest_that_was_killed(library, media, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(CatalogWriter, "remember_folders", lambda *_: None)
        library.ingest([media])
    shutil.rmtree(media / "usb")
    assert lost(library.ingest([media])) == (0, (Kept(media / "usb", 3),))
    texts(media, "usb/1.txt", "usb/2.txt")  # the disk is back, without one of its folders
    assert lost(library.ingest([media]))[0] == 0
    shutil.rmtree(media / "trip")
    assert lost(library.ingest([media]))[0] == 2


def test_a_copy_has_not_moved_from_a_disk_that_is_unplugged(library, media):
    library.ingest([media])
    copied = texts(media.parent / "copies") / "1.txt"
    copied.parent.mkdir()
    shutil.copy(media / "usb" / "1.txt", copied)
    unmount(media / "usb")
    assert library.plan([copied.parent]).copies == (copied,)
    report = library.ingest([copied.parent])
    assert (report.copies, report.moved) == (1, 0)
    assert len(library.catalog.items()) == 7


def test_the_last_file_of_a_folder_can_move(library, media):
    library.ingest([media])
    (media / "usb" / "sub" / "3.txt").rename(media / "3.txt")
    moved = (media / "usb" / "sub" / "3.txt", media / "3.txt")
    assert library.plan([media]).moved == (moved,)
    report = library.ingest([media])
    assert (report.moved, report.removed, report.unchanged) == (1, 0, 5)


def test_a_later_exclusion_removes_what_it_names(library, media):
    library.ingest([media])
    unmount(media / "usb")
    without = IngestOptions(exclude=("trip", "2.txt"))
    assert len(library.plan([media], without).removed) == 3
    assert lost(library.ingest([media], without)) == (3, (Kept(media / "usb", 2),))
    assert (media / "trip" / "a.txt").exists()


def test_folders_are_remembered_with_their_exclusions(library, media):
    with pytest.raises(ValueError, match="remembers no folder"):
        library.ingest([])
    library.ingest([media / "notes.txt"])
    assert library.catalog.roots() == []
    library.ingest([media / "usb" / "sub"])
    library.ingest([media], IngestOptions(exclude=("usb",)))
    other = texts(media.parent / "other", "x.txt")
    library.ingest([other, media / "trip"])
    assert library.catalog.roots() == [Root(media, ("usb",)), Root(other)]
    texts(media, "usb/4.txt", "trip/c.txt")
    report = library.ingest([])
    assert (report.added, report.unchanged) == (1, 4)
    assert library.ingest([media]).added == 0, "the exclusion is remembered"
    assert library.ingest([media], IngestOptions(include=("usb",))).added == 4
    with pytest.raises(LibraryError, match="usb was not excluded from"):
        library.ingest([media], IngestOptions(include=("usb",)))


def test_exclusions_add_up(library, media):
    library.ingest([media], IngestOptions(exclude=("usb",)))
    assert library.ingest([media], IngestOptions(exclude=("trip",))).removed == 2
    assert library.catalog.roots() == [Root(media, ("usb", "trip"))]
    with pytest.raises(LibraryError, match="what is excluded is trip, usb"):
        library.ingest([media], IngestOptions(include=("tip",)))
    again = IngestOptions(exclude=("notes.txt",), include=("trip", "usb"))
    report = library.ingest([media], again)
    assert (report.added, report.removed) == (5, 1)
    assert library.catalog.roots() == [Root(media, ("notes.txt",))]


def test_folders_know_when_they_were_scanned(library, media):
    before = datetime.now(UTC)
    library.ingest([media])
    (folder,) = library.indexed_folders()
    assert before <= folder.scanned_at <= datetime.now(UTC)
    media.rename(media.with_name("unplugged"))
    media.mkdir()
    library.ingest([])
    (unplugged,) = library.indexed_folders()
    assert unplugged.scanned_at == folder.scanned_at
    assert not unplugged.reachable
    assert not unplugged.missing


def test_a_renamed_folder_is_missing(library, media):
    library.ingest([media])
    renamed = media.rename(media.with_name("renamed"))
    assert [one.missing for one in library.indexed_folders()] == [False], "it may be unplugged"
    assert library.ingest([renamed]).moved == 6
    assert [(one.path, one.missing) for one in library.indexed_folders()] == [
        (media, True),
        (renamed, False),
    ]


def test_an_excluded_folder_that_is_remembered_itself_stays(library, media, monkeypatch):
    library.ingest([media], IngestOptions(exclude=("usb",)))
    library.ingest([media / "usb"], IngestOptions(exclude=("2.txt",)))
    without = IngestOptions(exclude=("usb",))
    assert library.plan([media], without).removed == ()
    (media / "usb" / "sub" / "3.txt").unlink()
    report = library.ingest([media], without)
    assert (report.unchanged, report.removed) == (4, 1)
    monkeypatch.chdir(media)
    assert library.ingest([Path("usb")]).unchanged == 1, "the exclusion is remembered"
    unmount(media / "usb")
    assert lost(library.ingest([media], without)) == (0, (Kept(media / "usb", 1),))
    assert library.ingest([media], IngestOptions(exclude=("trip",))).removed == 2
    assert Root(media / "usb", ("2.txt",)) in library.catalog.roots()


def test_forget(library, media):
    library.ingest([media])
    shutil.rmtree(media / "usb")
    with pytest.raises(LibraryError, match="no files at or below"):
        library.forget([media / "usb", media / "elsewhere"])
    assert library.forget([media / "usb"]) == 3
    assert library.catalog.roots() == [Root(media)]
    assert library.forget([media.parent]) == 3
    assert library.catalog.roots() == []
    assert (media / "notes.txt").exists()
    assert len(library.vectors) == 0


def found(library: Library, words: str) -> list[Hit]:
    return library.search(Query((text_part(words),)))


def test_hits_say_what_is_not_connected(library, media):
    library.ingest([media])
    assert [hit.missing for hit in found(library, "text")] == [None] * 6
    unmount(media / "usb")
    (media / "trip" / "a.txt").unlink()
    missing = {hit.item.path.name: hit.missing for hit in found(library, "text")}
    assert missing.pop("a.txt") == media / "trip" / "a.txt"
    usb = media / "usb"
    assert missing == {"1.txt": usb, "2.txt": usb, "3.txt": usb, "b.txt": None, "notes.txt": None}


def test_a_copy_that_is_there_takes_the_place_of_a_file_that_is_not(library, media):
    library.ingest([media])
    copied = media / "copy.txt"
    shutil.copy(media / "usb" / "1.txt", copied)
    library.ingest([media])
    unmount(media / "usb")
    (hit,) = (hit for hit in found(library, "text") if hit.copies)
    assert (hit.item.path, hit.missing, hit.copies) == (copied, None, (media / "usb" / "1.txt",))
    assert library.original(hit.segment.id) == (hit.item, None)
    copied.unlink()
    (hit,) = (hit for hit in found(library, "text") if hit.copies)
    assert (hit.item.path, hit.missing) == (media / "usb" / "1.txt", media / "usb")
    assert library.original(hit.segment.id) == (hit.item, media / "usb")


@pytest.mark.parametrize(("code", "folder"), [(errno.EACCES, True), (errno.ELOOP, False)])
def test_a_folder_that_may_not_be_entered_counts_as_not_connected(media, monkeypatch, code, folder):
    stat, path = os.stat, media / "trip" / "a.txt"

    def refusing(asked: Path, **options: bool) -> os.stat_result:
        if Path(asked) == path:
            raise OSError(code, os.strerror(code))
        return stat(asked, **options)

    monkeypatch.setattr(os, "stat", refusing)
    assert PresenceCheck().missing([path], [media]) == {path: path.parent if folder else path}


def test_a_disk_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    here, nowhere = texts(tmp_path / "here", "a.txt"), tmp_path / "nas"
    answering, stat = threading.Event(), os.stat

    def slow(path: Path, **options: bool) -> os.stat_result:
        if Path(path).is_relative_to(nowhere):
            answering.wait()
        return stat(here, **options)

    check = PresenceCheck(wait_seconds=0.1)
    paths = [nowhere / "b.txt", nowhere / "c.txt", here / "a.txt"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", slow)
        stalled = {nowhere / "b.txt": nowhere, nowhere / "c.txt": nowhere}
        assert check.missing(paths, [tmp_path, here, nowhere]) == stalled
        started_at, threads = time.monotonic(), threading.active_count()
        assert check.missing(paths, [tmp_path, here, nowhere]) == stalled
        assert time.monotonic() - started_at < 0.1
        assert threading.active_count() <= threads
        answering.set()
        while check.missing(paths, [here, nowhere]):
            time.sleep(0.01)


def test_remembered_folders_are_watched(library, media, monkeypatch):
    monkeypatch.setattr("indexer.ingest.watch._bursts", lambda watched, *_: iter([list(watched())]))
    library.ingest([media], IngestOptions(exclude=("usb",)))
    texts(media, "usb/4.txt", "trip/c.txt")
    options, cancel = IngestOptions(), threading.Event()
    (report,) = watch(library, [], options, cancel=cancel)
    assert (report.added, report.unchanged) == (1, 3)
    (report,) = watch(library, [media], IngestOptions(exclude=("trip",)), cancel=cancel)
    assert (report.added, report.removed) == (0, 3)


def test_a_disk_that_is_back_is_watched_again(library, media, monkeypatch):
    monkeypatch.setattr("indexer.ingest.watch._BURSTS_PER_LOOK", 1)
    monkeypatch.setattr("indexer.ingest.watch._TIMEOUT_MS", 20)
    library.ingest([media])
    media.rename(media.parent / "unplugged")
    cancel = threading.Event()
    with closing(watch(library, [media], IngestOptions(), cancel=cancel)) as reports:
        back = threading.Timer(0.3, (media.parent / "unplugged").rename, [media])
        back.start()
        report = next(reports)
        assert (report.unchanged, report.kept) == (6, ())
        threading.Timer(0.3, texts, [media, "new.txt"]).start()
        assert next(reports).added == 1
    cancel.set()
