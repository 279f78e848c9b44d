"""What must not be possible: reading the disk, acting from other sites, skipping the login."""

import base64
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest
from gradio_client import Client, handle_file
from sample_library import copy_library, segment_of, served, served_here
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.auth import Authenticator
from app.config import AppConfig
from app.guard import Guard
from app.models import offer_id
from indexer import Library

SECRET = "the-owner's-secret"
SOMEWHERE = "rzen:/srv/models/finetuned/v1"


@pytest.fixture(scope="module")
def world(sample_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    (folder / "secret.txt").write_text(SECRET)
    with Library.open(copy_library(sample_folder, folder)) as library:
        segment = segment_of(library, "red.jpg")
    return folder, segment


@pytest.fixture(scope="module")
def open_page(world):
    folder = world[0]
    with (
        Library.open(folder / "library") as library,
        served_here(library, folder / "open-scratch") as address,
    ):
        yield address


@pytest.fixture(scope="module")
def locked_page(world):
    folder = world[0]
    with (
        Library.open(folder / "library") as library,
        served_here(library, folder / "locked-scratch", auth=("me", "right")) as address,
    ):
        yield address


def ask(address: str, data: bytes | None = None, method: str | None = None, **headers: str):
    """Status, headers and body; header names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(address, data=data, headers=named, method=method)
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(request, timeout=20) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def call(page: str, endpoint: str, login: str = "", **arguments: object) -> tuple[str, object]:
    """Calls a named endpoint over HTTP; gives the event and its data."""
    headers = {"Authorization": login} if login else {}
    body = json.dumps(arguments).encode()
    address = f"{page}/gradio_api/call/v2/{endpoint}"
    status, _, started = ask(address, body, Content_Type="application/json", **headers)
    assert status == 200, started
    result = f"{page}/gradio_api/call/{endpoint}/{json.loads(started)['event_id']}"
    _, _, stream = ask(result, **headers)
    event, data = re.findall(r"event: (\w+)\ndata: (.*)", stream.decode())[-1]
    return event, json.loads(data)


def mcp(page: str, method: str, **params: object) -> dict:
    answer = mcp_raw(page, method, **params).decode()
    return json.loads(re.findall(r"data: (.*)", answer)[-1])["result"]


def mcp_raw(page: str, method: str, **params: object) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    accept = "application/json, text/event-stream"
    address = f"{page}/gradio_api/mcp/"
    return ask(address, body, Content_Type="application/json", Accept=accept)[2]


# ---- the disk


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={secret}",
        "/gradio_api/file/{secret}",
        "/gradio_api/file={library}/library.sqlite3",
        "/gradio_api/file=README.md",
        "/gradio_api/file=app/server.py",
        "/gradio_api/file=http://127.0.0.1:1/x",
        "/gradio_api/proxy=http://127.0.0.1:1/x",
        "/gradio_api/%66ile={secret}",
        "//gradio_api/file={secret}",
        "/gradio_api/../gradio_api/file={secret}",
        "/file={secret}",
        "/static/../../../../../../../..{secret}",
        "/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..{secret}",
        "/assets/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e{secret}",
        "/site/../server.py",
        "/site/..%2fserver.py",
        "/site//{secret}",
        "/media/{secret}",
        "/media/..%2f..%2f..{secret}",
        "/thumbnail/{secret}",
        "/page/{secret}.png",
        "/gradio_api/stream/x/0/1/playlist-file",
        "/gradio_api/runs",
        "/gradio_api/vibe-code/",
        "/gradio_api/custom_component/x/client/component/index.js",
        "/gradio_api/deep_link",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ],
)
def test_routes_do_not_read_the_disk(open_page, world, path):
    folder, _ = world
    path = path.format(secret=folder / "secret.txt", library=folder / "library")
    status, _, body = ask(open_page + path)
    assert status in {400, 403, 404}
    assert SECRET.encode() not in body


def send_event(page: str, name: str, data: object) -> str:
    """Sends one of the page's own events as its script does; gives all that comes back."""
    config = json.loads(ask(f"{page}/config")[2])
    (event,) = [one for one in config["dependencies"] if name in dict(one["targets"]).values()]
    sent = {"data": [], "event_data": data, "fn_index": event["id"], "session_hash": name}
    status, _, answer = ask(
        f"{page}/gradio_api/queue/join", json.dumps(sent).encode(), Content_Type="application/json"
    )
    assert status == 200, answer
    stream = ask(f"{page}/gradio_api/queue/data?session_hash={name}")[2].decode()
    assert "process_completed" in stream
    return stream


@pytest.mark.parametrize(
    "model", ["rzen:/etc", "rzen:team/weights", "rzen", "mini", "toy", "../..", ["rzen:/etc"], None]
)
def test_reembed_takes_offers_only(open_page, model):
    shown = send_event(open_page, "reembed", {"model": model, "leave_out": True})
    assert "not on offer" in shown or "nvalid model" in shown
    assert call(open_page, "stats")[1][0]["model"] == "toy"


def test_public_page_offers_no_models(world):
    public = ("--host", "0.0.0.0", "--offer", SOMEWHERE)
    with served(world[0] / "library", *public, stop=signal.SIGINT) as address:
        page = address.replace("0.0.0.0", "127.0.0.1")
        shown = send_event(page, "load", {}) + ask(f"{page}/config")[2].decode()
        assert "rz-model" in shown
        assert "rz-offer" not in shown
        assert SOMEWHERE not in shown
        for spec in ("mini", SOMEWHERE):
            expected = send_event(page, "reembed", {"model": offer_id(spec)})
            assert "start the page with --auth" in expected
        assert call(page, "stats")[1][0]["model"] == "toy"


def as_gradio_file(path: object) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"path": p}, lambda p: f"file://{p}"])
def test_query_file_is_never_a_path(open_page, world, wrap):
    event, data = call(open_page, "search", file=wrap(str(world[0] / "secret.txt")))
    assert event == "error"
    assert "unknown or expired" in json.dumps(data)


