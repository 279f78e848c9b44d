"""Keeps requests from naming files of this machine to Gradio.

Gradio takes `{"path": …, "meta": {"_type": "gradio.FileData"}}` anywhere in the values that it is
sent for a file, copies it (or downloads it, if the path is a web address) and hands the copy on.
Whether the path is one that it uploaded is checked only for pages that were started by
`Blocks.launch`, not for mounted ones like this. So Gradio never sees a file: where its own clients
name one that they have sent before, the file's id is put in its place, and others are refused.
"""

import json
import re
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.query_files import QueryFiles

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
