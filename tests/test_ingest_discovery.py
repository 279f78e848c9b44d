"""Listing files: which, in what order, and why not the others."""

import os
import socket
import time
from pathlib import Path

import pytest

from indexer.ingest.discovery import scan
from indexer.types import Candidate, Failure, Root


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, errors="surrogateescape")
    return root


def found(root: Path, *paths: str | Path, exclude: tuple[str, ...] = ()) -> list[str]:
    """Return the names of the candidates below a root, as given by `scan`."""
    entries = scan([Root(Path(path), exclude) for path in paths or [root]])
    return [str(e.path.relative_to(root)) for e in entries if isinstance(e, Candidate)]


def problems(*paths: str | Path) -> dict[str, str]:
    return {
        e.path.name: e.reason for e in scan(map(Root, map(Path, paths))) if isinstance(e, Failure)
    }


def test_scan_is_ordered(tmp_path: Path) -> None:
    tree(tmp_path, "b.jpg", "a/2.jpg", "a/10.jpg", "a/deep/er/x.txt", "c.pdf")
    names = ["b.jpg", "c.pdf", "a/10.jpg", "a/2.jpg", "a/deep/er/x.txt"]
    assert found(tmp_path) == names
    assert found(tmp_path) == names
    first = next(iter(scan([Root(tmp_path)])))
    status = (tmp_path / "b.jpg").stat()
    assert first == Candidate(tmp_path / "b.jpg", status.st_size, status.st_mtime_ns)


def test_scan_skips_hidden_and_system_files(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *(".hidden.jpg", ".git/config", "Thumbs.db", "desktop.ini", ".DS_Store"),
        *("@eaDir/a.jpg", "__MACOSX/b.jpg", "$RECYCLE.BIN/c.jpg", "kept/a.jpg"),
        *("app/node_modules/a/README.md", "app/venv/lib/site-packages/a.py"),
        *("shelf/library.sqlite3", "shelf/vectors.faiss", "shelf/thumbnails/1.webp"),
    )
    assert found(tmp_path) == ["kept/a.jpg"]
    assert problems(tmp_path) == {}
    assert "holds a library" in problems(tmp_path / "shelf")["shelf"]


def test_scan_lists_a_hidden_path_given_by_name(tmp_path: Path) -> None:
    tree(tmp_path, ".secret/a.jpg", ".b.jpg")
    assert found(tmp_path, tmp_path / ".secret", tmp_path / ".b.jpg") == [".secret/a.jpg", ".b.jpg"]


def test_scan_patterns(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg", "b.png", "sub/c.jpg", "sub/deep/d.jpg", "odd[1].jpg")
    assert found(tmp_path, f"{tmp_path}/*.jpg") == ["a.jpg", "odd[1].jpg"]
    assert found(tmp_path, f"{tmp_path}/**/*.jpg") == [
        *("a.jpg", "odd[1].jpg", "sub/c.jpg", "sub/deep/d.jpg")
    ]
    assert found(tmp_path, tmp_path / "odd[1].jpg") == ["odd[1].jpg"], "a name, not a pattern"
    assert problems(f"{tmp_path}/*.mp4") == {"*.mp4": "no file matches the pattern"}


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("*.png",), ["a.jpg", "raw/c.jpg", "sub/raw/d.jpg"]),
        (("raw",), ["a.jpg", "b.png"]),
        (("raw/",), ["a.jpg", "b.png"]),
        (("sub/raw",), ["a.jpg", "b.png", "raw/c.jpg"]),
        (("*/sub/*.jpg", "a.*"), ["b.png", "raw/c.jpg"]),
        (("?.jpg",), ["b.png"]),
        (("~", ""), ["a.jpg", "b.png", "raw/c.jpg", "sub/raw/d.jpg"]),
    ],
)
def test_scan_exclude(tmp_path: Path, exclude: tuple[str, ...], left: list[str]) -> None:
    tree(tmp_path, "a.jpg", "b.png", "raw/c.jpg", "sub/raw/d.jpg")
    assert found(tmp_path, exclude=exclude) == left


@pytest.mark.parametrize(
    "pattern", ["[2009] Z\u00fcrich", "trip/[2009] Zu\u0308rich", "[[]2009[]]*"]
)
def test_scan_excludes_names_that_are_no_patterns(tmp_path: Path, pattern: str) -> None:
    tree(tmp_path, "trip/[2009] Zu\u0308rich/a.jpg", "trip/2/b.jpg")
    assert found(tmp_path, exclude=(pattern,)) == ["trip/2/b.jpg"]


