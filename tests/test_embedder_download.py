"""Models are downloaded from the hub, whatever the network and the server do."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from embedder import EmbedderUnavailable
from embedder.download import (
    FetchProgress,
    FetchStopped,
    fetch,
    local_folder,
    own_folder,
)
from embedder.hub import HubFile, HubModel

COMMIT = "1234567890" * 4
WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)
FILES = {
    "config.json": b'{"model_type": "siglip"}',
    "onnx/vision_model.onnx": WEIGHTS,
    "README.md": b"not needed",
}
MODEL = HubModel("team/model", (HubFile("config.json"), HubFile("onnx/vision_model.onnx")))


class Hub:
    """A hub on this machine, which may misbehave.

    Attributes:
        files: What it has, by name.
        requests: Paths, and the headers Range and Authorization, of all requests.
        answer: Answers requests for files, in place of `serve`.
        listing: Changes what it says of its files.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files = dict(FILES)
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.answer: Callable[[BaseHTTPRequestHandler, bytes], None] = serve
        self.listing: Callable[[dict], object] = lambda listing: listing

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        headers = request.headers
        self.requests.append((request.path, headers["Range"], headers["Authorization"]))
        path = request.path.partition("?")[0]
        if path.startswith("/api/models/team/model"):
            listing = {"sha": COMMIT, "siblings": [listed(*file) for file in self.files.items()]}
            send(request, 200, json.dumps(self.listing(listing)).encode())
        elif (name := path.removeprefix(f"/team/model/resolve/{COMMIT}/")) in self.files:
            self.answer(request, self.files[name])
        else:
            send(request, 404, b"")

    @property
    def ranges(self) -> list[str | None]:
        """The positions from which the weights were asked for."""
        return [start for path, start, _ in self.requests if path.endswith(".onnx")]


def listed(name: str, content: bytes) -> dict[str, object]:
    """What the hub says of a file: of large ones, their SHA-256 too."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    one: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
    if len(content) > 1000:
        one["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return one


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def serve(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer as a good server does."""
    if not (asked := request.headers["Range"]):
        return send(request, 200, content)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    stated = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return send(request, 206, content[start:], Content_Range=stated)


@contextmanager
def serving() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.respond(self)

        def log_message(self, *_arguments: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this machine may reach, and empty folders for models."""
    with serving() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("embedder.transfer._PAUSE_SECONDS", 0.0)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def content(folder: Path) -> dict[str, bytes]:
    """All files in a folder but ours, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def needed() -> dict[str, bytes]:
    return {name: FILES[name] for name in ("config.json", "onnx/vision_model.onnx")}


def test_what_is_needed_is_downloaded_once(hub: Hub):
    seen: list[FetchProgress] = []
    assert local_folder(MODEL) is None
    folder = fetch(MODEL, progress=seen.append)
    assert folder == own_folder(MODEL) == local_folder(MODEL)
    assert content(folder) == needed()
    size = sum(map(len, needed().values()))
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert (seen[0].done, seen[-1].done) == (0, size)
    assert {one.total for one in seen} == {size}
    before = len(hub.requests)
    assert fetch(MODEL) == folder
    assert len(hub.requests) == before


def test_stopped_download_goes_on_from_there(hub: Hub):
    def stopping(seen: FetchProgress) -> None:
        stop.set() if seen.done > 100_000 else None

    stop = Event()
    with pytest.raises(FetchStopped, match="goes on from there"):
        fetch(MODEL, progress=stopping, stopped=stop.is_set)
    assert local_folder(MODEL) is None
    seen: list[FetchProgress] = []
    folder = fetch(MODEL, progress=seen.append)
    assert seen[0].done > 100_000
    assert content(folder) == needed()
    assert hub.ranges[0] is None
    assert int(re.findall(r"\d+", hub.ranges[1])[0]) > 90_000


def test_dropped_connections_are_taken_up_again(hub: Hub):
    def drop(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(whole) - start))
        request.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        request.end_headers()
        request.wfile.write(whole[start : start + 40_000])

    hub.answer = drop
    assert content(fetch(MODEL)) == needed()
    starts = [int((asked or "bytes=0-")[6:-1]) for asked in hub.ranges]
    assert starts == [position * 40_000 for position in range(8)]


