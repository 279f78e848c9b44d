"""Queries: from words and files to parts, and from parts to vectors."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embedder.content import Content, Modality
from embedder.interface import Embedder, EmbedderInfo, EmbedError, Vectors
from embedder.media import MEDIA_KINDS, Kind, Limits, MediaError, detect, read_content
from embedder.media.kinds import Word
from embedder.normalisation import occurrences, words
from indexer.catalog.fulltext import may_be_part
from indexer.catalog.plurals import other_numbers
from indexer.errors import QueryError
from indexer.search.scoring import Side
from indexer.types import Hit, QueryPart, Reason

if TYPE_CHECKING:
    from indexer.catalog import Catalog
    from indexer.decoding.on_demand import OnDemandDecoder
    from indexer.library import Library


MAX_TERMS = 32
"""A longer text is compared as a document, and its words are not looked up."""

_MAX_BOXES = 400

# The words that carry no topic in an English caption or question.
_STOP_WORDS = frozenset(
    "a an and any are as at be by for from has have he her his how i in is it its me my of on or "
    "our she show some that the their them there these they this to was we were what when where "
    "which who with you your find photo photos picture pictures image images video videos".split()
)
# A straight quote begins no phrase behind a letter or digit, nor ends one before it: צה"ל, 27".
_QUOTED = re.compile(
    r"""(?:[“”„‟«»]|(?<!\w)")((?:[^"“”„‟«»]|(?<=\w)"(?=\w))+)(?:[“”„‟«»]|"(?!\w))"""
)
# Letters and emoji: not -5, and neither a dash nor a hyphen inside a word.
_EXCLUDED = re.compile(
    rf"(?<!\S)-(?:{_QUOTED.pattern}|((?:[^\W\d_]|[\u2600-\u27bf\U0001f000-\U0001faff])\S*))"
)
_POSSESSIVE = re.compile(r"(?<=\w)['’]s\b", re.IGNORECASE)  # Few who ask for it write it likewise.


def terms(text: str) -> list[str]:
    """Return the words and quoted phrases of a text to look up, `folded`.

    Stop words are left out unless there is nothing else. A text of more than `MAX_TERMS` terms
    gives none.
    """
    found: dict[str, bool] = {}
    for number, part in enumerate(_QUOTED.split(text)):
        if number % 2 and (phrase := " ".join(words(part))):
            found[phrase] = True
        elif not number % 2:
            for word in words(_POSSESSIVE.sub("", part)):
                found.setdefault(word, word not in _STOP_WORDS)
    topical = [term for term, topic in found.items() if topic] or list(found)
    return topical if len(topical) <= MAX_TERMS else []


def without_excluded(text: str) -> tuple[str, tuple[str, ...]]:
    """Return typed words without those that begin with a minus, and the latter as terms.

    A text that is compared as a document excludes nothing.
    """
    if len(words(text)) > MAX_TERMS:
        return text, ()
    excluded = (" ".join(words("".join(match.groups("")))) for match in _EXCLUDED.finditer(text))
    return _EXCLUDED.sub(" ", text).strip(), tuple(dict.fromkeys(filter(None, excluded)))


def quoted_spans(text: str) -> list[tuple[int, int]]:
    """Return where the quoted phrases of a text begin and end, with their quotes."""
    return [match.span() for match in _QUOTED.finditer(text)]


def is_quoted(text: str) -> bool:
    """Return whether a text consists of quoted phrases alone."""
    parts = _QUOTED.split(text)
    return any(map(words, parts[1::2])) and not any(map(words, parts[::2]))


def corrections(library: "Library", text: str) -> dict[str, str]:
    """Return what a search looks up in place of words of a text that occur nowhere."""
    if is_quoted(text):
        return {}
    return library.catalog.corrections(terms(text), library.embedder.knows_word)


def found_forms(asked: Iterable[str]) -> tuple[str, ...]:
    """Return terms with the irregular plurals and singulars that find the same."""
    return tuple(form for term in asked for form in (term, *other_numbers(term)))


def matching_words(drawn: Iterable[Word], asked: Iterable[str], kind: Kind) -> Iterator[Word]:
    """Yield the words of a page or picture that are why it was found by its words.

    Args:
        drawn: The words with their boxes.
        asked: From `found_forms`.
        kind: Of the segment; in pictures, parts of words are found, too.
    """
    single = {part for term in asked for part in (term, *term.split()) if len(part) > 1}
    parts = set() if kind is Kind.PDF else {one for one in single if may_be_part(one)}
    for word in drawn:
        if occurrences(word.text, single) or occurrences(word.text, parts, anywhere=True):
            yield word


def boxes_of(library: "Library", hit: Hit, asked: Sequence[str]) -> list[dict[str, Any]]:
    """Return the words by which a page or picture was found, with their boxes, as JSON values.

    Args:
        library: Whose hit it is.
        hit: The hit.
        asked: From `found_forms`.
    """
    if Reason.WORDS not in hit.why:
        return []
    drawn = library.catalog.words(hit.segment.id)
    found = islice(matching_words(drawn, asked, hit.segment.kind), _MAX_BOXES)
    return [
        {
            "text": one.text,
            "box": [round(side, 4) for side in one.box],
        }
        for one in found
    ]


def text_part(text: str, weight: float = 1.0) -> QueryPart:
    """Return a part for typed words.

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
    """Return a part for a picture, a video (as a whole), a page of a document, or a text file.

    Args:
        path: The file.
        weight: Above 0 to find what is like it, below 0 to avoid that.
        page: Page of a PDF or TIFF from 1; the first if None.
        limits: Bounds of decoding.
        expected: The kind that it has to be; any if None.
        viewer: Decodes untrusted files in another process; without it, the file is decoded here.

    Raises:
        QueryError: if the file is of another kind or cannot be read; the message says why.
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


def with_instruction(part: QueryPart, instruction: str) -> QueryPart:
    """Return the part with an instruction in place of the model's; a stored segment stays."""
    content = part.content
    if content is None:
        return part
    return replace(part, content=replace(content, instruction=instruction))


