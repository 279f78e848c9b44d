"""Confinement: a file that has taken over its decoder gets nothing but itself and the libraries."""

import ctypes
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from embedder.media import Kind, Limits
from indexer.decoding.pool import DecoderPool

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp")

SECRET = ctypes.create_string_buffer(b"secret")
CONFINED, UNCONFINED = "probing_decoder:probe", "unconfined_decoder:probe"

# What is tried, and whether it needs Landlock, seccomp, or either to be refused.
PROBES = {
    "password": "Landlock",
    "neighbour": "Landlock",
    "write": "Landlock",
    "rename": "Landlock",
    "list": "Landlock",
    "signal": "Landlock",
    "open memory": "Landlock",
    "memory file": "seccomp",
    "shared memory": "seccomp",
    "tcp": "seccomp",
    "udp": "seccomp",
    "unix": "seccomp",
    "execute": "seccomp",
    "fork": "seccomp",
    "read memory": "seccomp",
    "limit": "no privileges",
}


@pytest.fixture(scope="module")
def held() -> str:
    """What holds on this system."""
    program = "from indexer.decoding.confinement import confine; print(confine())"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(autouse=True)
def _decoder_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[int]:
    """A port of TCP, with a listener beside the files, and a neighbour of theirs."""
    (tmp_path / "neighbour.txt").write_text("private")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "listener"))
        unix.listen()
        yield tcp.getsockname()[1]


def outcome(performer: str, folder: Path, name: str, number: int) -> str:
    path = folder / f"{name}_{number}.png"
    Image.new("RGB", (8, 8)).save(path)
    with DecoderPool(performer=performer) as pool:
        (draft,) = pool.cut(path, Kind.IMAGE, Limits(memory_bytes=1 << 30))
    return draft.content.text or ""


@pytest.mark.parametrize("name", PROBES)
def test_decoder_reaches_nothing_else(held, listening, tmp_path, name):
    if PROBES[name] not in held:
        pytest.skip(f"this system has no {PROBES[name]}")
    number = ctypes.addressof(SECRET) if name == "read memory" else listening
    assert outcome(CONFINED, tmp_path, name, number).startswith("refused")
    assert not (tmp_path / "written").exists()
    if "memory" not in name and name != "limit":  # which depend on other rights, too
        assert outcome(UNCONFINED, tmp_path, name, number).startswith("done")


def test_decoder_can_still_start_threads(tmp_path):
    assert outcome(CONFINED, tmp_path, "thread", 0).startswith("done")


def test_decoder_gets_named_variables_only(tmp_path, monkeypatch):
    for name in ("RZEN_AUTH", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "LC_ALL"):
        monkeypatch.setenv(name, "C")
    names = outcome(CONFINED, tmp_path, "environment", 0).split()
    assert {"PATH", "LC_ALL"} <= set(names)
    assert not {"RZEN_AUTH", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"} & set(names)


def test_what_holds_is_logged(tmp_path, caplog, held):
    with caplog.at_level("DEBUG", "indexer.decoding.pool"):
        outcome(CONFINED, tmp_path, "thread", 0)
    assert held.strip() in caplog.text
