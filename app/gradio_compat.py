"""Everything that works around Gradio, written for Gradio 6.31.

- `LocalizedBlocks` sends each page its first content in the user's language.
- `mount` adds the page to the application, without what Gradio would repeat at each request.
- `ErrorMiddleware` answers errors without what was asked: Gradio raises for many an invalid
  request with the values in the message, and the server would print both.
- `PayloadMiddleware` refuses Gradio's file values, which could name any file of this machine, and
  puts the ids of uploaded files in their place.

`app.direct_calls` answers calls of named endpoints in Gradio's place.
"""

import json
import logging
import re
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import gradio as gr
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from gradio import queueing, route_utils, routes
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import texts
from app.delivery import FOREVER
from app.query_files import QueryFiles
from app.services import Services, describe_error
from app.uploads import UploadError

_log = logging.getLogger(__name__)


# ---- languages


class LocalizedBlocks(gr.Blocks):
    """A page whose first content is in the language of the request.

    Gradio sends all browsers one configuration, with the content of all parts, which it makes when
    the page is mounted. Here there is one for each language.
    """

    _configs: Mapping[str, Any]

    @property
    def config(self) -> Any:
        """Return the configuration for the language of the request."""
        return self._configs[texts.language()]

    @config.setter
    def config(self, value: object) -> None:
        """Make the configurations again: Gradio sets what `get_config_file` has just returned."""
        self._configs = {}
        for language in texts.LANGUAGES:
            with texts.using(language):
                self._configs[language] = self.get_config_file()


def localize(block: gr.blocks.Block, attribute: str, content: Callable[[], object]) -> None:
    """Have an attribute of a part of the page made for each language."""
    others = block.get_config

    block.get_config = lambda *args: others(*args) | {attribute: str(content())}  # type: ignore[method-assign]


# ---- mounting the page

_MAX_SESSIONS = 100  # 0.1 MB each; a page whose session is gone gets another one.
_MAX_WAITING_EVENTS = 1_000
_QUEUE_POLL_SECONDS = 0.02


def mount(app: FastAPI, blocks: gr.Blocks, services: Services, **appearance: Any) -> None:
    """Mount Gradio's page, with its debugging, sharing and file serving turned off.

    Args:
        app: Gets the page's routes.
        blocks: The page.
        services: Whose limits hold.
        appearance: Further arguments of `gradio.mount_gradio_app`.
    """
    for module in (queueing, route_utils, routes):
        log_tracebacks(module.__dict__)

    @app.get("/static/js/iframeResizer.contentWindow.min.js")
    def resizer() -> Response:  # For frames in pages of other sites, which may not show this one.
        return Response(media_type="text/javascript", headers=FOREVER)

    blocks.state_session_capacity = _MAX_SESSIONS
    gr.mount_gradio_app(
        app,
        blocks.queue(default_concurrency_limit=8, max_size=_MAX_WAITING_EVENTS),
        path="/",
        server_name=services.config.host,
        server_port=services.config.port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[str(services.library.directory)],
        show_error=True,
        max_file_size=services.config.max_upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=True,
        **appearance,
    )
    for block in blocks.blocks.values():
        # Gradio asks each part of the page for its configuration at every call. It never changes
        # here, since all updates are sent to the page by events.
        block.get_config = partial(dict, block.get_config())  # type: ignore[method-assign]
    queue = blocks._queue
    queue.sleep_when_free = _QUEUE_POLL_SECONDS  # By default it polls every millisecond.
    queue.pending_messages_per_session = PendingMessages(queue)  # type: ignore[assignment]
    # Its statistics of the latest 10,000 events, made again with each event, are not shown.
    queue.ANALYTICS_MAX_EVENTS, queue.ANAYLTICS_CACHE_FREQUENCY = 1, sys.maxsize
    blocks.has_launched = True  # Otherwise Gradio takes any path for an uploaded file.


class PendingMessages(OrderedDict[str, Any]):
    """What sessions have not fetched; of those without an event that runs, the latest stay.

    Gradio keeps 2,000 sessions with all that their pages were to show, and drops the oldest, even
    one that follows a long ingest.
    """

    def __init__(self, queue: queueing.Queue) -> None:
        super().__init__()
        self._queue = queue

    def __setitem__(self, session: str, messages: Any) -> None:
        super().__setitem__(session, messages)
        running = {event.session_hash for event in self._queue.event_ids_to_events.values()}
        ended = [session for session in self if session not in running]
        for old in ended[:-_MAX_SESSIONS]:
            del self[old]
            self._queue.pending_event_ids_session.pop(old, None)


