import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embedder import Content, Role
from embedder.interface import Vectors
from embedder.media import read_picture
from embedder.media.kinds import Kind
from embedder.mini.embedder import MiniEmbedder
from embedder.toy import ToyEmbedder
from indexer import Library
from indexer.errors import NotFound, QueryError
from indexer.search.query import file_part, text_part
from indexer.types import Filters, Hit, Query, QueryPart, Reason
from indexer.vectors.faiss_index import FaissIndex

LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    (folder / "more").mkdir()
    for colour, path in {
        "red": "IMG_2041.png",
        "blue": "sea.png",
        "green": "more/holiday.png",
    }.items():
        Image.new("RGB", (90, 60), colour).save(folder / path)
    for number in range(30):
        (folder / "more" / f"note{number:02}.txt").write_text(
            f"Page {number} says that a red apple is red, and so on about the {number}th red thing."
        )
    (folder / "garden.txt").write_text("Tulips grow beside the pond. Swimming is not allowed.")
    Image.new("RGB", (90, 60), "blue").save(folder / "old.bmp")
    os.utime(folder / "old.bmp", (LONG_AGO.timestamp(),) * 2)
    return folder


@pytest.fixture(scope="module")
def library(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library.open(tmp_path_factory.mktemp("library"), model="toy") as library:
        report = library.ingest([media])
        assert not report.failures
        yield library


def find(library: Library, *parts: QueryPart, limit: int = 50, **filters: object) -> list[Hit]:
    return library.search(Query(parts, Filters(**filters), limit=limit))  # type: ignore[arg-type]


def names(hits: list[Hit]) -> list[str]:
    return [hit.item.name for hit in hits]


def test_the_photo_of_a_thing_is_among_the_first_five_beside_many_texts_that_mention_it(
    library: Library,
):
    assert "IMG_2041.png" in names(find(library, text_part("red")))[:5]


def test_a_picture_finds_itself_first(library: Library, media: Path):
    hits = find(library, file_part(media / "more/holiday.png"))
    assert names(hits)[0] == "holiday.png"
    assert hits[0].why[0] is Reason.PICTURE


def test_words_in_a_text_are_told_as_the_reason(library: Library):
    hit = find(library, text_part("tulips"))[0]
    assert hit.item.name == "garden.txt"
    assert Reason.WORDS in hit.why


def test_each_hit_is_told_its_own_reasons(library: Library):
    hits = find(library, text_part("sea"), kinds=frozenset({Kind.IMAGE}))
    named = {hit.item.name for hit in hits if Reason.FILE_NAME in hit.why}
    assert named == {"sea.png"} != set(names(hits))


class Measured(ToyEmbedder):
    """One whose texts are as like any query as the number in them says."""

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        rows = np.zeros((len(contents), self.info.dim), dtype=np.float32)
        for row, content in zip(rows, contents, strict=True):
            cosine = 1.0 if role == "query" else float((content.text or "").split()[-1])
            row[:2] = cosine, (1 - cosine**2) ** 0.5
        return rows


def test_of_many_texts_that_have_all_words_the_one_most_like_the_query_is_weighed(tmp_path: Path):
    texts = [f"Only pears, {number} of them, 0.6" for number in range(6)]
    texts += [f"An apple, number {number}, 0.1" for number in range(20)]
    texts.insert(17, "An apple, 0.5")
    (tmp_path / "media").mkdir()
    for number, text in enumerate(texts):
        (tmp_path / f"media/{number:02}.txt").write_text(text)
    with Measured() as measured, Library.open(tmp_path / "l", embedder=measured) as library:
        library.ingest([tmp_path / "media"])
        assert names(find(library, text_part("apple"), limit=1)) == ["17.txt"]


class Latin(ToyEmbedder):
    """One that understands texts with Latin letters only."""

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        rows = super()._embed_batch(contents, role)
        return rows * np.array([[(content.text or "a").isascii()] for content in contents])


def test_a_text_that_is_not_understood_is_found_by_its_words_alone(tmp_path: Path):
    (tmp_path / "media").mkdir()
    for name, text in {"a": "Сегодня в Киеве", "b": "Вчера во Львове", "c": "red apples"}.items():
        (tmp_path / f"media/{name}.txt").write_text(text)
    Image.new("RGB", (90, 60), "red").save(tmp_path / "media/d.png")
    with Latin() as latin, Library.open(tmp_path / "l", embedder=latin) as library:
        library.ingest([tmp_path / "media"])
        (hit,) = find(library, text_part("Киеве"))
        assert (hit.item.name, hit.weak, hit.why) == ("a.txt", False, (Reason.WORDS,))
        assert find(library, text_part("Одесса")) == []
        assert [h.weak for h in find(library, text_part("red"))] == [False, False, True, True]
        both = find(library, text_part("Одесса"), file_part(tmp_path / "media/d.png"))
        assert names(both)[0] == "d.png"


def test_of_many_texts_that_are_not_understood_some_are_found(tmp_path: Path):
    (tmp_path / "media").mkdir()
    for number in range(20):
        (tmp_path / f"media/{number}.txt").write_text(f"Яблоко {number}")
    with Latin() as latin, Library.open(tmp_path / "l", embedder=latin) as library:
        library.ingest([tmp_path / "media"])
        (hit,) = find(library, text_part("яблоко"), limit=1)
        assert hit.why == (Reason.WORDS,)


def test_a_file_name_is_found_by_its_number(library: Library):
    hit = find(library, text_part("2041"))[0]
    assert hit.item.name == "IMG_2041.png"
    assert hit.why[0] is Reason.FILE_NAME


def test_weak_hits_come_after_all_others(library: Library):
    hits = find(library, text_part("tulips"))
    assert [hit.weak for hit in hits] == sorted(hit.weak for hit in hits)
    assert not hits[0].weak
    assert hits[-1].weak


def test_scores_fall_and_ranks_count_from_one(library: Library):
    hits = find(library, text_part("red apple"))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(0 <= hit.score <= 1 for hit in hits)


def test_pages_of_results_join_without_gap_or_overlap(library: Library):
    whole = names(find(library, text_part("red"), limit=20))
    parts = [
        names(library.search(Query((text_part("red"),), limit=5, offset=offset)))
        for offset in range(0, 20, 5)
    ]
    assert sum(parts, []) == whole


def test_an_unlike_part_takes_away_what_it_names(library: Library):
    wanted = names(find(library, text_part("blue"), text_part("tulips", -1)))
    assert "sea.png" in wanted[:2]
    hits = find(library, text_part("red"), text_part("apple", -1))
    strong = [hit.item.name for hit in hits if not hit.weak]
    assert strong == ["IMG_2041.png"]


def test_words_and_a_picture_together_prefer_what_fits_both(library: Library, media: Path):
    mixed = find(
        library, text_part("blue"), file_part(media / "sea.png"), kinds=frozenset({Kind.IMAGE})
    )
    assert set(names(mixed)[:2]) == {"sea.png", "old.bmp"}


def test_like_this_takes_the_vector_that_is_stored(library: Library):
    photo = find(library, text_part("2041"))[0]
    hits = find(library, QueryPart(segment_id=photo.segment.id), kinds=frozenset({Kind.IMAGE}))
    assert hits[0].segment.id == photo.segment.id


@pytest.mark.parametrize("damage", [np.nan, np.inf, 60_000.0, 0.5])
def test_a_vector_that_was_damaged_on_disk_is_like_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch, damage: float
):
    photo = find(library, text_part("2041"))[0].segment.id
    sound = FaissIndex.rows

    def damaged(store: FaissIndex, ids: Any, kind: Kind) -> Any:
        known, rows = sound(store, ids, kind)
        rows[known == photo] = damage
        return known, rows

    monkeypatch.setattr(FaissIndex, "rows", damaged)
    hits = find(library, text_part("red"), kinds=frozenset({Kind.IMAGE}))
    assert len(hits) == 4
    assert hits[-1].segment.id == photo
    assert hits[-1].weak
    assert all(0 <= hit.score <= 1 for hit in hits)


