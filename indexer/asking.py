"""What the parts of a query become for each kind of media, once they are embedded."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from embedder.content import Content, Modality
from embedder.interface import Embedder, EmbedderInfo, EmbedError, Vectors
from embedder.media.kinds import Kind
from indexer.entities import QueryPart
from indexer.errors import QueryError
from indexer.queries import terms
from indexer.relevance import Side

if TYPE_CHECKING:
    from indexer.catalog import Catalog

MODALITY: Mapping[Kind, Modality] = {
    Kind.IMAGE: Modality.IMAGE,
    Kind.VIDEO: Modality.VIDEO,
    Kind.PDF: Modality.PAGE,
    Kind.TEXT: Modality.TEXT,
}
"""As what the segments of a kind are embedded."""


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
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
