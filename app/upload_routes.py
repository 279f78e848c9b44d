"""The routes that files come in by; the body is the file itself, streamed to disk.

- POST /query-files?name=cat.jpg – a file to search with; answers its id
- POST /uploads?path=Holiday/cat.jpg – a file for the library; ingest follows separately
"""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from app.uploads import QueryFiles, UploadError, clean_path, save_stream
from indexer import Library

_SPARE_BYTES = 256 << 20
_QUERY_LIMIT = 1 << 30


def upload_router(library: Library, files: QueryFiles, limit: int) -> APIRouter:
    """The routes over a library.

    Args:
        library: Gets the uploads in its own folder.
        files: Gets the files to search with.
        limit: Most bytes of one file.
    """
    router = APIRouter()

    @router.post("/query-files")
    async def add_query_file(request: Request, name: str = "") -> Response:
        async def save() -> dict[str, object]:
            key, target = files.reserve(name)
            saved = await save_stream(
                request.stream(), target, target.parent, min(limit, _QUERY_LIMIT)
            )
            files.add(key, saved.path)
            return {"id": key, "name": saved.path.name, "bytes": saved.size}

        return await _answer(save)

    @router.post("/uploads")
    async def add_upload(request: Request, path: str = "") -> Response:
        async def save() -> dict[str, object]:
            target = library.uploads / clean_path(path)
            _check_space(library.directory, request)
            saved = await save_stream(
                request.stream(), target, library.directory / "incoming", limit
            )
            return {"name": saved.path.name, "bytes": saved.size}

        return await _answer(save)

    return router


async def _answer(save: Callable[[], Awaitable[dict[str, object]]]) -> Response:
    try:
        return JSONResponse(await save())
    except UploadError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    except OSError as error:
        reason = error.strerror or "the disk refused it"
        return JSONResponse({"error": f"the file could not be stored: {reason}"}, status_code=507)


def _check_space(folder: Path, request: Request) -> None:
    announced = request.headers.get("content-length", "0")
    needed = int(announced) if announced.isdecimal() else 0
    if shutil.disk_usage(folder).free < needed + _SPARE_BYTES:
        raise UploadError("the library's disk is full: make room and upload the file again")
