"""Answers calls of named endpoints in Gradio's place, which costs less time than its sessions."""

import asyncio
import inspect
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import gradio as gr
from anyio import to_thread
from cachetools import LRUCache
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.gradio_compat import VALUES

Endpoint = Callable[..., Any]
"""A named endpoint; raises `gradio.Error` with a message for the caller."""

_Result = dict[str, Any]

_CALL_ROUTE = re.compile(r"/gradio_api/(?P<way>run|api|call)/(?P<name>\w+)(/(?P<id>\w+))?/?")
_MAX_PENDING_CALLS = 1_000
_ID_PREFIX = "direct_"
_HEARTBEAT_SECONDS = 15.0


class _PendingCalls(LRUCache[str, "asyncio.Task[_Result]"]):
    """Calls whose result was not fetched yet; the oldest are cancelled for newer ones."""

    def popitem(self) -> tuple[str, "asyncio.Task[_Result]"]:
        """Cancel the oldest call."""
        key, task = super().popitem()
        task.cancel()
        return key, task


class DirectCallMiddleware:
    """Answers calls of named endpoints that carry nothing but values; passes on all else.

    The values are those that `PayloadMiddleware` has parsed and checked.

    Args:
        app: Answers the rest.
        endpoints: By name.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = {
            name: (endpoint, inspect.signature(endpoint)) for name, endpoint in endpoints.items()
        }
        self._pending = _PendingCalls(_MAX_PENDING_CALLS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        route = _CALL_ROUTE.fullmatch(scope["path"]) if scope["type"] == "http" else None
        endpoint = self._endpoints.get(route["name"]) if route else None
        app = self._app
        if route is None or endpoint is None:
            pass
        elif scope["method"] == "POST" and route["id"] is None:
            if (values := _only_values(scope[VALUES])) is not None:
                app = await self._call(route["way"], _call(*endpoint, values))
        elif scope["method"] == "GET" and (route["id"] or "").startswith(_ID_PREFIX):
            app = self._result(route["id"])
        await app(scope, receive, send)

    async def _call(self, way: str, running: Coroutine[Any, Any, _Result]) -> Response:
        if way != "call":
            result = await running
            return JSONResponse(result, status_code=400 if "error" in result else 200)
        key = _ID_PREFIX + secrets.token_hex(16)
        self._pending[key] = asyncio.create_task(running)
        return JSONResponse({"event_id": key})

    def _result(self, key: str) -> Response:
        task = self._pending.pop(key, None)
        if task is None:
            return JSONResponse({"error": "unknown call, or already fetched"}, 404)
        return StreamingResponse(_stream(task), media_type="text/event-stream")


async def _call(endpoint: Endpoint, signature: inspect.Signature, values: list[Any]) -> _Result:
    try:
        signature.bind(*values)
    except TypeError:
        return {"error": "wrong number of values: GET /gradio_api/info lists the parameters"}
    try:
        return {"data": [await to_thread.run_sync(partial(endpoint, *values))]}
    except gr.Error as error:
        return {"error": error.message}


async def _stream(task: "asyncio.Task[_Result]") -> AsyncIterator[str]:
    while not (await asyncio.wait([task], timeout=_HEARTBEAT_SECONDS))[0]:
        yield "event: heartbeat\ndata: null\n\n"
    result = task.result()
    if "error" in result:
        yield f"event: error\ndata: {json.dumps(result)}\n\n"
    else:
        yield f"event: complete\ndata: {json.dumps(result['data'])}\n\n"


def _only_values(call: object) -> list[Any] | None:
    """Return the values of a call that carries nothing else, or None."""
    values = call.get("data") if isinstance(call, dict) and len(call) == 1 else None
    return values if isinstance(values, list) else None
