"""The program as it runs: what it deletes, and what it never writes to its log."""

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sample_library import copy_library, segment_of
from test_app_security import ask

from indexer import Library

USER, PASSWORD = "owner-of-all", "correct-horse"
TOKEN = "a-token-for-programs"
GUESS = "wrong-battery"
WORDS, NAME = "zanzibarian", "honeymoonish"
# As talkative as logging can be made; what the program itself keeps quiet stays so.
TALKATIVE = (
    "import logging, sys\n"
    "real = logging.basicConfig\n"
    "logging.basicConfig = lambda **how: real(**{**how, 'level': logging.DEBUG})\n"
    "from app.__main__ import main\n"
    "sys.exit(main())\n"
)


@dataclass(frozen=True)
class Program:
    """A server with a login, started where a killed one has left files."""

    address: str
    folder: Path
    segment: int
    log: Path

    def ask(self, target: str, body: bytes | None = None, login: str = "", **headers: str):
        """What it answers to somebody with that Authorization, JSON if there is a body."""
        headers |= {"Authorization": login} if login else {}
        if body is not None:
            headers.setdefault("Content_Type", "application/json")
        return ask(self.address + target, body, **headers)


def left_behind(folder: Path) -> tuple[Path, Path]:
    """Where a killed server has left half an upload, and files to search with."""
    places = folder / "tmp" / "rzen-app-1", folder / "library" / "incoming" / "upload-1"
    for place in places:
        place.mkdir(parents=True)
        (place / "in-use.lock").touch()
        (place / "half.part").write_bytes(b"x")
    return places


