"""What breaks while a request is answered, told without what was asked.

Gradio raises for many a request that makes no sense, with the values in the message; the server
would print both. Here the log gets the kind of the error and where it came from, and no values:
those may be a visitor's words or paths. Whoever asked gets a sentence.
"""

import asyncio
import inspect
import json
import logging
import re
import secrets
import sys
import traceback
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from types import ModuleType
from typing import Any

import gradio as gr
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.query_files import QueryFiles

_log = logging.getLogger(__name__)
_GRADIO = re.compile(r"/(gradio_api|static|assets|config|theme\.css)(/.*)?|/")
_FRAMES = 3


class Failures:
    """ASGI middleware: errors become answers.

    On Gradio's routes an error means that the request made no sense to it: what our functions
    raise comes out of them as values.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passed = _Passed(send)
        theirs = _GRADIO.fullmatch(scope["path"]) is not None
        try:
            await self._app(scope, receive, passed)
            await passed.release(400 if theirs else 500)
        except Exception as error:
            level = logging.DEBUG if theirs else logging.ERROR
            _log.log(level, "a request broke off: %s", described(error))
            await _answer(passed, theirs)(scope, receive, send)


def described(error: BaseException) -> str:
    """An error by its kind and its latest places, without its message."""
    places = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    told = ", in ".join(f"{one.name} ({one.filename}:{one.lineno})" for one in reversed(places))
    return f"{type(error).__name__} in {told}" if told else type(error).__name__


def _answer(passed: "_Passed", theirs: bool) -> ASGIApp:
    if passed.started:
        return _end
    if theirs:
        return PlainTextResponse("That request makes no sense here.", status_code=400)
    return PlainTextResponse(
        "Something unforeseen went wrong: the server's log says more.", status_code=500
    )


async def _end(scope: Scope, receive: Receive, send: Send) -> None:
    """Ends what had begun; where a length was announced, the connection breaks off by itself."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Passed:
    """Passes answers on; one that tells of an error is held until it is known what comes of it."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._held: list[Message] = []

    async def __call__(self, message: Message) -> None:
        failed = message["type"] == "http.response.start" and message["status"] == 500
        if failed or self._held:
            self._held.append(message)
        else:
            self.started = True
            await self._send(message)

    async def release(self, status: int) -> None:
        """Sends what was held, under another status."""
        for message in self._held:
            if message["type"] == "http.response.start":
                message["status"] = status
            await self._send(message)


class _Discreet:
    """Stands for the module `traceback` where Gradio would print errors with their values."""

    def print_exc(self, *_: object, **__: object) -> None:
        """Logs the error that is being handled, without its message."""
        error = sys.exc_info()[1]
        if error is not None:
            _log.debug("Gradio could make no sense of something: %s", described(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)


def keep_discreet(*modules: ModuleType) -> None:
    """Has modules of Gradio's tell the log of errors, and print none."""
    for module in modules:
        assert module.__dict__["traceback"], f"{module.__name__} prints otherwise now"
        module.__dict__["traceback"] = _Discreet()


_VALUES = re.compile(r"/gradio_api/(queue/join|run|api|call|mcp|cancel|reset)(/.*)?")
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")
_MOST_BYTES = 48 << 20
_MOST_HELD = 256 << 20
_SMALL_BYTES = 1 << 20


class Refused(Exception):
    """The values make no sense, or name something that is no file to search with."""


class PayloadCheck:
    """ASGI middleware: puts ids in the place of files, and refuses what is none.

    Args:
        app: What answers.
        files: The files that there are.
    """

    def __init__(self, app: ASGIApp, files: QueryFiles) -> None:
        self._app = app
        self._files = files
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or not _VALUES.fullmatch(scope["path"])
        ):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        try:
            _check_announced(scope)
            await self._read(body, receive)
            passed = self._checked(body)
        except _TooLarge:
            refusal = PlainTextResponse("The values are too large.", status_code=413)
            await refusal(scope, receive, send)
        except Refused:
            refusal = PlainTextResponse(
                "The values make no sense, or name a file otherwise than by the id that POST "
                "/query-files gives.",
                status_code=400,
            )
            await refusal(scope, receive, send)
        else:
            await self._app(_announcing(scope, len(passed)), replayed(passed, receive), send)
        finally:
            self._held -= len(body)

    async def _read(self, body: bytearray, receive: Receive) -> None:
        """The whole body; large ones take bounded memory together, until they are answered."""
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            part = message.get("body", b"")
            body += part
            self._held += len(part)
            crowded = self._held > _MOST_HELD and len(body) > _SMALL_BYTES
            if crowded or len(body) > _MOST_BYTES:
                raise _TooLarge
            more = message.get("more_body", False)

    def _checked(self, body: bytearray) -> bytes:
        """The body with ids in the place of files.

        Raises:
            Refused: if it names another file, or is no JSON.
        """
        if not body:
            return b""
        try:
            values = json.loads(body)
            if _HALF_CHARACTER.search(body):
                json.dumps(values, ensure_ascii=False).encode()  # Nobody else could write them.
            named = self._named(values)
        except (ValueError, RecursionError) as error:
            raise Refused from error
        return bytes(body) if named is values else json.dumps(named).encode()

    def _named(self, value: Any) -> Any:
        """The value itself if there is no file in it, or a copy with ids."""
        if isinstance(value, list):
            found = [self._named(one) for one in value]
            return found if any(a is not b for a, b in zip(found, value, strict=True)) else value
        if not isinstance(value, dict):
            return value
        if "path" in value and "meta" in value:
            return self._id_of(value["path"])
        named = {key: self._named(one) for key, one in value.items()}
        return named if any(named[key] is not value[key] for key in value) else value

    def _id_of(self, path: object) -> str:
        key = path.partition("/")[0] if isinstance(path, str) else ""
        if not self._files.knows(key):
            raise Refused
        return key


