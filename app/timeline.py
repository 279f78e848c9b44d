"""The routes that list the library without words: everything by date, as filters let it through.

    GET /timeline         months with their numbers of files, newest first, and files by kind
    GET /timeline/items   cards of a month; ?month=2023-07&offset=24&limit=24&sort=oldest
    GET /timeline/ids     the files, to select all of them; &sort=oldest
    GET /timeline/folders  the folders in another one, with their numbers of files; ?within=ID

All take the filters of a search: kinds=image,pdf, folder=, after=, before=, album= and has_text=.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from functools import wraps
from typing import Annotated, Any, ParamSpec

from fastapi import APIRouter, Depends, Query
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from app.page import results
from app.page.labels import folder_of, folders_within, readable, sentence
from app.search import MAX_DATABASE_INTEGER, MAX_SELECTED, SearchForm, validated
from app.services import Services, error_message
from indexer import Filters, IndexerError, Library, Sort

_MAX_CARDS = 100
_MONTH = r"^(1[6-9]|2[0-2])\d\d-(0[1-9]|1[0-2])$"  # Nanoseconds in 64 bits hold some 600 years.

P = ParamSpec("P")


def _values(  # noqa: PLR0917 -- the parameters of requests
    kinds: str = "",
    folder: str = "",
    after: str = "",
    before: str = "",
    album: str = "",
    sort: str = "",
    has_text: str = "",
) -> dict[str, Any]:
    """Take what the parameters of a request say, for `SearchForm`."""
    listed = [kind for kind in kinds.split(",") if kind]
    dates = {"after": after, "before": before}
    rest = {"folder": folder, "album": album, "sort": sort, "has_text": has_text}
    return {"kinds": listed, **rest, **dates}


Values = Annotated[dict[str, Any], Depends(_values)]


def timeline_router(services: Services) -> APIRouter:
    """Build the routes."""
    router, library = APIRouter(), services.library

    def filters_of(form: SearchForm) -> Filters:
        return form.filters(library, services.living.keep_filled)

    def answering(route: Callable[P, Response]) -> Callable[P, Response]:
        """Wrap a route so that what it raises becomes a sentence."""

        @wraps(route)
        def answer(*args: P.args, **values: P.kwargs) -> Response:
            try:
                return route(*args, **values)
            except IndexerError as error:
                reason = sentence(error_message(services.config, error))
                return PlainTextResponse(reason, status_code=400)

        return answer

    @router.get("/timeline")
    @answering
    def timeline(values: Values) -> Response:
        return JSONResponse(_overview(library, filters_of(validated(SearchForm, values))))

    @router.get("/timeline/items")
    @answering
    def items(
        values: Values,
        month: Annotated[str, Query(pattern=_MONTH)],
        offset: Annotated[int, Query(ge=0, le=MAX_DATABASE_INTEGER)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MAX_CARDS)] = 24,
    ) -> Response:
        form = validated(SearchForm, values)
        files = library.catalog.timeline.files(
            filters_of(form),
            month=date.fromisoformat(f"{month}-01"),
            limit=limit,
            offset=offset,
            oldest_first=form.sort is Sort.OLDEST,
        )
        missing = library.missing(item.path for item, _ in files)
        return HTMLResponse(results.file_cards(files, missing))

    @router.get("/timeline/ids")
    @answering
    def ids(values: Values) -> Response:
        form = validated(SearchForm, values)
        found = library.catalog.timeline.ids(
            filters_of(form), MAX_SELECTED + 1, oldest_first=form.sort is Sort.OLDEST
        )
        chosen, is_all = found[:MAX_SELECTED], len(found) <= MAX_SELECTED
        return JSONResponse({"item_ids": chosen, "is_all": is_all})

    @router.get("/timeline/folders")
    @answering
    def folders(values: Values, within: str = "") -> Response:
        filters = filters_of(validated(SearchForm, values | {"folder": ""}))
        found = folders_within(library, within, filters)
        name = readable(folder_of(library, within).name) if within else None
        return JSONResponse({"name": name, "folders": [asdict(one) for one in found]})

    return router


def _overview(library: Library, filters: Filters) -> dict[str, Any]:
    """Return what the page needs before it asks for cards, and what it shows if there are none."""
    catalog = library.catalog
    months, stats = catalog.timeline.months(filters), catalog.stats()
    of_any_kind = replace(filters, kinds=frozenset())
    kinds = stats.items if of_any_kind == Filters() else catalog.timeline.kinds(of_any_kind)
    notice = results.nothing_found(any(stats.items.values()), filtered=True)
    return {
        "months": [{"month": f"{one.first:%Y-%m}", "files": one.files} for one in months],
        "kinds": {str(kind): files for kind, files in kinds.items()},
        "notice": None if months else str(notice),
    }