def test_like_a_segment_that_is_gone_is_not_found(library: Library):
    with pytest.raises(NotFound):
        find(library, QueryPart(segment_id=10**9))


def test_only_the_kinds_asked_for_are_found(library: Library):
    assert {
        hit.segment.kind for hit in find(library, text_part("red"), kinds=frozenset({Kind.TEXT}))
    } == {Kind.TEXT}


def test_only_the_folder_asked_for_is_searched(library: Library, media: Path):
    hits = find(library, text_part("red"), folder=media / "more")
    assert hits
    assert all(hit.item.path.is_relative_to(media / "more") for hit in hits)


def test_only_the_dates_asked_for_are_found(library: Library):
    turn = datetime(2010, 1, 1, tzinfo=UTC)
    assert names(find(library, text_part("blue"), before=turn)) == ["old.bmp"]
    assert "old.bmp" not in names(find(library, text_part("blue"), after=turn))


@pytest.mark.parametrize(
    "parts", [(), (text_part("red", -1),)], ids=["nothing", "only what it should not be like"]
)
def test_a_query_without_anything_to_be_like_is_refused(library: Library, parts):
    with pytest.raises(QueryError, match="empty"):
        find(library, *parts)


@pytest.mark.parametrize("limit", [0, -1, 10**6])
def test_limits_that_make_no_sense_are_refused(library: Library, limit: int):
    with pytest.raises(QueryError):
        find(library, text_part("red"), limit=limit)


