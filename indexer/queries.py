"""From what a person types or drops to the parts of a query."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.content import Content
from embedder.media import Kind, Limits, MediaError, detect, read_content
from indexer.entities import QueryPart
from indexer.errors import QueryError

if TYPE_CHECKING:
    from indexer.viewer import Viewer

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
    viewer: "Viewer | None" = None,
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
