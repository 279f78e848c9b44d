"""Errors become responses, and the log describes them without what was asked."""

import logging
import types

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.gradio_compat import ErrorMiddleware, log_tracebacks
from app.services import describe_error

WORDS = "what-a-user-searches-for"


def broken(_request):
    raise ValueError(WORDS)


def telling(_request):
    return JSONResponse({"error": "a sentence"}, status_code=500)


def breaking_off(_request):
    def parts():
        yield "begun"
        raise ValueError(WORDS)

    return StreamingResponse(parts(), media_type="text/event-stream")


@pytest.fixture
def client():
    answers = {"broken": broken, "telling": telling, "stream": breaking_off}
    routes = [
        Route(f"{before}/{name}", answer)
        for before in ("/gradio_api", "/media")
        for name, answer in answers.items()
    ]
    return TestClient(ErrorMiddleware(Starlette(routes=routes)))


@pytest.mark.parametrize(("before", "status"), [("/gradio_api", 400), ("/media", 500)])
def test_errors_hide_their_message(client, caplog, before, status):
    caplog.set_level(logging.DEBUG)
    answer = client.get(f"{before}/broken")
    assert answer.status_code == status
    assert WORDS not in answer.text + caplog.text
    assert "ValueError in broken (" in caplog.text
    assert client.get(f"{before}/telling").status_code == status
    assert client.get(f"{before}/telling").json() == {"error": "a sentence"}


def test_broken_stream_ends(client, caplog):
    caplog.set_level(logging.DEBUG)
    assert client.get("/gradio_api/stream").text == "begun"
    assert WORDS not in caplog.text


def test_gradio_tracebacks_are_logged_without_message(caplog, capsys):
    import traceback

    caplog.set_level(logging.DEBUG)
    module = types.ModuleType("prints")
    module.__dict__["traceback"] = traceback
    log_tracebacks(module.__dict__)
    try:
        broken(None)
    except ValueError:
        module.__dict__["traceback"].print_exc()
    assert "ValueError in broken" in caplog.text
    assert WORDS not in caplog.text + "".join(capsys.readouterr())
    assert module.__dict__["traceback"].format_exc is traceback.format_exc
    assert describe_error(ValueError(WORDS)) == "ValueError"
