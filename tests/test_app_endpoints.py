"""Named endpoints over HTTP, called by programs one by one and by many clients at once."""

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest
from hostile_page import make_media_of_odd_bytes
from PIL import Image
from sample_library import copy_library, segment_of, served_here

from benchmarks.clients import Connection, connected, search_values
from indexer import Library

CLIENTS = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("calls")


@pytest.fixture(scope="module")
def similar_to(sample_folder: Path, folder: Path) -> int:
    with Library.open(copy_library(sample_folder, folder)) as library:
        return segment_of(library, "red.jpg")


@pytest.fixture(scope="module")
def page(folder: Path, similar_to: int) -> Iterator[httpx.Client]:
    with (
        Library.open(folder / "library") as library,
        served_here(library, folder / "scratch") as address,
        httpx.Client(base_url=f"{address}/gradio_api", timeout=60) as client,
    ):
        yield client


def _events(text: str) -> list[tuple[str, object]]:
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    return [(e.removeprefix("event: "), json.loads(d.removeprefix("data: "))) for e, d in parts]


@pytest.mark.parametrize("way", ["run", "api"])
def test_endpoint_in_one_request(page: httpx.Client, way: str):
    answer = page.post(f"/{way}/search", json={"data": ["red"]})
    assert answer.status_code == 200
    assert answer.json()["data"][0][0]["name"].startswith("red")


def test_endpoint_in_two_requests(page: httpx.Client):
    begun = page.post("/call/search", json={"data": ["red"]}).json()
    expected = page.get(f"/call/search/{begun['event_id']}")
    assert expected.headers["content-type"].startswith("text/event-stream")
    (event, data), *more = _events(expected.text)
    assert (event, more) == ("complete", [])
    assert data == page.post("/run/search", json={"data": ["red"]}).json()["data"]


def test_endpoint_with_gradio_session(page: httpx.Client):
    values = list(search_values(text="red"))
    theirs = page.post("/run/search", json={"data": values, "session_hash": "abc"}).json()
    assert "average_duration" in theirs
    assert theirs["data"] == page.post("/run/search", json={"data": values}).json()["data"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["red", "/etc/passwd"], "unknown or expired"), ([], "Type what"), ([1] * 40, "wrong number")],
)
def test_endpoint_errors(page: httpx.Client, values: list, expected: str):
    answer = page.post("/run/search", json={"data": values})
    assert answer.status_code == 400
    assert expected.lower() in answer.json()["error"].lower()
    begun = page.post("/call/search", json={"data": values}).json()
    ((event, data),) = _events(page.get(f"/call/search/{begun['event_id']}").text)
    assert (event, data) == ("error", answer.json())


def test_result_is_fetched_once(page: httpx.Client):
    begun = page.post("/call/stats", json={"data": []}).json()
    assert "complete" in page.get(f"/call/stats/{begun['event_id']}").text
    again = page.get(f"/call/stats/{begun['event_id']}")
    assert (again.status_code, "already fetched" in again.json()["error"]) == (404, True)


COSTLY_ROUTES = ("run/search", "queue/join", "run/nothing", "call/remove_files", "mcp/", "reset")


