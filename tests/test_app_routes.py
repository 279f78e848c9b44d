"""Every route of the application, ours and Gradio's, asked for what it must not give.

The routes come from the application itself, so that a new one is covered on the day it is added.
"""

import gc
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import brotli
import fastapi.routing
import pytest
from asgi import Answer, Ask, Site, site
from hostile_requests import NO_IDS, RANGES, bodies, paths_to
from sample_library import copy_library, segment_of
from starlette.responses import PlainTextResponse
from starlette.routing import Mount

from app import server, services
from app.auth import Authenticator
from app.config import AppConfig
from app.delivery import version_of
from app.guard import Guard
from indexer import Library

# Starlette leaves open what it has of a form that is broken.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <function Spooled")
SECRET = b"the-owner's-secret"


@dataclass(frozen=True)
class Endpoint:
    """A route: its path with parameters, its methods, and the names of its query parameters."""

    path: str
    methods: frozenset[str]
    query: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[str]:
        return re.findall(r"\{(\w+)(?::\w+)?\}", self.path)

    def filled(self, values: dict[str, str]) -> str:
        """The path with values in place of parameters."""
        return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: values.get(found[1], "1"), self.path)


def endpoints(app: object, prefix: str = "") -> Iterator[Endpoint]:
    """All routes of an application and of those that are mounted in it."""
    for route in fastapi.routing.iter_route_contexts(app.routes):
        path = prefix + (getattr(route, "path", "") or "")
        mounted = getattr(route, "app", None) or getattr(route.original_route, "app", None)
        if isinstance(route.original_route, Mount):
            if getattr(mounted, "routes", None):
                yield from endpoints(mounted, path)
            yield Endpoint(path + "/{path:path}", frozenset({"GET", "POST"}))
        else:
            dependant = getattr(route.original_route, "dependant", None)
            query = tuple(one.alias for one in dependant.query_params) if dependant else ()
            yield Endpoint(path, frozenset(route.methods or {"GET"}), query)


@dataclass(frozen=True)
class World:
    """What the tests ask about."""

    site: Site
    endpoints: list[Endpoint]
    secret: Path
    segment: int


@pytest.fixture(scope="module")
def world(sample_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    secret = folder / "secret.txt"
    secret.write_bytes(SECRET)
    assets = folder / "assets"
    shutil.copytree(server.ASSETS, assets)
    (assets / "link.txt").symlink_to(secret)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "ASSETS", assets)
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "scratch"))
        with Library.open(copy_library(sample_folder, folder)) as library:
            (library.uploads).mkdir()
            (library.uploads / "link.txt").symlink_to(secret)
            page = services.build(AppConfig(), library, folder / "scratch")
            with site(lambda: server.build(page)) as opened:
                inner = opened.app
                while not hasattr(inner, "routes"):
                    inner = inner._app
                yield World(opened, list(endpoints(inner)), secret, segment_of(library, "red.jpg"))
            gc.collect()  # What Starlette leaves of broken forms shows up here.


def problem(request: Ask, answer: Answer, world: World) -> str | None:
    """What is wrong with an answer, whatever was asked."""
    if answer.error is not None:
        return f"{request} raised {answer.error!r:.200}"
    if not 200 <= answer.status < 500:
        return f"{request} gave {answer.status}"
    if SECRET in answer.body or b"SQLite format" in answer.body:
        return f"{request} gave the disk away"
    to = answer.headers.get("location", "")
    if "//" in to and not to.startswith("http://127.0.0.1:7860/"):
        return f"{request} leads to {to}"
    if any(name.startswith("access-control-") for name in answer.headers):
        return f"{request} lets other sites read"
    return None


def check(world: World, requests: list[Ask]) -> None:
    answers = world.site.ask_all(requests)
    found = [problem(one, answer, world) for one, answer in zip(requests, answers, strict=True)]
    if faults := list(filter(None, found)):
        pytest.fail("\n".join(faults), pytrace=False)


def test_routes_are_found(world):
    paths = {one.path for one in world.endpoints}
    assert {
        "/media/{segment_id}",
        "/uploads",
        "/login",
        "/site/{path:path}",
        "/gradio_api/file={path_or_url:path}",
        "/gradio_api/call/v2/{api_name}",
        "/gradio_api/mcp/sse",
    } <= paths
    assert len(world.endpoints) > 80


