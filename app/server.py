"""Everything that answers HTTP, put together: guard, login, media, uploads, and Gradio's page."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from gradio import queueing, route_utils, routes
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.auth import Logins, login_router
from app.gradio_compat import DirectCalls, Endpoint, Failures, PayloadCheck, keep_discreet
from app.guard import Guard
from app.page import ui
from app.routes import media_router, upload_router
from app.services import Services

ASSETS = Path(__file__).parent / "assets"
_SESSIONS = 1_000
_QUEUE_SECONDS = 0.02
_HEAD = """
<link rel="stylesheet" href="site/app.css">
<link rel="icon" href="site/icon.svg" type="image/svg+xml">
<link rel="modulepreload" href="site/app.js">
<meta name="color-scheme" content="light dark">
<meta name="description" content="Search your photos, videos, PDFs and texts by what they show.">
"""


def build(services: Services, on_start: Callable[[], None] = lambda: None) -> ASGIApp:
    """The whole application as ASGI.

    Args:
        services: What answers; the caller closes its library after the application has ended.
        on_start: Called when requests are about to be answered.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        on_start()
        yield
        services.jobs.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    logins = Logins(services.config.auth)
    app.include_router(login_router(logins))
    trusted = services.config.trusted
    app.include_router(media_router(services.library, services.searches, paths=trusted))
    app.include_router(upload_router(services.uploads, services.files, services.library.viewer))

    @app.exception_handler(RequestValidationError)
    async def no_such_thing(request: Request, error: Exception) -> Response:
        return PlainTextResponse("There is nothing here.", status_code=404)

    @app.get("/health")
    def health() -> Response:
        return PlainTextResponse("ok")

    app.mount("/site", StaticFiles(directory=ASSETS))
    endpoints = ui.endpoints(services)
    _mount_page(app, services, endpoints)
    calls = DirectCalls(Failures(app), endpoints)
    return Guard(PayloadCheck(calls, services.files), services.config, logins)


def _describe_once(blocks: gr.Blocks) -> None:
    """Has each part of the page describe itself once.

    Gradio asks all of them at every call of an endpoint, which takes longer than a search; and
    what they answer never changes, since all that does is sent to the page by events.
    """
    for block in blocks.blocks.values():
        block.get_config = partial(dict, block.get_config())  # type: ignore[method-assign]


def _mount_page(app: FastAPI, services: Services, endpoints: Mapping[str, Endpoint]) -> None:
    keep_discreet(queueing, route_utils, routes)
    blocks = ui.build(services, endpoints)
    _describe_once(blocks)
    blocks.state_session_capacity = _SESSIONS
    gr.mount_gradio_app(
        app,
        blocks.queue(default_concurrency_limit=8),
        path="/",
        server_name=services.config.host,
        server_port=services.config.port,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[str(services.library.directory)],
        favicon_path=str(ASSETS / "icon.svg"),
        show_error=True,
        max_file_size=services.config.max_upload_bytes,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=True,
        theme=ui.theme(),
        head=_HEAD,
    )
    # Or it would look a thousand times a second, beside whatever else goes on.
    blocks._queue.sleep_when_free = _QUEUE_SECONDS
    blocks.has_launched = True  # Or Gradio takes any path for an uploaded file.