@pytest.mark.parametrize(
    "shape",
    [
        as_gradio_file,
        lambda path: [[as_gradio_file(path)]],
        lambda path: {"path": path, "meta": {"_type": "gradio.FileData"}, "url": path},
        lambda path: {"deep": {"er": as_gradio_file(f"{path}/../secret.txt")}},
    ],
)
@pytest.mark.parametrize("route", ["call/v2/search", "call/search", "run/search", "queue/join"])
def test_gradio_files_are_refused(open_page, world, shape, route):
    value = shape(str(world[0] / "secret.txt"))
    sent = {"text": "", "file": value, "data": ["", value], "fn_index": 0, "session_hash": "x"}
    body = json.dumps(sent).replace("gradio.FileData", "gradio\\u002eFileData").encode()
    status, _, answer = ask(
        f"{open_page}/gradio_api/{route}", body, Content_Type="application/json"
    )
    assert (status, b"query-files" in answer) == (400, True)


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/x.jpg", "https://example.org/x", None, "\0"])
def test_urls_are_never_fetched(open_page, path):
    body = json.dumps({"file": as_gradio_file(path)}).encode()
    address = f"{open_page}/gradio_api/call/v2/search"
    assert ask(address, body, Content_Type="application/json")[0] == 400
    answer = mcp_raw(open_page, "tools/call", name="search", arguments=json.loads(body))
    assert b"query-files" in answer


def test_gradio_client_sends_files(open_page, sample_folder):
    client = Client(open_page, verbose=False, analytics_enabled=False)
    picture = handle_file(str(sample_folder / "media" / "photos" / "blue.jpg"))
    found = client.predict(file=picture, kinds=["image"], api_name="/search")
    assert found[0]["name"] == "blue.jpg"


def test_answers_hold_no_paths(open_page, sample_folder):
    event, ([first, *_],) = call(open_page, "search", text="red")
    assert event == "complete"
    assert first["media"] == f"/media/{first['segment_id']}"
    for endpoint in ("search", "folders", "files", "stats", "ingest_status"):
        arguments = {"text": "red"} if endpoint == "search" else {}
        assert str(sample_folder) not in json.dumps(call(open_page, endpoint, **arguments)[1])


# ---- what other programs and sites may do


def test_mcp_lists_tools(open_page):
    tools = {tool["name"]: tool for tool in mcp(open_page, "tools/list")["tools"]}
    assert {"search", "similar", "stats", "folders", "files", "ingest_folder"} <= set(tools)
    assert not [name for name in tools if name.startswith("page")]
    assert all(tool["description"] for tool in tools.values())
    search = tools["search"]["inputSchema"]["properties"]
    assert all(describe_error.get("description") for describe_error in search.values())


