"""What breaks while a request is answered, told without what was asked.

Gradio raises for many a request that makes no sense, with the values in the message; the server
would print both. Here the log gets the kind of the error and where it came from, and no values:
those may be a visitor's words or paths. Whoever asked gets a sentence.
"""

import logging
import re
import sys
import traceback
from types import ModuleType
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