class _QuietTraceback:
    """Replaces the module `traceback` where Gradio would print errors with their values."""

    def print_exc(self, *_: object, **__: object) -> None:
        """Log the error that is being handled, without its message."""
        error = sys.exc_info()[1]
        if error is not None:
            _log.debug("Gradio refused a request: %s", describe_error(error))

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)


def log_tracebacks(namespace: dict[str, Any]) -> None:
    """Have a module of Gradio's log errors instead of printing them."""
    assert "traceback" in namespace, f"{namespace['__name__']} prints errors in another way now"
    namespace["traceback"] = _QuietTraceback()


# ---- errors

_GRADIO_ROUTES = re.compile(r"/(gradio_api|static|assets|config|theme\.css)(/.*)?|/")


class ErrorMiddleware:
    """Turns errors into responses.

    On Gradio's routes an error means that the request was invalid (400): what our functions raise
    comes out of them as values. Elsewhere it is ours (500), unless the client went away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sender = _ErrorHoldingSend(send)
        gradios = _GRADIO_ROUTES.fullmatch(scope["path"]) is not None
        try:
            await self._app(scope, receive, sender)
            await sender.release(400 if gradios else 500)
        except Exception as error:
            ours = not gradios and not isinstance(error, ClientDisconnect)
            level = logging.ERROR if ours else logging.DEBUG
            _log.log(level, "a request failed: %s", describe_error(error))
            await _error_response(sender, gradios)(scope, receive, send)


def _error_response(sender: "_ErrorHoldingSend", gradios: bool) -> ASGIApp:
    if sender.started:
        return _end_body
    if gradios:
        return PlainTextResponse("Bad request", status_code=400)
    return PlainTextResponse("Internal server error: see the server's log.", status_code=500)


async def _end_body(scope: Scope, receive: Receive, send: Send) -> None:
    """End a response that has begun; if its length was announced, the server disconnects."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class _ErrorHoldingSend:
    """Passes responses on, but holds those with status 500 until their status is decided."""

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
        """Send what was held, with another status."""
        for message in self._held:
            if message["type"] == "http.response.start":
                message["status"] = status
            await self._send(message)


# ---- values that carry files

_VALUE_ROUTES = re.compile(r"/gradio_api/(queue/join|run|api|call|mcp|cancel|reset)(/.*)?|/results")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_BODY_BYTES = 48 << 20
_MAX_BODIES_BYTES = 256 << 20
_MAX_JSON_BYTES = 1 << 20  # Without data URLs.
_MAX_JSON_VALUES = 20_000
_MAX_TEXT_BYTES = 20_000  # A longer text can only be a data URL.
_DATA_URL = b'"data:'
VALUES = "app.values"
"""In the scope: the values of the body, parsed and checked."""


class _BadPayload(Exception):
    """The body is no JSON, or names something that is no file to search with."""


class _PayloadTooLarge(Exception):
    """The body is larger than any sensible one, or all bodies together are."""


