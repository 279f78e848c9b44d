"""Searching as the page does it: a session keeps a query and what was found for it so far."""

import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock

from app.forms import SearchForm
from app.query_files import QueryFiles
from embedder.content import Content, Modality
from embedder.media.kinds import Kind
from indexer import Hit, Library, MediaItem, NotFound, Query, Segment
from indexer.queries import terms

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