def test_mcp_calls_tools(open_page):
    found = mcp(open_page, "tools/call", name="search", arguments={"text": "red", "limit": 1})
    assert "red" in found["content"][0]["text"]
    failed = mcp(open_page, "tools/call", name="search", arguments={"text": ""})
    assert failed["isError"]
    assert "type what you are looking for" in failed["content"][0]["text"]


def test_search_with_data_url(open_page, sample_folder):
    picture = (sample_folder / "media" / "photos" / "blue.jpg").read_bytes()
    address = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
    event, ([first, *_],) = call(open_page, "search", file=address, kinds=["image"])
    assert (event, first["name"]) == ("complete", "blue.jpg")


def test_other_sites_are_refused(open_page):
    upload = f"{open_page}/uploads?path=evil.txt"
    assert ask(upload, b"x", Origin="http://evil.example")[0] == 403
    assert ask(upload, b"x", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(upload, b"x", Origin="null")[0] == 403
    assert ask(f"{open_page}/", Host="evil.example")[0] == 421
    assert ask(f"{open_page}/gradio_api/call/stats", b"{}", Origin="http://evil.example")[0] == 403


def test_security_headers(open_page):
    _, headers, _ = ask(f"{open_page}/")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_page_links_to_no_other_host(open_page):
    _, _, body = ask(f"{open_page}/")
    served_text = re.sub(rb'<meta[^>]*(property|name)="(og|twitter):[^>]*>', b"", body).decode()
    linked = re.findall(r'(?:src|href)="(https?://[^"]+)', served_text)
    assert not linked


def test_local_page_accepts_folders(open_page):
    event, data = call(open_page, "ingest_folder", folder="/no/such/folder")
    assert event == "error"
    assert "there is no folder" in json.dumps(data)


# ---- the login


@pytest.mark.parametrize(
    "path",
    ["/config", "/gradio_api/info", "/gradio_api/mcp/", "/media/{}", "/thumbnail/{}", "/detail/{}"],
)
def test_locked_page_requires_login(locked_page, world, path):
    assert ask(locked_page + path.format(world[1]))[0] == 401


def test_locked_page_redirects_to_login(locked_page):
    status, headers, _ = ask(f"{locked_page}/")
    assert (status, headers["Location"]) == (303, "login")
    assert b'type="password"' in ask(f"{locked_page}/login")[2]


def test_session_begins_and_ends(locked_page, world):
    wrong = urllib.parse.urlencode({"username": "me", "password": "wrong"}).encode()
    right = urllib.parse.urlencode({"username": "me", "password": "right"}).encode()
    assert ask(f"{locked_page}/login", wrong)[0] == 401
    status, headers, _ = ask(f"{locked_page}/login", right)
    assert status == 200
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=strict" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].split(";")[0]
    assert ask(f"{locked_page}/media/{world[1]}", Cookie=cookie)[0] == 200
    assert b"Log out" in ask(f"{locked_page}/logout", Cookie=cookie)[2]
    assert ask(f"{locked_page}/media/{world[1]}", Cookie=cookie)[0] == 200, "a link ends nothing"
    assert ask(f"{locked_page}/logout", b"", Cookie=cookie)[0] == 303
    assert ask(f"{locked_page}/media/{world[1]}", Cookie=cookie)[0] == 401


def test_basic_auth(locked_page):
    basic = "Basic " + base64.b64encode(b"me:right").decode()
    assert call(locked_page, "stats", login=basic)[0] == "complete"
    for wrong in ("Basic " + base64.b64encode(b"me:wrong").decode(), "Basic %%%", "Bearer x"):
        assert ask(f"{locked_page}/config", Authorization=wrong)[0] == 401


# ---- the guard by itself


def guarded(**config: object) -> TestClient:
    """Return a client of a guard that needs no login."""
    inner = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("inside"))])
    guard = Guard(inner, AppConfig.model_validate(config), Authenticator(None))
    return TestClient(guard, base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "192.0.2.7"])
