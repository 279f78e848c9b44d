"""Living albums: what a saved search finds, corrected by what their owner answers about it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from threading import RLock
from time import monotonic

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from app.query_files import QueryFiles
from app.search import SearchForm, validated
from embedder import EmbedderError
from embedder.media import MediaError
from indexer import Hit, IndexerError, Library
from indexer.catalog.albums import Album
from indexer.search.feedback import LogOdds, adjusted, centred, log_odds_of
from indexer.search.ranking import MAX_HITS

_MARGIN = 1.0
"""Log-odds from the border within which files are asked about: from 27 to 73 % at one half."""
_MAX_ASKED = 12
_MAX_ALBUMS = 100  # Whose questions are kept in memory.
_RETRY_SECONDS = 30.0  # After a failure.
_FAILURES = (IndexerError, EmbedderError, MediaError)


@dataclass(frozen=True, slots=True)
class Filled:
    """A living album as of now.

    Attributes:
        album: The album.
        asked: Hits near its border that were not answered, the nearest first.
        answers: How many were.
        has_changed: Whether other files are in it than before.
        problem: Why it was not filled, if it should have been: it stays as it was.
    """

    album: Album
    asked: tuple[Hit, ...]
    answers: int
    has_changed: bool
    problem: Exception | None = None


class LivingAlbums:
    """Fills living albums when they are looked at and the library has changed since. Thread-safe.

    Looking at an album is to list albums, to open one, and to use one as a filter. Whatever changed
    the library, also another process, is noticed. No ingest waits for it.

    Guarantees: what was answered yes is in the album and what was answered no is not, whatever the
    search finds; answers about one album change no other search.
    """

    def __init__(self, library: Library, files: QueryFiles) -> None:
        self._library = library
        self._files = files
        self._asked = LRUCache[int, tuple[str, tuple[Hit, ...]]](_MAX_ALBUMS)
        self._lock = RLock()  # Of one who fills, perhaps an album that another one's search needs.
        self._next_try: dict[int, float] = {}

    def all(self) -> list[Album]:
        """Return all albums, with the living ones filled, if they can be."""
        albums = self._library.albums
        for album in albums.all():
            self.keep_filled(album.id)
        return albums.all()

    def keep_filled(self, album_id: int) -> None:
        """Fill a living album, if the library has changed since; others stay as they are.

        So does one that cannot be filled, as in a library that cannot be written to: `filled` says
        why.
        """
        albums = self._library.albums
        if not albums.is_outdated(album_id, self._state()):
            return
        with self._lock, suppress(*_FAILURES):
            is_due = monotonic() >= self._next_try.get(album_id, -inf)
            if is_due and albums.is_outdated(album_id, self._state()):
                # First, for its search may be limited to the album itself.
                self._next_try[album_id] = monotonic() + _RETRY_SECONDS
                self._fill(albums.get(album_id))
                del self._next_try[album_id]

    def filled(self, album_id: int) -> Filled:
        """Fill a living album if need be.

        Raises:
            NotFound: if there is no such album.
        """
        albums, has_changed = self._library.albums, False
        album, known = albums.get(album_id), self._asked.get(album_id)
        asked: tuple[Hit, ...] = ()
        problem: Exception | None = None
        try:
            if album.search is not None:
                if known is None or not known[0] == self._state() == album.evaluated:
                    with self._lock:
                        has_changed = self._fill(album)
                        known = self._asked[album_id]
                asked = known[1]
        except _FAILURES as error:  # Its folder or its example may have left the library.
            problem = error
        answers = len(albums.answers(album_id))
        return Filled(albums.get(album_id), asked, answers, has_changed, problem)

    def _fill(self, album: Album) -> bool:
        """Search, store what is in the album, and return whether that has changed."""
        state, albums = self._state(), self._library.albums
        hits, answers = self._hits(album), albums.answers(album.id)
        border = log_odds_of(np.array([album.border or 0.5]))[0]
        beyond = self._log_odds(hits, answers) - border
        found = {content for content, by in zip(hits, beyond, strict=True) if by >= 0}
        found |= {content for content, belongs in answers.items() if belongs}
        found -= {content for content, belongs in answers.items() if not belongs}
        near = sorted(zip(np.abs(beyond).tolist(), hits, strict=True))
        asked = [hits[one] for by, one in near if by < _MARGIN and one not in answers]
        has_changed = found != albums.contents(album.id)
        albums.fill(album.id, found, state)
        self._asked[album.id] = state, tuple(asked[:_MAX_ASKED])
        return has_changed

    def _hits(self, album: Album) -> dict[str, Hit]:
        """Return the best hit of each content that the search of an album finds."""
        form = validated(SearchForm, album.search or {})
        query = replace(form.query(self._library, self._files, self.keep_filled), limit=MAX_HITS)
        hits = sorted(self._library.search(query), key=lambda hit: hit.relevance)
        return {hit.segment.content_hash: hit for hit in hits}

    def _log_odds(self, hits: Mapping[str, Hit], answers: Mapping[str, bool]) -> LogOdds:
        """Return the log-odds of hits after the answers."""
        relevance = np.array([hit.relevance for hit in hits.values()], dtype=np.float64)
        log_odds = log_odds_of(np.clip(relevance, 1e-9, 1 - 1e-9))
        rows = [row for row, content in enumerate(hits) if content in answers]
        if not rows:
            return log_odds
        said = np.array(
            [answers[content] for content in hits if content in answers], dtype=np.bool_
        )
        return adjusted(log_odds, self._vectors([*hits.values()]), np.array(rows), said)

    def _vectors(self, hits: Sequence[Hit]) -> NDArray[np.float32]:
        """Return the vectors of hits, `centred` among those of their kind."""
        vectors = self._library.catalog.vectors_of([hit.segment.id for hit in hits])
        kinds = np.array([hit.segment.kind.value for hit in hits])
        for kind in np.unique(kinds):
            vectors[kinds == kind] = centred(vectors[kinds == kind])
        return vectors

    def _state(self) -> str:
        """Return what an album that was filled now depends on."""
        catalog = self._library.catalog
        return f"{catalog.generation()} {catalog.model().fingerprint}"
