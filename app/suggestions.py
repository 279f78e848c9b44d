"""Suggestions while a search is typed: saved ones, folders, labels of files, words, names.

GET /suggestions?q=beach+hol    suggestions for the words typed so far, as JSON, the best first
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from app.page.labels import FolderChoice, folder_choices, readable
from embedder.normalisation import folded
from indexer import Library
from indexer.catalog.completions import MIN_LETTERS
from indexer.search.query import corrections

MAX_SUGGESTIONS = 9
_MAX_FOLDERS, _MAX_SAVED = 3, 2
_MAX_CHARACTERS = 200  # What is longer is no query that is being typed, but a text.
_WORD_STARTS = re.compile(r"(?<!\w)\w")

_Endings: TypeAlias = Sequence[tuple[str, str]]
"""The ends of a text by words, all of it first: what stands before each, and the words, folded."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """How a search could go on.

    Attributes:
        kind: Of what is suggested: "spelling", "saved" for a saved search, "folder", "people",
            "keywords", "place", "word" or "file".
        label: It.
        text: The words of the search when it is chosen.
        folder: The id of the folder to search in; empty if it is no folder.
        files: Files in the folder and below.
        segment: The file's first segment.
        search: The form of the saved search.
    """

    kind: str
    label: str
    text: str
    folder: str = ""
    files: int | None = None
    segment: int | None = None
    search: Mapping[str, Any] | None = None


def suggestions_router(library: Library) -> APIRouter:
    """Build the route that suggests."""
    router = APIRouter()

    @router.get("/suggestions")
    def suggest(q: Annotated[str, Query(max_length=_MAX_CHARACTERS)] = "") -> Response:
        return JSONResponse([asdict(one) for one in suggestions(library, q)])

    return router


def suggestions(library: Library, text: str) -> list[Suggestion]:
    """Return how a search that is being typed could go on, the best first."""
    text = text.lstrip()
    if len(folded(text)) < MIN_LETTERS:
        return []
    found, endings = library.catalog.completions(text), _endings(text)
    labels = [
        Suggestion(label.lower(), value, _completed(endings, value))
        for label, value in found.labels
    ]
    shown = {folded(one.label) for one in labels}
    words = [
        Suggestion("word", word, _completed(endings, word))
        for word in found.words
        if word not in shown
    ]
    files = [
        Suggestion("file", readable(name), readable(name), segment=segment)
        for name, segment in found.files
    ]
    rest = [*labels, *words, *files]
    spelling = [] if rest else list(_spelling(library, text))
    ahead = [*spelling, *_saved(library, text), *_folders(library, endings)]
    return [*ahead, *rest][:MAX_SUGGESTIONS]


def _saved(library: Library, text: str) -> list[Suggestion]:
    return [
        Suggestion("saved", saved.name, "", search=saved.search)
        for saved in library.albums.saved_searches()
        if f" {folded(text)}" in f" {folded(saved.name)}"
    ][:_MAX_SAVED]


def _folders(library: Library, endings: _Endings) -> list[Suggestion]:
    found = [
        Suggestion("folder", choice.name, before.strip(), choice.id, choice.files)
        for choice in folder_choices(library)
        if (before := _before(endings, _last_part(choice))) is not None
    ]
    return sorted(found, key=lambda one: -(one.files or 0))[:_MAX_FOLDERS]


def _last_part(folder: FolderChoice) -> str:
    return folder.name.rpartition(" / ")[2]


def _spelling(library: Library, text: str) -> Iterator[Suggestion]:
    corrected = text
    for word, right in corrections(library, text).items():
        corrected = re.sub(rf"\b{re.escape(word)}\b", right, corrected, flags=re.IGNORECASE)
    if corrected != text:
        yield Suggestion("spelling", corrected, corrected)


def _endings(text: str) -> _Endings:
    starts = [found.start() for found in _WORD_STARTS.finditer(text)]
    return [(text[:start], f" {folded(text[start:])}") for start in starts]


def _completed(endings: _Endings, value: str) -> str:
    """Return a text whose last words begin a value with the whole value in their place."""
    return (_before(endings, value) or "") + value


def _before(endings: _Endings, value: str) -> str | None:
    """Return what stands before those last words of a text that a value goes on from."""
    plain = f" {folded(value)}"
    return next((before for before, words in endings if words in plain), None)
