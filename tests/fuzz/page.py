"""What a page is sent: forms, values for Gradio, routes, names of files, ids and ranges."""

import asyncio
import base64
import contextlib
import inspect
import json
import re
from collections.abc import Coroutine
from functools import cache
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import Api
from app.auth import Authenticator
from app.config import AppConfig
from app.gradio_compat import PayloadMiddleware
from app.guard import Guard
from app.query_files import QueryFiles
from app.routes import media_router
from app.search import SearchForm, validated
from app.uploads import SavedFile, UploadError, clean_name, clean_path
from indexer import IndexerError

from . import world

FORMS = [
    '{"text": "rain", "kinds": ["text"], "after": "2026-01-01", "before": "2026-12-31"}',
    '{"similar": [1], "not_like": "rain", "balance": 1, "instruction": ""}',
    '{"similar": ["2", 1], "text": "a", "balance": 0.0, "folder": "x", "files": null}',
    '{"similar": [9223372036854775808]}',
    '{"similar": ["%s"]}' % ("9" * 5000),
    '{"text": "a", "before": "9999-12-31", "after": "0001-01-01"}',
    '{"text": "a", "before": "9999-12-31"}',
    '{"files": ["data:text/plain;base64,cmFpbg=="]}',
    '{"files": ["data:image/png;base64,é"]}',
    '{"files": [{"path": "\\u0000", "meta": {}}]}',
    '{"text": "\\ud800 x", "files": {"path": 3}, "kinds": {"a": 1}}',
]
CALLS = [
    json.dumps(
        {
            "search": {"text": "rain", "kinds": ["text"], "limit": 3, "offset": 0},
            "similar": {"segment_id": 1, "kinds": ["image"], "limit": 3, "offset": 0},
            "files": {"status": "indexed", "name": "a", "limit": 5, "offset": 0},
            "remove_files": {"item_ids": [77]},
        }
    ),
    '{"similar": {"segment_id": 1, "kinds": ["image"], "limit": 3, "offset": 1}}',
    '{"files": {"status": "failed", "name": "%_", "limit": 5, "offset": 99999999999999999999}}',
    '{"search": {"text": "rain", "offset": 99999999999999999999, "limit": true}}',
    '{"remove_files": {"item_ids": [99999999999999999999, -99999999999999999999, 77]}}',
    '{"similar": {"segment_id": 99999999999999999999}, "files": {"status": [], "name": "\\ud800"}}',
]
PAYLOADS = [
    '{"data": ["", {"path": "x", "meta": {"_type": "gradio.FileData"}}]}',
    '{"a": [[{"meta": 0, "path": "/etc/passwd"}]]}',
    "[" * 3000,
    '{"path": "../../etc/passwd", "meta": {}, "path": "kept"}',
    '{"data": [{"path": "kept/a.png", "meta": {}}, {"path": "x"}]}',
    b'\xff\xfe{\x00"\x00',
]
ROUTES = [
    "/\nlocalhost:7860",
    "/static/assets/x.js\n127.0.0.1",
    "/static/%252e%252e/x\n[::1]:7860",
    "/static/..%5cx\nlocalhost",
    "/static/a%3F/../x\nlocalhost",
    "/gradio_api/file=/etc/passwd\nx/health?",
    "/gradio_api/call/v2/search\nlocalhost\nhttp://localhost",
    "/uploads\nlocalhost\nhttp://[x",
    "/config\nlocalhost:x\nnull\nBasic bWU6cmlnaHQ=",
    "/config\n127.0.0.1:7860\n\nBearer a-token-for-programs",
    "/?token=a-token-for-programs\n[::1]:7860",
    "/media/1\nlocalhost:99999999\n\nBasic é",
    "/site/%0a/health\nlocalhost",
    b"/detail/2/?a=\x98\nlocalhost",
]
FILE_NAMES = [
    "Holiday/../cat.jpg",
    "C:\\Users\\me\\con.txt",
    "aux .txt/COM¹/nul",
    "CONIN$/conout$.txt",
    "a" * 119 + " b/" + "a" * 119 + ". b",
    "東" * 200 + ".jpg/e\u0301" + "\U0001f30a" * 100,
    "..\u202egpj.exe/\u0130/ﬁ",
    ".../. ./~",
]
DATA_ADDRESSES = [
    "data:image/png;base64,iVBORw0KGgo=",
    "data:TEXT/plain;charset=x;base64,cmFpbg==",
    "data:text/plain;base64,é",
    "data:text/plain;base64,a===\n",
    "data:,x",
]
IDS = ["media/1\nbytes=0-9", "media/1\nbytes=9-,0-0", "thumbnail/1\nbytes=-5", "page/1.png?side=1"]
IDS += ["media/9223372036854775808", "detail/2?search=x", "results/x?offset=99999999999999999999"]
IDS += ["media/" + "9" * 5000, "media/+1\nbytes=99999999999999999999-", "page/1.png?side=1e999"]

