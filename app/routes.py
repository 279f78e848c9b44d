"""The routes that media leave by: they take ids of segments, never paths.

    GET /media/{segment}        the original file, with HTTP ranges; ?download=1 saves it
    GET /thumbnail/{segment}    the small picture made when the file was added
    GET /page/{segment}.png     a PDF page, or a picture that browsers cannot show; ?side=1600
    GET /detail/{segment}       the detail dialog's content; ?search= marks that search's words
    GET /results/{search}       more cards of a search; ?offset=24&weak=1

Who may come in is decided before, in `app.guard`.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from threading import Lock
from typing import Annotated, TypeAlias

from anyio import to_thread
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

from app.page import detail, results
from app.page.labels import readable
from app.query_files import QueryFiles
from app.search import MOST_NUMBER, Searches
from app.uploads import Entry, LibraryUploads, NoRoom, Sent, TooLarge, UploadError
from embedder import EmbedderError
from embedder.media.kinds import Kind, MediaError
from indexer import (
    IndexerError,
    Library,
    LibraryError,
    MediaItem,
    NotFound,
    QueryError,
    Segment,
)
from indexer.decoding.on_demand import OnDemandDecoder

MEDIA_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".bmp": "image/bmp",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".ogv": "video/ogg",
    ".mkv": "video/x-matroska",
    ".pdf": "application/pdf",
}
"""What is shown in place; everything else is text without mark-up, or a download."""

_SANDBOX = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
_SIDES = (256, 2400)

SegmentId: TypeAlias = Annotated[int, Path(ge=0, le=MOST_NUMBER)]


def media_router(library: Library, searches: Searches, *, paths: bool = False) -> APIRouter:
    """The routes over a library.

    Args:
        library: What is served of.
        searches: Whose finds are shown.
        paths: Whether visitors may see where files lie on this machine.
    """
    router = APIRouter()
    pages = PageCache(library)

    @router.api_route("/media/{segment_id}", methods=["GET", "HEAD"])
    def media(segment_id: SegmentId, download: bool = False) -> Response:
        try:
            return _original(library.segment(segment_id), library.item_of(segment_id), download)
        except NotFound as error:
            return PlainTextResponse(str(error), status_code=404)

    @router.api_route("/thumbnail/{segment_id}", methods=["GET", "HEAD"])
    def thumbnail(segment_id: SegmentId) -> Response:
        try:
            library.segment(segment_id)
            path = library.thumbnail(segment_id)
        except NotFound as error:
            return PlainTextResponse(str(error), status_code=404)
        if path is None or not path.is_file():
            return PlainTextResponse("This has no picture.", status_code=404)
        return FileResponse(path, headers=_FOREVER)

    @router.get("/page/{segment_id}.png")
    def page(segment_id: SegmentId, side: Annotated[int, Query(ge=1)] = 1600) -> Response:
        try:
            picture = pages.get(segment_id, min(max(side, _SIDES[0]), _SIDES[1]))
        except (NotFound, MediaError) as error:
            return PlainTextResponse(str(error), status_code=404)
        except LibraryError:  # It may tell where the library lies.
            told = "Too many pages are being drawn: try again in a moment."
            return PlainTextResponse(told, status_code=503, headers={"Retry-After": "5"})
        return Response(picture, media_type="image/png", headers=_FOREVER)

    @router.get("/detail/{segment_id}")
    def show_detail(segment_id: SegmentId, search: str = "") -> Response:
        try:
            shown = _detail(library, searches, segment_id, search)
            return HTMLResponse(detail.render(library, shown, paths=paths))
        except (IndexerError, MediaError) as error:
            return HTMLResponse(results.problem(str(error)), status_code=404)

    @router.get("/results/{token}")
    def results(
        token: str, offset: Annotated[int, Query(ge=0, le=MOST_NUMBER)] = 0, weak: bool = False
    ) -> Response:
        return _more(searches, token, offset, weak)

    return router


def _original(segment: Segment, item: MediaItem, download: bool) -> Response:
    if not item.path.is_file():
        return PlainTextResponse(
            f"{readable(item.name)} is no longer where it was.", status_code=404
        )
    media_type = "text/plain; charset=utf-8" if segment.kind is Kind.TEXT else None
    media_type = media_type or MEDIA_TYPES.get(item.path.suffix.lower())
    inline = media_type is not None and not download
    return FileResponse(
        item.path,
        media_type=media_type or "application/octet-stream",
        filename=readable(item.name),
        content_disposition_type="inline" if inline else "attachment",
        headers={"Cache-Control": "private, no-cache"}
        | ({} if media_type == "application/pdf" else _SANDBOX),
    )


def _more(searches: Searches, token: str, offset: int, weak: bool) -> Response:
    try:
        session = searches.get(token)
        found = session.page(offset, weak=weak)
    except (NotFound, QueryError) as error:
        return HTMLResponse(results.problem(str(error)), status_code=404)
    except (IndexerError, EmbedderError):  # They may tell where the model lies.
        return HTMLResponse(results.problem("there is no more now: search again"), 503)
    return HTMLResponse(results.result_page(found, session.terms))


def _detail(library: Library, searches: Searches, segment_id: int, token: str) -> detail.Detail:
    terms: tuple[str, ...] = ()
    hit = None
    if token:
        try:
            session = searches.get(token)
            terms, hit = session.terms, session.hit(segment_id)
        except NotFound:
            pass  # An old search only loses its marks.
    return detail.load(library, segment_id, terms, hit)


class PageCache:
    """Renders pages, keeping the latest ones, `keep` bytes at most. Thread-safe."""

    def __init__(self, library: Library, keep: int = 64 << 20) -> None:
        self._library = library
        self._keep = keep
        self._kept = 0
        self._pictures: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, segment_id: int, side: int) -> bytes:
        """The page as PNG, its longest side about `side` pixels.

        Raises:
            NotFound: if there is no such segment, or it is neither page nor picture.
            MediaError: if the file cannot be read any more.
        """
        with self._lock:
            if kept := self._pictures.get((segment_id, side)):
                self._pictures.move_to_end((segment_id, side))
                return kept
        picture = self._render(segment_id, side)
        with self._lock:
            self._kept += len(picture) - len(self._pictures.pop((segment_id, side), b""))
            self._pictures[segment_id, side] = picture
            while self._kept > self._keep:
                self._kept -= len(self._pictures.popitem(last=False)[1])
        return picture

    def _render(self, segment_id: int, side: int) -> bytes:
        segment, item = self._library.segment(segment_id), self._library.item_of(segment_id)
        if segment.kind is Kind.PDF and segment.page is not None:
            picture = self._library.viewer.page(item.path, segment.page, side)
        elif segment.kind is Kind.IMAGE:
            picture = self._library.viewer.picture(item.path, side)
        else:
            raise NotFound(f"segment {segment_id} is neither a page nor a picture")
        out = BytesIO()
        picture.save(out, format="PNG", compress_level=1)
        return out.getvalue()


_FORM_FILES = 8
_BLOCK = 1 << 20


def upload_router(uploads: LibraryUploads, files: QueryFiles, viewer: OnDemandDecoder) -> APIRouter:
    """The routes.

    Args:
        uploads: Gets the files for the library.
        files: Gets the files to search with.
        viewer: Will decode them.
    """
    router = APIRouter()

    @router.post("/query-files")
    async def add_query_file(request: Request, name: str = "") -> Response:
        async def save() -> object:
            await to_thread.run_sync(viewer.prepare)
            key, saved = await files.add(name, _sent(request))
            return {"id": key, "name": saved.path.name, "bytes": saved.size}

        return await _answer(save)

    @router.post("/uploads")
    async def add_upload(request: Request, path: str = "") -> Response:
        async def save() -> object:
            saved = await uploads.add(path, _sent(request))
            return {"name": saved.path.name, "bytes": saved.size}

        return await _answer(save)

    @router.post("/gradio_api/upload")
    async def add_form_files(request: Request) -> Response:
        return await _answer(lambda: _form_files(request, files))

    return router


async def _form_files(request: Request, files: QueryFiles) -> object:
    """Gradio's clients send the names that they get back as paths of files."""
    entry = await to_thread.run_sync(files.admit, _announced(request))
    try:
        counted = Request(request.scope, _counted(request, entry))
        async with counted.form(max_files=_FORM_FILES, max_fields=_FORM_FILES) as form:
            sent = [value for value in form.getlist("files") if isinstance(value, UploadFile)]
            kept = [await files.add(one.filename or "", Sent(_blocks(one))) for one in sent]
        return [f"{key}/{saved.path.name}" for key, saved in kept]
    finally:
        entry.close()


def _counted(request: Request, entry: Entry) -> Callable[[], Awaitable[Message]]:
    async def receive() -> Message:
        message = await request.receive()
        await to_thread.run_sync(entry.take, len(message.get("body", b"")))
        return message

    return receive


async def _blocks(file: UploadFile) -> AsyncIterator[bytes]:
    while block := await file.read(_BLOCK):
        yield block


def _sent(request: Request) -> Sent:
    return Sent(request.stream(), _announced(request))


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0


async def _answer(save: Callable[[], Awaitable[object]]) -> Response:
    try:
        return JSONResponse(await save())
    except UploadError as error:
        status = {TooLarge: 413, NoRoom: 507}.get(type(error), 400)
        return JSONResponse({"error": str(error)}, status_code=status)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        return JSONResponse({"error": f"the file could not be stored: {reason}"}, status_code=507)
