"""Authentication: wrong passwords are throttled by address, and sessions end."""

import base64
import contextlib
import re
from collections.abc import Iterator
from urllib.parse import urljoin

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from app.auth import (
    SESSION_SECONDS,
    Authenticator,
    LoginThrottle,
    TooManyAttempts,
    _bucket,
    login_router,
)
from app.config import AppConfig
from app.guard import Guard

TOKEN = "a-token-for-programs"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logins(clock) -> Authenticator:
    return Authenticator(("me", "right"), clock)


@pytest.fixture
def client(logins) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(login_router(logins))

    @app.get("/media/1")
    def media() -> str:
        return "inside"

    guard = Guard(app, AppConfig(auth=("me", "right")), logins)
    base = "http://127.0.0.1:7860"
    with TestClient(guard, base, client=("192.0.2.7", 1), follow_redirects=False) as made:
        yield made


def enter(client: TestClient, password: str):
    return client.post("/login", data={"username": "me", "password": password})


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()}


def test_login_reads_both_kinds_of_form():
    logins = Authenticator(("me", "pässe & + %41"))
    app = FastAPI()
    app.include_router(login_router(logins))
    client = TestClient(app, follow_redirects=False)
    form = {"username": "me", "password": "pässe & + %41"}
    assert client.post("/login", data=form).status_code == 200
    parts = {name: (None, value) for name, value in form.items()}
    assert client.post("/login", files=parts).status_code == 200
    assert client.post("/login", content=b"username=me").status_code == 401


def test_search_of_a_shared_link_survives_the_login(client):
    search = "q=caf%C3%A9+%26%20tea&kind=image,video&not=%22x%22&open=3"
    asked = client.get(f"/?{search}")
    assert asked.headers["location"] == f"login?{search}"
    shown = client.get(f"/login?{search}")
    form = re.search('action="([^"]*)"', shown.text)[1]
    assert form == f"login?{search}".replace("&", "&amp;")
    right, wrong = ({"username": "me", "password": one} for one in ("right", "wrong"))
    assert f'action="{form}"' in client.post(f"/login?{search}", data=wrong).text
    html = {"Accept": "text/html"}
    answer = client.post(f"/login?{search}", data=right, headers=html)
    assert answer.headers["location"] == f".?{search}"


@pytest.mark.parametrize(
    "query", ["//evil.example", "https://evil.example/", "next=//evil.example"]
)
def test_login_leads_nowhere_else(client, query):
    form = {"username": "me", "password": "right"}
    answer = client.post(f"/login?{query}", data=form, headers={"Accept": "text/html"})
    assert urljoin("http://here/login", answer.headers["location"]) == f"http://here/?{query}"


def test_login_throttles_wrong_passwords(client, clock):
    assert [enter(client, "wrong").status_code for _ in range(12)] == [401] * 10 + [429] * 2
    refused = enter(client, "right")
    assert refused.status_code == 429
    assert f"try again in {refused.headers['retry-after']} seconds" in refused.text
    assert client.get("/media/1", headers=basic("right")).status_code == 429
    clock.seconds += int(refused.headers["retry-after"])
    assert client.get("/media/1", headers=basic("right")).text == '"inside"'
    assert enter(client, "right").status_code == 200


def test_basic_auth_throttles_wrong_passwords(client):
    tried = [client.get("/media/1", headers=basic("wrong")).status_code for _ in range(12)]
    assert tried == [401] * 10 + [429] * 2
    assert client.get("/media/1").status_code == 401, "without credentials nothing is tried"


def test_session_survives_throttling(client):
    assert enter(client, "right").status_code == 200
    for _ in range(30):
        enter(client, "wrong")
    assert client.get("/media/1").status_code == 200


def test_known_browsers_wait_for_their_own_wrong_passwords_only(client, logins):
    assert enter(client, "right").status_code == 200
    client.post("/logout")
    cookies = dict(client.cookies)
    for number in range(8_000):  # Until no address whatever is free.
        with contextlib.suppress(TooManyAttempts):
            logins.verify(f"10.0.{number >> 8}.{number & 255}", "me", "wrong")
    client.cookies.clear()
    assert enter(client, "right").status_code == 429
    client.cookies.update(cookies)
    assert client.get("/media/1").status_code == 401, "it is known, and not logged in"
    assert enter(client, "right").status_code == 200
    assert [enter(client, "wrong").status_code for _ in range(11)][-2:] == [401, 429]


def test_session_expires(client, clock):
    answer = enter(client, "right")
    assert "Max-Age=" in answer.headers["set-cookie"], "it outlives the browser"
    clock.seconds += SESSION_SECONDS - 1
    assert client.get("/media/1").status_code == 200
    clock.seconds += 1
    assert client.get("/media/1").status_code == 401