@pytest.mark.parametrize(
    "text", ['"', "a OR b AND NEAR(", "*", "name:x", "'; drop table items", "ö 日本"]
)
def test_no_typed_text_is_taken_for_syntax(library: Library, text: str):
    find(library, text_part(text))


def test_a_library_without_anything_finds_nothing(tmp_path: Path):
    with Library.open(tmp_path / "library", model="toy") as library:
        assert find(library, text_part("red")) == []


SAMPLE_PHOTOS = Path(__file__).parents[1] / "samples/media/photos"


class Narrow(MiniEmbedder):
    """One whose cosines are all high, as those of many models are, and that has no constants."""

    def __init__(self) -> None:
        super().__init__()
        self._dim = self.info.dim
        self.info = replace(self.info, name="narrow", dim=self._dim + 1, calibration={})

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        info, self.info = self.info, replace(self.info, dim=self._dim)
        rows = super()._embed_batch(contents, role)
        self.info = info
        shared = np.full((len(rows), 1), 0.5**0.5, dtype=np.float32)
        return np.hstack([0.5**0.5 * rows, shared])


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library of the sample photos whose model has no constants."""
    folder = tmp_path_factory.mktemp("narrow")
    with Narrow() as model, Library.open(folder / "library", embedder=model) as library:
        library.ingest([SAMPLE_PHOTOS])
        yield library


def test_model_without_constants_tells_a_copy_from_other_photos(narrow: Library):
    photo = read_picture(SAMPLE_PHOTOS / "places/IMG_0206.jpg")
    crop = photo.crop((0, 0, photo.width * 4 // 5, photo.height * 4 // 5))
    hits = find(narrow, QueryPart(Content(frames=[crop])), limit=30)
    assert len(hits) == 30
    assert hits[0].item.name == "IMG_0206.jpg"
    assert hits[0].relevance > 0.9
    assert sum(not hit.weak for hit in hits[1:]) <= 2


def test_model_without_constants_has_no_strong_hit_for_what_is_not_there(narrow: Library):
    hits = find(narrow, text_part("double-entry bookkeeping"), limit=30)
    assert len(hits) == 30
    assert all(hit.weak for hit in hits)
    # By generic constants all would be about as likely, since all cosines are about the same.
    assert hits[-1].relevance < 0.05
