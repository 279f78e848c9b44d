"""The routes of albums, favourites and saved searches.

    GET /collections            the content of the Collections tab
    GET /albums                 ids, names and numbers of files, as JSON
    POST /albums                a new album; with a search, a living one
    GET /albums/{album}         what is shown above the files of an album
    POST /albums/{album}        another name, cover or border
    POST /albums/{album}/delete
    POST /albums/{album}/items  add files; to a living album, as an answer
    POST /albums/{album}/items/remove
    POST /albums/{album}/answers/undo   take answers back, all without `item_ids`
    POST /searches              save a search
    POST /searches/{search}/delete

Access is checked before, in `app.guard`.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeAlias

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from app.page import collections_tab as page
from app.page import results
from app.search import (
    MAX_DATABASE_INTEGER,
    FileSelection,
    Number,
    SearchForm,
    Text,
    validated,
)
from app.services import Services, error_message
from app.texts import N_
from indexer import IndexerError, NotFound, QueryError

P = ParamSpec("P")
_Values: TypeAlias = Annotated[dict[str, Any], Body()]
_Id: TypeAlias = Annotated[int, Path(ge=0, le=MAX_DATABASE_INTEGER)]


class NewAlbum(FileSelection):
    """An album to create, with the files to put into it, or the search that fills it."""

    name: Text = ""
    search: dict[str, Any] | None = None


class AlbumChange(BaseModel):
    """What to change of an album; nothing where it is empty.

    Attributes:
        name: Its new name.
        cover: The file to show as its cover.
        border: Of a living album, the probability from which on what is found is in it.
    """

    name: Text = ""
    cover: Number | None = None
    border: Annotated[float, Field(gt=0, lt=1)] | None = None


class Answers(BaseModel):
    """Answers to take back, by the files that they are about; all of them if None."""

    item_ids: Annotated[list[Number], Field(max_length=100)] | None = None


class NewSearch(BaseModel):
    """A search to save, as the page's form has it."""

    name: Text = ""
    search: dict[str, Any] = {}


def collections_router(services: Services) -> APIRouter:
    """Build the routes of the Collections tab and of saved searches."""
    router, albums = APIRouter(), services.library.albums
    answering = _answering(services)

    @router.get("/collections")
    def collections() -> Response:
        try:
            return HTMLResponse(page.collections(services.living.all(), albums.saved_searches()))
        except IndexerError as error:
            shown = results.problem(error_message(services.config, error))
            return HTMLResponse(shown, status_code=503)

    @router.post("/searches")
    @answering
    def save_search(values: _Values) -> object:
        new = validated(NewSearch, values)
        return {"id": albums.save_search(new.name, lasting(new.search))}

    @router.post("/searches/{search_id}/delete")
    @answering
    def delete_search(search_id: _Id) -> object:
        albums.delete_search(search_id)
        return {}

    return router


def album_items_router(services: Services) -> APIRouter:
    """Build the routes that change what is in albums."""
    router, albums = APIRouter(), services.library.albums
    answering = _answering(services)

    @router.post("/albums/{album_id}/items")
    @answering
    def add_items(album_id: _Id, values: _Values) -> object:
        return {"added": albums.add(album_id, validated(FileSelection, values).item_ids)}

    @router.post("/albums/{album_id}/items/remove")
    @answering
    def remove_items(album_id: _Id, values: _Values) -> object:
        return {"removed": albums.remove(album_id, validated(FileSelection, values).item_ids)}

    @router.post("/albums/{album_id}/answers/undo")
    @answering
    def undo_answers(album_id: _Id, values: _Values) -> object:
        undone = albums.forget_answers(album_id, validated(Answers, values).item_ids)
        return {"undone": undone}

    return router


def albums_router(services: Services) -> APIRouter:
    """Build the routes of albums, but for what is in them."""
    router, albums = APIRouter(), services.library.albums
    answering = _answering(services)

    @router.get("/albums")
    @answering
    def list_albums() -> object:
        return [
            {"id": one.id, "name": one.name, "files": one.files} for one in services.living.all()
        ]

    @router.get("/albums/{album_id}")
    def show_album(album_id: _Id) -> Response:
        try:
            filled = services.living.filled(album_id)
            problem = error_message(services.config, filled.problem) if filled.problem else ""
            return HTMLResponse(page.album_head(filled, problem))
        except IndexerError as error:
            shown = results.problem(error_message(services.config, error))
            return HTMLResponse(shown, status_code=404)

    @router.post("/albums")
    @answering
    def create_album(values: _Values) -> object:
        new = validated(NewAlbum, values)
        if new.search is not None:
            return {"id": _living_album(services, new.name, new.search)}
        album_id = albums.create(new.name)
        return {"id": album_id, "added": albums.add(album_id, new.item_ids)}

    @router.post("/albums/{album_id}")
    @answering
    def change_album(album_id: _Id, values: _Values) -> object:
        change = validated(AlbumChange, values)
        if change.name:
            albums.rename(album_id, change.name)
        if change.cover is not None:
            albums.set_cover(album_id, change.cover)
        if change.border is not None:
            albums.set_border(album_id, change.border)
        return {"name": albums.get(album_id).name}

    @router.post("/albums/{album_id}/delete")
    @answering
    def delete_album(album_id: _Id) -> object:
        albums.delete(album_id)
        return {}

    return router


def _living_album(services: Services, name: str, search: Mapping[str, Any]) -> int:
    """Create and fill a living album; there is none if its search cannot be answered.

    "Last summer" in its words stays the one that it is today.
    """
    form, _ = validated(SearchForm, search).dated(services.library)
    kept, albums = lasting(form.model_dump(mode="json")), services.library.albums
    if not kept.get("text") and not kept.get("similar"):
        raise QueryError(
            N_(
                "an album that fills itself needs words or an example: a date or another "
                "filter alone does not say what belongs in it"
            )
        )
    validated(SearchForm, kept).query(services.library, services.files, services.living.keep_filled)
    album_id = albums.create(name, search=kept, border=kept.pop("border", 0.5))
    services.living.filled(album_id)
    return album_id


def lasting(search: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a search form that are kept with it.

    Raises:
        QueryError: if it has a sent file, which the server keeps for a while only, or is invalid.
    """
    form = validated(SearchForm, search)
    if form.files:
        raise QueryError(
            N_(
                "a search with a file that was dropped cannot be saved: add the file to the "
                "library, and use “More like this” on it"
            )
        )
    return form.model_dump(mode="json", exclude_defaults=True)


def _answering(services: Services) -> Callable[[Callable[P, object]], Callable[P, Response]]:
    """Return what makes routes of functions: their results or errors as JSON."""

    def wrap(route: Callable[P, object]) -> Callable[P, Response]:
        @wraps(route)
        def answer(*args: P.args, **values: P.kwargs) -> Response:
            try:
                return JSONResponse(route(*args, **values))
            except IndexerError as error:
                status = 404 if isinstance(error, NotFound) else 400
                message = error_message(services.config, error)
                return JSONResponse({"error": message}, status_code=status)

        return answer

    return wrap