TOKEN = "a-token-for-programs"
_CALLS = ("search", "similar", "files", "remove_files")
_NEEDED = {"similar": {"segment_id": 1}, "remove_files": {"item_ids": []}}

# What Windows keeps for devices, with any extension and with white space before it.
_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE
)


def forms(data: bytes) -> None:
    """Any JSON is a search that the library answers, or is refused in a sentence."""
    values = _json(data)
    if not isinstance(values, dict):
        return
    services = world.services()
    try:
        services.searches.open(validated(SearchForm, values)).page()
    except IndexerError as error:
        assert str(error)
        assert str(services.files._folder) not in str(error)


def calls(data: bytes) -> None:
    """Any arguments of a call are answered, or refused in a sentence; the library stays."""
    values = _json(data)
    api = Api(world.services())
    for name, given in values.items() if isinstance(values, dict) else ():
        if name not in _CALLS or not isinstance(given, dict):
            continue
        known = inspect.signature(getattr(api, name)).parameters
        arguments = {key: value for key, value in given.items() if key in known}
        if name == "remove_files" and (named := arguments.get("item_ids")):
            kept = isinstance(named, list) and [one for one in named if one not in range(1, 50)]
            arguments["item_ids"] = kept
        arguments = _NEEDED.get(name, {}) | arguments
        with contextlib.suppress(IndexerError):
            json.dumps(getattr(api, name)(**arguments))
    assert sum(api.stats()["files"].values()) == 2


def payloads(data: bytes) -> None:
    """No value that goes through names a file; those that were sent are named by their ids."""
    files = QueryFiles(world.folder("uploaded"))
    files._register("kept", SavedFile(world.folder("uploaded") / "kept", 0))
    passed: list[bytes] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append((await receive())["body"])

    check = PayloadMiddleware(inner, files)
    scope = {"type": "http", "method": "POST", "path": "/gradio_api/run/search"}
    _finished(check({**scope, "headers": []}, _sending(data), _ignored))
    for one in passed:
        sent, held = (_inside(json.loads(body)) if body else [] for body in (data, one))
        assert not any({"path", "meta"} <= value.keys() for value in held)
        if not any({"path", "meta"} <= value.keys() for value in sent):
            assert one == data