MODALITY: Mapping[Kind, Modality] = {kind: record.modality for kind, record in MEDIA_KINDS.items()}
"""The modality that the segments of a kind are embedded as."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedQuery:
    """The parts of a query, embedded.

    Instructions may depend on what a query looks for ("Find a document image that …"), so a part
    has a vector for each kind of media.

    Attributes:
        parts: The parts.
        vectors: By kind, a unit vector (dim,) for each part that has content, in order.
    """

    parts: Sequence[QueryPart]
    vectors: Mapping[Kind, Sequence[Vectors]]

    @classmethod
    def of(cls, embedder: Embedder, parts: Sequence[QueryPart], kinds: Collection[Kind]) -> Self:
        """Embed the parts for some kinds in one call.

        Raises:
            QueryError: if a part cannot be embedded, or has an instruction though the model takes
                none.
        """
        contents = [part.content for part in parts if part.content is not None]
        if not embedder.info.takes_instructions and any(one.instruction for one in contents):
            raise QueryError(
                f"the model {embedder.info.name} takes no instructions: leave the instruction out"
            )
        instructed = {
            kind: [_with_model_instruction(one, embedder.info, MODALITY[kind]) for one in contents]
            for kind in kinds
        }
        # Most instructions are the same for several kinds: such a part is embedded once.
        each = {
            (i, one.instruction): one for row in instructed.values() for i, one in enumerate(row)
        }
        try:
            rows = embedder.embed(list(each.values()), role="query")
        except EmbedError as error:
            raise QueryError(f"the query cannot be embedded: {error.reason}") from error
        found = dict(zip(each, rows, strict=True))
        return cls(
            parts,
            {
                kind: [found[i, one.instruction] for i, one in enumerate(row)]
                for kind, row in instructed.items()
            },
        )

    def sides(self, catalog: "Catalog") -> tuple[Side, Side]:
        """Return what hits should be like, and what they should not be like.

        Raises:
            NotFound: if a part names a segment that is not in the library.
        """
        columns = list(self._columns(catalog))
        return self._side(columns, 1), self._side(columns, -1)

    def _columns(self, catalog: "Catalog") -> Iterator[tuple[Modality, Mapping[Kind, Vectors]]]:
        """Yield the modality of each part, and its vector for each kind that is looked for."""
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
        sought: dict[str, None] = {}
        typed = np.zeros(len(chosen), dtype=np.bool_)
        for row, i in enumerate(chosen):
            content = self.parts[i].content
            if content is not None and not content.frames and (found := terms(content.text or "")):
                sought.update(dict.fromkeys(found))
                typed[row] = True
        return Side(
            vectors={
                MODALITY[kind]: np.array([columns[i][1][kind] for i in chosen], dtype=np.float32)
                for kind in self.vectors
            },
            modalities=tuple(columns[i][0] for i in chosen),
            weights=np.array([abs(self.parts[i].weight) for i in chosen], dtype=np.float32),
            terms=tuple(sought),
            quoted=bool(typed.all()) and all(map(self._is_quoted, chosen)),
            typed=typed,
        )

    def _is_quoted(self, part: int) -> bool:
        content = self.parts[part].content
        return content is not None and is_quoted(content.text or "")


def _with_model_instruction(content: Content, info: EmbedderInfo, document: Modality) -> Content:
    """Return the content with the model's instruction, unless it has one already."""
    instruction = info.instructions.get((content.modality, document))
    if content.instruction is not None or instruction is None:
        return content
    return replace(content, instruction=instruction)