def test_paths_in_parameters(world):
    requests = []
    for one in world.endpoints:
        for path in paths_to(world.secret):
            requests += [Ask(one.filled({name: path})) for name in one.parameters]
            if not one.parameters:
                requests.append(Ask(f"{one.path}/{path}"))
        for path in paths_to(world.secret)[::5]:
            requests += [Ask(f"{one.filled({})}?{name}={path}") for name in one.query]
    check(world, requests)


SEGMENT_ROUTES = ("/media/{}", "/thumbnail/{}", "/page/{}.png", "/frame/{}", "/detail/{}")


def test_unknown_ids(world):
    requests = []
    for one in world.endpoints:
        for value in NO_IDS:
            requests += [Ask(one.filled({name: value})) for name in one.parameters]
        for value in NO_IDS[::5]:
            requests += [Ask(f"{one.filled({})}?{name}={value}") for name in one.query]
    check(world, requests)
    for route in SEGMENT_ROUTES:
        answers = world.site.ask_all(Ask(route.format(value)) for value in NO_IDS)
        found = [value for value, got in zip(NO_IDS, answers, strict=True) if got.status == 200]
        assert set(found) <= {"1_0", "+1", "%201", "1%20", "%D9%A1%D9%A2", "%EF%BC%91"}, (
            "only odd spellings of numbers that are ours"
        )


def test_sides_and_offsets_are_bounded(world):
    for value in [*NO_IDS, "1600", "100000"]:
        answer = world.site.ask(f"/page/{world.segment}.png?side={value}")
        assert answer.status in {200, 404}, value
        assert len(answer.body) < 2400 * 2400 * 4
    for value in NO_IDS:
        assert world.site.ask(f"/results/x?offset={value}").status == 404


def test_odd_methods(world):
    odd = (
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "get",
        "HEAD",
        "X" * 99,
    )
    check(world, [Ask(one.filled({}), method) for one in world.endpoints for method in odd])


@pytest.mark.parametrize("wanted", RANGES, ids=lambda wanted: f"{wanted:.24}")
def test_ranges_are_bounded(world, wanted):
    for route in ("/media/{}", "/thumbnail/{}"):
        whole = len(world.site.ask(route.format(world.segment)).body)
        for method in ("GET", "HEAD"):
            request = Ask(route.format(world.segment), method, (("range", wanted),))
            (answer,) = world.site.ask_all([request])
            assert problem(request, answer, world) is None
            assert len(answer.body) <= whole + 100 * 200, "the parts' own headers, 100 at most"


@pytest.mark.parametrize("query", ["a=\x98\xbc", "\xe9", "search=\xff%20"])
def test_non_ascii_queries_are_not_found(world, query):
    # Without a slash at the end, Starlette redirects to one, and reads the query.
    for path in ("/", "/detail/2/", "/detail/2", "/results/x", f"/media/{world.segment}"):
        answer = world.site.ask(f"{path}?{query}")
        assert (answer.status, answer.error) == (404, None)


def test_hostile_bodies(world):
    requests = []
    names = ("search", "page_files", "nothing")
    for one in world.endpoints:
        for kind, body in bodies(world.secret):
            for name in names if "api_name" in one.parameters else names[:1]:
                filled = one.filled({"api_name": name})
                requests.append(Ask(filled, "POST", (("content-type", kind),), body))
            requests += [
                Ask(f"{filled}?{query}=x", "POST", (("content-type", kind),), body)
                for query in one.query
            ]
    check(world, requests)
    for path in world.secret.parent.rglob("*"):
        if path.is_file() and path.parent != world.secret.parent:
            assert path.is_symlink() or SECRET not in path.read_bytes(), f"{path} is a copy"


