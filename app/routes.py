"""The routes for media, results and uploads; media are addressed by segment id, never by path.

    GET /media/{segment}        the original file, with HTTP ranges; ?download=1 saves it
    GET /thumbnail/{segment}    the thumbnail made when the file was added
    GET /page/{segment}.webp    a PDF page, or a picture that browsers cannot show, likewise .png;
                                ?side=1600
    GET /frame/{segment}        a frame of a clip; ?at=1.5 seconds after its beginning, ?side=960
    GET /detail/{segment}       the detail dialog's content; ?search= marks that search's words,
                                ?find= others, and lists the pages of the document that have them;
                                ?page= shows another page of the document
    GET /detail/{segment}/related  what was there at the same time, and what other kinds show of it
    POST /results               the first cards of a search, whose form is the body as JSON
    GET /results/{search}       more cards of a search; ?offset=24&weak=1
    GET /results/{search}/alike/{segment}   the cards of files that look nearly like a hit
    GET /results/{search}/counts            how many files of each kind match, and how
                                many cards follow the first ones, as JSON
    POST /query-files?name=     a file to search with
    POST /uploads?path=         a file for the library; &modified= its time, in ms since 1970
    POST /gradio_api/upload     files to search with, from Gradio's clients

Access is checked before, in `app.guard`.
"""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path as FilePath
from typing import Annotated, Any, ParamSpec, TypeAlias
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Body, Path, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.types import Message

from app.delivery import FOREVER
from app.desktop import is_on_this_machine
from app.page import results
from app.page.detail import detail_html, page_segment
from app.page.events import LibraryView
from app.page.labels import readable, unavailable
from app.page.related import related_html
from app.pictures import MAX_FRAME_SIDE, DrawnPictures, Form
from app.query_files import QueryFiles
from app.search import MAX_DATABASE_INTEGER
from app.sessions import ResultPage, Searches, SearchSession
from app.texts import N_, _, message_of
from app.uploads import IncomingFile, LibraryUploads, NoRoom, Reservation, TooLarge, UploadError
from embedder import EmbedderError
from embedder.media import MEDIA_TYPES, MediaError
from embedder.media.kinds import open_media, os_reason
from embedder.media.members import container_of
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

_BINARY = "application/octet-stream"
_SANDBOX = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
_MIN_SIDE, _MAX_SIDE = 256, 2400
_MAX_SECONDS = 1e6
_MAX_FIND_CHARACTERS = 200
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
    pictures = DrawnPictures(library)

    @router.api_route("/media/{segment_id}", methods=["GET", "HEAD"])
    @_refusing
    def media(segment_id: SegmentId, download: bool = False) -> Response:
        return original_file(*library.original(segment_id), download)

    @router.api_route("/thumbnail/{segment_id}", methods=["GET", "HEAD"])
    @_refusing
    def thumbnail(segment_id: SegmentId) -> Response:
        path = library.thumbnail(segment_id)
        if path is None:
            raise NotFound(f"Segment {segment_id} has no thumbnail.")
        return FileResponse(path, headers=FOREVER)

    @router.get("/page/{segment_id}.{form}")
    @_refusing
    def page(
        segment_id: SegmentId, form: Form, side: Annotated[int, Query(ge=1)] = 1600
    ) -> Response:
        picture = pictures.page(segment_id, min(max(side, _MIN_SIDE), _MAX_SIDE), form)
        return Response(picture, media_type=f"image/{form.value}", headers=FOREVER)

    @router.get("/frame/{segment_id}")
    @_refusing
    def frame(
        segment_id: SegmentId,
        at: Annotated[float, Query(ge=0, le=_MAX_SECONDS)] = 0.0,
        side: Annotated[int, Query(ge=1)] = MAX_FRAME_SIDE,
    ) -> Response:
        picture = pictures.frame(segment_id, at, min(max(side, _MIN_SIDE), MAX_FRAME_SIDE))
        return Response(picture, media_type="image/webp", headers=FOREVER)

    @router.get("/detail/{segment_id}")
    def show_detail(
        request: Request,
        segment_id: SegmentId,
        search: str = "",
        find: Annotated[str, Query(max_length=_MAX_FIND_CHARACTERS)] = "",
        page: Annotated[int | None, Query(ge=1, le=MAX_DATABASE_INTEGER)] = None,
    ) -> Response:
        session = None
        with suppress(NotFound):  # An expired search only loses its marks.
            session = searches.get(search) if search else None
        try:
            if page is not None:
                segment_id = page_segment(library, segment_id, page)
            local = paths and is_on_this_machine(request)
            shown = detail_html(library, segment_id, session, paths=paths, local=local, find=find)
            return HTMLResponse(shown)
        except LibraryError as error:
            return HTMLResponse(results.problem(_unavailable(error)), status_code=503)
        except NotFound:
            gone = _("It is no longer in the library: it was removed, or its file has changed.")
            return HTMLResponse(results.problem(gone), status_code=404)
        except (IndexerError, MediaError) as error:
            return HTMLResponse(results.problem(message_of(error)), status_code=404)

    @router.get("/detail/{segment_id}/related")
    @_refusing
    def show_related(segment_id: SegmentId) -> Response:
        return HTMLResponse(related_html(library, segment_id))

    return router


