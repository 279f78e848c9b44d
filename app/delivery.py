"""How scripts, styles and texts reach browsers: compressed, and asked for once in a version.

The page's own scripts and styles are served below a path that names their version, and Gradio's
have a hash in their names. So browsers keep them for good, and the server keeps them as they are
sent: a first visit asks for seventy of them.
"""

import hashlib
import re
from pathlib import Path

from cachetools import LRUCache
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""The headers of what never changes at its address."""

_GZIP_LEVEL = 5  # Level 9 takes 1.7 times as long for 3 % fewer bytes of the page.
_VERSION_DIGITS = 12
_VERSIONED = re.compile(rf"/(assets|site/[0-9a-f]{{{_VERSION_DIGITS}}})/.+")
_KEPT_BYTES = 32 << 20
_ENCODINGS = ("gzip", "br")


def version_of(assets: Path) -> str:
    """Return what changes whenever a script or a style does."""
    digest = hashlib.sha256()
    for path in sorted(assets.glob("*.*s")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:_VERSION_DIGITS]


class CompressionMiddleware:
    """Compresses responses, but not original files: broken downloads are resumed by ranges."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._compressed = GZipMiddleware(app, compresslevel=_GZIP_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        is_file = scope["type"] == "http" and scope["path"].startswith("/media/")
        await (self._app if is_file else self._compressed)(scope, receive, send)


class AssetMiddleware:
    """Keeps scripts and styles as they are sent, and has browsers keep them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._kept = LRUCache[tuple[object, ...], list[Message]](_KEPT_BYTES, getsizeof=_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        is_read = scope["type"] == "http" and scope["method"] == "GET"
        if not is_read or not _VERSIONED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        accepted = Headers(scope=scope).get("accept-encoding", "")
        key = (scope["path"], *(name in accepted for name in _ENCODINGS))
        messages = self._kept.get(key)
        if messages is None:
            messages = await self._answer(scope, receive)
            if messages[0]["status"] == 200 and _body_bytes(messages) <= _KEPT_BYTES:
                self._kept[key] = messages
        for message in messages:
            await send(dict(message))  # Others change its headers.

    async def _answer(self, scope: Scope, receive: Receive) -> list[Message]:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, collect)
        if messages[0]["status"] == 200:
            headers = MutableHeaders(raw=list(messages[0]["headers"]))
            headers.update(FOREVER)
            messages[0]["headers"] = headers.raw
        return messages


def _body_bytes(messages: list[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in messages)