def test_server_without_ranges_sends_all_of_it_again(hub: Hub):
    with pytest.raises(FetchStopped):
        fetch(MODEL, stopped=lambda: len(hub.ranges) > 0)
    hub.answer = lambda request, whole: send(request, 200, whole)
    assert content(fetch(MODEL)) == needed()


def test_file_that_changed_between_two_runs_is_begun_anew(hub: Hub):
    seen: list[FetchProgress] = []
    with pytest.raises(FetchStopped):
        fetch(MODEL, progress=seen.append, stopped=lambda: bool(seen) and seen[-1].done > 100_000)
    hub.files["onnx/vision_model.onnx"] = WEIGHTS[::-1]
    assert content(fetch(MODEL))["onnx/vision_model.onnx"] == WEIGHTS[::-1]
    assert hub.ranges == [None, None]


def test_wrong_content_is_refused_and_deleted(hub: Hub):
    hub.answer = lambda request, whole: serve(request, whole[:-1] + b"!")
    with pytest.raises(EmbedderUnavailable, match=r"config\.json has another hash"):
        fetch(MODEL)
    assert local_folder(MODEL) is None
    assert content(own_folder(MODEL)) == {}
    assert list((own_folder(MODEL) / ".partial").iterdir()) == []
    hub.answer = serve
    assert content(fetch(MODEL)) == needed()


@pytest.mark.parametrize("length", [0, 10, 10**15])
def test_false_length_gives_no_wrong_file(hub: Hub, length: int):
    hub.answer = lambda request, whole: send(request, 200, whole, Content_Length=str(length))
    with pytest.raises(EmbedderUnavailable, match=r"could not be downloaded|another hash"):
        fetch(MODEL)
    assert content(own_folder(MODEL)) == {}


def test_endless_file_is_cut_off(hub: Hub):
    def endless(request: BaseHTTPRequestHandler, _whole: bytes) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 100_000)

    hub.answer = endless
    with pytest.raises(EmbedderUnavailable, match="longer than the 24 bytes"):
        fetch(MODEL)


def test_token_is_sent_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving() as other:
        hub.answer = lambda request, _whole: send(
            request, 302, b"", Location=other.address + request.path
        )
        assert content(fetch(MODEL)) == needed()
        assert {authorization for *_, authorization in hub.requests} == {"Bearer hf_secret"}
        assert [authorization for *_, authorization in other.requests] == [None, None]


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "check the name"), (401, "set HF_TOKEN"), (503, "status 503")]
)
def test_refusal_says_what_to_do(hub: Hub, status: int, advice: str):
    hub.answer = lambda request, _whole: send(request, status, b"")
    with pytest.raises(EmbedderUnavailable, match=advice):
        fetch(MODEL)
    assert local_folder(MODEL) is None


def test_busy_server_is_asked_again(hub: Hub):
    def busy(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        serve(request, whole) if len(hub.requests) > 3 else send(request, 503, b"")

    hub.answer = busy
    assert content(fetch(MODEL)) == needed()


def test_unknown_repository_leaves_nothing_behind(hub: Hub):
    with pytest.raises(EmbedderUnavailable, match="no such model"):
        fetch(HubModel("team/other", MODEL.files))
    assert not (own_folder(MODEL).parent).exists()


def test_no_network_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EmbedderUnavailable, match="check the connection"):
        fetch(MODEL)


def test_offline_mode_causes_no_traffic(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EmbedderUnavailable, match="HF_HUB_OFFLINE"):
        fetch(MODEL)
    assert hub.requests == []
