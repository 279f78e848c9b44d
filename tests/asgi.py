"""Asking an ASGI application with requests that no well-behaved client sends.

Paths go in as they stand on the wire, and streams that never end are left after their beginning.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

HOST = "127.0.0.1:7860"
_LONGEST_SECONDS = 10.0
_ENOUGH_BYTES = 1 << 24


@dataclass(frozen=True)
class Ask:
    """A request; the target is a path with its query, percent-encoded or not."""

    target: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Iterable[bytes] = b""
    host: str = HOST

    def __str__(self) -> str:
        return f"{self.method} {self.target:.120} {self.headers!r:.120}"


@dataclass
class Answer:
    """What came back; `error` is what the application raised."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: BaseException | None = None


class Site:
    """An application that has started, in a loop of its own."""

    def __init__(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        self.app = app
        self._loop = loop

    def ask(self, target: str, method: str = "GET", **how: Any) -> Answer:
        """The answer to one request."""
        return self.ask_all([Ask(target, method, **how)])[0]

    def ask_all(self, requests: Iterable[Ask]) -> list[Answer]:
        """The answers to several, in order; they are asked a few at a time."""

        async def all_of_them() -> list[Answer]:
            turn = asyncio.Semaphore(8)

            async def one(request: Ask) -> Answer:
                async with turn:
                    return await _asked(self.app, request)

            return await asyncio.gather(*map(one, requests))

        return asyncio.run_coroutine_threadsafe(all_of_them(), self._loop).result(300)


@contextmanager
def site(build: Callable[[], ASGIApp]) -> Iterator[Site]:
    """Builds an application within its loop, starts it, and ends it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def built() -> ASGIApp:
        return build()  # Outside of a loop, Gradio makes some of its own and leaves them open.

    app = asyncio.run_coroutine_threadsafe(built(), loop).result(60)
    started, ending = threading.Event(), asyncio.Event()

    async def receive() -> Message:
        if not started.is_set():
            return {"type": "lifespan.startup"}
        await ending.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.3"}, "state": {}}
    living = asyncio.run_coroutine_threadsafe(app(scope, receive, send), loop)  # type: ignore[arg-type]
    try:
        assert started.wait(60), living.result(0)
        yield Site(app, loop)
    finally:
        loop.call_soon_threadsafe(ending.set)
        living.result(60)
        asyncio.run_coroutine_threadsafe(_end_others(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()


async def _end_others() -> None:
    """Ends what an application has left running."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _asked(app: ASGIApp, request: Ask) -> Answer:
    answer, left = Answer(), asyncio.Event()
    parts = iter([request.body] if isinstance(request.body, bytes) else request.body)
    waiting: list[bytes | None] = [next(parts, None)]

    async def receive() -> Message:
        part = waiting[0]
        if part is not None:
            waiting[0] = next(parts, None)
            return {"type": "http.request", "body": part, "more_body": waiting[0] is not None}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {
                k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]
            }
        else:
            answer.body += message.get("body", b"")
            if not message.get("more_body") or len(answer.body) > _ENOUGH_BYTES:
                left.set()
            elif answer.headers.get("content-type", "").startswith("text/event-stream"):
                asyncio.get_running_loop().call_later(0.05, left.set)

    try:
        running = asyncio.ensure_future(app(_scope(request), receive, send))
        await asyncio.wait({running}, timeout=_LONGEST_SECONDS)
        if not running.done():
            running.cancel()
            answer.error = TimeoutError()
        await asyncio.wait({running}, timeout=_LONGEST_SECONDS)
        if not running.cancelled() and running.exception():
            answer.error = running.exception()
    except Exception as error:
        answer.error = error
    return answer


def _scope(request: Ask) -> dict[str, Any]:
    path, _, query = request.target.partition("?")
    headers = {"host": request.host, **dict(request.headers)}
    if isinstance(request.body, bytes) and request.body:
        headers.setdefault("content-length", str(len(request.body)))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 7860),
        "state": {},
    }