def routes(data: bytes) -> None:
    """What the guard lets through names no folder above, and without a login only what may be."""
    target, host, origin, login, *_ = [*data.split(b"\n"), b"", b"", b""]
    path, _, query = target.partition(b"?")
    path = unquote(path.decode("latin-1"), errors="surrogateescape")
    headers = {b"host": host, b"origin": origin, b"authorization": login, b"cookie": login}
    passed: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        scope["query_string"].decode("ascii")
        passed.append(scope["path"])

    closed = AppConfig(token=TOKEN), AppConfig(host="0.0.0.0", auth=("me", "right"), token=TOKEN)
    for config in (AppConfig(), *closed):
        for method in ("GET", "POST"):
            passed.clear()
            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "query_string": query,
                "headers": [pair for pair in headers.items() if pair[1]],
                "scheme": "http",
                "server": ("127.0.0.1", 7860),
            }
            guard = Guard(inner, config, Authenticator(config.auth, token=config.token))
            _finished(guard(scope, _sending(b""), _ignored))
            for one in passed:
                assert ".." not in re.split(r"[/\\]", unquote(unquote(one))), one
                assert not one.startswith(("/gradio_api/file", "/gradio_api/proxy"))
                if config.token and not _right(login):
                    assert re.match(r"/(login|favicon\.ico|robots\.txt|health|site/)", one), one


def _right(login: bytes) -> bool:
    """Whether the password or token is in it; the last character of base64 may vary."""
    parts = login.split()
    return TOKEN.encode() in parts or b"me:right" in [_decoded(part) for part in parts]


def _decoded(part: bytes) -> bytes:
    with contextlib.suppress(ValueError):
        return base64.b64decode(part)
    return b""


def file_names(data: bytes) -> None:
    """A name that any system takes stays inside, and is not changed by being cleaned again."""
    text = world.text_of(data)
    for clean in (clean_path, clean_name):
        try:
            found = clean(text)
        except UploadError:
            continue
        assert str(clean(str(found))) == str(found)
        for part in [found] if isinstance(found, str) else found.parts:
            assert part
            assert part not in {".", ".."}
            assert part == part.rstrip(". "), part
            assert not set(part) & set('<>:"|?*\\/'), part
            assert all(character.isprintable() for character in part), part
            assert not _DEVICES.fullmatch(part), part
            # Room for a number, which a second file of that name gets.
            assert len(part.encode()) <= 240, part


def data_addresses(data: bytes) -> None:
    """An address that holds a file gives one in the folder for them with just these bytes."""
    address = world.text_of(data)
    files = world.services().files
    try:
        path = files.resolve(address)
    except UploadError:
        return
    assert path.resolve().is_relative_to(files._folder.resolve())
    assert path.read_bytes() == base64.b64decode(address.partition(",")[2])


def ids(data: bytes) -> None:
    """Any id and any range get an answer that says what it holds."""
    target, _, ranges = data.partition(b"\n")
    path, _, query = target.partition(b"?")
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/" + unquote(path.decode("latin-1"), errors="replace"),
        "query_string": bytes(
            one for one in query if one < 128
        ),  # The guard lets no other through.
        "headers": [(b"range", ranges.replace(b"\r", b" ").replace(b"\n", b" "))],
        "scheme": "http",
        "server": ("127.0.0.1", 7860),
    }
    asyncio.run(_routes()(scope, _sending(b""), send))
    start, *rest = sent
    assert start["status"] in {200, 206, 307, 400, 404, 405, 416, 422}, start
    length = dict(start["headers"]).get(b"content-length")
    if length is not None:
        assert int(length) == sum(len(one.get("body", b"")) for one in rest)


@cache
def _routes() -> ASGIApp:
    services = world.services()
    app = FastAPI(openapi_url=None)
    app.include_router(media_router(services.library, services.searches))
    return app


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _inside(value: Any) -> list[dict[str, Any]]:
    """All objects in a value."""
    if isinstance(value, list):
        return [found for one in value for found in _inside(one)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for one in value.values() for found in _inside(one))]


def _sending(body: bytes) -> Receive:
    """Somebody who sends a body and then listens."""
    waiting = [body]

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": waiting.pop(), "more_body": False}

    return receive


async def _ignored(message: Message) -> None:
    """Drop what is sent."""


def _finished(waiting: Coroutine[Any, Any, None]) -> None:
    """Runs what waits for nothing; a loop of its own would take longer than all the rest."""
    try:
        waiting.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")