@pytest.fixture(scope="module")
def program(sample_folder, tmp_path_factory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("program")
    with Library.open(copy_library(sample_folder, folder)) as library:
        segment = segment_of(library, "red.jpg")
    left_behind(folder)
    log = folder / "log.txt"
    environment = {"TMPDIR": str(folder / "tmp"), "RZEN_AUTH": f"{USER}:{PASSWORD}"}
    environment["RZEN_TOKEN"] = TOKEN
    command = [sys.executable, "-c", TALKATIVE, "--port", "0", "--library", str(folder / "library")]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env={**os.environ, **environment, "PYTHONASYNCIODEBUG": "1", "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        assert process.stdout is not None
        try:
            found = re.search(r"http://\S+?(?=/)", process.stdout.readline())
            assert found, log.read_text()
            yield Program(found[0], folder, segment, log)
        finally:
            process.terminate()
            process.wait(30)


def test_leftovers_of_killed_servers_are_deleted(program):
    assert not list(program.folder.rglob("half.part"))
    (private,) = (program.folder / "tmp").glob("rzen-app-*")
    (unfinished,) = (program.folder / "library" / "incoming").iterdir()
    assert (private / "in-use.lock").is_file()
    assert (unfinished / "in-use.lock").is_file()
    assert private.stat().st_mode & 0o077 == 0, "only its owner may read it"


def test_log_holds_no_secrets(program):
    basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    wrong = "Basic " + base64.b64encode(f"{USER}:{GUESS}".encode()).decode()
    for password, status in ((GUESS, 401), (PASSWORD, 200)):
        form = urllib.parse.urlencode({"username": USER, "password": password}).encode()
        answer = program.ask("/login", form, Content_Type="application/x-www-form-urlencoded")
        assert answer[0] == status
    cookie = answer[1]["Set-Cookie"].split(";")[0]
    multipart = (
        f'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n{GUESS}\r\n--b--\r\n'
    )
    program.ask("/login", multipart.encode(), Content_Type="multipart/form-data; boundary=b")
    program.ask("/config", login=wrong)
    assert program.ask("/config", Cookie=cookie)[0] == 200
    assert program.ask("/config", login=f"Bearer {TOKEN}")[0] == 200
    assert program.ask(f"/?token={TOKEN}")[0] == 303
    look_for_words(program, basic)
    send_files(program, basic)
    written = program.log.read_text()
    assert "DEBUG" in written, "it was talkative"
    secrets = (TOKEN, PASSWORD, GUESS, cookie.partition("=")[2], basic[6:], wrong[6:], WORDS, NAME)
    for secret in secrets:
        lines = [line for line in written.splitlines() if secret in line]
        assert not lines, lines[:3]


def test_forwarded_addresses_are_not_believed(program):
    tried = []
    for number in range(12):
        basic = "Basic " + base64.b64encode(f"{USER}:{GUESS}".encode()).decode()
        sender = f"192.0.2.{number}"
        tried.append(program.ask("/config", login=basic, X_Forwarded_For=sender)[0])
    assert tried[0] == 401
    assert tried[-1] == 429, "one address, whatever it calls itself"


def look_for_words(program: Program, login: str) -> None:
    """Searches, rightly and in every wrong way that came to mind."""
    bodies = (
        {"text": WORDS},
        {"text": WORDS, "kinds": [WORDS], "folder": WORDS},
        {"text": WORDS, "after": WORDS},
        *({name: WORDS} for name in ("limit", "balance", "kinds", "file", "offset")),
        {"limit": {WORDS: WORDS}, "kinds": {WORDS: 1}},
        {"text": [WORDS]},
        {"text": f"{WORDS} \ud800"},
        {"nothing": WORDS},
        {"file": {"path": WORDS, "meta": {}}},
        {"data": [WORDS], "fn_index": 999, "session_hash": WORDS},
        {"data": [WORDS] * 99, "session_hash": "x"},
        [WORDS],
        WORDS,
    )
    routes = ("call/v2/search", "call/search", "run/search", "api/files", f"run/{WORDS}", "cancel")
    for body in map(json.dumps, bodies):
        for route in (*routes, f"call/v2/{WORDS}", "queue/join", "mcp/"):
            started = program.ask(f"/gradio_api/{route}", body.encode(), login)[2]
            with contextlib.suppress(ValueError, TypeError, KeyError):
                event = json.loads(started)["event_id"]
                program.ask(f"/gradio_api/call/search/{event}", login=login)
    program.ask("/gradio_api/run/search", f'{{"{WORDS}'.encode(), login)
    call = {"name": "search", "arguments": {"text": WORDS}}
    mcp = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    accept = "application/json, text/event-stream"
    assert program.ask("/gradio_api/mcp/", json.dumps(mcp).encode(), login, Accept=accept)[0] == 200
    for path in ("detail/{}?search=", "results/", "media/", "nowhere/", "?", "static/", "page/"):
        program.ask(f"/{path.format(program.segment)}{WORDS}", login=login)


def send_files(program: Program, login: str) -> None:
    """Sends files, sound and broken ones."""
    for name in (f"{NAME}.txt", f"{NAME}/{NAME}.jpg", ""):
        program.ask(f"/uploads?path={name}&x={NAME}", b"x", login)
        answer = program.ask(f"/query-files?name={name}", b"\xff\xd8\xff\xe0 no picture", login)
        body = json.dumps({"file": json.loads(answer[2]).get("id", NAME)}).encode()
        program.ask("/gradio_api/call/v2/search", body, login)
    form = (
        f'--b\r\nContent-Disposition: form-data; name="files"; filename="{NAME}"\r\n\r\nx\r\n--b--'
    )
    program.ask("/gradio_api/upload", form.encode(), login, Content_Type="multipart/form-data")
    with_boundary = "multipart/form-data; boundary=b"
    program.ask("/gradio_api/upload", form.encode(), login, Content_Type=with_boundary)


def test_gradio_does_not_compare_its_stubs(monkeypatch):
    import gradio
    from gradio import component_meta

    monkeypatch.setattr(component_meta, "create_pyi", None)
    component_meta.create_or_modify_pyi(gradio.Button, "Button", [])  # would call what is None
