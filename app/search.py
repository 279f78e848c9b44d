"""Searching: validating what a request asks for, turning it into a query, and paging its hits."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Annotated, Any, TypeVar

from cachetools import LRUCache
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from app.page.labels import folder_of
from app.query_files import QueryFiles
from embedder.content import Content, Modality
from embedder.interface import ModelSpec
from embedder.media.kinds import Kind
from indexer import (
    Filters,
    Hit,
    Library,
    MediaItem,
    NotFound,
    Query,
    QueryError,
    QueryPart,
    Segment,
    Status,
)
from indexer.search.query import file_part, parse_date, terms, text_part, with_instruction

MAX_DATABASE_INTEGER = 2**63 - 1
"""The largest number that the database can store."""

_MAX_TEXT = 20_000
_MAX_INSTRUCTION = 2_000
_MAX_FILES = 5_000  # That one request removes.

_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], values: Mapping[str, Any]) -> _Model:
    """Validate what came over the wire.

    Raises:
        QueryError: if a value is of the wrong type or out of range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]  # Inputs are private: they must not be logged.
        field = ".".join(map(str, first["loc"]))
        raise QueryError(f"invalid {field}: {first['msg']}") from None


def _encodable(value: object) -> object:
    """Replace lone surrogates, which neither a database nor HTML can hold."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value or ""


def _integer(value: object) -> object:
    """Make nothing of an empty text, and refuse booleans, which Python counts as integers."""
    return str(value) if isinstance(value, bool) else None if value == "" else value


Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=_MAX_TEXT),
    BeforeValidator(_encodable),
]
"""A text of bounded length; null is the empty text."""

Number = Annotated[int, Field(ge=0, le=MAX_DATABASE_INTEGER), BeforeValidator(_integer)]
"""A number that the database can store."""

_Kinds = Annotated[
    tuple[Kind, ...],
    BeforeValidator(lambda value: value or ()),
    AfterValidator(lambda kinds: tuple(dict.fromkeys(kinds))),
]


class Window(BaseModel):
    """Which part of a list to return."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    offset: Annotated[int, Field(ge=0, le=MAX_DATABASE_INTEGER - 200)] = 0


class FileFilter(Window):
    """Which files of the library to list."""

    status: Status = Status.INDEXED
    name: Text = ""


class FileSelection(BaseModel):
    """Files of the library, by their ids."""

    item_ids: Annotated[list[Number], Field(max_length=_MAX_FILES)] = []


class SearchForm(BaseModel):
    """A search as a user enters it; empty values are ignored.

    Attributes:
        text: Words.
        file: An id from `QueryFiles`, or another reference that it resolves.
        similar: Segment of the library to be like.
        balance: 0 considers the words only, 1 the file only; matters where both are given.
        not_like: Words that hits should not be like.
        kinds: Kinds of media; empty means all.
        folder: A folder's id from `app.page.labels`.
        after: First day, as 2026-03-31.
        before: Last day, included.
        instruction: The model's instruction for the words and the file, in place of its default;
            only for models that take instructions.
    """

    model_config = ConfigDict(frozen=True)

    text: Text = ""
    file: Annotated[object, BeforeValidator(lambda value: value or None)] = None
    similar: Annotated[Number | None, BeforeValidator(_integer)] = None
    balance: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = 0.5
    not_like: Text = ""
    kinds: _Kinds = ()
    folder: Text = ""
    after: Text = ""
    before: Text = ""
    instruction: Annotated[
        str,
        StringConstraints(strip_whitespace=True, max_length=_MAX_INSTRUCTION),
        BeforeValidator(_encodable),
    ] = ""

    def query(self, library: Library, files: QueryFiles) -> Query:
        """Return the query for the indexer.

        Raises:
            QueryError: if there is nothing to search for, if a file, folder or date is unusable,
                or if an instruction is given and the library's model takes none.
        """
        parts: list[QueryPart] = []
        has_example = self.file is not None or self.similar is not None
        text_weight, file_weight = 1.0, 1.0
        if self.text and has_example:
            text_weight, file_weight = 2 * (1 - self.balance), 2 * self.balance
        if self.text and text_weight:
            parts.append(text_part(self.text, text_weight))
        if self.file is not None and file_weight:
            path = files.resolve(self.file)
            parts.append(file_part(path, file_weight, limits=library.limits, viewer=library.viewer))
        if self.similar is not None and file_weight:
            library.catalog.segment(self.similar)
            parts.append(QueryPart(segment_id=self.similar, weight=file_weight))
        if self.instruction:
            self._check_instruction(library)
            parts = [with_instruction(part, self.instruction) for part in parts]
        if not parts:
            raise QueryError("type what you are looking for, or drop a file to search with")
        if self.not_like:
            parts.append(text_part(self.not_like, -1.0))
        return Query(parts=tuple(parts), filters=self._filters(library))

    def _check_instruction(self, library: Library) -> None:
        info = library.embedder.info
        if not info.takes_instructions:
            family = ModelSpec.parse(info.name).family  # The rest may be a path of this machine.
            raise QueryError(
                f"the library's model, {family}, takes no instructions: leave the instruction empty"
            )

    def _filters(self, library: Library) -> Filters:
        after = parse_date(self.after) if self.after else None
        before = parse_date(self.before) if self.before else None
        if before is not None and len(self.before) == len("2026-03-31"):
            before = _next_day(before)
        if after is not None and before is not None and after >= before:
            raise QueryError("the first day comes after the last one: swap the dates")
        folder = folder_of(library, self.folder) if self.folder else None
        return Filters(kinds=frozenset(self.kinds), folder=folder, after=after, before=before)


