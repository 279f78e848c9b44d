"""Sources: the strong hits that an answer may cite, and the interface of what answers."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from indexer.search.query import text_part
from indexer.types import Filters, Hit, Query

if TYPE_CHECKING:
    from indexer.library import Library

MAX_SOURCES = 8
NO_ANSWER = "Nothing in the library answers this."

_HITS = 24  # From which the sources are chosen, so that one long document leaves room for others.


@dataclass(frozen=True, slots=True)
class Source:
    """What an answer may cite.

    Attributes:
        number: From 1; what "[n]" in an answer means.
        hit: Where it is; its segment opens the page, the second or the passage.
        text: What is written or said there; empty without words.
        picture: Its thumbnail; None if it has none.
    """

    number: int
    hit: Hit
    text: str
    picture: Path | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: In the order of the answer; of a quotation, the sentence as it stands in the source.
        cites: Numbers of the sources that it is from.
        before: The sentence before a quotation, for context.
        after: The sentence after it.
    """

    text: str
    cites: tuple[int, ...] = ()
    before: str = ""
    after: str = ""


class Answerer(Protocol):
    """Answers questions from sources alone."""

    def answer(
        self, question: str, sources: Sequence[Source], cancel: threading.Event | None = None
    ) -> Iterator[Piece]:
        """Yield an answer piece by piece; nothing if the sources do not answer the question.

        Args:
            question: As typed.
            sources: From `find_sources`.
            cancel: Set it to stop before the next piece.
        """
        ...


def find_sources(library: "Library", question: str, filters: Filters | None = None) -> list[Source]:
    """Return what may answer a question: strong hits, at most `MAX_SOURCES`, spread over files.

    The best hit of each file comes first, then the second one of each.

    Raises:
        QueryError: the question is empty.
    """
    found = library.search(Query((text_part(question),), filters or Filters(), _HITS))
    hits_by_item: dict[int, list[Hit]] = {}
    for hit in found:
        if not hit.weak:
            of_item = hits_by_item.setdefault(hit.item.id, [])
            of_item += [hit, *(replace(hit, segment=one, more=()) for one in hit.more)]
    ranked = [
        (turn, hit)
        for of_item in hits_by_item.values()
        for turn, hit in enumerate({hit.segment.id: hit for hit in of_item}.values())
    ]
    ranked.sort(key=lambda pair: pair[0])
    return [
        Source(
            number,
            hit,
            library.catalog.text(hit.segment) or "",
            library.thumbnail(hit.segment.id),
        )
        for number, (_, hit) in enumerate(ranked[:MAX_SOURCES], start=1)
    ]
