"""The routes of the folders that the library remembers, for trusted users.

    GET  /folders                 the list of them
    POST /folders/watch           keep them up to date, or stop that
    POST /folders/{id}/scan       ingest one again
    POST /folders/{id}/exclude    exclude a pattern; asks before files leave the library
    POST /folders/{id}/include    stop excluding a pattern
    POST /folders/{id}/forget     remove one, with its files, from the library

Access is checked before, in `app.guard`.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from app import services as actions
from app.files import problem
from app.page import folders
from app.services import EXPECTED_ERRORS, Services
from app.texts import ngettext


class WatchChoice(BaseModel):
    """Whether the folders are to be kept up to date."""

    on: bool


class PatternChoice(BaseModel):
    """A pattern to exclude or to include.

    Attributes:
        pattern: Of names, or of paths below the folder.
        confirmed: The user knows that files leave the library.
    """

    pattern: Annotated[str, Field(max_length=1_000)]
    confirmed: bool = False


def folders_router(services: Services) -> APIRouter:
    """Build the routes over the services."""
    router = APIRouter()

    def answered(act: Callable[[], dict[str, Any] | None]) -> Response:
        try:
            return JSONResponse(act() or {})
        except EXPECTED_ERRORS as error:
            return problem(services, error)

    @router.get("/folders")
    def listed() -> Response:
        if not services.config.trusted:
            return HTMLResponse("", status_code=403)
        indexed = services.library.indexed_folders()
        return HTMLResponse(folders.folders(indexed, services.watch, services.jobs.state))

    @router.post("/folders/watch")
    def watch(chosen: WatchChoice) -> Response:
        return answered(lambda: actions.keep_up_to_date(services, chosen.on))

    @router.post("/folders/{folder}/scan")
    def scan(folder: str) -> Response:
        return answered(lambda: actions.scan_folder(services, folder))

    @router.post("/folders/{folder}/exclude")
    def exclude(folder: str, chosen: PatternChoice) -> Response:
        def act() -> dict[str, Any] | None:
            files = actions.excluded_files(services, folder, chosen.pattern)
            if files and not chosen.confirmed:
                return {"question": _question(chosen.pattern, files)}
            actions.change_exclusions(services, folder, exclude=[chosen.pattern])
            return None

        return answered(act)

    @router.post("/folders/{folder}/include")
    def include(folder: str, chosen: PatternChoice) -> Response:
        return answered(
            lambda: actions.change_exclusions(services, folder, include=[chosen.pattern])
        )

    @router.post("/folders/{folder}/forget")
    def forget(folder: str) -> Response:
        return answered(lambda: {"removed": actions.forget_folder(services, folder)})

    return router


def _question(pattern: str, files: int) -> str:
    return ngettext(
        "Exclude {pattern}? {n} file leaves the library. On disk it stays.",
        "Exclude {pattern}? {n} files leave the library. On disk they stay.",
        files,
        pattern=pattern,
    )
