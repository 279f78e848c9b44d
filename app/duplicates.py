"""The routes of the section of duplicates.

    GET  /duplicates?kind=exact    groups as HTML; &offset= for further ones
    POST /duplicates/dismiss       never show a group again, or again with "undo"
    POST /duplicates/trash         move copies to the system's trash, for trusted users

Access is checked before, in `app.guard`.
"""

from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel, StringConstraints
from starlette.responses import HTMLResponse, JSONResponse, Response

from app.page import duplicates, labels, results
from app.search import MAX_DATABASE_INTEGER, FileSelection
from app.services import EXPECTED_ERRORS, Services, error_message
from app.texts import _
from app.trash import trash_copies
from indexer import LibraryError
from indexer.catalog.duplicates import DuplicateKind

GROUPS_PER_PAGE = 24
_MAX_TOLD = 20


class GroupChoice(BaseModel):
    """A group by its key; with `undo`, it is no longer dismissed."""

    group: Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
    undo: bool = False


def duplicates_router(services: Services) -> APIRouter:
    """Build the routes over the services."""
    router, library, trusted = APIRouter(), services.library, services.config.trusted
    trashing = Lock()  # Or two windows could each move the copy that the other one keeps.

    @router.get("/duplicates")
    def groups(
        kind: DuplicateKind = DuplicateKind.EXACT,
        offset: Annotated[int, Query(ge=0, le=MAX_DATABASE_INTEGER)] = 0,
    ) -> Response:
        try:
            page = library.duplicates.page(kind, GROUPS_PER_PAGE, offset)
        except EXPECTED_ERRORS as error:
            shown = results.problem(error_message(services.config, error))
            return HTMLResponse(shown, status_code=503)
        paths = (file.item.path for group in page.groups for file in group.files)
        missing = library.missing(paths)
        return HTMLResponse(duplicates.groups(kind, page, offset, missing, trusted=trusted))

    @router.post("/duplicates/dismiss")
    def dismiss(chosen: Annotated[GroupChoice, Body()]) -> Response:
        change = library.duplicates.restore if chosen.undo else library.duplicates.dismiss
        try:
            change(chosen.group)
        except LibraryError as error:
            return JSONResponse({"error": error_message(services.config, error)}, status_code=503)
        return JSONResponse({})

    @router.post("/duplicates/trash")
    def trash(chosen: Annotated[FileSelection, Body()]) -> Response:
        if not trusted:
            refusal = _(
                "Moving files of the server to its trash requires a login: start the page with "
                "--auth or on 127.0.0.1."
            )
            return JSONResponse({"error": refusal}, status_code=403)
        try:
            with trashing:
                moved = trash_copies(library, chosen.item_ids)
        except EXPECTED_ERRORS as error:
            return JSONResponse({"error": error_message(services.config, error)}, status_code=503)
        problems = [
            {"name": labels.readable(one.item.name), "reason": labels.sentence(one.reason)}
            for one in moved.kept
        ]
        return JSONResponse({"item_ids": moved.item_ids, "problems": problems})

    return router
