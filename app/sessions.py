"""Search sessions: the hits of a query, folded into cards, fetched on demand and paged."""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Self

from cachetools import LRUCache

from app.query_files import QueryFiles
from app.search import Fill, SearchForm
from app.texts import N_
from embedder.media.kinds import Kind
from indexer import Filters, Hit, Library, NotFound, Query, Segment, Sort
from indexer.catalog.alike import Picture, leaders
from indexer.search.query import corrections, found_forms, terms, without_excluded
from indexer.search.ranking import score

PAGE_SIZE = 24
FLOOR = 0.05
"""Hits that are less likely are left out: by the calibration's assumption that one file in twenty
fits a query, what speaks for them is less than what speaks against them."""

_NEAREST = 6  # Cards that are shown where nothing is as likely as that.
_FIRST_HITS, _GROWTH, _MAX_HITS = 96, 4, 960
_MAX_SEARCHES = 200


@dataclass(slots=True, eq=False)
class Card:
    """What an answer shows as one: a file, and files that look nearly the same.

    Attributes:
        hits: In that file, the best one first; several pages of a PDF, and otherwise one.
        score: What cards are ordered by.
        alike: Cards of the other files, best first.
    """

    hits: list[Hit]
    score: float = 0.0
    alike: list["Card"] = field(default_factory=list)

    @property
    def hit(self) -> Hit:
        """The best hit."""
        return self.hits[0]

    @property
    def places(self) -> tuple[Segment, ...]:
        """All segments of the file that match, best first."""
        return tuple(place for hit in self.hits for place in (hit.segment, *hit.more))


@dataclass(frozen=True, slots=True)
class ResultPage:
    """A page of a search's cards.

    Attributes:
        token: Identifies the search, to request more of it.
        cards: All matches, or all weaker ones.
        weak: Which of the two.
        next_offset: Where the next page starts, or None after the last card.
        left: How many cards follow; None while that is unknown.
    """

    token: str
    cards: tuple[Card, ...]
    weak: bool = False
    next_offset: int | None = None
    left: int | None = 0


