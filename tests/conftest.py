"""Isolation for every test: no network, a temporary home folder, an empty default library."""

import gc
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import skip_gradio_stubs

# Threads of PyTorch's and FAISS's pools wait busily for each other: with two test processes on two
# cores, that took several times the processor time of the work. Read when OpenMP is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
skip_gradio_stubs()
# Looking for garbage among all that PyTorch, Gradio and the tests have imported, after every few
# hundred new objects, took a ninth of the processor time. Rarer, it finds the same.
gc.set_threshold(20_000, 20, 20)

LOOPBACK = ("127.", "::1", "::ffff:127.", "localhost", "0.0.0.0")
# They take longest, so they start first and no process is left with one of them at the end.
LONGEST_FILES = (
    "test_app_browser.py",
    "test_trainer_tiny.py",
    "test_app_browser_hostile.py",
    "test_decoding.py",
    "test_kill.py",
    "test_trainer_loop.py",
    "test_decoding_hostile_files.py",
    "test_app_security.py",
    "test_app_routes.py",
    "test_faults.py",
    "test_decoding_on_demand.py",
    "test_admin_check.py",
    "test_ingest_cli.py",
    "test_indexer_counts.py",
    "test_reembed.py",
    "test_fuzz.py",
    "test_vectors_lists.py",
    "test_vectors_files.py",
)


@pytest.fixture(scope="session", autouse=True)
def _temporary_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's files and settings out of the tests, subprocesses included."""
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
        patch.setenv("RZEN_NO_OCR", "1")  # It takes seconds; its own tests switch it on.
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture(autouse=True)
def _empty_default_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test that names no library an empty one."""
    monkeypatch.setenv("RZEN_LIBRARY", str(tmp_path / "default-library"))


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse connections to other machines."""

    def guarded(connect: Any) -> Any:
        def checked(sock: socket.socket, address: Any) -> Any:
            internet = sock.family in (socket.AF_INET, socket.AF_INET6)
            if internet and not str(address[0]).startswith(LOOPBACK):
                raise OSError(f"tests run offline: no connection to {address[0]}")
            return connect(sock, address)

        return checked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        yield


@pytest.fixture(scope="session")
def tiny_rzen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Qwen2-VL of 200,000 parameters in the file formats of a real one."""
    from benchmarks.untrained import build

    return build(tmp_path_factory.mktemp("rzen") / "tiny", texts=["a few words to learn from"])


@pytest.fixture(scope="session")
def tiny_qwen3_vl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained Qwen3-VL, as small."""
    from benchmarks.untrained import build

    folder = tmp_path_factory.mktemp("qwen3-vl") / "tiny"
    return build(folder, family="qwen3-vl", texts=["a few words to learn from"])


@pytest.fixture(scope="session", autouse=True)
def _shared_decoders() -> Iterator[pytest.MonkeyPatch]:
    """Let all ingests of the test process use the same decoding processes.

    Starting them takes longer than most ingests. `own_decoders` is for tests about starting them.
    """
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:

        @cache
        def pool() -> Any:
            from indexer.decoding.pool import DecoderPool

            return stack.enter_context(DecoderPool())

        def shared(_cancel: object) -> AbstractContextManager[Any]:
            return nullcontext(pool())

        patch.setattr("indexer.library.open_decoders", shared)
        yield patch


@pytest.fixture(scope="session", autouse=True)
def _no_background_ocr() -> Iterator[pytest.MonkeyPatch]:
    """Let pages read no words in pictures; `background_ocr` is for tests of that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.ingest.background_ocr.BackgroundOcr.start", lambda _self: None)
        yield patch


@pytest.fixture
def background_ocr(_no_background_ocr: pytest.MonkeyPatch) -> Iterator[None]:
    """Read words in pictures in the background, as programs do."""
    from indexer.ingest.background_ocr import BackgroundOcr

    replaced = BackgroundOcr.start
    _no_background_ocr.undo()
    yield
    _no_background_ocr.setattr(BackgroundOcr, "start", replaced)


@pytest.fixture
def own_decoders(_shared_decoders: pytest.MonkeyPatch) -> Iterator[None]:
    """Start decoding processes for each ingest of the test, as programs do."""
    import indexer.library

    shared = indexer.library.open_decoders
    _shared_decoders.undo()
    yield
    _shared_decoders.setattr("indexer.library.open_decoders", shared)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with media of every kind and a library of them; copy the library to change it."""
    from sample_library import filled_library

    folder = tmp_path_factory.mktemp("sample")
    filled_library(folder, reds=40).close()
    return folder


@pytest.fixture
def page_over(tmp_path: Path) -> Iterator[Any]:
    """Builds the page's services over a library; ends their jobs after the test."""
    from app import services
    from app.config import AppConfig

    built = []

    def page(library: Any, **config: Any) -> services.Services:
        built.append(services.build(AppConfig(**config), library, tmp_path / "scratch"))
        return built[-1]

    yield page
    for one in built:
        one.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; its driver keeps an event loop running, which other tests must not see."""
    from browser import CHROMIUM, FLAGS

    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


def pytest_collection_finish() -> None:
    """Keep what was imported out of the searches for garbage."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start a process more than there are cores: many tests wait, for time-outs or a browser."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return (cores or 1) + 1
