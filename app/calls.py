"""Calls of named endpoints, answered without Gradio in between.

    POST /gradio_api/run/{name}     {"data": [values]} to {"data": [answer]}; /api/{name} likewise
    POST /gradio_api/call/{name}    {"data": [values]} to {"event_id": id}
    GET  /gradio_api/call/{name}/{id}    the answer, as a server-sent event

Gradio makes a session for each call that belongs to none, and looks twenty times a second whether
there is an answer: that takes longer than most searches. Calls that do belong to a session, as
those of its own client and of the page, are left to it, and so is telling what endpoints there are.
"""

import asyncio
import inspect
import json
import logging
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.failures import described
from app.payloads import replayed

_log = logging.getLogger(__name__)

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
            answer = await self._posted(found["way"], _answer(*known, values))
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


async def _answer(endpoint: Endpoint, signature: inspect.Signature, values: list[Any]) -> _Answer:
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
