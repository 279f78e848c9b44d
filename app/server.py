"""The ASGI application: the routes and Gradio's page behind access control."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app.auth import Authenticator, login_router
from app.gradio_compat import DirectCallMiddleware, ErrorMiddleware, PayloadMiddleware, mount
from app.guard import Guard
from app.page import ui
from app.peer import same_user
from app.routes import media_router, upload_router
from app.services import Services

ASSETS = Path(__file__).parent / "assets"
_HEAD = """
<link rel="stylesheet" href="site/app.css">
<link rel="icon" href="site/icon.svg" type="image/svg+xml">
<link rel="modulepreload" href="site/app.js">
<meta name="color-scheme" content="light dark">
<meta name="description" content="Search your photos, videos, PDFs and texts by what they show.">
"""


def build(services: Services, on_start: Callable[[], None] = lambda: None) -> ASGIApp:
    """Build the whole application.

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
    config = services.config
    own_user = same_user if config.admits_own_user else None
    authenticator = Authenticator(config.auth, token=config.token, same_user=own_user)
    app.include_router(login_router(authenticator))
    app.include_router(media_router(services.library, services.searches, paths=config.trusted))
    app.include_router(upload_router(services.library, services.uploads, services.files))

    @app.exception_handler(RequestValidationError)
    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("Not found", status_code=404)

    @app.get("/health")
    def health() -> Response:
        return PlainTextResponse("ok")

    app.mount("/site", StaticFiles(directory=ASSETS))
    endpoints = ui.endpoints(services)
    page = ui.build(services, endpoints)
    mount(app, page, services, theme=ui.theme(), head=_HEAD, favicon_path=str(ASSETS / "icon.svg"))
    calls = DirectCallMiddleware(ErrorMiddleware(app), endpoints)
    return Guard(PayloadMiddleware(calls, services.files), config, authenticator)
