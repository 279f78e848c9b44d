"""Uploads: whole or not at all, within a quota, under safe names, deleted when unused."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import pytest

from app.query_files import QueryFiles
from app.uploads import (
    MIN_FILE_BYTES,
    IncomingFile,
    LibraryUploads,
    NoRoom,
    Quota,
    TooLarge,
    UploadError,
    clean_name,
    clean_path,
    save,
    workspace,
)


async def in_parts(data: bytes) -> AsyncIterator[bytes]:
    size = max(3, len(data) // 7)
    for start in range(0, len(data), size):
        yield data[start : start + size]


def unlimited(folder: Path) -> Quota:
    return Quota(folder, None, lambda _: 0, spare=0, full="full")


def store(data: bytes, target: Path, limit: int = 1000):
    sent = IncomingFile(in_parts(data))
    return asyncio.run(
        save(sent, target, target.parent / "incoming", unlimited(target.parent), limit)
    )


def test_save_numbers_taken_names(tmp_path):
    target = tmp_path / "deep" / "cat.txt"
    assert store(b"one", target).path == target
    assert store(b"two", target).path.name == "cat (2).txt"
    assert store(b"one", target).path == target
    assert store(b"two", target).path.name == "cat (2).txt"
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "cat (2).txt",
        "cat.txt",
        "incoming",
    ]
    assert not list((target.parent / "incoming").iterdir())


def test_save_over_the_limit_leaves_nothing(tmp_path):
    with pytest.raises(TooLarge, match="larger than"):
        store(b"x" * 2000, tmp_path / "big.bin")
    assert not list(tmp_path.rglob("*.bin"))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("modified_ms", "kept"),
    [
        (1_241_645_400_123, True),
        (-86_400_000, True),  # 1969
        (10**14, False),  # the year 5138
        (-(10**30), False),
        (None, False),
    ],
)
def test_an_upload_keeps_the_time_of_its_file(uploads, modified_ms, kept):
    sent = IncomingFile(in_parts(b"x"), modified_ms=modified_ms)
    path = asyncio.run(uploads.add("a.txt", sent)).path
    if kept:
        assert path.stat().st_mtime_ns == modified_ms * 1_000_000
    else:
        assert abs(path.stat().st_mtime - time()) < 60


# ---- the quota of the library


@pytest.fixture
def uploads(tmp_path):
    return LibraryUploads(tmp_path / "uploads", tmp_path / "incoming", 10 << 20, 3 << 20)


async def unread() -> AsyncIterator[bytes]:
    raise AssertionError("the body was read")
    yield b""


def test_quota_counts_uploads_together(uploads, tmp_path):
    def add(name: str):
        return asyncio.run(uploads.add(name, IncomingFile(in_parts(b"x" * (5 << 18)))))

    first, _ = add("a.bin"), add("b.bin")
    with pytest.raises(NoRoom, match="remove some files"):
        add("c.bin")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.bin", "b.bin"]
    first.path.unlink()
    uploads._quota._counted_at = 0.0
    assert add("c.bin").size == 5 << 18


def test_quota_refuses_announced_size_unread(uploads, tmp_path):
    for size, refusal in ((11 << 20, TooLarge), (4 << 20, NoRoom)):
        with pytest.raises(refusal):
            asyncio.run(uploads.add("a.bin", IncomingFile(unread(), size)))
    assert not list(tmp_path.rglob("*.*"))


def test_quota_holds_for_parallel_uploads(uploads, tmp_path):
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b"x" * (1 << 16)
            await asyncio.sleep(0)

    async def all_at_once() -> list[object]:
        sending = [uploads.add(f"{number}.bin", IncomingFile(slowly())) for number in range(8)]
        return await asyncio.gather(*sending, return_exceptions=True)

    ended = asyncio.run(all_at_once())
    refused = [one for one in ended if isinstance(one, NoRoom)]
    assert refused
    assert len(refused) + len(list((tmp_path / "uploads").iterdir())) == 8
    assert sum(path.stat().st_size for path in (tmp_path / "uploads").iterdir()) <= 3 << 20
    assert not list((tmp_path / "incoming").iterdir())
    assert uploads._quota._reserved == 0


def test_announcements_reserve_no_room(uploads):
    for _ in range(5):
        uploads._quota.admit(3 << 20)
    asyncio.run(uploads.add("a.bin", IncomingFile(in_parts(b"x" * (1 << 20)))))


def test_empty_files_count(tmp_path):
    uploads = LibraryUploads(tmp_path / "u", tmp_path / "i", 1 << 20, 3 * MIN_FILE_BYTES)
    uploads._quota._recount_seconds = 0
    for number in range(3):
        asyncio.run(uploads.add(f"{number}.txt", IncomingFile(in_parts(b""))))
    with pytest.raises(NoRoom):
        asyncio.run(uploads.add("4.txt", IncomingFile(in_parts(b""))))


@pytest.mark.parametrize("recount_seconds", [0, 60])
def test_folders_count(tmp_path, recount_seconds):
    uploads = LibraryUploads(tmp_path / "u", tmp_path / "i", 1 << 20, 6 * MIN_FILE_BYTES)
    uploads._quota._recount_seconds = recount_seconds

    def add(path: str) -> None:
        asyncio.run(uploads.add(path, IncomingFile(in_parts(b"x"))))

    add("a/b/1.txt")
    with pytest.raises(NoRoom):
        add("c/d/e/1.txt")
    assert not (tmp_path / "u/c").exists()
    add("a/b/2.txt")
    add("c/1.txt")
    with pytest.raises(NoRoom):
        add("3.txt")


def test_failed_uploads_leave_no_folders(uploads, tmp_path, monkeypatch):
    async def broken_off() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError

    def refused(*_):
        raise PermissionError

    (tmp_path / "uploads/theirs").mkdir(parents=True)
    with pytest.raises(ConnectionError):
        asyncio.run(uploads.add("theirs/a/b/c.txt", IncomingFile(broken_off())))
    monkeypatch.setattr("app.uploads.rename_without_replacing", refused)
    with pytest.raises(PermissionError):
        asyncio.run(uploads.add("theirs/a/b/c.txt", IncomingFile(in_parts(b"x"))))
    assert list((tmp_path / "uploads").rglob("*")) == [tmp_path / "uploads/theirs"]
    assert not list((tmp_path / "incoming").iterdir())


def test_quota_spares_the_disk(uploads, monkeypatch):
    monkeypatch.setattr(uploads._quota, "_spare", 1 << 60)
    with pytest.raises(NoRoom, match=r"less than [\d,.]+ TB left"):
        asyncio.run(uploads.add("a.bin", IncomingFile(unread())))


def test_links_do_not_lead_out(uploads, tmp_path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "uploads" / "link").symlink_to(tmp_path / "elsewhere")
    for path in ("link/a.txt", "link/deeper/a.txt"):
        with pytest.raises(UploadError, match="leads out"):
            asyncio.run(uploads.add(path, IncomingFile(in_parts(b"x"))))
    assert not list((tmp_path / "elsewhere").iterdir())


# ---- files to search with


def sent(files: QueryFiles, size: int, name: str = "../cat.jpg") -> tuple[str, Path]:
    key, saved = asyncio.run(files.add(name, IncomingFile(in_parts(b"x" * size), size)))
    return key, saved.path


def test_query_files_expire(tmp_path):
    files = QueryFiles(tmp_path / "scratch", max_files=2)
    sent_files = [sent(files, size) for size in (1, 2, 3)]
    assert files.resolve(sent_files[2][0]).read_bytes() == b"xxx"
    assert files.resolve(sent_files[2][0]).is_relative_to(tmp_path / "scratch")
    with pytest.raises(UploadError, match="send it again"):
        files.resolve(sent_files[0][0])
    assert not sent_files[0][1].exists()


def test_query_files_bound_disk_use(tmp_path):
    files = QueryFiles(tmp_path / "scratch", max_bytes=3 << 20, limit=2 << 20)
    paths = [sent(files, 1 << 20)[1] for _ in range(9)]
    left = [path for path in paths if path.exists()]
    assert left == paths[-len(left) :], "the oldest go first"
    assert 1 <= len(left) <= 3
    with pytest.raises(TooLarge):
        sent(files, 3 << 20)
    assert {path.parent for path in left} == set((tmp_path / "scratch").iterdir())


def test_data_urls_count(tmp_path):
    files = QueryFiles(tmp_path / "scratch", max_bytes=3 * MIN_FILE_BYTES)
    for _ in range(9):
        files.resolve("data:text/plain;base64,aGVsbG8=")
    assert len(list((tmp_path / "scratch").iterdir())) <= 3


@pytest.mark.parametrize(
    "address",
    [
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:text/plain,hello",
        "data:image/png;base64,%",
        "data:image/png;base64,é",
        "data:" + ";" * 50,
    ],
)
def test_data_urls_are_validated(tmp_path, address):
    with pytest.raises(UploadError, match="data URL"):
        QueryFiles(tmp_path).resolve(address)


# ---- temporary folders


def test_workspace_clears_leftovers(tmp_path):
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom app.uploads import workspace\n"
        "with workspace(Path(sys.argv[1]), 'x-') as folder:\n"
        "    (folder / 'half.part').write_text('x')\n    print(flush=True)\n    time.sleep(600)\n"
    )
    (tmp_path / "x-other").mkdir()  # Of another program: it has no lock.
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        (theirs,) = tmp_path.glob("*/half.part")
        with workspace(tmp_path, "x-") as folder:
            assert theirs.exists(), "a program that runs keeps its files"
        assert not folder.exists()
        running.kill()
    with workspace(tmp_path, "x-") as folder:
        assert {path.name for path in tmp_path.iterdir()} == {"x-other", folder.name}


# ---- names


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Grüße 1.jpg", "Grüße 1.jpg"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\0b\nc.txt", "a_b_c.txt"),
        ("con.txt", "_con.txt"),
        (".hidden", "hidden"),
        ("x" * 300 + ".jpeg", "x" * 195 + ".jpeg"),
        ("東" * 300 + ".jpeg", "東" * 65 + ".jpeg"),
        ("x" * 199 + " . " * 9 + "y" * 20, "x" * 199),
        ("con" + " " * 300 + "x", "_con"),
        ("COM¹.txt", "_COM¹.txt"),
        ("conin$", "_conin$"),
        ("aux .txt", "_aux .txt"),
    ],
)
def test_clean_name(name, kept):
    assert clean_name(name) == kept
    assert clean_name(kept) == kept


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("Holiday/Day 1/cat.jpg", "Holiday/Day 1/cat.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../../x.txt", "x.txt"),
        ("a/../b.txt", "a/b.txt"),
        ("C:\\Users\\me\\x.txt", "C_/Users/me/x.txt"),
        ("....//....//x.txt", "x.txt"),
    ],
)
def test_clean_path(path, kept):
    assert clean_path(path) == Path(kept)


@pytest.mark.parametrize("path", ["", "..", "/", "a/" * 30 + "x"])
def test_clean_path_refuses_empty_paths(path):
    with pytest.raises(UploadError):
        clean_path(path)
