"""The routes for media, results and uploads; media are addressed by segment id, never by path.

    GET /media/{segment}        the original file, with HTTP ranges; ?download=1 saves it
    GET /thumbnail/{segment}    the thumbnail made when the file was added
    GET /page/{segment}.png     a PDF page, or a picture that browsers cannot show; ?side=1600
    GET /detail/{segment}       the detail dialog's content; ?search= marks that search's words
    GET /results/{search}       more cards of a search; ?offset=24&weak=1
    POST /query-files?name=     a file to search with
    POST /uploads?path=         a file for the library
    POST /gradio_api/upload     files to search with, from Gradio's clients

Access is checked before, in `app.guard`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import wraps
from io import BytesIO
from threading import Lock
from typing import Annotated, ParamSpec, TypeAlias

from anyio import to_thread
from cachetools import LRUCache
from fastapi import APIRouter, Path, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.types import Message

from app.page import results
from app.page.detail import detail_html
from app.page.labels import readable
from app.query_files import QueryFiles
from app.search import MAX_DATABASE_INTEGER, Searches
from app.uploads import IncomingFile, LibraryUploads, NoRoom, Reservation, TooLarge, UploadError
from embedder import EmbedderError
from embedder.media import MEDIA_KINDS, MEDIA_TYPES, MediaError
from indexer import (
    IndexerError,
    Library,
    LibraryBusy,
    LibraryError,
    MediaItem,
    NotFound,
    QueryError,
)

_log = logging.getLogger(__name__)

_SANDBOX = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_MIN_SIDE, _MAX_SIDE = 256, 2400
_PAGE_CACHE_BYTES = 64 << 20
_MAX_FORM_FILES = 8
_BLOCK_BYTES = 1 << 20

P = ParamSpec("P")
SegmentId: TypeAlias = Annotated[int, Path(ge=0, le=MAX_DATABASE_INTEGER)]


def media_router(library: Library, searches: Searches, *, paths: bool = False) -> APIRouter:
    """Build the routes that read.

    Args:
        library: Whose media are served.
        searches: Whose hits are shown.
        paths: Whether users may see where files are on this machine.
    """
    router = APIRouter()
    pages = PageCache(library)

    @router.api_route("/media/{segment_id}", methods=["GET", "HEAD"])
    @_refusing
    def media(segment_id: SegmentId, download: bool = False) -> Response:
        return _original(library.catalog.item_of(segment_id), download)

    @router.api_route("/thumbnail/{segment_id}", methods=["GET", "HEAD"])
    @_refusing
    def thumbnail(segment_id: SegmentId) -> Response:
        path = library.thumbnail(segment_id)
        if path is None:
            raise NotFound(f"Segment {segment_id} has no thumbnail.")
        return FileResponse(path, headers=_FOREVER)

    @router.get("/page/{segment_id}.png")
    @_refusing
    def page(segment_id: SegmentId, side: Annotated[int, Query(ge=1)] = 1600) -> Response:
        picture = pages.get(segment_id, min(max(side, _MIN_SIDE), _MAX_SIDE))
        return Response(picture, media_type="image/png", headers=_FOREVER)

    @router.get("/detail/{segment_id}")
    def show_detail(segment_id: SegmentId, search: str = "") -> Response:
        session = None
        with suppress(NotFound):  # An expired search only loses its marks.
            session = searches.get(search) if search else None
        try:
            return HTMLResponse(detail_html(library, segment_id, session, paths=paths))
        except LibraryError as error:
            return HTMLResponse(results.problem(_unavailable(error)), status_code=503)
        except (IndexerError, MediaError) as error:
            return HTMLResponse(results.problem(str(error)), status_code=404)

    @router.get("/results/{token}")
    def more_results(
        token: str,
        offset: Annotated[int, Query(ge=0, le=MAX_DATABASE_INTEGER)] = 0,
        weak: bool = False,
    ) -> Response:
        return _more_results(searches, token, offset, weak)

    return router


def _refusing(route: Callable[P, Response]) -> Callable[P, Response]:
    """Wrap a route so that what it raises becomes a response of plain text."""

    @wraps(route)
    def answer(*args: P.args, **values: P.kwargs) -> Response:
        try:
            return route(*args, **values)
        except (NotFound, MediaError) as error:
            return PlainTextResponse(str(error), status_code=404)
        except LibraryBusy:  # Its message may name the library's folder.
            busy = "Too many pages are being rendered: try again in a moment."
            return PlainTextResponse(busy, status_code=503, headers={"Retry-After": "5"})
        except LibraryError as error:
            return PlainTextResponse(_unavailable(error), status_code=503)

    return answer


def _unavailable(error: LibraryError) -> str:
    """Log why the library does not answer; return what users may read, which names no folder."""
    _log.warning("hidden from users: %s", error)
    return "the library cannot do that now: the reason is in the server's log"


def _original(item: MediaItem, download: bool) -> Response:
    if not item.path.is_file():
        return PlainTextResponse(f"{readable(item.name)} no longer exists.", status_code=404)
    media_type = MEDIA_TYPES.get(item.path.suffix.lower())
    inline = media_type is not None and not download
    return FileResponse(
        item.path,
        media_type=media_type or "application/octet-stream",
        filename=readable(item.name),
        content_disposition_type="inline" if inline else "attachment",
        headers={"Cache-Control": "private, no-cache"}
        | ({} if media_type == "application/pdf" else _SANDBOX),
    )


def _more_results(searches: Searches, token: str, offset: int, weak: bool) -> Response:
    try:
        session = searches.get(token)
        return HTMLResponse(results.cards(session.page(offset, weak=weak), session.terms))
    except (NotFound, QueryError) as error:
        return HTMLResponse(results.problem(str(error)), status_code=404)
    except (IndexerError, EmbedderError):  # Their messages may name the model's folder.
        return HTMLResponse(results.problem("no more results now: search again"), 503)


class PageCache:
    """Renders pages and keeps the latest ones. Thread-safe."""

    def __init__(self, library: Library, max_bytes: int = _PAGE_CACHE_BYTES) -> None:
        self._library = library
        self._pictures = LRUCache[tuple[int, int], bytes](max_bytes, getsizeof=len)
        self._lock = Lock()

    def get(self, segment_id: int, side: int) -> bytes:
        """Return the page as PNG, its longest side about `side` pixels.

        Raises:
            NotFound: if there is no such segment, or it is neither page nor picture.
            MediaError: if the file cannot be read any more.
        """
        with self._lock:
            if cached := self._pictures.get((segment_id, side)):
                return cached
        picture = self._render(segment_id, side)
        with self._lock:
            if len(picture) <= self._pictures.maxsize:
                self._pictures[segment_id, side] = picture
        return picture

    def _render(self, segment_id: int, side: int) -> bytes:
        catalog = self._library.catalog
        segment, item = catalog.segment(segment_id), catalog.item_of(segment_id)
        if MEDIA_KINDS[segment.kind].draw is None:
            raise NotFound(f"segment {segment_id} is neither a page nor a picture")
        viewer = self._library.viewer
        if segment.page is None:
            picture = viewer.picture(item.path, side)
        else:
            picture = viewer.page(item.path, segment.page, side)
        out = BytesIO()
        picture.save(out, format="PNG", compress_level=1)
        return out.getvalue()


def upload_router(library: Library, uploads: LibraryUploads, files: QueryFiles) -> APIRouter:
    """Build the routes that take files.

    Args:
        library: What the files are for; its decoder is started while those to search with arrive.
        uploads: Saves the files for the library.
        files: Saves the files to search with.
    """
    router, viewer = APIRouter(), library.viewer

    @router.post("/query-files")
    async def add_query_file(request: Request, name: str = "") -> Response:
        async def save() -> object:
            await to_thread.run_sync(viewer.prepare)
            key, saved = await files.add(name, _body(request))
            return {"id": key, "name": saved.path.name, "bytes": saved.size}

        return await _saved(save)

    @router.post("/uploads")
    async def add_upload(request: Request, path: str = "") -> Response:
        async def save() -> object:
            await to_thread.run_sync(library.check_unchanged)
            saved = await uploads.add(path, _body(request))
            return {"name": saved.path.name, "bytes": saved.size}

        return await _saved(save)

    @router.post("/gradio_api/upload")
    async def add_form_files(request: Request) -> Response:
        return await _saved(lambda: _save_form(request, files))

    return router


async def _save_form(request: Request, files: QueryFiles) -> object:
    """Save a form's files; Gradio's clients send the returned names back as paths of files."""
    reservation = await to_thread.run_sync(files.admit, _content_length(request))
    try:
        counted = Request(request.scope, _counting(request, reservation))
        async with counted.form(max_files=_MAX_FORM_FILES, max_fields=_MAX_FORM_FILES) as form:
            sent = [value for value in form.getlist("files") if isinstance(value, UploadFile)]
            saved = [
                await files.add(file.filename or "", IncomingFile(_blocks(file))) for file in sent
            ]
        return [f"{key}/{file.path.name}" for key, file in saved]
    finally:
        reservation.close()


def _counting(request: Request, reservation: Reservation) -> Callable[[], Awaitable[Message]]:
    async def receive() -> Message:
        message = await request.receive()
        await to_thread.run_sync(reservation.grow, len(message.get("body", b"")))
        return message

    return receive


async def _blocks(file: UploadFile) -> AsyncIterator[bytes]:
    while block := await file.read(_BLOCK_BYTES):
        yield block


def _body(request: Request) -> IncomingFile:
    return IncomingFile(request.stream(), _content_length(request))


def _content_length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


async def _saved(save: Callable[[], Awaitable[object]]) -> Response:
    try:
        return JSONResponse(await save())
    except UploadError as error:
        status = {TooLarge: 413, NoRoom: 507}.get(type(error), 400)
        return JSONResponse({"error": str(error)}, status_code=status)
    except LibraryError as error:
        return JSONResponse({"error": _unavailable(error)}, status_code=503)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        return JSONResponse({"error": f"the file could not be stored: {reason}"}, status_code=507)
