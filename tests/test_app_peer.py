"""The user of the program at the other end of a connection, as the kernel reports it."""

import contextlib
import json
import os
import socket
import sys
import urllib.parse
from collections.abc import Iterator

import pytest
from sample_library import copy_library, served
from test_app_security import ask

from app.peer import Address, same_user

STRANGER = 54321
TOKEN = "a-token-for-programs"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports it")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Make the sockets of this process those of another user."""
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


@contextlib.contextmanager
def connected(listens: str, connects: str) -> Iterator[tuple[socket.socket, Address, Address]]:
    """A client's socket, and the addresses of both ends as the server sees them."""
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with (
        socket.create_server((listens, 0), family=family) as server,
        socket.create_connection((connects, server.getsockname()[1])) as client,
        server.accept()[0] as accepted,
    ):
        yield client, accepted.getpeername()[:2], accepted.getsockname()[:2]


LOOPBACK = pytest.mark.parametrize(
    ("listens", "connects"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")],
)


@LOOPBACK
def test_own_programs_are_recognised(listens, connects):
    with connected(listens, connects) as (_, client, server):
        assert same_user(client, server)


@as_root
@LOOPBACK
def test_programs_of_other_users_are_recognised(listens, connects):
    with another_user(), connected(listens, connects) as (_, client, server):
        assert same_user(client, server), "both ends are the other user's now"
        os.seteuid(0)
        assert not same_user(client, server)


@as_root
def test_root_is_recognised():
    with connected("127.0.0.1", "127.0.0.1") as (_, client, server), another_user():
        assert same_user(client, server)


@pytest.mark.parametrize("end", [lambda one: one.close(), lambda one: one.shutdown(1)])
def test_closed_connections_are_not_trusted(end):
    """The kernel reports a socket whose program has sent a request and closed it as root's."""
    with connected("127.0.0.1", "127.0.0.1") as (client_socket, client, server):
        end(client_socket)
        assert not same_user(client, server)


def test_unknown_connections_are_not_trusted():
    with connected("127.0.0.1", "127.0.0.1") as (_, client, server):
        assert not same_user(server, ("127.0.0.1", 1)), "a socket that only listens"
        for other in (("127.0.0.1", 0), ("192.0.2.7", client[1]), ("::1", client[1])):
            assert not same_user(other, server)
        for odd in (("testclient", 50_000), ("127.0.0.1", 70_000), ("", 1)):
            assert not same_user(odd, server)


@as_root
def test_page_is_its_starters_alone(sample_folder, tmp_path):
    with served(copy_library(sample_folder, tmp_path), "--token", TOKEN) as page:
        assert ask(f"{page}/config")[0] == 200
        with another_user():
            check_only_the_token_opens(page)


def check_only_the_token_opens(page: str) -> None:
    for path in ("/", "/config", "/media/1", "/gradio_api/mcp/", "/?token=x", "/?token="):
        status, _, body = ask(page + path)
        assert (status, b"?token=" in body) == (401, True), path
    form = urllib.parse.urlencode({"username": "", "password": TOKEN}).encode()
    assert ask(f"{page}/login", form)[0] == 401
    assert ask(f"{page}/config", Authorization=f"Bearer {TOKEN}x")[0] == 401
    program = {"Authorization": f"Bearer {TOKEN}", "Content_Type": "application/json"}
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).encode()
    accept = "application/json, text/event-stream"
    assert b"ingest_folder" in ask(f"{page}/gradio_api/mcp/", call, Accept=accept, **program)[2]
    status, headers, _ = ask(f"{page}/?token={TOKEN}")
    assert (status, headers["Location"]) == (303, ".")
    cookie = headers["Set-Cookie"].split(";")[0]
    assert b"<html" in ask(f"{page}/", Cookie=cookie)[2]
    assert ask(f"{page}/health")[0] == 200
