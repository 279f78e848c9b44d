"""Memory of a page over many requests: `python -m benchmarks.memory`.

A library of the sample media is served by `python -m app`. Clients send a mix of requests as people
and programs do, one in eight of them wrong or broken off: searches in every way, what the results
show, files to search with, and the events of pages that are opened. The resident memory of the
page's process, without its decoders, is printed at each quarter. Linux only.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.clients import Connection, connected, search_values, served
from benchmarks.madeup import words
from indexer import Library

_MEDIA = Path(__file__).parents[1] / "samples/media"
_QUARTERS = 4


def main() -> None:
    """Print the resident memory at each quarter, and its growth over the second half."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", default="mini")
    given = parser.parse_args()
    if sys.platform != "linux":
        parser.error("reads /proc: run it on Linux")
    with tempfile.TemporaryDirectory(prefix="rzen-") as folder:
        library = Path(folder, "library")
        with Library.open(library, model=given.model) as opened:
            opened.ingest([_MEDIA])
            segments = sum(opened.catalog.stats().segments.values())
        with served(library) as port:
            page = _children()[0]
            mix = Mix(port, segments)
            marks = []
            for quarter in range(_QUARTERS):
                share = given.requests // _QUARTERS // given.clients
                clients = range(quarter * given.clients, (quarter + 1) * given.clients)
                asyncio.run(mix.send(clients, share))
                marks.append(_status(page, "VmRSS"))
                print(_line((quarter + 1) * share * given.clients, page), flush=True)
        middle, end = marks[_QUARTERS // 2 - 1], marks[-1]
        print(f"growth over the second half: {100 * (end - middle) / middle:+.1f} %")
        print(", ".join(f"{count} {name}" for name, count in sorted(mix.sent.items())))


class Mix:
    """Draws requests, and sends them."""

    def __init__(self, port: int, segments: int) -> None:
        self.sent: Counter[str] = Counter()
        self._port = port
        self._segments = segments
        self._kinds: dict[Callable[[Connection, random.Random], Awaitable[object]], float] = {
            self._search: 30,
            self._search_with_file: 6,
            self._similar: 4,
            self._view: 30,
            self._list: 5,
            self._open_page: 10,
            self._call_tool: 3,
            self._mistake: 10,
            self._break_off: 2,
        }

    async def send(self, clients: range, requests: int) -> None:
        """Let each client send as many requests."""
        await asyncio.gather(*(self._send(client, requests) for client in clients))

    async def _send(self, client: int, requests: int) -> None:
        chance = random.Random(client)
        async with connected(self._port) as connection:
            for kind in chance.choices(list(self._kinds), list(self._kinds.values()), k=requests):
                await kind(connection, chance)
                self.sent[kind.__name__.strip("_")] += 1

    async def _search(self, connection: Connection, chance: random.Random) -> None:
        asked = {"text": words(chance, chance.randint(1, 5)), "limit": chance.choice((20, 50))}
        twice = chance.random() < 0.3
        await connection.call("search", *search_values(**asked), twice=twice)

    async def _search_with_file(self, connection: Connection, chance: random.Random) -> None:
        body = BytesIO()
        colour = tuple(chance.randrange(256) for _ in range(3))
        Image.new("RGB", (chance.randint(50, 900), 300), colour).save(body, "JPEG")
        sent = await connection.ask("POST", "/query-files?name=a.jpg", body.getvalue())
        await connection.call("search", *search_values(file=json.loads(sent)["id"]))

    async def _similar(self, connection: Connection, chance: random.Random) -> None:
        await connection.call("similar", self._segment(chance), [], 20, 0)

    async def _view(self, connection: Connection, chance: random.Random) -> None:
        """Request what results show; not every segment has a picture."""
        route = chance.choice(("thumbnail/{}", "detail/{}", "media/{}", "page/{}.png"))
        with suppress(RuntimeError):
            await connection.ask("GET", "/" + route.format(self._segment(chance)))

    async def _list(self, connection: Connection, chance: random.Random) -> None:
        await connection.call(chance.choice(("stats", "folders", "files")))

    async def _open_page(self, connection: Connection, chance: random.Random) -> None:
        """Load the page, and follow its first event as its script does."""
        session = f"{chance.getrandbits(64):x}"
        await connection.ask("GET", "/")
        config = json.loads(await connection.ask("GET", "/config"))
        load = next(
            one["id"]
            for one in config["dependencies"]
            if any(event == "load" for _, event in one["targets"])
        )
        event = {"data": [], "event_data": {}, "fn_index": load, "session_hash": session}
        await connection.ask("POST", "/gradio_api/queue/join", json.dumps(event).encode())
        if chance.random() < 0.8:  # Others are closed before.
            await connection.ask("GET", f"/gradio_api/queue/data?session_hash={session}")

    async def _call_tool(self, connection: Connection, chance: random.Random) -> None:
        called = {"name": "search", "arguments": {"text": words(chance, 2)}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
        await connection.ask("POST", "/gradio_api/mcp/", json.dumps(body).encode())

    async def _mistake(self, connection: Connection, chance: random.Random) -> None:
        method, path, body = chance.choice(_MISTAKES)
        with suppress(RuntimeError):
            await connection.ask(method, path, body)

    async def _break_off(self, connection: Connection, chance: random.Random) -> None:
        """Announce more than is sent, and disconnect."""
        path = chance.choice(("/uploads?path=a/b/c.txt", "/query-files?name=a.txt"))
        async with connected(self._port) as other:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
            other.writer.write(head.encode() + b"x" * 5_000)
            await other.writer.drain()

    def _segment(self, chance: random.Random) -> int:
        return chance.randint(1, self._segments)


_MISTAKES = (
    ("GET", "/media/999999999", b""),
    ("GET", "/results/unknown", b""),
    ("GET", "/nothing", b""),
    ("POST", "/gradio_api/run/search", b'{"data": [""]}'),
    ("POST", "/gradio_api/run/search", b"{"),
    ("POST", "/gradio_api/run/nothing", b'{"data": []}'),
    ("POST", "/gradio_api/queue/join", b'{"data": [], "fn_index": 999, "session_hash": "x"}'),
    ("POST", "/gradio_api/queue/join", b"[" + b"[]," * 30_000 + b"0]"),
    ("POST", "/query-files?name=", b"x"),
)


def _children() -> list[int]:
    process = os.getpid()
    return [
        int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ]


def _status(process: int, field: str) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _line(requests: int, page: int) -> str:
    resident, peak = (_status(page, name) >> 10 for name in ("VmRSS", "VmHWM"))
    files = len(list(Path(f"/proc/{page}/fd").iterdir()))
    return (
        f"{requests:6} requests: {resident} MB resident, {peak} MB at most, "
        f"{_status(page, 'Threads')} threads, {files} files"
    )


if __name__ == "__main__":
    main()
