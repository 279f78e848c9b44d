"""What the page and the API ask for, checked: from loose values to a `Query` of the indexer."""

import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Self

from app.page.labels import folder_of
from app.query_files import QueryFiles
from embedder.content import Content, Modality
from embedder.media.kinds import Kind
from embedder.spec import ModelSpec
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
)
from indexer.search.query import file_part, instructed, moment, terms, text_part

MOST_NUMBER = 2**63 - 1
"""The largest number that a database keeps."""

_MAX_TEXT = 20_000
_MAX_INSTRUCTION = 2_000


@dataclass(frozen=True, slots=True)
class SearchForm:
    """A search as a person states it; empty values mean that nothing is asked.

    Attributes:
        text: Words.
        file: An id from `QueryFiles`, or another reference that it resolves.
        similar: Segment of the library to be like.
        balance: 0 looks at the words only, 1 at the file only; matters where both are given.
        not_like: Words to stay away from.
        kinds: Kinds of media; empty means all.
        folder: A folder's id from `app.page.labels`.
        after: First day, as 2026-03-31.
        before: Last day, included.
        instruction: What the model is told to do with the words and the file, in place of its
            own; only for models that take instructions.
    """

    text: str = ""
    file: object = None
    similar: int | None = None
    balance: float = 0.5
    not_like: str = ""
    kinds: tuple[Kind, ...] = ()
    folder: str = ""
    after: str = ""
    before: str = ""
    instruction: str = ""

    @classmethod
    def from_values(cls, values: Mapping[str, object]) -> Self:
        """Checks what came over the wire.

        Raises:
            QueryError: if a value is of a wrong type or out of range.
        """
        return cls(
            text=_text(values, "text"),
            file=values.get("file") or None,
            similar=_segment_id(values.get("similar")),
            balance=_balance(values.get("balance", 0.5)),
            not_like=_text(values, "not_like"),
            kinds=_kinds(values.get("kinds")),
            folder=_text(values, "folder"),
            after=_text(values, "after"),
            before=_text(values, "before"),
            instruction=_text(values, "instruction", _MAX_INSTRUCTION),
        )

    def query(self, library: Library, files: QueryFiles) -> Query:
        """The query that the indexer understands.

        Raises:
            QueryError: if there is nothing to look for, if a file, folder or date is unusable, or
                if the library's model takes no instruction and one is given.
        """
        parts: list[QueryPart] = []
        pictured = self.file is not None or self.similar is not None
        words_weight, file_weight = self._weights(bool(self.text) and pictured)
        if self.text and words_weight:
            parts.append(text_part(self.text, words_weight))
        if self.file is not None and file_weight:
            path = files.resolve(self.file)
            parts.append(file_part(path, file_weight, limits=library.limits, viewer=library.viewer))
        if self.similar is not None and file_weight:
            library.segment(self.similar)
            parts.append(QueryPart(segment_id=self.similar, weight=file_weight))
        if self.instruction:
            self._check_instruction(library)
            parts = [instructed(part, self.instruction) for part in parts]
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

    def _weights(self, both: bool) -> tuple[float, float]:
        if not both:
            return 1.0, 1.0
        return 2 * (1 - self.balance), 2 * self.balance

    def _filters(self, library: Library) -> Filters:
        after = moment(self.after) if self.after else None
        before = moment(self.before) if self.before else None
        if before is not None and len(self.before.strip()) == len("2026-03-31"):
            before = _next_day(before)
        if after is not None and before is not None and after >= before:
            raise QueryError("the first day comes after the last one: swap the dates")
        folder = folder_of(library, self.folder) if self.folder else None
        return Filters(kinds=frozenset(self.kinds), folder=folder, after=after, before=before)


def _next_day(day: datetime) -> datetime:
    """The same time a calendar day later, whatever the clocks did in between."""
    try:
        return (day.replace(tzinfo=None) + timedelta(days=1)).astimezone()
    except OverflowError:  # The last day of all.
        return day


def _text(values: Mapping[str, object], name: str, most: int = _MAX_TEXT) -> str:
    value = values.get(name) or ""
    if not isinstance(value, str):
        raise QueryError(f"{name} must be a text")
    if len(value) > most:
        raise QueryError(f"{name} must not be longer than {most} characters")
    return value.encode(errors="replace").decode().strip()  # No database takes half a character.