def test_hosts_are_addresses_and_own_names(host, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Box.lan")
    client = guarded(host=host, name=("Photos.example.org",))
    own = ("127.0.0.1", "192.0.2.9:80", "[::1]:7860", "[2001:db8::7]", "localhost", "LOCALHOST:1")
    own += ("box", "box.local:7860", "box.lan", "photos.example.org", "PHOTOS.example.org:443")
    for name in own:
        assert client.get("/config", headers={"Host": name}).text == "inside", name
    foreign = ("evil.example", "evil.example:7860", "box.lan.evil.example", "xphotos.example.org")
    foreign += ("127.0.0.1.evil.example", "127.0.0.1:7860.evil.example", "0x7f.1", "2130706433")
    for name in foreign:
        answer = client.get("/config", headers={"Host": name})
        assert answer.status_code == 421, name
        assert "--name" in answer.text


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Origin", "http://127.0.0.1:3000"),
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "same-site"),
        ("Sec-Fetch-Site", "cross-site"),
    ],
)
def test_requests_of_other_sites_and_ports_are_refused(method, name, value):
    client = guarded()
    headers = {name: value, "Access-Control-Request-Method": "POST"}
    for path in ("/", "/login", "/config", "/media/1", "/gradio_api/queue/join"):
        assert client.request(method, path, headers=headers).status_code == 403, path
    navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for path in ("/config", "/media/1", "/logout"):
        assert client.request(method, path, headers=navigation).status_code == 403, path
    for path in ("/", "/login"):
        linked = client.request(method, path, headers=navigation)
        assert (linked.status_code == 403) is (method != "GET"), "a link to the page opens it"


def test_headers_for_other_origins_are_removed():
    def allowing(_request):
        allowed = {"Access-Control-Allow-Origin": "*", "access-control-allow-credentials": "true"}
        return PlainTextResponse("inside", headers=allowed)

    inner = Starlette(routes=[Route("/", allowing)])
    client = TestClient(Guard(inner, AppConfig(), Authenticator(None)), "http://127.0.0.1:7860")
    answer = client.get("/", headers={"Origin": "http://127.0.0.1:7860"})
    assert answer.text == "inside"
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_unlisted_routes_are_closed():
    inner = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("inside"))])
    client = TestClient(
        Guard(inner, AppConfig(), Authenticator(None)), base_url="http://127.0.0.1:7860"
    )
    assert client.get("/").text == "inside"
    assert client.get("/gradio_api/info").text == "inside"
    for path in ("/admin", "/gradio_api/dev/reload", "/gradio_api/file=x", "/static/../x"):
        assert client.get(path).text != "inside"
    for path in ("/static/..%5Cx", "/static/%252e%252e/x", "/assets/x%3F/../../y", "/site/a%0A/.."):
        assert client.get(path).text != "inside"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Origin", "http://[x", 403),
        ("Authorization", "Basic \u00e9", 401),
        ("Authorization", "Basic /w==", 401),
        ("Host", "x/health?", 421),
        ("Host", "x/login?", 421),
        ("Host", "127.0.0.1:99999", 421),
        ("Host", "[127.0.0.1]", 421),
        ("Host", "[::1%eth0/health?]", 421),
    ],
)
def test_invalid_headers_open_nothing(name, value, status):
    inner = Starlette(routes=[Route("/{path:path}", lambda _: PlainTextResponse("inside"))])
    guard = Guard(
        inner, AppConfig(host="0.0.0.0", auth=("me", "right")), Authenticator(("me", "right"))
    )
    headers = {name: value.encode("latin-1")}
    client = TestClient(guard, base_url="http://127.0.0.1:7860")
    answer = client.request("POST", "/config", headers=headers)
    assert (answer.status_code, answer.text != "inside") == (status, True)


# ---- the program


def run(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "app", *flags],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_port_in_use_exits_with_status_2(open_page, world):
    port = open_page.rpartition(":")[2]
    ended = run("--port", port, "--library", str(world[0] / "library"))
    assert ended.returncode == 2
    assert f"port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_other_model_exits_with_status_2(world):
    ended = run("--port", "0", "--library", str(world[0] / "library"), "--model", "mini")
    assert ended.returncode == 2
    assert "toy" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_is_light():
    script = (
        "import sys; from app.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('gradio', 'torch', 'faiss', 'onnxruntime') if m in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert ended.stdout.strip().endswith("[]")
    assert "--library" in ended.stdout


def test_gradio_imports():
    script = "import sys, app.search, app.routes, app.page.events; print('gradio' in sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert ended.stdout.strip() == "False", ended.stderr
