"""Errors become responses without what was asked, and bodies are bounded in what they cost."""

import asyncio
import base64
import json
import logging
import types
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.gradio_compat import (
    ErrorMiddleware,
    PayloadMiddleware,
    PendingMessages,
    log_tracebacks,
)
from app.query_files import QueryFiles
from app.services import describe_error

WORDS = "what-a-user-searches-for"


def broken(_request):
    raise ValueError(WORDS)


def telling(_request):
    return JSONResponse({"error": "a sentence"}, status_code=500)


def left(_request):
    raise ClientDisconnect


def breaking_off(_request):
    def parts():
        yield "begun"
        raise ValueError(WORDS)

    return StreamingResponse(parts(), media_type="text/event-stream")


@pytest.fixture
def client():
    answers = {"broken": broken, "telling": telling, "stream": breaking_off, "left": left}
    routes = [
        Route(f"{before}/{name}", answer)
        for before in ("/gradio_api", "/media")
        for name, answer in answers.items()
    ]
    return TestClient(ErrorMiddleware(Starlette(routes=routes)))


@pytest.mark.parametrize(("before", "status"), [("/gradio_api", 400), ("/media", 500)])
def test_errors_hide_their_message(client, caplog, before, status):
    caplog.set_level(logging.DEBUG)
    answer = client.get(f"{before}/broken")
    assert answer.status_code == status
    assert WORDS not in answer.text + caplog.text
    assert "ValueError in broken (" in caplog.text
    assert client.get(f"{before}/telling").status_code == status
    assert client.get(f"{before}/telling").json() == {"error": "a sentence"}


def test_broken_stream_ends(client, caplog):
    caplog.set_level(logging.DEBUG)
    assert client.get("/gradio_api/stream").text == "begun"
    assert WORDS not in caplog.text


def test_clients_that_go_away_are_no_error(client, caplog):
    client.get("/media/left")
    assert "ERROR" not in caplog.text
    client.get("/media/broken")
    assert "ERROR" in caplog.text


def test_gradio_tracebacks_are_logged_without_message(caplog, capsys):
    import traceback

    caplog.set_level(logging.DEBUG)
    module = types.ModuleType("prints")
    module.__dict__["traceback"] = traceback
    log_tracebacks(module.__dict__)
    try:
        broken(None)
    except ValueError:
        module.__dict__["traceback"].print_exc()
    assert "ValueError in broken" in caplog.text
    assert WORDS not in caplog.text + "".join(capsys.readouterr())
    assert module.__dict__["traceback"].format_exc is traceback.format_exc
    assert describe_error(ValueError(WORDS)) == "ValueError"


def test_sessions_with_running_events_keep_their_messages():
    following = types.SimpleNamespace(session_hash="following")
    queue = types.SimpleNamespace(
        event_ids_to_events={"event": following}, pending_event_ids_session={}
    )
    pending = PendingMessages(queue)
    for session in ("following", *map(str, range(1_000))):
        queue.pending_event_ids_session[session] = {"event"}
        pending[session] = ["a message"]
    assert len(pending) <= 101
    assert {"following", "999"} <= pending.keys() == queue.pending_event_ids_session.keys()


# ---- bodies

MEGABYTE = 1 << 20


class Page:
    """What `PayloadMiddleware` passes on of a body, and how much of it is read."""

    def __init__(self, folder: Path) -> None:
        self.files = QueryFiles(folder)
        self.passed: list[bytes] = []
        self.status = 0
        self.read = 0

    def ask(self, body: bytes, chunk: int = 1 << 16) -> int:
        """Send a body in chunks; return the status."""
        chunks = iter([body[at : at + chunk] for at in range(0, len(body), chunk)])

        async def receive():
            data = next(chunks, None)
            if data is None:
                return {"type": "http.disconnect"}
            self.read += len(data)
            return {"type": "http.request", "body": data, "more_body": self.read < len(body)}

        async def send(message):
            self.status = message.get("status", self.status)

        async def inner(scope, receive, send):
            self.passed.append((await receive())["body"])
            await JSONResponse({})(scope, receive, send)

        scope = {"type": "http", "method": "POST", "path": "/gradio_api/run/search", "headers": []}
        self.status = self.read = 0
        asyncio.run(PayloadMiddleware(inner, self.files)(scope, receive, send))
        return self.status


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(tmp_path)