def test_gradio_keeps_no_copies(world, sample_folder):
    scratch = world.secret.parent / "scratch"
    before = set(scratch.rglob("*"))
    picture = (sample_folder / "media" / "photos" / "blue.jpg").read_bytes()
    head = 'Content-Disposition: form-data; name="files"; filename="sea.jpg"'
    form = f"--b\r\n{head}\r\n\r\n".encode() + picture + b"\r\n--b--\r\n"
    kind = (("content-type", "multipart/form-data; boundary=b"),)
    (path,) = json.loads(world.site.ask("/gradio_api/upload", "POST", headers=kind, body=form).body)
    key, name = path.split("/")
    file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    values = ["", file, "", ["image"], "", "", "", 0.5, 5, 0, ""]
    kind = (("content-type", "application/json"),)
    body = json.dumps({"data": values}).encode()
    answer = world.site.ask("/gradio_api/run/search", "POST", headers=kind, body=body)
    assert json.loads(answer.body)["data"][0][0]["name"] == "blue.jpg"
    new = {path.relative_to(scratch).as_posix() for path in set(scratch.rglob("*")) - before}
    assert new == {key, f"{key}/{name}"}


def test_body_in_small_chunks(world):
    body = json.dumps({"text": "x" * 100_000}).encode()
    pieces = (body[at : at + 1] for at in range(len(body)))
    answer = world.site.ask("/gradio_api/call/v2/search", "POST", body=pieces)
    assert answer.error is None


def test_body_size_is_limited(world):
    much = (b" " * (1 << 20) for _ in range(49))
    assert world.site.ask("/gradio_api/call/v2/search", "POST", body=much).status == 413
    announced = (("content-length", str(1 << 40)),)
    unread = (one for one in ["the body is not read"])
    answer = world.site.ask("/gradio_api/queue/join", "POST", headers=announced, body=unread)
    assert (answer.status, next(unread, None)) == (413, None)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=b"])
def test_bodies_without_files_are_read_to_their_limit_only(world, kind):
    head = b'--b\r\nContent-Disposition: form-data; name="items"; filename="a"\r\n\r\n'
    takes_files = {"/query-files", "/uploads", "/gradio_api/upload"}
    asked = [
        (one.path, Ask(one.filled({}), "POST", (("content-type", kind),), body))
        for one in world.endpoints
        if "POST" in one.methods and one.path not in takes_files and "{path" not in one.path
        for body in [iter([head, *[b" " * (1 << 20)] * 3, b"the rest"])]
    ]
    assert "/items/download" in {path for path, _ in asked}
    check(world, [request for _, request in asked])
    assert [path for path, request in asked if b"the rest" not in request.body] == []


def test_hostile_headers(world):
    odd = ["", "\xff" * 50, "x" * 60_000, "a=b; " * 5_000, "Basic " + "=" * 999, "\t"]
    names = ("cookie", "authorization", "origin", "referer", "accept", "content-type", "if-range")
    more = ("content-length", "x-forwarded-for", "x-forwarded-host", "accept-language", "range")
    check(
        world,
        [
            Ask(target, method, ((name, value),))
            for target in (
                "/",
                "/config",
                f"/media/{world.segment}",
                "/query-files?name=a",
                "/login",
            )
            for method in ("GET", "POST")
            for name in (*names, *more)
            for value in odd
        ],
    )
    hosts = [
        "",
        "evil.example",
        "127.0.0.1:7860/health?",
        "127.0.0.1@evil",
        "[::1",
        "\xff",
        "a" * 9999,
    ]
    for host in hosts:
        for target in ("/", "/health", "/login", f"/media/{world.segment}"):
            assert world.site.ask(target, host=host).status == 421, host


# ---- who comes in, and from where


WITHOUT_LOGIN = {"/login", "/health", "/favicon.ico", "/robots.txt"}


@pytest.fixture(scope="module")
def locked(world):
    """The application behind a login, and the requests that came through to it."""
    inside: list[str] = []

    async def spy(scope, receive, send):
        inside.append(scope["path"])
        await PlainTextResponse("inside")(scope, receive, send)

    guard = Guard(spy, AppConfig(auth=("me", "right")), Authenticator(("me", "right")))
    return Site(guard, world.site._loop), inside