class SearchSession:
    """One query and its hits, fetched on demand. Thread-safe.

    Pages of a file fold into its card, and pictures that look nearly alike into the card of the
    best one. What has been shown stays in its place: hits that are fetched later only add to it.

    Attributes:
        token: Identifies the search.
        corrections: What was looked up in place of words that occur nowhere.
        filtered: Whether filters were set.
        terms: Words to mark.
    """

    def __init__(
        self,
        token: str,
        library: Library,
        query: Query,
        form: SearchForm,
        others: Self | None = None,
    ) -> None:
        text, _ = without_excluded(form.text)
        self.token = token
        self.corrections: dict[str, str] = (
            corrections(library, text) if others is None else others.corrections
        )
        self.filtered = query.filters != Filters()
        self.terms = found_forms(self.corrections.get(term, term) for term in terms(text))
        self._library = library
        self._model = library.embedder.info.fingerprint
        self._query = query
        self._others = others
        self._sort = form.sort
        self._is_sorted = form.sort is Sort.RELEVANCE
        self._border = max(form.border, FLOOR)
        self._strong: list[Card] = []
        self._weak: list[Card] = []
        self._nearest: list[Card] = []
        self._files: dict[str, Card] = {}  # By the hash of their contents.
        self._pictures: list[Picture] = []
        self._ranks = Counter[Kind]()
        self._counts = Counter[Kind]()
        self._limit = 0  # Of the latest search.
        self._has_all_strong = False
        self._has_all = False
        self._is_cut = False  # At the most hits, where more would match.
        self._lock = Lock()

    def page(self, offset: int = 0, *, weak: bool = False, size: int = PAGE_SIZE) -> ResultPage:
        """Return the cards from `offset` on, `size` at most.

        Raises:
            QueryError: if the query cannot be answered.
            NotFound: if the library has another model than when the search began.
        """
        with self._lock:
            cards = self._weak if weak else self._strong
            if not self._is_sorted:
                self._sort_strong()
            while len(cards) <= offset + size and not self._is_complete(weak):
                self._fetch()
            found = tuple(cards[offset : offset + size])
            rest = max(0, len(cards) - offset - size)
            left = rest if self._is_complete(weak) and not self._is_cut else None
        return ResultPage(self.token, found, weak, offset + size if rest else None, left)

    def weaker(self) -> ResultPage | None:
        """Return the first weaker cards; None while it is unknown which those are."""
        return self.page(weak=True) if self._has_all_strong else None

    def nearest(self) -> ResultPage:
        """Return the cards of the likeliest hits where none is likely enough to be listed."""
        return ResultPage(self.token, tuple(self._nearest))

    def is_empty(self) -> bool:
        """Return whether nothing was found, not even weakly."""
        return not (self.page().cards or self._weak or self._nearest)

    def item_ids(self) -> list[int]:
        """Return the ids of all files that match, best first; of the weaker ones if none does.

        Raises:
            QueryError: if the query cannot be answered.
            NotFound: if the library has another model than when the search began.
        """
        page = self.page(size=_MAX_HITS)
        cards = page.cards or self.page(weak=True).cards
        files = (one for card in cards for one in (card, *card.alike))
        return [one.hit.item.id for one in files]

    def matches(self) -> tuple[int, bool]:
        """Return how many files match, as far as is known, and whether that is all.

        Files that look alike count one by one.
        """
        with self._lock:
            return sum(self._counts.values()), self._has_all_strong and not self._is_cut

    def counts(self, *, fetch: bool = True) -> Mapping[Kind, int] | None:
        """Return how many files of each kind match, also of kinds that filters leave out.

        Args:
            fetch: Search for what is missing; otherwise None is returned where it is unknown.

        Raises:
            QueryError: if the query cannot be answered.
            NotFound: if the library has another model than when the search began.
        """
        with self._lock:
            while fetch and not self._has_all_strong:
                self._fetch()
            own = dict(self._counts) if self._has_all_strong else None
        others = {} if self._others is None else self._others.counts(fetch=fetch)
        return None if own is None or others is None else {**others, **own}

    def hit(self, segment_id: int) -> Hit | None:
        """Return the hit of this segment, among those fetched so far."""
        with self._lock:
            found = (hit for card in self._cards() for hit in card.hits)
            return next((hit for hit in found if hit.segment.id == segment_id), None)

    def places(self, segment_id: int) -> tuple[Segment, ...]:
        """Return all matching segments of the file that this one is in, best first."""
        with self._lock:
            for card in self._cards():
                places = card.places
                if any(place.id == segment_id for place in places):
                    return places
        return ()

    def alike(self, segment_id: int) -> ResultPage:
        """Return the cards of the files that look nearly like this segment's.

        Raises:
            NotFound: if the search has no card of it.
        """
        with self._lock:
            for card in (*self._strong, *self._weak):
                if card.hit.segment.id == segment_id:
                    return ResultPage(self.token, tuple(card.alike))
        raise NotFound(N_("the picture is not among the results: search again"))

    def _cards(self) -> Iterator[Card]:
        """Yield the cards of all files."""
        for card in (*self._strong, *self._weak, *self._nearest):
            yield from (card, *card.alike)

    def _is_complete(self, weak: bool) -> bool:
        """Return whether no further card can come."""
        return self._has_all or (self._has_all_strong and not weak)

    def _sort_strong(self) -> None:
        """Fetch all strong hits, and sort their cards by date."""
        while not self._has_all_strong:
            self._fetch()
        newest_first = self._sort is Sort.NEWEST
        self._strong.sort(key=lambda card: card.hit.item.date_ns, reverse=newest_first)
        self._is_sorted = True

    # ---- fetching and folding

    def _fetch(self) -> None:
        if self._library.embedder.info.fingerprint != self._model:  # Its ranking differs.
            raise NotFound(N_("the library has changed to another model: search again"))
        # From the first hit on: among more candidates there may be better ones than the first were.
        self._limit = min(_GROWTH * self._limit if self._limit else _FIRST_HITS, _MAX_HITS)
        hits = self._library.search(replace(self._query, limit=self._limit))
        # Weak hits come after all others, by their relevance alone.
        last = hits[-1].relevance if hits and hits[-1].weak else 1.0
        is_last = len(hits) < self._limit or last < FLOOR
        self._has_all = is_last or self._limit == _MAX_HITS
        self._has_all_strong = self._has_all or last < self._border
        self._is_cut = self._has_all and not is_last and last >= self._border
        self._fold([hit for hit in hits if hit.relevance >= FLOOR and self._is_new(hit)])
        if not self._files:
            best: dict[str, Card] = {}
            for hit in hits:
                best.setdefault(hit.segment.content_hash, Card([hit]))
            self._nearest = [*best.values()][:_NEAREST]

    def _is_new(self, hit: Hit) -> bool:
        card = self._files.get(hit.segment.content_hash)
        return card is None or all(hit.segment.id != one.segment.id for one in card.hits)

    def _fold(self, hits: Sequence[Hit]) -> None:
        """Fold hits into the cards that are there, and append the others in their order."""
        new = list[Card]()
        leaders_of = self._leaders(hits)
        for hit in hits:
            is_strong = hit.relevance >= self._border
            if known := self._files.get(hit.segment.content_hash):
                if is_strong:
                    known.hits.append(hit)
                continue
            self._counts[hit.segment.kind] += is_strong
            card = self._files[hit.segment.content_hash] = Card([hit])
            leader = self._files.get(leaders_of.get(hit.segment.id, ""), card)
            if leader is not card:
                leader.alike.append(card)
                continue
            self._ranks[hit.segment.kind] += 1
            card.score = score(hit.relevance, self._ranks[hit.segment.kind])
            new.append(card)
        new.sort(key=lambda card: -card.score)
        for card in new:
            (self._strong if card.hit.relevance >= self._border else self._weak).append(card)

    def _leaders(self, hits: Sequence[Hit]) -> dict[int, str]:
        """Return the hashes of the files that stand for pictures, by segment; see `leaders`."""
        looks = self._library.catalog.looks([hit.segment.id for hit in hits])
        pictures = [hit for hit in hits if hit.segment.id in looks]
        self._pictures += [(hit.item, looks[hit.segment.id]) for hit in pictures]
        found = leaders(self._pictures)[len(self._pictures) - len(pictures) :]
        return {
            hit.segment.id: self._pictures[leader][0].content_hash or ""
            for hit, leader in zip(pictures, found, strict=True)
        }


class Searches:
    """The latest search sessions of all users, by token. Thread-safe."""

    def __init__(
        self, library: Library, files: QueryFiles, fill: Fill, max_searches: int = _MAX_SEARCHES
    ) -> None:
        self._fill = fill
        self._library = library
        self._files = files
        self._sessions = LRUCache[str, SearchSession](max_searches)
        self._lock = Lock()

    def open(self, form: SearchForm) -> SearchSession:
        """Start a search.

        Raises:
            IndexerError: if the form is empty or unusable.
        """
        query = form.query(self._library, self._files, self._fill)
        token = secrets.token_urlsafe(12)
        rest = frozenset(Kind) - query.filters.kinds
        others = None
        if query.filters.kinds and rest:  # To count how many hits they would have.
            filters = replace(query.filters, kinds=rest)
            others = SearchSession(token, self._library, replace(query, filters=filters), form)
        session = SearchSession(token, self._library, query, form, others)
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
        raise NotFound(N_("this search has expired: search again"))