def data_url(size: int) -> str:
    return "data:text/plain;base64," + base64.b64encode(b"x" * size).decode()


def filled(before: bytes, values: bytes, after: bytes = b"0]}", times: int = 30_000) -> bytes:
    return before + values * times + after


LONG_TEXT = filled(b'{"data": ["', b"long ", b'"]}', MEGABYTE)
COSTLY = {
    "lists": filled(b'{"data": [', b"[],"),
    "objects": filled(b'{"data": [', b'{"a":1},'),
    "numbers": filled(b'{"data": [', b"1,"),
    "texts": filled(b'{"data": [', b'"data:",'),
    "fields": filled(b'{"data": [{', b'"":0,', b'"":0}]}'),
    "levels": b"[" * 30_000,
    "a text": LONG_TEXT,
    "spaces": filled(b'{"data": [', b" ", times=2 * MEGABYTE),
    "after a data URL": filled(b'{"data": ["data:", ', b"[],"),
    "after a quotation mark": filled(rb'{"data": ["\"data:", ', b"[],"),
    "after a quotation mark in a data URL": filled(rb'{"data": ["data:\"", ', b"[],"),
    "after a backslash in a data URL": filled(rb'{"data": ["data:\\", ', b"[],"),
}


@pytest.mark.parametrize("chunk", [1 << 16, 1 << 22])
@pytest.mark.parametrize("body", COSTLY.values(), ids=COSTLY)
def test_costly_bodies_are_refused(page, body, chunk):
    assert page.ask(body, chunk) == 413
    assert page.passed == []


def test_costly_bodies_are_refused_unread(page):
    assert page.ask(filled(b'{"data": [', b"[],", times=MEGABYTE)) == 413
    assert page.read <= 1 << 16
    assert page.ask(LONG_TEXT) == 413
    assert page.read <= MEGABYTE + (1 << 16)


@pytest.mark.parametrize("begun", [0, 1, 5])
def test_large_data_urls_become_files(page, begun):
    sent = {"data": ["[,]" * 300, data_url(5 * MEGABYTE), data_url(3)], "x": data_url(30_000)}
    body = json.dumps(sent).encode()
    assert page.ask(body, chunk=body.index(b'"data:') + begun) == 200
    (body,) = page.passed
    assert len(body) < 1500
    passed = json.loads(body)
    assert [passed["data"][0], passed["data"][2]] == [sent["data"][0], sent["data"][2]]
    assert page.files.resolve(passed["data"][1]).stat().st_size == 5 * MEGABYTE
    assert page.files.resolve(passed["x"]).stat().st_size == 30_000


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({data_url(2 * MEGABYTE): 1}).encode(),
        json.dumps({"data": ['so "' + data_url(2 * MEGABYTE)]}).encode(),
    ],
    ids=["key", "within a text"],
)
def test_large_strings_that_are_no_files_are_refused(page, body):
    assert page.ask(body) == 413
    assert page.passed == []


def test_data_urls_that_cannot_be_saved_are_refused(page):
    assert page.ask(json.dumps({"data": ["data:x," + "y" * 30_000]}).encode()) == 400
    assert page.passed == []


def test_broken_off_bodies_are_not_answered(page):
    body = json.dumps({"data": ["red"]}).encode() + b" " * 10
    half = iter([{"type": "http.request", "body": body, "more_body": True}])

    async def receive():
        return next(half, {"type": "http.disconnect"})

    async def inner(scope, receive, send):
        raise AssertionError("half a body was answered")

    scope = {"type": "http", "method": "POST", "path": "/gradio_api/run/search", "headers": []}
    asyncio.run(PayloadMiddleware(inner, page.files)(scope, receive, None))
