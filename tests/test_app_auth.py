"""Authentication: wrong passwords are throttled by address, and sessions end."""

import base64
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
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
def client(clock) -> Iterator[TestClient]:
    logins = Authenticator(("me", "right"), clock)
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


def test_session_expires(client, clock):
    answer = enter(client, "right")
    assert f"Max-Age={SESSION_SECONDS}" in answer.headers["set-cookie"]
    clock.seconds += SESSION_SECONDS - 1
    assert client.get("/media/1").status_code == 200
    clock.seconds += 1
    assert client.get("/media/1").status_code == 401


def test_sessions_and_throttle_bound_memory(clock):
    logins, attempts = Authenticator(("me", "right"), clock), LoginThrottle(clock)
    for number in range(5_000):
        logins.create_session()
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


def test_login_refuses_other_sites(client):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        form = {"username": "me", "password": "right"}
        assert client.post("/login", data=form, headers=headers).status_code == 403
