"""The ASGI application: the routes and Gradio's page behind access control."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from app import texts
from app.albums import album_items_router, albums_router, collections_router
from app.auth import Authenticator, login_router
from app.bundle import bundled
from app.delivery import AssetMiddleware, CompressionMiddleware, version_of
from app.desktop import desktop_router
from app.direct_calls import DirectCallMiddleware
from app.duplicates import duplicates_router
from app.files import files_router
from app.folders import folders_router
from app.gradio_compat import ErrorMiddleware, PayloadMiddleware, mount
from app.guard import Guard
from app.page import ui
from app.page.events import LibraryView
from app.peer import same_user
from app.reading import reading_router
from app.routes import media_router, search_router, upload_router
from app.selection import removal_router, selection_router
from app.services import Services
from app.suggestions import suggestions_router
from app.timeline import timeline_router

ASSETS = Path(__file__).parent / "assets"
_MAX_BODY_BYTES = 1 << 20
"""Of a request without files, which routes keep in memory."""
_STYLES = (
    "frame",
    "search",
    "results",
    "browse",
    "detail",
    "collections",
    "library",
    "files",
    "selection",
    "duplicates",
)
_HEAD = """
<link rel="stylesheet" href="{site}/page.css">
<link rel="modulepreload" href="{site}/app.js">
<link rel="icon" href="site/icon.svg" type="image/svg+xml">
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
        services.start()
        yield
        services.close()

    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        max_body_size=_MAX_BODY_BYTES,
    )
    config = services.config
    own_user = same_user if config.admits_own_user else None
    authenticator = Authenticator(config.auth, token=config.token, same_user=own_user)
    for router in (
        login_router(authenticator),
        media_router(services.library, services.searches, paths=config.trusted),
        desktop_router(services.library, trusted=config.trusted),
        search_router(LibraryView(services), services.searches),
        suggestions_router(services.library),
        selection_router(services),
        removal_router(services),
        duplicates_router(services),
        albums_router(services),
        album_items_router(services),
        collections_router(services),
        files_router(services),
        folders_router(services),
        reading_router(services),
        timeline_router(services),
    ):
        app.include_router(router)
    app.include_router(
        upload_router(services.library, services.uploads, services.files),
        max_body_size=sys.maxsize,  # It has limits of its own.
    )

    @app.exception_handler(RequestValidationError)
    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("Not found", status_code=404)

    @app.get("/health")
    def health() -> Response:
        return PlainTextResponse("ok")

    @app.get("/messages.js")
    def messages() -> Response:
        headers = {"Cache-Control": "no-store"}  # It depends on the language.
        return Response(texts.script(), media_type="text/javascript", headers=headers)

    site = f"site/{version_of(ASSETS)}"
    script = bundled(ASSETS, "app")

    @app.get(f"/{site}/page.css")
    def styles() -> Response:
        sheets = [(ASSETS / f"{name}.css").read_text("utf-8") for name in _STYLES]
        return Response("".join(sheets), media_type="text/css")

    @app.get(f"/{site}/app.js")
    def scripts() -> Response:
        return Response(script, media_type="text/javascript")

    app.mount(f"/{site}", StaticFiles(directory=ASSETS))
    app.mount("/site", StaticFiles(directory=ASSETS))
    endpoints = ui.endpoints(services)
    page = ui.build(services, endpoints, script=f"{site}/app.js")
    head = _HEAD.format(site=site)
    head += '<meta name="rz-trusted" content="yes">' if config.trusted else ""
    mount(app, page, services, theme=ui.theme(), head=head, favicon_path=str(ASSETS / "icon.svg"))
    calls = DirectCallMiddleware(ErrorMiddleware(app), endpoints)
    compressed = CompressionMiddleware(PayloadMiddleware(calls, services.files))
    guarded = Guard(AssetMiddleware(compressed), config, authenticator)
    return texts.LanguageMiddleware(guarded)