def search_router(view: LibraryView, searches: Searches) -> APIRouter:
    """Build the routes that search.

    They are no events of Gradio's, which would show an earlier search's answer over a later one's.

    Args:
        view: Answers a search.
        searches: Holds the further hits.
    """
    router = APIRouter()

    @router.post("/results")
    def search(values: Annotated[dict[str, Any], Body()]) -> Response:
        headers = {"X-Library-Model": view.model_mark()}
        if period := view.period(values):
            headers["X-Period"] = json.dumps(period)
        return HTMLResponse(view.results(values), headers=headers)

    @router.get("/results/{token}")
    def more_results(
        token: str,
        offset: Annotated[int, Query(ge=0, le=MAX_DATABASE_INTEGER)] = 0,
        weak: bool = False,
    ) -> Response:
        return _cards(searches, token, lambda session: session.page(offset, weak=weak))

    @router.get("/results/{token}/alike/{segment_id}")
    def alike_results(token: str, segment_id: SegmentId) -> Response:
        return _cards(searches, token, lambda session: session.alike(segment_id))

    @router.get("/results/{token}/counts")
    def counts(token: str) -> Response:
        try:
            session = searches.get(token)
            return JSONResponse(
                {
                    "counts": session.counts(),
                    "heading": results.matches(session),
                    "left": session.page().left,
                }
            )
        except (NotFound, QueryError) as error:
            return PlainTextResponse(str(error), status_code=404)
        except (IndexerError, EmbedderError) as error:
            return PlainTextResponse(_unavailable(error), status_code=503)

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


def _unavailable(error: Exception) -> str:
    """Log why the library does not answer; return what users may read, which names no folder."""
    _log.warning("hidden from users: %s", error)
    return N_("the library cannot do that now: the reason is in the server's log")


def original_file(item: MediaItem, missing: FilePath | None, download: bool) -> Response:
    """Return a file as it is; `missing` is what is not connected, if it cannot be opened."""
    if missing is None and container_of(item.path):
        return _attached(item, download)
    if missing is not None or not item.path.is_file():
        return PlainTextResponse(unavailable(item, missing or item.path), status_code=404)
    try:
        item.path.open("rb").close()
    except OSError as error:  # `FileResponse` would break off after the headers.
        reason = f"{readable(item.name)} cannot be opened: {error.strerror}."
        return PlainTextResponse(reason, status_code=404)
    media_type = MEDIA_TYPES.get(item.path.suffix.lower())
    return FileResponse(
        item.path,
        media_type=media_type or _BINARY,
        filename=readable(item.name),
        content_disposition_type=_disposition(media_type, download),
        headers=_original_headers(media_type),
    )


def _attached(item: MediaItem, download: bool) -> Response:
    """Return a file that is attached to a mail."""
    try:
        with open_media(item.path) as file:
            data = file.read()
    except OSError as error:
        return PlainTextResponse(os_reason(error), status_code=404)
    media_type = MEDIA_TYPES.get(item.path.suffix.lower())
    disposition = _disposition(media_type, download)
    named = f"{disposition}; filename*=utf-8''{quote(readable(item.name))}"
    headers = {"Content-Disposition": named} | _original_headers(media_type)
    return Response(data, media_type=media_type or _BINARY, headers=headers)


def _disposition(media_type: str | None, download: bool) -> str:
    return "inline" if media_type is not None and not download else "attachment"


def _original_headers(media_type: str | None) -> dict[str, str]:
    sandbox = {} if media_type == "application/pdf" else _SANDBOX
    return {"Cache-Control": "private, no-cache"} | sandbox


def _cards(searches: Searches, token: str, get: Callable[[SearchSession], ResultPage]) -> Response:
    try:
        session = searches.get(token)
        return HTMLResponse(results.cards(get(session), session.terms))
    except (NotFound, QueryError) as error:
        return HTMLResponse(results.problem(message_of(error)), status_code=404)
    except (IndexerError, EmbedderError):  # Their messages may name the model's folder.
        return HTMLResponse(results.problem(N_("no more results now: search again")), 503)


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
    async def add_upload(request: Request, path: str = "", modified: int | None = None) -> Response:
        async def save() -> object:
            await to_thread.run_sync(library.check_unchanged)
            saved = await uploads.add(path, _body(request, modified))
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


def _body(request: Request, modified_ms: int | None = None) -> IncomingFile:
    return IncomingFile(request.stream(), _content_length(request), modified_ms)


def _content_length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


async def _saved(save: Callable[[], Awaitable[object]]) -> Response:
    try:
        return JSONResponse(await save())
    except UploadError as error:
        status = {TooLarge: 413, NoRoom: 507}.get(type(error), 400)
        return JSONResponse({"error": _(message_of(error))}, status_code=status)
    except LibraryError as error:
        return JSONResponse({"error": _(_unavailable(error))}, status_code=503)
    except OSError as error:
        message = _("the file could not be stored: {reason}", reason=error.strerror or "")
        return JSONResponse({"error": message}, status_code=507)
