"""The routes of reading the words in pictures, which goes on in the background.

GET  /reading    how far it is, as HTML; empty where there is nothing to say
POST /reading    go on, or stop: {"on": false}
"""

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import HTMLResponse, JSONResponse, Response

from app.page import library_tab
from app.services import Services, error_message


class ReadingChoice(BaseModel):
    """Whether words are to be read."""

    on: bool


def reading_router(services: Services) -> APIRouter:
    """Build the routes over the services."""
    router, words = APIRouter(), services.words

    @router.get("/reading")
    def state() -> Response:
        problem = error_message(services.config, words.problem) if words.problem else ""
        return HTMLResponse(library_tab.reading(words.progress, problem, is_on=words.is_on))

    @router.post("/reading")
    def switch(chosen: ReadingChoice) -> Response:
        if not services.config.no_ocr:
            (words.start if chosen.on else words.stop)()
        return JSONResponse({})

    return router