def test_scan_follows_links(tmp_path: Path) -> None:
    tree(tmp_path, "outside/x.jpg", "outside/more/y.jpg", "inside/a.jpg")
    (tmp_path / "inside/link").symlink_to(tmp_path / "outside/more")
    (tmp_path / "inside/one.jpg").symlink_to("../outside/x.jpg")
    inside = tmp_path / "inside"
    assert found(inside) == ["a.jpg", "link/y.jpg", "one.jpg"]
    (tmp_path / "root").symlink_to(inside)
    assert found(tmp_path / "root", tmp_path / "root")[0] == "a.jpg"


def test_scan_lists_a_real_file_once(tmp_path: Path) -> None:
    tree(tmp_path, "z/a.jpg", "z/b.jpg")
    (tmp_path / "a_link.jpg").symlink_to("z/a.jpg")
    (tmp_path / "folder_link").symlink_to("z")
    assert found(tmp_path) == ["z/a.jpg", "z/b.jpg"]
    again = (tmp_path, tmp_path / "z", tmp_path / "z/a.jpg", f"{tmp_path}/z/*", tmp_path)
    assert found(tmp_path, *again) == ["z/a.jpg", "z/b.jpg"]


def test_scan_lists_hard_links(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").hardlink_to(tmp_path / "a.jpg")
    assert found(tmp_path, tmp_path, tmp_path / "a.jpg") == ["a.jpg", "b.jpg"]


def test_scan_reports_circular_links(tmp_path: Path) -> None:
    tree(tmp_path, "a/b/x.jpg")
    (tmp_path / "a/b/up").symlink_to(tmp_path)
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert found(tmp_path) == ["a/b/x.jpg"]
    reasons = problems(tmp_path)
    assert "circular" in reasons["up"]
    assert "cannot be followed" in reasons["one"]
    assert "cannot be followed" in reasons["two"]


def test_scan_folders_that_link_to_each_other(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a/b").symlink_to(tmp_path / "b")
    (tmp_path / "b/a").symlink_to(tmp_path / "a")
    assert found(tmp_path / "a") == ["1.jpg", "b/2.jpg"]
    assert problems(tmp_path / "a") == {}


def test_scan_never_opens_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket must be short
        try:
            server.bind("socket.jpg")
        finally:
            os.chdir(here)
        assert problems(tmp_path) == {
            "pipe.jpg": "this is a pipe, not a file",
            "socket.jpg": "this is a socket, not a file",
            "dangling.jpg": "the link is broken",
        }
        assert found(tmp_path) == []
    assert problems("/dev/null") == {"null": "this is a device, not a file"}


def test_scan_missing_root(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg")
    (tmp_path / "dangling").symlink_to("unplugged")
    entries = list(scan(map(Root, [tmp_path / "gone", tmp_path / "dangling", tmp_path])))
    failures = [entry for entry in entries if isinstance(entry, Failure)]
    assert [(entry.path.name, entry.reason) for entry in failures] == [
        ("gone", "there is no such file or folder"),
        ("dangling", "the link is broken"),
        ("dangling", "the link is broken"),
    ]
    assert [entry.path.name for entry in entries if isinstance(entry, Candidate)] == ["a.jpg"]


def test_scan_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path, "locked/a.jpg", "open/b.jpg")
    onward = os.scandir

    def guarded(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return onward(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert problems(tmp_path) == {"locked": "the folder cannot be read: Permission denied"}
    assert found(tmp_path) == ["open/b.jpg"]
    assert isinstance(next(iter(scan([Root(tmp_path / "locked")]))), Failure)


@pytest.mark.parametrize(
    "name", ["line\nbreak.jpg", "latin\udce9.jpg", " spaced .jpg", "ü日本.jpg"]
)
def test_scan_odd_names(tmp_path: Path, name: str) -> None:
    tree(tmp_path, name)
    (candidate,) = scan([Root(tmp_path)])
    assert isinstance(candidate, Candidate)
    assert candidate.path == tmp_path / name
    assert candidate.path.exists()


def test_scan_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(300):
            Path("d").mkdir()
            os.chdir("d")
            deep = deep / "d"
        Path("x.jpg").write_text("x")
    finally:
        os.chdir(here)
    assert found(tmp_path) == [str((deep / "x.jpg").relative_to(tmp_path))]


def test_scan_is_fast(tmp_path: Path) -> None:
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for n in range(500):
            (tmp_path / f"{folder}/{n}.jpg").touch()
    started = time.process_time()
    assert sum(1 for _ in scan([Root(tmp_path)])) == 10_000
    assert time.process_time() - started < 0.5
