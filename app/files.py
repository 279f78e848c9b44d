"""The routes of the library tab's table of files.

    GET  /files           a page of the table; the query is a `FileQuery`
    POST /files/remove    remove from the library all files that a `FileQuery` lets through
    POST /files/retry     ingest a failed file again

Those of a selection are removed by `app.selection`. Access is checked before, in `app.guard`.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, BeforeValidator
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import services as actions
from app.page import files, results
from app.page.labels import folder_of
from app.search import FileFilter, Number, Text, validated
from app.services import EXPECTED_ERRORS, Services, error_message
from app.texts import _
from embedder.media.kinds import Kind
from indexer import FileOrder, IndexerError


class FileQuery(FileFilter):
    """Which files the table shows, and in which order; empty values are ignored.

    Attributes:
        kind: Only of this kind.
        folder: Only in the folder with this id, or below it.
        order: What they are ordered by.
        descending: Begin with the last one.
    """

    kind: Annotated[Kind | None, BeforeValidator(lambda value: value or None)] = None
    folder: Text = ""
    order: FileOrder = FileOrder.PATH
    descending: bool = False


class Removal(FileQuery):
    """Files to remove; `files` is how many there were when the user was asked."""

    files: Number


class FileChoice(BaseModel):
    """A file of the library."""

    item_id: Number


def files_router(services: Services) -> APIRouter:
    """Build the routes over the services."""
    router, library = APIRouter(), services.library

    def narrowed(asked: FileQuery) -> dict[str, Any]:
        folder = folder_of(library, asked.folder) if asked.folder else None
        return {"kind": asked.kind, "name": asked.name or None, "folder": folder}

    @router.get("/files")
    def table(request: Request) -> Response:
        try:
            asked = validated(FileQuery, request.query_params)
            among = narrowed(asked)
            items = library.catalog.items(
                status=asked.status,
                order=asked.order,
                descending=asked.descending,
                limit=asked.limit,
                offset=asked.offset,
                **among,
            )
            counts = library.catalog.count_items(**among)
            segments = library.catalog.first_segments(item.id for item in items)
        except IndexerError as error:
            shown = results.problem(error_message(services.config, error))
            return HTMLResponse(shown, status_code=400)
        return HTMLResponse(files.table(items, segments, counts, asked))

    @router.post("/files/remove")
    def remove(values: Annotated[dict[str, Any], Body()]) -> Response:
        try:
            asked = validated(Removal, values)
            chosen = library.catalog.item_ids(asked.status, **narrowed(asked))
            if len(chosen) != asked.files:
                error = _("other files are listed by now: look at them, and choose again")
                return JSONResponse({"error": error}, status_code=409)
            removal = services.removals.remove(chosen)
            return JSONResponse({"removed": removal.files, "undo": removal.token})
        except EXPECTED_ERRORS as error:
            return problem(services, error)
        except OSError as error:
            reason = _("a file could not be deleted: {reason}", reason=error.strerror)
            return JSONResponse({"error": reason}, status_code=500)

    @router.post("/files/retry")
    def retry(chosen: FileChoice) -> Response:
        try:
            actions.retry_file(services, chosen.item_id)
            return JSONResponse({})
        except EXPECTED_ERRORS as error:
            return problem(services, error)

    return router


def problem(services: Services, error: Exception) -> Response:
    """Return an error as a sentence for users."""
    status = 403 if isinstance(error, actions.NotAllowed) else 400
    return JSONResponse({"error": _(error_message(services.config, error))}, status_code=status)
