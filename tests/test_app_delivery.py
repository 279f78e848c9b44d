"""How answers are compressed on their way to browsers, whole ones and streams of events."""

import asyncio
import time
import zlib

import brotli
import pytest

from app.delivery import AssetMiddleware, CompressionMiddleware
from app.server import ASSETS

EVENTS = [b'data: {"msg": "one"}\n\n' * 20, b'data: {"msg": "two"}\n\n', b"data: end\n\n"]
PAGE = "/gradio_api/queue/data"


def sent(parts, kind, path=PAGE, accepted="gzip, br", **headers):
    """The messages that leave for an answer of these parts."""
    messages = []
    names = {"content-type": kind, **{name.replace("_", "-"): headers[name] for name in headers}}

    async def answer(scope, receive, send):
        assert "accept-encoding" not in dict(scope["headers"])
        raw = [(name.encode(), value.encode()) for name, value in names.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        for number, part in enumerate(parts, 1):
            more = number < len(parts)
            await send({"type": "http.response.body", "body": part, "more_body": more})

    async def send(message):
        messages.append(message)

    scope = {
        "type": "http",
        "path": path,
        "headers": [(b"accept-encoding", accepted.encode())],
    }
    asyncio.run(CompressionMiddleware(answer)(scope, None, send))
    start, *bodies = messages
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return found, [message["body"] for message in bodies]


@pytest.mark.parametrize("accepted", ["br", "gzip", "gzip, deflate, br, zstd"])
def test_events_of_the_page_are_compressed_and_can_be_read_as_they_come(accepted):
    headers, bodies = sent(EVENTS, "text/event-stream; charset=utf-8", accepted=accepted)
    best = "br" if "br" in accepted else "gzip"
    assert headers["content-encoding"] == best
    reader = brotli.Decompressor() if best == "br" else zlib.decompressobj(zlib.MAX_WBITS | 16)
    read = reader.process if best == "br" else reader.decompress
    assert [read(body) for body in bodies] == EVENTS
    assert sum(map(len, bodies)) < sum(map(len, EVENTS)) / 2


def test_events_for_programs_and_pictures_and_parts_of_files_stay_as_they_are():
    for path in ("/gradio_api/mcp/http", "/gradio_api/call/search/1"):
        assert sent(EVENTS, "text/event-stream", path)[1] == EVENTS
    assert sent(EVENTS, "image/jpeg", "/thumbnail/1")[1] == EVENTS
    part = sent(EVENTS, "text/plain", "/site/a.js", content_range="bytes 0-3/9")
    assert part[1] == EVENTS
    assert sent(EVENTS, "text/html", "/", content_encoding="br")[1] == EVENTS
    assert sent([b"short"], "text/html", "/")[1] == [b"short"]
    assert sent(EVENTS, "text/html", "/", accepted="identity")[1] == EVENTS


def test_texts_are_compressed_whole_and_caches_learn_that_encodings_differ():
    headers, bodies = sent([b"<p>text</p>" * 100], "text/html", "/", content_length="1100")
    assert brotli.decompress(b"".join(bodies)) == b"<p>text</p>" * 100
    assert headers["vary"] == "Accept-Encoding"
    assert "content-length" not in headers


def test_what_is_kept_is_compressed_better_after_a_while():
    script = (ASSETS / "browse.js").read_bytes()
    asked = []

    async def answer(scope, receive, send):
        asked.append(scope["path"])
        headers = [(b"content-type", b"text/javascript"), (b"etag", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": script})

    async def ask(site):
        messages = []

        async def send(message):
            messages.append(message)

        encoded = [(b"accept-encoding", b"br")]
        scope = {"type": "http", "method": "GET", "path": "/assets/a.js", "headers": encoded}
        await site(scope, None, send)
        return dict(messages[0]["headers"]), messages[1]["body"]

    async def ask_until_smaller():
        site = AssetMiddleware(CompressionMiddleware(answer), quiet_seconds=0)
        _, first = await ask(site)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            headers, body = await ask(site)
            if len(body) < len(first):
                return first, headers, body
            await asyncio.sleep(0.01)
        raise AssertionError("it was not compressed again")

    first, headers, body = asyncio.run(ask_until_smaller())
    assert asked == ["/assets/a.js"]
    assert brotli.decompress(first) == brotli.decompress(body) == script
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"content-encoding"] == b"br"
    assert b"etag" not in headers