def test_page_answers_while_costly_bodies_arrive(page: httpx.Client):
    costly = [b"[],", b"{},", b"1,", b'{"a":1},', b"[[", b'"text", ']

    def sent(route: str, values: bytes) -> int:
        body = b'{"data":[' + values * ((20 << 20) // len(values)) + b"0]}"
        headers = {"content-type": "application/json"}
        return page.post(f"/{route}", content=body, headers=headers).status_code

    with ThreadPoolExecutor(len(costly)) as senders:
        sending = [senders.submit(sent, *one) for one in zip(COSTLY_ROUTES, costly, strict=True)]
        while not all(one.done() for one in sending):
            started = monotonic()
            assert page.get(page.base_url.join("/health")).text == "ok"
            assert page.post("/run/search", json={"data": ["red"]}).status_code == 200
            assert monotonic() - started < 3  # A tenth of a second on a quiet machine.
    assert [one.result() for one in sending] == [413] * len(costly)


def test_number_of_removed_files_is_limited(page: httpx.Client):
    answer = page.post("/run/remove_files", json={"data": [[0] * 10_001]})
    assert (answer.status_code, "at most 10000" in answer.json()["error"]) == (400, True)
    assert page.post("/run/remove_files", json={"data": [[0] * 10_000]}).status_code == 200


def test_many_clients_during_an_ingest(page: httpx.Client, folder: Path, similar_to: int):
    """The short form of `python -m benchmarks.clients`."""
    (folder / "more").mkdir()
    for number in range(40):
        shade = (30, 30, 120 + 3 * number)
        Image.new("RGB", (640, 480), shade).save(folder / "more" / f"blue-{number:02}.jpg")
    port = page.base_url.port
    assert port is not None
    before = asyncio.run(_asks(port, similar_to, twice=False))
    assert [name.partition("-")[0].partition(".")[0] for name in before] == [
        *("red", "red", "red", "harbour")
    ]
    begun = page.post("/run/ingest_folder", json={"data": [str(folder / "more")]}).json()["data"][0]
    assert begun["running"]
    assert asyncio.run(_all_ask(port, similar_to)) == [before] * CLIENTS
    while (state := page.post("/run/ingest_status", json={"data": []}).json()["data"][0])[
        "running"
    ]:
        pass
    assert (state["added"], state["failures"]) == (40, [])


@pytest.mark.skipif(sys.platform != "linux", reason="others allow only names in Unicode")
def test_undecodable_names_in_answers(tmp_path: Path):
    make_media_of_odd_bytes(tmp_path / "media")
    with (
        Library.open(tmp_path / "library", model="toy") as library,
        served_here(library, tmp_path / "scratch") as address,
        httpx.Client(base_url=f"{address}/gradio_api", timeout=60) as client,
    ):

        def asked(endpoint: str, *values: object) -> Any:
            answer = client.post(f"/run/{endpoint}", json={"data": values})
            assert answer.status_code == 200, answer.text
            return answer.json()["data"][0]

        asked("ingest_folder", str(tmp_path / "media"))
        while (state := asked("ingest_status"))["running"]:
            pass
        assert [one["name"] for one in state["failures"]] == ["d\ufffdfect.jpg"]
        assert {one["name"] for one in asked("search", "red")} == {
            "caf\ufffd.png",
            "r\ufffdsum\ufffd.txt",
        }
        assert [one["name"] for one in asked("files", "skipped")] == ["o\ufffd.bin"]
        favourites = {"id": 1, "name": "Favourites", "files": 0, "fills_itself": False}
        assert asked("albums") == [favourites]
        library.albums.add(1, [asked("files")[0]["item_id"]])
        assert asked("albums") == [favourites | {"files": 1}]
        assert asked("album_files", 1) == asked("files")[:1]
        (folder,) = asked("folders")
        assert folder["name"] == "stra\ufffde"
        assert len(asked("search", "red", "", "", [], folder["id"])) == 2
        begun = client.post("/call/search", json={"data": ["red"]}).json()
        ((_, hits),) = _events(client.get(f"/call/search/{begun['event_id']}").text)
        assert hits[0][0]["name"] == "caf\ufffd.png"


async def _all_ask(port: int, similar_to: int) -> list[list[str]]:
    return await asyncio.gather(
        *(_asks(port, similar_to, twice=n % 2 == 1) for n in range(CLIENTS))
    )


async def _asks(port: int, similar_to: int, *, twice: bool) -> list[str]:
    """The names of the first hits of four searches, one after the other."""
    async with connected(port) as connection:
        sent = await _picture(connection)
        return [
            (await connection.call(endpoint, *values, twice=twice))[0]["name"]
            for endpoint, values in (
                ("search", search_values(text="red")),
                ("search", search_values(file=sent)),
                ("similar", (similar_to, [], 20, 0)),
                ("search", search_values(text="boats", kinds=["pdf"])),
            )
        ]


async def _picture(connection: Connection) -> str:
    body = BytesIO()
    Image.new("RGB", (64, 64), (210, 40, 40)).save(body, "PNG")
    answer = await connection.ask("POST", "/query-files?name=a.png", body.getvalue())
    return str(json.loads(answer)["id"])
