"""The default model over all kinds: pictures rank beside pages full of words."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pymupdf
import pytest

from embedder.media.kinds import Kind
from indexer import Library
from indexer.search.query import file_part, text_part
from indexer.types import Query, Reason

PICTURES = Path(__file__).parent / "media"
CATS = (
    "The cat slept all day on the warm window sill.",
    "My neighbour's cats chase birds in the garden.",
    "Cats were kept on ships to hunt mice.",
    "The vet examined the old cat carefully.",
)
OTHERS = (
    "It was raining that week.",
    "The train left at nine.",
    "The committee met on Tuesday.",
    "Prices rose again in spring.",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """100 pages that mention cats, half of them in PDFs, and four photos, one of a cat."""
    folder = tmp_path_factory.mktemp("cats")
    chance = random.Random(1)
    with pymupdf.open() as document:
        for _ in range(50):
            lines = [*chance.sample(CATS, 2), *chance.sample(OTHERS, 2)]
            document.new_page(width=300, height=400).insert_textbox((20, 20, 280, 380), lines)
        document.save(folder / "book.pdf")
    for number in range(50):
        lines = [*chance.sample(CATS, 3), *chance.sample(OTHERS, 2)]
        (folder / f"{number}.txt").write_text(f"Note {number}. " + " ".join(lines))
    with Library.open(folder / "library") as library:
        report = library.ingest([folder, PICTURES])
        assert not report.failures
        yield library


@pytest.mark.parametrize("words", ["cat", "a cat", "cats", "photo of a cat"])
def test_photo_ranks_beside_pages_with_the_words(library: Library, words: str):
    hits = library.search(Query((text_part(words),), limit=5))
    assert "cat.jpg" in [hit.item.name for hit in hits]


def test_pages_rank_beside_photos(library: Library):
    hits = library.search(Query((text_part("cat"),), limit=5))
    assert {hit.segment.kind for hit in hits} == {Kind.IMAGE, Kind.PDF, Kind.TEXT}


def test_unmatched_query_has_weak_hits(library: Library):
    hits = library.search(Query((text_part("excavator on a building site"),)))
    assert all(hit.weak for hit in hits)


def test_photo_query_finds_itself(library: Library):
    hit = library.search(Query((file_part(PICTURES / "cat.jpg"),)))[0]
    assert hit.item.name == "cat.jpg"
    assert hit.why == (Reason.PICTURE,)


def test_default_model_loads_no_torch(library: Library):
    code = (
        "import sys\nfrom pathlib import Path\nfrom indexer import Library, Query\n"
        "from indexer.search.query import text_part\n"
        f"with Library.open(Path({str(library.directory)!r})) as library:\n"
        "    assert library.search(Query((text_part('cat'),)))\n"
        "assert 'torch' not in sys.modules, 'loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
