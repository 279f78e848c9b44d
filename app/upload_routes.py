"""The routes that files come in by.

- POST /query-files?name=cat.jpg – a file to search with, the body is the file; answers its id
- POST /uploads?path=Holiday/cat.jpg – a file for the library; ingest follows separately
- POST /gradio_api/upload – files to search with as Gradio's own clients send them, as a form; what
  they name afterwards is turned into ids by `app.payloads`

What is too large, or finds no room, is refused before it is read where its length is announced.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response
from starlette.types import Message

from app.names import UploadError
from app.query_files import QueryFiles
from app.quota import Entry, NoRoom, TooLarge
from app.uploads import LibraryUploads, Sent
from indexer.viewer import Viewer

_FORM_FILES = 8
_BLOCK = 1 << 20


def upload_router(uploads: LibraryUploads, files: QueryFiles, viewer: Viewer) -> APIRouter:
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
