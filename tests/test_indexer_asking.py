"""The instruction of a query depends on the kind that is searched for."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from embedder import Content, Modality
from embedder.interface import Vectors
from embedder.media.kinds import Kind
from embedder.toy import ToyEmbedder
from indexer import Library, Query, QueryError, QueryPart
from indexer.search.query import EmbeddedQuery, text_part, with_instruction

FIND = {
    (Modality.TEXT, Modality.IMAGE): "find a picture",
    (Modality.TEXT, Modality.VIDEO): "find a picture",
    (Modality.TEXT, Modality.PAGE): "find a page",
    (Modality.TEXT, Modality.TEXT): "",
}


class InstructedEmbedder(ToyEmbedder):
    """A toy that reads its instruction as words, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.info = replace(self.info, name="instructed", instructions=FIND)
        self.given: list[str | None] = []

    def _embed_batch(self, contents: Sequence[Content], role: str) -> Vectors:
        self.given += [content.instruction for content in contents]
        read = [
            Content(f"{one.instruction or ''} {one.text or ''}".strip() or None, one.frames)
            for one in contents
        ]
        return super()._embed_batch(read, role)  # type: ignore[arg-type]


@pytest.fixture
def instructed() -> Iterator[InstructedEmbedder]:
    with InstructedEmbedder() as embedder:
        yield embedder


def test_part_is_embedded_once_for_each_instruction(instructed: InstructedEmbedder):
    asked = EmbeddedQuery.of(instructed, [text_part("a red kite")], set(Kind))
    assert sorted(map(str, instructed.given)) == ["", "find a page", "find a picture"]
    vectors = asked.vectors
    assert (vectors[Kind.IMAGE][0] == vectors[Kind.VIDEO][0]).all()
    assert (vectors[Kind.IMAGE][0] != vectors[Kind.PDF][0]).any()


def test_only_what_is_looked_for_is_embedded(instructed: InstructedEmbedder):
    EmbeddedQuery.of(instructed, [text_part("a red kite")], {Kind.PDF})
    assert instructed.given == ["find a page"]


def test_given_instruction_applies_to_every_kind(instructed: InstructedEmbedder):
    EmbeddedQuery.of(instructed, [with_instruction(text_part("a red kite"), "look")], set(Kind))
    assert instructed.given == ["look"]


def test_modality_without_instruction_is_embedded_once(instructed: InstructedEmbedder):
    picture = Content(frames=[Image.new("RGB", (9, 9), "red")])
    EmbeddedQuery.of(instructed, [QueryPart(content=picture)], set(Kind))
    assert instructed.given == [None]


def test_a_model_that_takes_no_instructions_refuses_one_of_the_person():
    with ToyEmbedder() as toy, pytest.raises(QueryError, match="takes no instructions"):
        EmbeddedQuery.of(toy, [with_instruction(text_part("a red kite"), "look")], set(Kind))


def test_a_search_asks_only_for_the_kinds_that_the_library_holds(
    tmp_path: Path, instructed: InstructedEmbedder
):
    media = tmp_path / "media"
    media.mkdir()
    Image.new("RGB", (90, 60), "red").save(media / "a.png")
    with Library.open(tmp_path / "library", embedder=instructed) as library:
        library.ingest([media])
        instructed.given.clear()
        hits = library.search(Query((text_part("red"),)))
        assert [hit.item.name for hit in hits] == ["a.png"]
        assert instructed.given == ["find a picture"]
