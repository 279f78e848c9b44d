"""PDF pages are reordered by a reranker, and nothing else is."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pymupdf
import pytest
from PIL import Image

from embedder import Content
from embedder.interface import EmbedderError
from embedder.media import Kind
from indexer import Filters, Library, Query
from indexer.search import ranking
from indexer.search.query import file_part, text_part
from indexer.search.reranking import PageReranker

SHADES = (40, 200, 120, 80, 220)
"""The brightness of each page, which is what the reranker below goes by."""


class BrightnessReranker:
    """Takes the brightest page for the most relevant one, and remembers what it was given."""

    def __init__(self) -> None:
        self.read: list[tuple[str, int]] = []

    def score(self, query: str, page: Content) -> float:
        shade = page.frames[0].getpixel((5, 5))[0]
        self.read.append((query, shade))
        return shade / 255


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reranking")
    document = pymupdf.open()
    for number, shade in enumerate(SHADES):
        page = document.new_page(width=300, height=400)
        page.draw_rect(page.rect, fill=(shade / 255,) * 3, width=0)
        page.insert_text((40, 200), f"harbour {'boat ' * number}")
    document.save(folder / "harbour.pdf")
    document.close()
    Image.new("RGB", (90, 60), "red").save(folder / "harbour.png")
    (folder / "harbour.txt").write_text("A harbour.")
    return folder


@pytest.fixture(scope="module")
def filled(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library.open(tmp_path_factory.mktemp("library"), model="toy") as library:
        library.ingest([media])
        yield library


@pytest.fixture
def library(filled: Library) -> Iterator[Library]:
    yield filled
    filled.reranker = None


def harbour(**values: object) -> Query:
    return Query((text_part("harbour"),), **values)


PAGES = Filters(kinds=frozenset({Kind.PDF}))


def pages(library: Library, query: Query) -> list[int | None]:
    return [hit.segment.page for hit in library.search(query)]


def test_pages_come_in_the_order_of_the_reranker_and_with_its_probabilities(library: Library):
    library.reranker = PageReranker(BrightnessReranker())
    hits = library.search(harbour(filters=PAGES))
    assert [hit.segment.page for hit in hits] == [5, 2, 3, 4, 1]
    assert [round(hit.relevance * 255) for hit in hits] == sorted(SHADES, reverse=True)
    assert [hit.weak for hit in hits] == [False, False, True, True, True]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    assert pages(library, harbour(filters=PAGES, limit=1)) == [5]


def test_the_reasons_stay_with_their_pages(library: Library):
    before = {hit.segment.page: hit.why for hit in library.search(harbour(filters=PAGES))}
    library.reranker = PageReranker(BrightnessReranker())
    after = {hit.segment.page: hit.why for hit in library.search(harbour(filters=PAGES))}
    assert after == before


def test_other_kinds_keep_their_scores_and_only_pages_are_read(library: Library):
    def others() -> list[tuple[Kind, float]]:
        hits = library.search(harbour())
        return [(hit.segment.kind, hit.score) for hit in hits if hit.segment.kind is not Kind.PDF]

    before = others()
    reranker = BrightnessReranker()
    library.reranker = PageReranker(reranker)
    assert len(before) == 2
    assert others() == before
    assert sorted(shade for _, shade in reranker.read) == sorted(SHADES)


def test_only_words_alone_are_reranked(library: Library, media: Path):
    reranker = BrightnessReranker()
    library.reranker = PageReranker(reranker)
    picture = file_part(media / "harbour.png")
    library.search(Query((picture,)))
    library.search(Query((text_part("harbour"), picture)))
    library.search(Query((text_part("harbour"), text_part("boat", -1))))
    library.search(harbour(filters=Filters(kinds=frozenset({Kind.IMAGE, Kind.TEXT}))))
    assert reranker.read == []


def test_pages_beyond_the_limit_follow_in_their_order(
    library: Library, monkeypatch: pytest.MonkeyPatch
):
    first = pages(library, harbour(filters=PAGES))
    shades = dict(enumerate(SHADES, 1))
    monkeypatch.setattr(ranking, "MAX_RERANKED", 2)
    library.reranker = PageReranker(BrightnessReranker())
    expected = sorted(first[:2], key=lambda page: -shades[page or 0]) + first[2:]
    assert pages(library, harbour(filters=PAGES)) == expected
    # Whatever part of the list is asked for.
    parts = [pages(library, harbour(filters=PAGES, limit=1, offset=i)) for i in range(5)]
    assert sum(parts, []) == expected


def test_more_hits_of_a_search_read_no_page_twice(library: Library):
    reranker = BrightnessReranker()
    library.reranker = PageReranker(reranker)
    library.search(harbour(filters=PAGES, limit=2))
    library.search(harbour(filters=PAGES, limit=2, offset=2))
    assert len(reranker.read) == len(SHADES)
    library.search(Query((text_part("boat"),), PAGES))
    assert len(reranker.read) == 2 * len(SHADES)


def test_a_reranker_that_fails_leaves_the_first_order(
    library: Library, caplog: pytest.LogCaptureFixture
):
    class Failing:
        def score(self, _query: str, _page: Content) -> float:
            raise EmbedderError("the memory of cuda:0 does not suffice")

    first = pages(library, harbour(filters=PAGES))
    library.reranker = PageReranker(Failing())
    assert pages(library, harbour(filters=PAGES)) == first
    assert "not reranked: the memory of cuda:0 does not suffice" in caplog.text


def test_a_slow_reranker_is_stopped_and_the_rest_follows(
    library: Library, caplog: pytest.LogCaptureFixture
):
    first = pages(library, harbour(filters=PAGES))
    reranker = BrightnessReranker()
    library.reranker = PageReranker(reranker, max_seconds=-1)
    found = pages(library, harbour(filters=PAGES))
    assert len(reranker.read) == 1
    assert found == first
    assert "only 1 of 5 pages were reranked in time" in caplog.text


def test_a_search_does_not_wait_for_the_reranking_of_another_for_long(library: Library):
    entered, leave = threading.Event(), threading.Event()

    class Waiting(BrightnessReranker):
        def score(self, query: str, page: Content) -> float:
            entered.set()
            leave.wait(10)
            return super().score(query, page)

    first = pages(library, harbour(filters=PAGES))
    library.reranker = PageReranker(Waiting(), max_seconds=0.01)
    other = threading.Thread(target=library.search, args=(harbour(),))
    other.start()
    try:
        assert entered.wait(10)
        assert pages(library, harbour(filters=PAGES)) == first
    finally:
        leave.set()
        other.join()


def test_a_page_whose_file_is_gone_keeps_its_relevance(tmp_path: Path, media: Path):
    path = tmp_path / "quay.pdf"
    with pymupdf.open() as document:
        document.new_page().insert_text((40, 200), "harbour and quay")
        document.save(path)
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([path, media / "harbour.pdf"])
        path.unlink()
        before = library.search(harbour())
        library.reranker = PageReranker(BrightnessReranker())
        after = {hit.segment.id: hit.relevance for hit in library.search(harbour())}
    kept = [hit.item.name for hit in before if hit.relevance == after[hit.segment.id]]
    assert kept == ["quay.pdf"]
