"""Everything that answers HTTP, put together: guard, login, media, uploads, and Gradio's page."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from gradio import queueing, route_utils, routes
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app import ui
from app.failures import Failures, keep_discreet
from app.guard import Guard
from app.login import login_router
from app.logins import Logins
from app.media_routes import media_router
from app.payloads import PayloadCheck
from app.services import Services
from app.upload_routes import upload_router

ASSETS = Path(__file__).parent / "assets"
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
    _mount_page(app, services)
    inner = PayloadCheck(Failures(app), services.files)
    return Guard(inner, services.config, logins)


def _mount_page(app: FastAPI, services: Services) -> None:
    keep_discreet(queueing, route_utils, routes)
    blocks = ui.build(services)
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
    blocks.has_launched = True  # Or Gradio takes any path for an uploaded file.