class _JsonBody:
    """The body of a request, refused as soon as parsing it would cost too much.

    Numbers of values are limited, since a value of two bytes takes 64 once it is parsed, and bytes
    are, apart from those of "data:" URLs. What begins like one goes on to the next quotation mark,
    which is within the same string: no value escapes being counted, wherever that string begins.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self._counted = 0
        self._in_data_url = False
        self._plain = 0
        self._values = 0

    def add(self, chunk: bytes) -> None:
        """Append what has arrived.

        Raises:
            _PayloadTooLarge: if there are too many bytes or values.
        """
        self.data += chunk
        while self._counted < len(self.data):
            self._count()
            if self._plain > _MAX_JSON_BYTES or self._values > _MAX_JSON_VALUES:
                raise _PayloadTooLarge
        if len(self.data) > _MAX_BODY_BYTES:
            raise _PayloadTooLarge

    def _count(self) -> None:
        """Count to where the next data URL begins or ends."""
        data, start = self.data, self._counted
        if self._in_data_url:
            found = data.find(b'"', start)
            self._counted = len(data) if found < 0 else found + 1
            self._in_data_url = found < 0
            return
        # Its beginning may have arrived before.
        found = data.find(_DATA_URL, max(0, start - len(_DATA_URL) + 1))
        self._counted = len(data) if found < 0 else found + len(_DATA_URL)
        self._in_data_url = found >= 0
        self._plain += self._counted - start
        self._values += sum(data.count(mark, start, self._counted) for mark in b"[{:,")


class PayloadMiddleware:
    """Replaces Gradio's file values by ids, and refuses those that are not uploaded files.

    Large "data:" URLs are saved and become ids too, so that what is passed on is small.

    Args:
        app: Answers the requests.
        files: The uploaded files.
    """

    def __init__(self, app: ASGIApp, files: QueryFiles) -> None:
        self._app = app
        self._files = files
        self._held_bytes = 0
        self._parsing = CapacityLimiter(1)  # Parsing a data URL takes several times its size.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `starlette.types.ASGIApp`."""
        if (
            scope["type"] != "http"
            or scope["method"] != "POST"
            or not _VALUE_ROUTES.fullmatch(scope["path"])
        ):
            await self._app(scope, receive, send)
            return
        try:
            _check_content_length(scope)
            values, checked = await self._read(receive)
        except ClientDisconnect:
            return
        except _PayloadTooLarge:
            sentence = "The request body is too large: send files to POST /query-files."
            app: ASGIApp = PlainTextResponse(sentence, status_code=413)
        except _BadPayload:
            sentence = "Bad request: send JSON, and name files by the id from POST /query-files."
            app = PlainTextResponse(sentence, status_code=400)
        except UploadError as error:
            app = JSONResponse({"error": str(error)}, status_code=400)
        else:
            app = self._app
            scope = {**_with_content_length(scope, len(checked)), VALUES: values}
            receive = _replay(checked, receive)
        await app(scope, receive, send)

    async def _read(self, receive: Receive) -> tuple[Any, bytes]:
        """Read the whole body, and check it; large ones share bounded memory meanwhile."""
        body, more = _JsonBody(), True
        try:
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientDisconnect
                chunk = message.get("body", b"")
                self._held_bytes += len(chunk)
                body.add(chunk)
                if self._held_bytes > _MAX_BODIES_BYTES and len(body.data) > _MAX_JSON_BYTES:
                    raise _PayloadTooLarge
                more = message.get("more_body", False)
            if len(body.data) <= _MAX_TEXT_BYTES:
                return self._checked(body.data)
            return await to_thread.run_sync(self._checked, body.data, limiter=self._parsing)
        finally:
            self._held_bytes -= len(body.data)

    def _checked(self, body: bytearray) -> tuple[Any, bytes]:
        """Return the values with ids in the place of files, and the body that states them.

        Raises:
            _BadPayload: if it names another file, or is no JSON.
            _PayloadTooLarge: if it is large for another reason than its files.
            UploadError: if a data URL cannot be saved.
        """
        if not body:
            return None, b""
        try:
            values = json.loads(body)
            if _SURROGATE.search(body):
                json.dumps(values, ensure_ascii=False).encode()  # Later layers could not encode it.
            replaced = self._with_ids(values)
        except (ValueError, RecursionError) as error:
            raise _BadPayload from error
        checked = bytes(body) if replaced is values else json.dumps(replaced).encode()
        if len(checked) > _MAX_JSON_BYTES:
            raise _PayloadTooLarge
        return replaced, checked

    def _with_ids(self, value: Any) -> Any:
        """Return the value itself if there is no file in it, or a copy with ids."""
        if isinstance(value, str):
            is_file = len(value) > _MAX_TEXT_BYTES and value.startswith("data:")
            return self._files.add_data_url(value) if is_file else value
        if isinstance(value, list):
            items = [self._with_ids(item) for item in value]
            return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
        if not isinstance(value, dict):
            return value
        if "path" in value and "meta" in value:
            return self._id_of(value["path"])
        fields = {key: self._with_ids(field) for key, field in value.items()}
        return fields if any(fields[key] is not value[key] for key in value) else value

    def _id_of(self, path: object) -> str:
        key = path.partition("/")[0] if isinstance(path, str) else ""
        if key not in self._files:
            raise _BadPayload
        return key


def _check_content_length(scope: Scope) -> None:
    length = Headers(scope=scope).get("content-length", "")
    if length.isdecimal() and (len(length) > 12 or int(length) > _MAX_BODY_BYTES):
        raise _PayloadTooLarge


def _with_content_length(scope: Scope, length: int) -> Scope:
    others = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
    return {**scope, "headers": [*others, (b"content-length", str(length).encode())]}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives a body that was already read, then what comes after it."""
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay
