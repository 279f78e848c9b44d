"""Keeps requests from naming files of this machine to Gradio.

Gradio takes `{"path": …, "meta": {"_type": "gradio.FileData"}}` anywhere in the values that it is
sent for a file, copies it (or downloads it, if the path is a web address) and hands the copy on.
Whether the path is one that it uploaded is checked only for pages that were started by
`Blocks.launch`, not for mounted ones like this. So it is checked here, before Gradio sees it.
"""

import json
import re
from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_VALUES = re.compile(r"/gradio_api/(queue/join|run|api|call|mcp|cancel|reset)(/.*)?")
_MOST_BYTES = 48 << 20


class PayloadCheck:
    """ASGI middleware: refuses values that name a file outside of Gradio's upload folder."""

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self._app = app
        self._uploads = uploads.resolve()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or not _VALUES.fullmatch(scope["path"])
        ):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            refusal = PlainTextResponse("The values are too large.", status_code=413)
            await refusal(scope, receive, send)
        elif not self._harmless(body):
            refusal = PlainTextResponse(
                "Files are named by the id that POST /query-files gives.", status_code=400
            )
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _replayed(body, receive), send)

    def _harmless(self, body: bytes) -> bool:
        try:
            return self._allowed(json.loads(body)) if body else True
        except (ValueError, RecursionError):
            return False

    def _allowed(self, value: object) -> bool:
        if isinstance(value, list):
            return all(map(self._allowed, value))
        if not isinstance(value, dict):
            return True
        if "path" in value and "meta" in value and not self._uploaded(value["path"]):
            return False
        return all(map(self._allowed, value.values()))

    def _uploaded(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        try:
            found = Path(path).resolve()
            return found.is_relative_to(self._uploads) and found.is_file()
        except (OSError, ValueError):
            return False


async def _read(receive: Receive) -> bytes | None:
    """The whole body, or None if it is too large."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MOST_BYTES:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read already, then what comes after it."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