class _TooLarge(Exception):
    """The body is larger than any sensible one, or all bodies together are."""


def _check_announced(scope: Scope) -> None:
    length = Headers(scope=scope).get("content-length", "")
    if length.isdecimal() and (len(length) > 12 or int(length) > _MOST_BYTES):
        raise _TooLarge


def _announcing(scope: Scope, length: int) -> Scope:
    """The scope of a body of another length."""
    others = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {**scope, "headers": [*others, (b"content-length", str(length).encode())]}


def replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then what comes after it."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


Endpoint = Callable[..., Awaitable[Any]]
_Answer = dict[str, Any]

_CALL = re.compile(r"/gradio_api/(?P<way>run|api|call)/(?P<name>\w+)(/(?P<id>\w+))?/?")
_KEPT = 1_000
_OURS = "direct_"
_ALIVE_SECONDS = 15.0


class DirectCalls:
    """ASGI middleware: answers calls that carry nothing but values, and passes on all else.

    Args:
        app: What answers the rest.
        endpoints: By name; those that raise `gradio.Error` tell the caller its message.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = {
            name: (endpoint, inspect.signature(endpoint)) for name, endpoint in endpoints.items()
        }
        self._begun: OrderedDict[str, asyncio.Task[_Answer]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        found = _CALL.fullmatch(scope["path"]) if scope["type"] == "http" else None
        known = self._endpoints.get(found["name"]) if found else None
        if found is None or known is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "POST" and found["id"] is None:
            body = await Request(scope, receive).body()
            values = _values(body)
            if values is None:
                await self._app(scope, replayed(body, receive), send)
                return
            answer = await self._posted(found["way"], _calls_answer(*known, values))
            await answer(scope, receive, send)
        elif scope["method"] == "GET" and (found["id"] or "").startswith(_OURS):
            answer = self._told(self._begun.pop(found["id"], None))
            await answer(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _posted(self, way: str, answering: Coroutine[Any, Any, _Answer]) -> Response:
        if way != "call":
            answer = await answering
            return JSONResponse(answer, status_code=400 if "error" in answer else 200)
        key = _OURS + secrets.token_hex(16)
        self._begun[key] = asyncio.create_task(answering)
        while len(self._begun) > _KEPT:
            self._begun.popitem(last=False)[1].cancel()
        return JSONResponse({"event_id": key})

    @staticmethod
    def _told(task: asyncio.Task[_Answer] | None) -> Response:
        if task is None:
            sentence = "there is no such call, or its answer was given already"
            return JSONResponse({"error": sentence}, status_code=404)
        return StreamingResponse(_events(task), media_type="text/event-stream")


async def _calls_answer(
    endpoint: Endpoint, signature: inspect.Signature, values: list[Any]
) -> _Answer:
    try:
        signature.bind(*values)
    except TypeError:
        return {"error": "the values do not fit: GET /gradio_api/info tells which there are"}
    try:
        return {"data": [await endpoint(*values)]}
    except gr.Error as error:
        return {"error": error.message}
    except Exception as error:
        _log.error("an endpoint failed: %s", described(error))
        return {"error": "something unforeseen went wrong: the server's log says more"}


async def _events(task: asyncio.Task[_Answer]) -> AsyncIterator[str]:
    while not (await asyncio.wait([task], timeout=_ALIVE_SECONDS))[0]:
        yield "event: heartbeat\ndata: null\n\n"
    answer = task.result()
    if "error" in answer:
        yield f"event: error\ndata: {json.dumps(answer)}\n\n"
    else:
        yield f"event: complete\ndata: {json.dumps(answer['data'])}\n\n"


def _values(body: bytes) -> list[Any] | None:
    """The values of a call that carries nothing else."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        return None
    values = given.get("data") if isinstance(given, dict) and len(given) == 1 else None
    return values if isinstance(values, list) else None
