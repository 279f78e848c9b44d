from pathlib import Path

import pytest

from embedder.content import Content, Modality
from embedder.media.kinds import Kind
from indexer.errors import QueryError
from indexer.types import QueryPart, Segment


def segment(**place: object) -> Segment:
    nowhere = dict.fromkeys(("page", "start", "end", "span", "text"))
    return Segment(1, "hash", Kind.VIDEO, Modality.VIDEO, 0, **{**nowhere, **place})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, 5.9, "0:00–0:05"), (65, 70, "1:05–1:10"), (3723, 3733, "1:02:03–1:02:13")],
)
def test_the_place_of_a_clip_reads_like_a_clock(start: float, end: float, expected: str):
    assert segment(start=start, end=end).place_in(Path("a.mp4")) == expected


def test_the_place_of_a_page_is_its_number():
    assert segment(page=3).place_in(Path("a.pdf")) == "page 3"
    assert segment(page=3).place_in(Path("a.PPTX")) == "slide 3"
    assert segment(page=3).place_in(Path("a.ods")) == "sheet 3"
    assert segment(page=3).place_in(Path("a.epub")) == "section 3"


def test_a_picture_has_no_place_in_its_file():
    assert segment().place_in(Path("a.jpg")) == ""


@pytest.mark.parametrize("sources", [{}, {"content": Content(text="a"), "segment_id": 1}])
def test_a_part_of_a_query_has_one_source(sources: dict[str, object]):
    with pytest.raises(ValueError, match="either a content or a segment"):
        QueryPart(**sources)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [0, 101, -101, float("nan"), float("inf")])
def test_a_weight_that_makes_no_sense_is_refused(weight: float):
    with pytest.raises(QueryError, match="weight"):
        QueryPart(content=Content(text="a"), weight=weight)
