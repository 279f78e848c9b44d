"""How scripts, styles and texts reach browsers: compressed, and asked for once in a version.

The page's own scripts and styles are served below a path that names their version, and Gradio's
have a hash in their names. So browsers keep them for good, and the server keeps them as they are
sent: a first visit asks for forty of them, so that each header of theirs counts, too.
"""

import asyncio
import hashlib
import re
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import brotli
from cachetools import LRUCache
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""The headers of what never changes at its address."""

_GZIP_LEVEL = 5  # Level 9 takes 1.7 times as long for 3 % fewer bytes of the page.
_BROTLI_QUALITY = 5
# What is kept is compressed again once the visit that asked for it is over: by quality 10, which
# leaves 93 % of what quality 5 does, but takes 0.4 s for all and would make the visit wait.
_BEST_BROTLI_QUALITY = 10
_QUIET_SECONDS = 10.0
_VERSION_DIGITS = 12
_VERSIONED = re.compile(rf"/(assets|site/[0-9a-f]{{{_VERSION_DIGITS}}})/.+")
_KEPT_BYTES = 32 << 20
_MIN_COMPRESSED_BYTES = 500
_TEXTS = re.compile(r"(text/|application/(json|javascript|manifest\+json)|image/svg\+xml)")
_EVENTS = "text/event-stream"
_KEPT_HEADERS = ("content-type", "content-encoding", "vary")
_EVENTS_OF_THE_PAGE = "/gradio_api/queue/data"


def version_of(assets: Path) -> str:
    """Return what changes whenever a script or a style does."""
    digest = hashlib.sha256()
    for path in sorted(assets.glob("*.*s")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:_VERSION_DIGITS]


class CompressionMiddleware:
    """Compresses texts and the page's events, but no original files: their downloads are resumed.

    Events for programs stay as they are, since not all of them could read such a stream.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if scope["type"] != "http" or scope["path"].startswith("/media/"):
            await self._app(scope, receive, send)
            return
        events = scope["path"] == _EVENTS_OF_THE_PAGE
        sender = _CompressingSend(send, _encoding(scope), events=events)
        others = [header for header in scope["headers"] if header[0] != b"accept-encoding"]
        # Gradio would compress, too, but less.
        await self._app({**scope, "headers": others}, receive, sender)


class _CompressingSend:
    """Sends an answer, compressed if it is a text that is worth it."""

    def __init__(self, send: Send, encoding: str, *, events: bool) -> None:
        self._send = send
        self._encoding = encoding
        self._events = events
        self._start: Message | None = None
        self._compress: Callable[[bytes, bool], bytes] | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            await self._send(self._begun(start, body, more))
        if self._compress is not None and message["type"] == "http.response.body":
            message = {**message, "body": self._compress(body, more)}
        await self._send(message)

    def _begun(self, start: Message, body: bytes, more: bool) -> Message:
        """Decide whether to compress, by the headers and the first part of the body."""
        headers = MutableHeaders(raw=list(start["headers"]))
        kind = headers.get("content-type", "")
        is_stream = kind.startswith(_EVENTS)
        is_whole = "content-range" not in headers and "content-encoding" not in headers
        if not is_whole or not _TEXTS.match(kind) or (is_stream and not self._events):
            return start
        headers.add_vary_header("Accept-Encoding")
        if self._encoding and (more or len(body) >= _MIN_COMPRESSED_BYTES):
            self._compress = _COMPRESSORS[self._encoding](is_stream)
            headers["content-encoding"] = self._encoding
            del headers["content-length"]
        return {**start, "headers": headers.raw}


def _brotli(is_stream: bool) -> Callable[[bytes, bool], bytes]:
    compressor = brotli.Compressor(quality=_BROTLI_QUALITY, mode=brotli.MODE_TEXT)

    def compress(part: bytes, more: bool) -> bytes:
        begin = compressor.process(part)
        if not more:
            return bytes(begin + compressor.finish())
        return bytes(begin + compressor.flush() if is_stream else begin)

    return compress


def _gzip(is_stream: bool) -> Callable[[bytes, bool], bytes]:
    compressor = zlib.compressobj(_GZIP_LEVEL, wbits=zlib.MAX_WBITS | 16)

    def compress(part: bytes, more: bool) -> bytes:
        begin = compressor.compress(part)
        if not more:
            return begin + compressor.flush()
        return begin + compressor.flush(zlib.Z_SYNC_FLUSH) if is_stream else begin

    return compress


_COMPRESSORS = {"br": _brotli, "gzip": _gzip}
"""By the name of the encoding, the better one first; events are sent on at once."""


def _encoding(scope: Scope) -> str:
    """Return the best encoding that a client accepts; empty for none."""
    accepted = Headers(scope=scope).get("accept-encoding", "")
    return next((name for name in _COMPRESSORS if name in accepted), "")


class AssetMiddleware:
    """Keeps scripts and styles as they are sent, and has browsers keep them.

    Args:
        app: Answers the requests.
        quiet_seconds: After how long what was asked for is compressed better.
    """

    def __init__(self, app: ASGIApp, quiet_seconds: float = _QUIET_SECONDS) -> None:
        self._app = app
        self._quiet_seconds = quiet_seconds
        self._kept = LRUCache[tuple[str, str], list[Message]](_KEPT_BYTES, getsizeof=_body_bytes)
        self._improving = ThreadPoolExecutor(max_workers=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        is_read = scope["type"] == "http" and scope["method"] == "GET"
        if not is_read or not _VERSIONED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        encoding = _encoding(scope)
        messages = self._kept.get((scope["path"], encoding))
        if messages is None:
            messages = await self._answer(scope, receive)
            if messages[0]["status"] == 200 and _body_bytes(messages) <= _KEPT_BYTES:
                self._kept[scope["path"], encoding] = messages
                if encoding == "br":
                    loop = asyncio.get_running_loop()
                    loop.call_later(self._quiet_seconds, self._improving.submit, _improve, messages)
        for message in list(messages):
            await send(dict(message))  # Others change its headers.

    async def _answer(self, scope: Scope, receive: Receive) -> list[Message]:
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, collect)
        return _as_kept(messages) if messages[0]["status"] == 200 else messages


def _as_kept(messages: list[Message]) -> list[Message]:
    """Return an answer in one piece, with the headers that it needs and no others."""
    body = b"".join(message.get("body", b"") for message in messages)
    headers = Headers(raw=messages[0]["headers"])
    return _whole({name: headers[name] for name in _KEPT_HEADERS if name in headers}, body)


def _whole(headers: dict[str, str], body: bytes) -> list[Message]:
    raw = MutableHeaders({**headers, **FOREVER, "content-length": str(len(body))}).raw
    start = {"type": "http.response.start", "status": 200, "headers": raw}
    return [start, {"type": "http.response.body", "body": body}]


def _improve(messages: list[Message]) -> None:
    """Compress an answer that is kept again, as well as Brotli does in a moment."""
    headers, body = Headers(raw=messages[0]["headers"]), messages[1]["body"]
    if headers.get("content-encoding") == "br":
        text, mode = brotli.decompress(body), brotli.MODE_TEXT
        smaller = brotli.compress(text, mode=mode, quality=_BEST_BROTLI_QUALITY)
        messages[:] = _whole({name: headers[name] for name in _KEPT_HEADERS}, smaller)


def _body_bytes(messages: list[Message]) -> int:
    return sum(len(message.get("body", b"")) for message in messages)
