"""From what a person types or drops to the parts of a query."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from embedder.content import Content, Modality
from embedder.interface import Embedder, EmbedderInfo, EmbedError, Vectors
from embedder.media import MEDIA_KINDS, Kind, Limits, MediaError, detect, read_content
from indexer.errors import QueryError
from indexer.search.scoring import Side
from indexer.types import QueryPart

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.decoding.on_demand import OnDemandDecoder


MAX_TERMS = 32
"""A longer text is a document to compare with, not words to look up."""

# The words that carry no topic in an English caption or question.
_STOP_WORDS = frozenset(
    "a an and any are as at be by for from has have he her his how i in is it its me my of on or "
    "our she show some that the their them there these they this to was we were what when where "
    "which who with you your find photo photos picture pictures image images video videos".split()
)
# Accents may be characters of their own, after their letter: SQLite takes both for one word.
_WORD = r"\w[\w\u0300-\u036f]*"
_TERM = re.compile(rf'"([^"]+)"|({_WORD})')


def terms(text: str) -> list[str]:
    """The words and quoted phrases of a text that full-text search looks for, in lower case.

    Stop words are left out unless there is nothing else. A text of more than `MAX_TERMS` terms
    gives none: it is compared as a whole.
    """
    found: dict[str, bool] = {}
    for phrase, word in _TERM.findall(text.lower()):
        term = " ".join(re.findall(_WORD, phrase)) or word
        if term:
            found[term] = bool(phrase) or term not in _STOP_WORDS
    topical = [term for term, topic in found.items() if topic] or list(found)
    return topical if len(topical) <= MAX_TERMS else []


def text_part(text: str, weight: float = 1.0) -> QueryPart:
    """A part for typed words.

    Raises:
        QueryError: if the text is blank.
    """
    if not text.strip():
        raise QueryError("the query is empty: type some words or give a file")
    return QueryPart(content=Content(text=text.strip()), weight=weight)


def file_part(
    path: Path,
    weight: float = 1.0,
    page: int | None = None,
    limits: Limits | None = None,
    expected: Kind | None = None,
    viewer: "OnDemandDecoder | None" = None,
) -> QueryPart:
    """A part for a picture, a video (as a whole), a page of a PDF, or a text file.

    Args:
        path: The file.
        weight: Above 0 for like it, below 0 for unlike it.
        page: Page of a PDF from 1; the first if None.
        limits: What decoding may cost.
        expected: The kind that the person says it is; any if None.
        viewer: Decodes it in another process, for files of strangers; without it, it is decoded
            here.

    Raises:
        QueryError: if the file is of another kind than expected, or cannot be used as a query;
            the message names it and says why.
    """
    limits = limits or Limits()
    try:
        if viewer is not None:
            content = viewer.content(path, limits, page, expected)
        elif expected and (kind := detect(path)) is not expected:
            raise MediaError(f"it is of the kind {kind}, not {expected}")
        else:
            content = read_content(path, limits, page)
    except MediaError as error:
        raise QueryError(f"{path.name} cannot be used as a query: {error}") from error
    return QueryPart(content=content, weight=weight)


def instructed(part: QueryPart, instruction: str) -> QueryPart:
    """The part told what to do, in place of what its model tells it; a stored segment stays."""
    content = part.content
    if content is None:
        return part
    told = Content(content.text, content.frames, content.modality, instruction)
    return replace(part, content=told)


def moment(text: str) -> datetime:
    """A date or a time in ISO 8601, local where no zone is given, as an aware datetime.

    Raises:
        QueryError: if it is neither.
    """
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):  # The latter beside the first and last day of all.
        raise QueryError(f"{text!r} is not a date: write it as 2026-03-31") from None


MODALITY: Mapping[Kind, Modality] = {kind: record.modality for kind, record in MEDIA_KINDS.items()}
"""As what the segments of a kind are embedded."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedQuery:
    """The parts of a query, embedded.

    A model may be told what a query looks for ("Find a document image that …"), so a part can have
    another vector for each kind of media.

    Attributes:
        parts: As given.
        vectors: By kind: a unit vector (dim,) for each part that has a content, in order.
    """

    parts: Sequence[QueryPart]
    vectors: Mapping[Kind, Sequence[Vectors]]

    @classmethod
    def of(cls, embedder: Embedder, parts: Sequence[QueryPart], kinds: Collection[Kind]) -> Self:
        """Embeds in one call what is asked of some kinds.

        Raises:
            QueryError: if a part cannot be embedded, or is told something by the person though
                the model takes no instructions.
        """
        contents = [part.content for part in parts if part.content is not None]
        if not embedder.info.takes_instructions and any(one.instruction for one in contents):
            raise QueryError(
                f"the model {embedder.info.name} takes no instructions: leave the instruction out"
            )
        told = {
            kind: [_instructed(one, embedder.info, MODALITY[kind]) for one in contents]
            for kind in kinds
        }
        # Most parts are told the same for several kinds: they are embedded once.
        each = {(i, one.instruction): one for row in told.values() for i, one in enumerate(row)}
        try:
            rows = embedder.embed(list(each.values()), role="query")
        except EmbedError as error:
            raise QueryError(f"the query cannot be embedded: {error.reason}") from error
        found = dict(zip(each, rows, strict=True))
        return cls(
            parts,
            {
                kind: [found[i, one.instruction] for i, one in enumerate(row)]
                for kind, row in told.items()
            },
        )

    def sides(self, catalog: "Catalog") -> tuple[Side, Side]:
        """What hits should be like, and what they should not be like.

        Raises:
            NotFound: if a part names a segment that is not in the library.
        """
        columns = list(self._columns(catalog))
        return self._side(columns, 1), self._side(columns, -1)

    def _columns(self, catalog: "Catalog") -> Iterator[tuple[Modality, Mapping[Kind, Vectors]]]:
        """Modality of each part, and its vector by the kind that is looked for."""
        number = 0
        for part in self.parts:
            if part.content is not None:
                yield part.content.modality, {k: own[number] for k, own in self.vectors.items()}
                number += 1
            elif part.segment_id is not None:
                modality = catalog.segment(part.segment_id).modality
                stored = catalog.vectors_of([part.segment_id])[0]
                yield modality, dict.fromkeys(self.vectors, stored)

    def _side(self, columns: Sequence[tuple[Modality, Mapping[Kind, Vectors]]], sign: int) -> Side:
        chosen = [i for i, part in enumerate(self.parts) if part.weight * sign > 0]
        words: dict[str, None] = {}
        typed = np.zeros(len(chosen), dtype=np.bool_)
        for row, i in enumerate(chosen):
            content = self.parts[i].content
            if content is not None and not content.frames and (found := terms(content.text or "")):
                words.update(dict.fromkeys(found))
                typed[row] = True
        return Side(
            vectors={
                MODALITY[kind]: np.array([columns[i][1][kind] for i in chosen], dtype=np.float32)
                for kind in self.vectors
            },
            modalities=tuple(columns[i][0] for i in chosen),
            weights=np.array([abs(self.parts[i].weight) for i in chosen], dtype=np.float32),
            terms=tuple(words),
            typed=typed,
        )


def _instructed(content: Content, info: EmbedderInfo, document: Modality) -> Content:
    """The content told what to look for, unless it brings an instruction of its own."""
    told = info.instructions.get((content.modality, document))
    if content.instruction is not None or told is None:
        return content
    return Content(content.text, content.frames, content.modality, told)