def _segment_id(value: object) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise QueryError("a segment is named by its number")
    written = str(value) if isinstance(value, str) or abs(value) < MOST_NUMBER else ""
    if (
        not written.isdecimal()
        or len(written) > len(str(MOST_NUMBER))
        or int(written) > MOST_NUMBER
    ):
        raise QueryError("a segment is named by its number")
    return int(written)


def _balance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise QueryError("the balance between words and file must be a number from 0 to 1")
    return float(value)


def _kinds(value: object) -> tuple[Kind, ...]:
    if not value:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise QueryError("kinds must be a list")
    known = ", ".join(Kind)
    try:
        return tuple(dict.fromkeys(Kind(str(kind)) for kind in value))
    except ValueError:
        raise QueryError(f"kinds can be {known}, nothing else") from None


PAGE_SIZE = 24
_BLOCK = 96
_MOST = 960


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A stretch of a search's hits.

    Attributes:
        token: Names the session, to ask it for more.
        hits: All strong, or all weak.
        weak: Which of the two.
        next_offset: Where the next page starts, or None after the last hit.
    """

    token: str
    hits: tuple[Hit, ...]
    weak: bool
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A file to show before anything was searched."""

    item: MediaItem
    segment: Segment


class SearchSession:
    """One query and its hits, fetched in blocks as they are asked for. Thread-safe."""

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
        """The hits from `offset` on, `size` at most.

        Raises:
            QueryError: if the query cannot be answered.
            NotFound: if the library has another model than when the search began.
        """
        with self._lock:
            hits = self._weak if weak else self._strong
            while len(hits) <= offset + size and not self._over(weak):
                self._fetch()
            found = tuple(hits[offset : offset + size])
            rest = len(hits) > offset + size
        return ResultPage(self.token, found, weak, offset + size if rest else None)

    def hit(self, segment_id: int) -> Hit | None:
        """The hit that this segment is, among those found so far."""
        with self._lock:
            found = (hit for hit in (*self._strong, *self._weak) if hit.segment.id == segment_id)
            return next(found, None)

    def _over(self, weak: bool) -> bool:
        """Whether no further hit can come; weak ones follow after all strong ones."""
        return self._exhausted or (not weak and bool(self._weak))

    def _fetch(self) -> None:
        if self._library.embedder.info.fingerprint != self._model:  # It orders hits otherwise.
            raise NotFound("the library has changed to another model: search again")
        seen = len(self._strong) + len(self._weak)
        block = self._library.search(replace(self._query, limit=_BLOCK, offset=seen))
        for hit in block:
            (self._weak if hit.weak else self._strong).append(hit)
        self._exhausted = len(block) < _BLOCK or seen + _BLOCK >= _MOST


class Searches:
    """The sessions of all visitors, the newest 200. Thread-safe."""

    def __init__(self, library: Library, files: QueryFiles, keep: int = 200) -> None:
        self._library = library
        self._files = files
        self._keep = keep
        self._sessions: OrderedDict[str, SearchSession] = OrderedDict()
        self._lock = Lock()

    def open(self, form: SearchForm) -> SearchSession:
        """Starts a search.

        Raises:
            IndexerError: if the form asks for nothing or for something unusable.
        """
        query = form.query(self._library, self._files)
        token = secrets.token_urlsafe(12)
        session = SearchSession(token, self._library, query, tuple(terms(form.text)))
        with self._lock:
            self._sessions[token] = session
            while len(self._sessions) > self._keep:
                self._sessions.popitem(last=False)
        return session

    def get(self, token: str) -> SearchSession:
        """A session by its token.

        Raises:
            NotFound: if it is too old to be kept, or never was.
        """
        with self._lock:
            if session := self._sessions.get(token):
                return session
        raise NotFound("this search is too old to be continued: search again")


def glimpses(library: Library, count: int = PAGE_SIZE) -> list[Glimpse]:
    """Files from all over the library, pictures first, to show before anything was searched."""
    glimpses = [Glimpse(item, segment) for item, segment in library.sample(count)]
    return sorted(glimpses, key=lambda one: list(Kind).index(one.segment.kind))


def warm_up(library: Library) -> None:
    """Loads the model, and starts a decoding process, before the first visitor waits for them."""
    library.viewer.prepare()
    library.embedder.embed([Content(text="warm up", modality=Modality.TEXT)], role="query")