def test_sessions_and_throttle_bound_memory(clock):
    logins, attempts = Authenticator(("me", "right"), clock), LoginThrottle(clock)
    scope = {"type": "http", "scheme": "http", "path": "/", "server": ("box", 80), "headers": []}
    for number in range(5_000):
        logins.start_session(Request(scope), Response())
        attempts.record_failure(f"192.0.2.{number}")
    assert len(logins._sessions) == 1_000
    assert len(attempts._empty_at) == 256


def test_throttle_separates_addresses(clock):
    attempts = LoginThrottle(clock)
    for number in range(20):
        attempts.record_failure(f"2001:db8::{number:x}")
    with pytest.raises(TooManyAttempts):
        attempts.check("2001:db8::ffff")  # The same network of 2⁶⁴ addresses.
    blocked = 0
    for number in range(256):
        try:
            attempts.check(f"192.0.2.{number}")
        except TooManyAttempts:
            blocked += 1
    assert blocked < 16, "few share a slot"
    assert _bucket("::ffff:192.0.2.7") == _bucket("192.0.2.7")


def test_throttle_bounds_the_wait(clock):
    attempts = LoginThrottle(clock)
    for _ in range(10):
        attempts.record_failure("192.0.2.7")
    with pytest.raises(TooManyAttempts) as refused:
        attempts.check("192.0.2.7")
    assert refused.value.seconds == 10


@pytest.mark.parametrize(
    "sent",
    [
        "Basic",
        "Basic ====",
        "Basic /////w==",
        "Basic bWU=",
        "Digest x",
        "\xff",
        "Basic " + "QQ" * 9000,
    ],
)
def test_invalid_credentials_are_refused(client, sent):
    answer = client.get("/media/1", headers={"Authorization": sent.encode("latin-1")})
    assert answer.status_code == 401


# ---- the token


@pytest.fixture
def page() -> Iterator[TestClient]:
    """A page that a token opens, and nothing else."""
    with opened_by_token() as made:
        yield made


def opened_by_token(same_user=None) -> TestClient:
    admission = Authenticator(None, token=TOKEN, same_user=same_user)
    app = FastAPI()
    app.include_router(login_router(admission))

    @app.get("/{path:path}")
    def inside(path: str, request: Request) -> str:
        return f"inside {request.url.query}"

    guard = Guard(app, AppConfig(token=TOKEN), admission)
    return TestClient(guard, "http://127.0.0.1:7860", follow_redirects=False)


def test_token_is_needed(page):
    for sent in ({}, basic(TOKEN), {"Authorization": "Bearer"}, {"Authorization": "Bearer x"}):
        answer = page.get("/config", headers=sent)
        assert answer.status_code == 401
        assert "?token=" in answer.text
        assert TOKEN not in answer.text
    assert page.get("/config", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert page.get(f"/config?token={TOKEN}").status_code == 401, "only the page's own address"
    assert page.get("/health").status_code == 200
    answer = page.post("/login", data={"username": "", "password": ""})
    assert answer.status_code == 401, "there is no password"
    assert not page.cookies


def test_token_in_address_becomes_a_cookie(page):
    assert page.get("/?token=x").status_code == 401
    answer = page.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, ".")
    assert page.get(f"/?q=a&token={TOKEN}&open=3").headers["location"] == ".?q=a&open=3"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert page.get("/").text == '"inside "'


def test_own_programs_need_no_token():
    asked = []
    with opened_by_token(lambda *ends: not asked.append(ends)) as page:
        assert page.get("/config").status_code == 200
        assert page.get("/?token=old").text == '"inside "', "of a page that ran before"
        assert [tuple(end) for end in asked[0]] == [("testclient", 50000), ("127.0.0.1", 7860)]
    with opened_by_token(lambda *ends: False) as page:
        assert page.get("/config").status_code == 401


def test_links_of_other_sites_open_the_page(page):
    """Browsers send no strict cookie with them, but with what our own answer asks for."""
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for _ in range(2):
        answer = page.get("/", headers=link)
        assert (answer.status_code, answer.headers["refresh"]) == (200, "0; url=./")
        answer = page.get("/?q=a;b", headers=link)
        assert answer.headers["refresh"] == "0; url=./?q=a;b"
        own = {**link, "Sec-Fetch-Site": "same-origin"}
        assert page.get("/", headers=own).status_code == 401
    page.get(f"/?token={TOKEN}", headers=link)
    assert page.get("/", headers=own).status_code == 200


def test_login_refuses_other_sites(client):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        form = {"username": "me", "password": "right"}
        assert client.post("/login", data=form, headers=headers).status_code == 403