def test_routes_require_login(world, locked):
    asked, inside = locked
    for one in world.endpoints:
        if one.path in WITHOUT_LOGIN or one.path.startswith("/site/"):
            continue
        requests = [
            Ask(
                one.filled({"segment_id": str(world.segment), "api_name": "search"}),
                method,
                headers,
            )
            for method in sorted(one.methods | {"GET", "HEAD", "POST", "OPTIONS", "PUT"})
            for headers in (
                (),
                (("authorization", "Basic bWU6d3Jvbmc="),),
                (("authorization", "Bearer x"), ("cookie", "rzen-session-7860=x")),
            )
        ]
        for request, answer in zip(requests, asked.ask_all(requests), strict=True):
            where = (answer.status, answer.headers.get("location"))
            assert answer.status in {401, 404, 429} or where == (303, "login"), request
    assert not inside
    assert asked.ask("/health").body == b"inside"


def test_routes_refuse_other_sites(world):
    """Every route, whatever a form, a script or a preflight from elsewhere sends."""
    simple = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b")
    elsewhere = (
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", ""),
        ("origin", "http://127.0.0.1:9999"),
        ("origin", "http://127.0.0.1:7860.evil.example"),
        ("origin", "http://evil.example@127.0.0.1:7860.evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    )
    requests = [
        Ask(
            one.filled({"api_name": "stats"}),
            method,
            (sign, ("content-type", simple[at % 3]), ("access-control-request-method", "POST")),
            b"{}" if method == "POST" else b"",
        )
        for one in world.endpoints
        for method in ("GET", "OPTIONS", "POST")
        for at, sign in enumerate(elsewhere)
    ]
    answers = world.site.ask_all(requests)
    assert {answer.status for answer in answers} == {403}
    own = (("origin", "http://127.0.0.1:7860"), ("sec-fetch-site", "same-origin"))
    assert world.site.ask("/query-files?name=a.txt", "POST", headers=own, body=b"x").status == 200


def test_text_is_compressed_but_no_media(world):
    encoded = ("accept-encoding", "gzip, br")
    query = json.dumps({"text": "red"}).encode()
    texts = [
        Ask("/", headers=(encoded,)),
        Ask("/site/app.js", headers=(encoded,)),
        Ask("/results", "POST", (encoded, ("content-type", "application/json")), query),
    ]
    for answer in world.site.ask_all(texts):
        assert answer.headers["content-encoding"] in {"gzip", "br"}
    for path in ("/media", "/thumbnail"):
        answer = world.site.ask(f"{path}/{world.segment}", headers=(encoded,))
        assert "content-encoding" not in answer.headers
        assert int(answer.headers["content-length"]) == len(answer.body) > 0


def test_scripts_are_asked_for_once_in_a_version(world, tmp_path):
    html = world.site.ask("/").body.decode()
    (folder,) = set(re.findall(r"site/[0-9a-f]{12}", html))
    encoded = (("accept-encoding", "gzip"),)
    for name in ("app.js", "page.css"):
        plain, first, again = (
            world.site.ask(f"/{folder}/{name}", headers=headers)
            for headers in ((), encoded, encoded)
        )
        assert "immutable" in first.headers["cache-control"]
        assert (again.body, again.headers) == (first.body, first.headers)
        assert gzip.decompress(first.body) == plain.body
    missing = world.site.ask("/site/000000000000/app.js")
    assert (missing.status, "cache-control" in missing.headers) == (404, False)
    assets = shutil.copytree(server.ASSETS, tmp_path / "assets")
    assert version_of(assets) == folder.removeprefix("site/")
    (assets / "app.js").write_text("// changed")
    assert version_of(assets) != folder.removeprefix("site/")


def test_scripts_styles_and_pictures_have_few_headers_and_documents_all(world):
    html = world.site.ask("/")
    (folder,) = set(re.findall(r"site/[0-9a-f]{12}", html.body.decode()))
    documents = (html, world.site.ask("/site/icon.svg"), world.site.ask("/nothing"))
    for answer in documents:
        assert {"content-security-policy", "x-frame-options"} <= answer.headers.keys()
    encoded = (("accept-encoding", "gzip, br"),)
    for path in (f"/{folder}/app.js", f"/{folder}/page.css", f"/thumbnail/{world.segment}"):
        answer = world.site.ask(path, headers=encoded)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "content-security-policy" not in answer.headers
    script = world.site.ask(f"/{folder}/app.js", headers=encoded)
    plain = world.site.ask(f"/{folder}/app.js")
    assert script.headers["content-encoding"] == "br"
    assert brotli.decompress(script.body) == plain.body
