"""A Hugging Face hub on this machine, for tests of downloads."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from embedder.dual.families import SIGLIP2
from embedder.hub import HubFile, HubModel

COMMIT = "1234567890" * 4
REPOSITORY = "team/model"
TINY = Path(__file__).with_name("dual") / "siglip2"
TINY_FILES = {path.relative_to(TINY).as_posix(): path.read_bytes() for path in TINY.rglob("*.*")}
TINY_MODEL = HubModel(
    REPOSITORY,
    tuple(HubFile(name) for name in TINY_FILES),
    COMMIT,
    summary="people & scenes",
    megabytes=1,
    languages="all languages",
    speed="50 a second",
    licence="MIT",
)


class Hub:
    """A hub with one repository, which may misbehave.

    Attributes:
        address: Its URL.
        files: What it has, by name.
        requests: Paths, and the headers Range and Authorization, of all requests.
        answer: Answers requests for files, in place of `serve`.
        listing: Changes what it says of its files; may be a body of any kind.
    """

    def __init__(self, address: str, files: Mapping[str, bytes]) -> None:
        self.address = address
        self.files = dict(files)
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.answer: Callable[[BaseHTTPRequestHandler, bytes], None] = serve
        self.listing: Callable[[dict], object] = lambda listing: listing

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        headers = request.headers
        self.requests.append((request.path, headers["Range"], headers["Authorization"]))
        path = request.path.partition("?")[0]
        if path.startswith(f"/api/models/{REPOSITORY}"):
            listing = {"sha": COMMIT, "siblings": [listed(*file) for file in self.files.items()]}
            stated = self.listing(listing)
            body = stated if isinstance(stated, bytes) else json.dumps(stated).encode()
            send(request, 200, body)
        elif (name := path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")) in self.files:
            self.answer(request, self.files[name])
        else:
            send(request, 404, b"")

    @property
    def ranges(self) -> list[str | None]:
        """The positions from which the weights were asked for."""
        return [start for path, start, _ in self.requests if path.endswith(".onnx")]


def listed(name: str, content: bytes) -> dict[str, object]:
    """Return what the hub says of a file: of large ones, their SHA-256 too."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    one: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": blob}
    if len(content) > 1000:
        one["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return one


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    """Send a response."""
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def serve(request: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer a request for a file as a good server does."""
    if not (asked := request.headers["Range"]):
        return send(request, 200, content)
    start = int(asked.removeprefix("bytes=").removesuffix("-"))
    stated = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return send(request, 206, content[start:], Content_Range=stated)


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Serve a hub meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.respond(self)

        def log_message(self, *_arguments: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(OSError):  # the client went away
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_port}", files)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def only_hub(
    files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Iterator[Hub]:
    """Serve the hub that this machine uses, and have it keep models in an empty folder."""
    with serving(files) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
        monkeypatch.setattr("embedder.transfer._PAUSE_SECONDS", 0.0)
        monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


@contextmanager
def tiny_hub(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Hub]:
    """Serve a hub whose tiny model is `siglip2` here, and is not on this machine."""
    monkeypatch.setitem(SIGLIP2.models, "", TINY_MODEL)  # type: ignore[arg-type]
    with only_hub(TINY_FILES, monkeypatch, folder) as hub:
        yield hub
