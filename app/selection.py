"""The routes for several files at once, which are named by their ids.

    GET  /items?search=      the files of a search, to select all of them
    POST /items/download     the files as a ZIP archive, or the only one as it is; a form, since
                             browsers save its answer
    POST /items/paths        where they are on this machine, for trusted users
    POST /items/remove       remove them from the library
    POST /items/restore      bring back what was removed just now

Access is checked before, in `app.guard`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Body, Form
from pydantic import BaseModel
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from app.downloads import archive_name, zipped
from app.page import labels
from app.routes import original_file
from app.search import MAX_SELECTED, FileSelection, validated
from app.services import EXPECTED_ERRORS, Services, error_message
from app.texts import _
from indexer import LibraryError, MediaItem, NotFound

_WAIT_SECONDS = 20.0  # For files to be back; then the answer is that they will be.


class Restoration(BaseModel):
    """What to bring back, as `/items/remove` has named it."""

    undo: str


def selection_router(services: Services) -> APIRouter:
    """Build the routes over the services."""
    router, library = APIRouter(), services.library

    @router.get("/items")
    def all_items(search: str) -> Response:
        try:
            found = services.searches.get(search).item_ids()
        except EXPECTED_ERRORS as error:
            return _problem(services, error)
        return JSONResponse(
            {"item_ids": found[:MAX_SELECTED], "is_all": len(found) <= MAX_SELECTED}
        )

    @router.post("/items/download")
    def download(items: Annotated[str, Form()] = "") -> Response:
        try:
            chosen = validated(FileSelection, {"item_ids": items.split(",") if items else []})
            files = library.catalog.files(chosen.item_ids)
        except EXPECTED_ERRORS as error:  # What browsers show instead of saving a file.
            return PlainTextResponse(_(error_message(services.config, error)), _status(error))
        if not files:
            return PlainTextResponse(_("The library has none of these files."), status_code=404)
        return _download(files, library.missing(item.path for item in files))

    @router.post("/items/paths")
    def paths(chosen: Annotated[FileSelection, Body()]) -> Response:
        if not services.config.trusted:
            refusal = _("Seeing where files are requires a login: start the page with --auth.")
            return JSONResponse({"error": refusal}, status_code=403)
        files = library.catalog.files(chosen.item_ids)
        return JSONResponse({"paths": [labels.readable(str(item.path)) for item in files]})

    return router


def removal_router(services: Services) -> APIRouter:
    """Build the routes that remove files and bring them back."""
    router = APIRouter()

    @router.post("/items/remove")
    def remove(chosen: Annotated[FileSelection, Body()]) -> Response:
        try:
            removal = services.removals.remove(chosen.item_ids)
            return JSONResponse({"removed": removal.files, "undo": removal.token})
        except EXPECTED_ERRORS as error:
            return _problem(services, error)
        except OSError as error:
            reason = _("a file could not be deleted: {reason}", reason=error.strerror or "")
            return JSONResponse({"error": reason}, status_code=500)

    @router.post("/items/restore")
    def restore(removal: Restoration) -> Response:
        try:
            report = services.removals.bring_back(removal.undo).result(_WAIT_SECONDS)
        except TimeoutError:
            return JSONResponse({"restored": None})
        except EXPECTED_ERRORS as error:
            return _problem(services, error)
        return JSONResponse({"restored": report.added})

    return router


def _download(files: Sequence[MediaItem], missing: Mapping[Path, Path]) -> Response:
    """Return files as an archive, or the only one as it is."""
    if len(files) == 1:
        return original_file(files[0], missing.get(files[0].path), download=True)

    def absence(item: MediaItem) -> str:
        return labels.absence(item.path, missing.get(item.path))

    disposition = f"attachment; filename*=utf-8''{quote(archive_name(files))}"
    return StreamingResponse(
        zipped(files, absence),
        media_type="application/zip",
        headers={"Content-Disposition": disposition, "Cache-Control": "no-store"},
    )


def _problem(services: Services, error: Exception) -> Response:
    """Return an error as a sentence for users."""
    return JSONResponse({"error": _(error_message(services.config, error))}, _status(error))


def _status(error: Exception) -> int:
    unavailable = 503 if isinstance(error, LibraryError) else 400
    return 404 if isinstance(error, NotFound) else unavailable
