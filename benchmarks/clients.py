"""Many clients searching during an ingest: `python -m benchmarks.clients`.

A library of generated segments (`benchmarks.madeup`) is served by `python -m app`. Clients search
over HTTP by words, with filters, by a segment, and by a picture that they upload first; half of
them with one request, the other half with Gradio's two. They start within two seconds, and search
as fast as they get answers, or pause in between. Meanwhile photos are indexed: not at all, by the
page's own process, or by `python -m indexer.ingest` beside it. Everything runs on the same
processors, including the clients.
"""

import argparse
import asyncio
import inspect
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from PIL import Image, ImageEnhance

from app.api import Api
from benchmarks.madeup import MadeUpDocuments, words, write_media
from indexer import Library

_SAMPLES = Path(__file__).parents[1] / "samples/media/photos"
_PHOTO = (1632, 1224)
_DIFFERENT = 60
_SETTLED_SECONDS = 4.0
_DEFAULTS: dict[str, object] = {
    name: parameter.default
    for name, parameter in inspect.signature(Api.search).parameters.items()
    if name != "self"
}


def main() -> None:
    """Print a line for each kind of ingest and each pace of the clients."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segments", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of each measurement")
    parser.add_argument("--photos", type=int, default=3_000, help="to be indexed meanwhile")
    parser.add_argument("--think", type=float, nargs="+", default=[0.0, 1.0], metavar="SECONDS")
    parser.add_argument("--within", type=float, default=2.0, help="seconds in which clients start")
    parser.add_argument(
        "--ingest",
        nargs="+",
        choices=("none", "page", "process"),
        default=["none", "page", "process"],
    )
    parser.add_argument("--folder", type=Path, help="keep library and photos here for another run")
    given = parser.parse_args()
    with _folder(given.folder) as folder:
        _prepare(folder, given.segments, given.photos)
        print(f"{given.segments} segments, {given.clients} clients, {os.cpu_count()} cores")
        for way in given.ingest:
            if way != "none":
                print(asyncio.run(_measured(folder, way, 0, 0.0, 0.0, given.seconds)), flush=True)
            for think in given.think:
                run = _measured(folder, way, given.clients, given.within, think, given.seconds)
                print(asyncio.run(run), flush=True)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
    else:
        with tempfile.TemporaryDirectory(prefix="rzen-") as folder:
            yield Path(folder)


def _prepare(folder: Path, segments: int, photos: int) -> None:
    """Make the library and the photos unless they exist."""
    if not (folder / "media").is_dir():
        (folder / "media").mkdir()
        write_media(folder / "media", segments)
        with Library.open(folder / "library", embedder=MadeUpDocuments()) as library:
            library.ingest([folder / "media"])
    if not (folder / "photos").is_dir():
        write_photos(folder / "photos", photos)


def write_photos(folder: Path, count: int, size: tuple[int, int] = _PHOTO) -> None:
    """Write JPEGs of the sample photos, cropped and tinted; no two files have the same bytes."""
    folder.mkdir()
    chance = random.Random(3)
    sources = sorted(path for path in _SAMPLES.rglob("*.jpg"))
    kept: list[bytes] = []
    for number in range(count):
        if number < _DIFFERENT:
            with Image.open(sources[number % len(sources)]) as opened:
                picture = _varied(opened.convert("RGB"), size, chance)
            written = BytesIO()
            picture.save(written, "JPEG", quality=88)
            kept.append(written.getvalue())
        # Decoders ignore what follows the end of a JPEG, but it changes the hash of the file.
        (folder / f"{number:05}.jpg").write_bytes(kept[number % len(kept)] + b"%05d" % number)


def _varied(picture: Image.Image, size: tuple[int, int], chance: random.Random) -> Image.Image:
    width, height = (side * chance.uniform(0.7, 1.0) for side in picture.size)
    left, top = chance.uniform(0, picture.width - width), chance.uniform(0, picture.height - height)
    cut = picture.resize(size, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
    return ImageEnhance.Color(cut).enhance(chance.uniform(0.6, 1.4))


@dataclass(slots=True)
class Tally:
    """Times and errors of the clients' searches."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Connection:
    """A persistent connection of a client; one request after the other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the body of the response.

        Raises:
            RuntimeError: The response is not a success.
        """
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
        self.writer.write(f"{head}\r\n".encode() + body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        answer = b""
        if found := re.search(r"content-length: (\d+)", head):
            answer = await self.reader.readexactly(int(found[1]))
        else:
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                answer += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        if not head.startswith("http/1.1 200"):
            raise RuntimeError(f"{method} {path}: {head.splitlines()[0]} {answer[:200]!r}")
        return answer

    async def call(self, endpoint: str, *values: object, twice: bool = False) -> Any:
        """Call a named endpoint, with one request or with Gradio's two."""
        body = json.dumps({"data": values}).encode()
        if not twice:
            answer = await self.ask("POST", f"/gradio_api/run/{endpoint}", body)
            return json.loads(answer)["data"][0]
        begun = json.loads(await self.ask("POST", f"/gradio_api/call/{endpoint}", body))
        last_event = await self.ask("GET", f"/gradio_api/call/{endpoint}/{begun['event_id']}")
        last = last_event.decode().strip().split("\n\n")[-1]
        event, _, data = last.partition("\n")
        if event != "event: complete":
            raise RuntimeError(f"{endpoint}: {last[:200]}")
        return json.loads(data.removeprefix("data: "))[0]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    """Open a connection to the page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


class Client:
    """A client that searches again and again."""

    def __init__(self, number: int, port: int, folders: Sequence[str], picture: bytes) -> None:
        self._chance = random.Random(number)
        self._port = port
        self._folders = folders
        self._picture = picture
        self._twice = number % 2 == 1
        self._known: list[int] = []

    async def run(self, until: float, within: float, think: float, tally: Tally) -> None:
        """Start within some seconds, and search until a time of `perf_counter`."""
        await asyncio.sleep(self._chance.uniform(0, max(within, think)))
        async with connected(self._port) as connection:
            while perf_counter() < until:
                started = perf_counter()
                try:
                    hits = await self._search(connection)
                    if not hits:
                        raise RuntimeError("no hits")
                    self._known = [hit["segment_id"] for hit in hits]
                except (RuntimeError, ValueError, OSError, EOFError) as error:
                    tally.errors.append(repr(error))
                tally.seconds.append(perf_counter() - started)
                await asyncio.sleep(think * self._chance.uniform(0.5, 1.5))

    async def _search(self, connection: Connection) -> list[dict[str, Any]]:
        sort = self._chance.random()
        if sort < 0.1 and self._known:
            chosen = self._chance.choice(self._known)
            return await connection.call("similar", chosen, [], 20, 0, twice=self._twice)
        asked: dict[str, Any] = {"text": words(self._chance, self._chance.randint(1, 6))}
        if sort < 0.2:
            sent = await connection.ask("POST", "/query-files?name=a.jpg", self._picture)
            asked["file"] = json.loads(sent)["id"]
            if self._chance.random() < 0.5:
                del asked["text"]
        elif sort < 0.3:
            asked["kinds"] = [self._chance.choice(("image", "video", "pdf", "text"))]
        elif sort < 0.4:
            asked["folder"] = self._chance.choice(self._folders)
        elif sort < 0.5:
            year = self._chance.randint(2016, 2023)
            asked |= {"after": f"{year}-01-01", "before": f"{year + 1}-12-31"}
        return await connection.call("search", *search_values(**asked), twice=self._twice)


def search_values(**given: object) -> tuple[object, ...]:
    """Return all values of the endpoint, in order."""
    return tuple((_DEFAULTS | given).values())


async def _measured(
    folder: Path, way: str, clients: int, within: float, think: float, seconds: float
) -> str:
    """Measure on a copy of the library; return a line of results."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "library", copy)
    picture = next(iter(sorted((folder / "photos").iterdir()))).read_bytes()
    with Image.open(BytesIO(picture)) as opened:
        opened.thumbnail((320, 320))
        small = BytesIO()
        opened.save(small, "JPEG")
    tally = Tally()
    with served(copy) as port, _ingesting_beside(copy, folder / "photos", way == "process"):
        await _asked(port, "search", *search_values(text="warm up"))
        folders = [one["id"] for one in await _asked(port, "folders")]
        if way == "page":
            await _asked(port, "ingest_folder", str(folder / "photos"))
        before = await _pictures(port) if way == "none" else await _begun(port)
        started = perf_counter()
        many = [Client(n, port, folders, small.getvalue()) for n in range(clients)]
        runs = [one.run(started + seconds, within, think, tally) for one in many]
        await asyncio.gather(asyncio.sleep(seconds), *runs)
        taken = (await _pictures(port) - before) / (perf_counter() - started)
    return _line(way, clients, think, tally, taken, seconds)


async def _asked(port: int, endpoint: str, *values: object) -> Any:
    async with connected(port) as connection:
        return await connection.call(endpoint, *values)


async def _begun(port: int) -> int:
    """Wait until photos are being indexed; return the number of pictures then."""
    before = await _pictures(port)
    while await _pictures(port) == before:
        await asyncio.sleep(0.2)
    await asyncio.sleep(_SETTLED_SECONDS)
    return await _pictures(port)


async def _pictures(port: int) -> int:
    return int((await _asked(port, "stats"))["files"]["image"])


@contextmanager
def served(library: Path) -> Iterator[int]:
    """Run `python -m app` for a library; yield the port."""
    command = [sys.executable, "-m", "app", "--library", str(library), "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1])
                break
        else:
            raise RuntimeError("the page did not start")
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _ingesting_beside(library: Path, photos: Path, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    command = [sys.executable, "-m", "indexer.ingest", str(photos), "--library", str(library)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
        if process.poll() is not None:
            print("the ingest ended early: give more --photos", file=sys.stderr)
    finally:
        process.terminate()
        process.wait(30)


def _line(way: str, clients: int, think: float, tally: Tally, taken: float, seconds: float) -> str:
    ingest = {"none": "no ingest", "page": "ingest in the page", "process": "ingest beside it"}[way]
    line = f"{ingest:18} {clients:3} clients"
    if clients:
        times = sorted(1000 * one for one in tally.seconds)
        line += f", {think:g} s between: {len(times):5} searches, {len(times) / seconds:5.1f}/s, "
        line += f"{len(tally.errors)} errors, median {median(times):5.0f} ms, "
        cuts = quantiles(times, n=100)
        line += f"95 % {cuts[94]:5.0f} ms, 99 % {cuts[98]:5.0f} ms, longest {times[-1]:5.0f} ms"
    if way != "none":
        line += f"; {taken:.1f} photos/s"
    return "\n".join([line, *dict.fromkeys(f"    {one}" for one in tally.errors[:5])])


if __name__ == "__main__":
    main()
