"""Every test runs on its own: no network, no home folder, a library of its own."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the person who runs the tests is read or written, subprocesses included."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("RZEN_", "GRADIO_"))]:
            patch.delenv(name)
        for name, folder in {
            "HOME": ".",
            "XDG_CACHE_HOME": "cache",
            "XDG_CONFIG_HOME": "config",
            "XDG_DATA_HOME": "data",
            "XDG_RUNTIME_DIR": "run",
            "GRADIO_TEMP_DIR": "gradio",
            "HF_HOME": "huggingface",
            "MPLCONFIGDIR": "matplotlib",
            "RZEN_LIBRARY": "library",
        }.items():
            patch.setenv(name, str(home / folder))
        (home / "run").mkdir(mode=0o700)
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("HF_HUB_OFFLINE", "1")
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test that names no library gets an empty one of its own."""
    monkeypatch.setenv("RZEN_LIBRARY", str(tmp_path / "default-library"))


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """A connection to anything but this machine fails at once and says so."""

    def guarded(connect: Any) -> Any:
        def checked(sock: socket.socket, address: Any) -> Any:
            internet = sock.family in (socket.AF_INET, socket.AF_INET6)
            if internet and not str(address[0]).startswith(_LOOPBACK):
                raise OSError(f"tests stay on this machine: no connection to {address[0]}")
            return connect(sock, address)

        return checked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        yield


@pytest.fixture(scope="session")
def tiny_rzen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Qwen2-VL of 200,000 parameters in the file formats of a real one."""
    from trainer.untrained import build

    return build(tmp_path_factory.mktemp("rzen") / "tiny", texts=["a few words to learn from"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes by itself comes first, so that nobody waits for it at the end."""
    items.sort(key=lambda item: "test_trainer_tiny.py" not in item.nodeid)