def _next_day(day: datetime) -> datetime:
    """Return the same time a calendar day later, across a change of the clocks too."""
    try:
        return (day.replace(tzinfo=None) + timedelta(days=1)).astimezone()
    except OverflowError:  # The last representable day.
        return day


PAGE_SIZE = 24
_FETCH_SIZE = 96
_MAX_HITS = 960
_MAX_SEARCHES = 200


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of a search's hits.

    Attributes:
        token: Identifies the search, to request more of it.
        hits: All strong, or all weak.
        weak: Which of the two.
        next_offset: Where the next page starts, or None after the last hit.
    """

    token: str
    hits: tuple[Hit, ...]
    weak: bool
    next_offset: int | None


class SearchSession:
    """One query and its hits, fetched in blocks on demand. Thread-safe."""

    def __init__(self, token: str, library: Library, query: Query, terms: tuple[str, ...]) -> None:
        self.token = token
        self.terms = terms
        self._library = library
        self._model = library.embedder.info.fingerprint
        self._query = query
        self._strong: list[Hit] = []
        self._weak: list[Hit] = []
        self._exhausted = False
        self._lock = Lock()

    def page(self, offset: int = 0, *, weak: bool = False, size: int = PAGE_SIZE) -> ResultPage:
        """Return the hits from `offset` on, `size` at most.

        Raises:
            QueryError: if the query cannot be answered.
            NotFound: if the library has another model than when the search began.
        """
        with self._lock:
            hits = self._weak if weak else self._strong
            while len(hits) <= offset + size and not self._is_complete(weak):
                self._fetch()
            found = tuple(hits[offset : offset + size])
            rest = len(hits) > offset + size
        return ResultPage(self.token, found, weak, offset + size if rest else None)

    def hit(self, segment_id: int) -> Hit | None:
        """Return the hit of this segment, among those fetched so far."""
        with self._lock:
            found = (hit for hit in (*self._strong, *self._weak) if hit.segment.id == segment_id)
            return next(found, None)

    def _is_complete(self, weak: bool) -> bool:
        """Return whether no further hit can come; weak ones follow after all strong ones."""
        return self._exhausted or (not weak and bool(self._weak))

    def _fetch(self) -> None:
        if self._library.embedder.info.fingerprint != self._model:  # Its ranking differs.
            raise NotFound("the library has changed to another model: search again")
        seen = len(self._strong) + len(self._weak)
        block = self._library.search(replace(self._query, limit=_FETCH_SIZE, offset=seen))
        for hit in block:
            (self._weak if hit.weak else self._strong).append(hit)
        self._exhausted = len(block) < _FETCH_SIZE or seen + _FETCH_SIZE >= _MAX_HITS


class Searches:
    """The latest search sessions of all users, by token. Thread-safe."""

    def __init__(
        self, library: Library, files: QueryFiles, max_searches: int = _MAX_SEARCHES
    ) -> None:
        self._library = library
        self._files = files
        self._sessions = LRUCache[str, SearchSession](max_searches)
        self._lock = Lock()

    def open(self, form: SearchForm) -> SearchSession:
        """Start a search.

        Raises:
            IndexerError: if the form is empty or unusable.
        """
        query = form.query(self._library, self._files)
        token = secrets.token_urlsafe(12)
        session = SearchSession(token, self._library, query, tuple(terms(form.text)))
        with self._lock:
            self._sessions[token] = session
        return session

    def get(self, token: str) -> SearchSession:
        """Return a session by its token.

        Raises:
            NotFound: if it has expired, or never existed.
        """
        with self._lock:
            if session := self._sessions.get(token):
                return session
        raise NotFound("this search has expired: search again")


def sample_files(library: Library, count: int = PAGE_SIZE) -> list[tuple[MediaItem, Segment]]:
    """Return files from all over the library, pictures first, to show before any search."""
    return sorted(library.catalog.sample(count), key=lambda found: list(Kind).index(found[1].kind))


def warm_up(library: Library) -> None:
    """Load the model and start a decoding process before the first search needs them."""
    library.viewer.prepare()
    for text in ("warm up", "aufwärmen"):  # Some models load a part for other languages later.
        library.embedder.embed([Content(text=text, modality=Modality.TEXT)], role="query")
