"""Questions to the catalog: filters, words, names, and text that would like to be SQL."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.media.kind import Kind
from indexer import Filters, Library
from indexer.catalog.fulltext import folder_words, name_words

DAY = datetime(2024, 5, 17, 12, tzinfo=UTC)
ANY = Filters()


def write(path: Path, text: str, at: datetime = DAY) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at.timestamp(), at.timestamp()))


def fill(folder: Path) -> tuple[Library, Path]:
    root = folder / "files"
    write(root / "a" / "one.txt", "Foxes were running over the café roof", DAY)
    write(root / "a" / "deep" / "two.txt", "a fox sleeps", DAY + timedelta(days=1))
    write(root / "a!" / "three.txt", "the roof of the house", DAY + timedelta(days=2))
    write(root / "ab" / "IMG2041_beachParty.txt", "sand and water", DAY - timedelta(days=400))
    Image.new("RGB", (64, 64), (220, 30, 30)).save(root / "a" / "fox.png")
    library = Library.open(folder / "library", model="toy")
    library.ingest([root])
    return library, root


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Library, Path]]:
    """A library that no test changes, and its files."""
    library, root = fill(tmp_path_factory.mktemp("catalog"))
    with library:
        yield library, root


@pytest.fixture
def library(filled: tuple[Library, Path]) -> Library:
    return filled[0]


@pytest.fixture
def root(filled: tuple[Library, Path]) -> Path:
    return filled[1]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Library, Path]]:
    """A library to be changed, and its files."""
    library, root = fill(tmp_path)
    with library:
        yield library, root


def names(library: Library, ids: object) -> list[str]:
    return [library.item_of(int(one)).path.stem for one in ids]  # type: ignore[attr-defined]


def words(library: Library, *terms: str, filters: Filters = ANY) -> list[str]:
    matches = library.catalog.find_words(terms, Kind.TEXT, filters, 50)
    return names(library, [match.segment_id for match in matches])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"folder": "a"}, {"one", "two"}),
        ({"folder": "a/deep"}, {"two"}),
        ({"folder": "a!"}, {"three"}),
        ({"folder": "."}, {"one", "two", "three", "IMG2041_beachParty"}),
        ({"folder": "nowhere"}, set()),
        ({"after": DAY}, {"one", "two", "three"}),
        ({"before": DAY}, {"IMG2041_beachParty"}),
        ({"after": DAY, "before": DAY + timedelta(days=1)}, {"one"}),
        ({"folder": "a", "after": DAY + timedelta(hours=1)}, {"two"}),
        ({"after": datetime.max, "before": datetime.max}, set()),  # noqa: DTZ901
        ({"after": datetime.min}, {"one", "two", "three", "IMG2041_beachParty"}),  # noqa: DTZ901
        ({"kinds": frozenset({Kind.IMAGE})}, set()),
    ],
)
def test_filters_choose_the_same_files_everywhere(library, root, filters, expected):
    if "folder" in filters:
        filters["folder"] = root / filters["folder"]
    chosen = Filters(**filters)
    only = library.catalog.matching_segments(Kind.TEXT, chosen)
    assert only is not None
    assert only.dtype == np.int64
    assert set(names(library, only)) == expected
    every = list(range(1, 20))
    resolved = library.catalog.resolve(every, chosen)
    texts = {i for i, (segment, _) in resolved.items() if segment.kind is Kind.TEXT}
    assert set(names(library, texts)) == expected
    found = words(library, "fox", "roof", "sand", filters=chosen)
    assert set(found) == expected
    named = library.catalog.find_names(["txt"], Kind.TEXT, chosen, 50)
    assert set(names(library, [match.segment_id for match in named])) == expected


def test_kinds_alone_do_not_restrict_segments(library):
    assert library.catalog.matching_segments(Kind.TEXT, ANY) is None
    assert library.catalog.matching_segments(Kind.TEXT, Filters(frozenset({Kind.TEXT}))) is None


def test_a_naive_date_is_local(library):
    local = DAY.astimezone().replace(tzinfo=None)
    only = library.catalog.matching_segments(Kind.TEXT, Filters(after=local))
    assert set(names(library, only)) == {"one", "two", "three"}


def test_words_are_found_in_any_form_those_with_every_term_first(library):
    assert set(words(library, "fox")) == set(words(library, "FOXES")) == {"one", "two"}
    assert words(library, "cafe") == words(library, "CAFÉ") == ["one"]
    matches = library.catalog.find_words(["roof", "fox"], Kind.TEXT, ANY, 50)
    assert [match.every_term for match in matches] == [True, False, False]
    assert names(library, [matches[0].segment_id]) == ["one"]
    assert all(match.score > 0 for match in matches)
    assert len(library.catalog.find_words(["roof", "fox"], Kind.TEXT, ANY, 2)) == 2


def test_a_term_of_several_words_is_a_phrase(library):
    assert words(library, "running over") == ["one"]
    assert words(library, "over running") == []


HOSTILE = [
    '"',
    '" OR "a',
    "fox*",
    "^fox",
    "text : fox",
    "{text} : fox",
    "NEAR(fox roof, 2)",
    "fox AND",
    "NOT",
    "fox) OR (roof",
    "'; DROP TABLE items; --",
    "%",
    "_",
    "\\",
    "\0",
    "fox\0roof",
    "\ud800",
    "",
    "   ",
    "-- ",
    "()",
    "+fox",
    "fox" * 5_000,
    "名前",
    "🦊",
    "e\u0301",
]


@pytest.mark.parametrize("term", HOSTILE)
def test_no_term_is_ever_syntax(library, term):
    for terms in ([term], [term, "roof"], [term] * 100):
        library.catalog.find_words(terms, Kind.TEXT, ANY, 50)
        library.catalog.find_names(terms, Kind.TEXT, ANY, 50)
    library.items(name=term)
    assert library.stats().items[Kind.TEXT] == 4


def test_a_quote_does_not_end_a_term(library):
    assert words(library, 'nothing" OR "fox') == []
    assert set(words(library, 'fox"')) == {"one", "two"}
    assert library.catalog.find_names(['nothing" OR "fox'], Kind.IMAGE, ANY, 9) == []


def test_operators_are_looked_up_as_words(own):
    library, root = own
    write(root / "op.txt", "press NOT and NEAR the door")
    library.ingest([root])
    assert words(library, "NOT", "NEAR") == ["op"]
    assert words(library, "text", "fox")[0] in ("one", "two")


def test_many_terms_are_looked_up(library):
    assert words(library, *(f"word{number}" for number in range(5_000)), "fox") == []
    assert set(words(library, "fox", *(f"word{number}" for number in range(50)))) == {"one", "two"}


@pytest.mark.parametrize(
    "term", ["2041", "img2041", "IMG", "beach", "party", "beachparty", "img 2041", "Beach-Party"]
)
def test_a_name_is_found_by_its_parts_and_as_a_whole(library, term):
    (match,) = library.catalog.find_names([term], Kind.TEXT, ANY, 9)
    assert names(library, [match.segment_id]) == ["IMG2041_beachParty"]
    assert (match.in_name, match.share) == (True, 1.0)


def test_folders_and_some_of_the_terms_count_less(library):
    matches = library.catalog.find_names(["deep", "two", "sea"], Kind.TEXT, ANY, 9)
    assert [match.in_name for match in matches] == [False]
    assert matches[0].share == pytest.approx(2 / 3)
    assert names(library, [matches[0].segment_id]) == ["two"]


def test_names_are_looked_up_within_a_kind(library):
    assert len(library.catalog.find_names(["fox"], Kind.IMAGE, ANY, 9)) == 1
    assert library.catalog.find_names(["fox"], Kind.TEXT, ANY, 9) == []


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("IMG2041.jpg", "IMG2041.jpg IMG 2041.jpg"),
        ("holiday.png", "holiday.png"),
        ("myHTMLPage2.pdf", "myHTMLPage2.pdf my HTML Page 2.pdf"),
        ("été2024_plage.jpg", "été2024 plage.jpg été 2024 plage.jpg"),
        ("写真12.jpg", "写真12.jpg 写真 12.jpg"),
    ],
)
def test_names_are_taken_apart_where_words_meet(name, searched):
    assert name_words(name) == searched


def test_every_folder_of_a_path_is_searched():
    assert folder_words(Path("/home/me/Summer2023")) == "home me Summer2023 Summer 2023"


def test_vectors_come_in_the_given_order_and_zeros_for_what_is_gone(library):
    ids = [3, 1, 3, 9_999, 2]
    rows = library.catalog.vectors_of(ids)
    assert rows.dtype == np.float32
    assert rows.shape == (5, library.embedder.info.dim)
    assert np.array_equal(rows[0], rows[2])
    assert np.linalg.norm(rows[[0, 1, 4]], axis=1) == pytest.approx(1, abs=1e-3)
    assert not rows[3].any()
    assert library.catalog.vectors_of([]).shape == (0, library.embedder.info.dim)


def test_segments_resolve_in_the_given_order_with_all_their_files(own):
    library, root = own
    for name in ("copy1.txt", "copy2.txt"):
        write(root / "copies" / name, "a fox sleeps")
        library.ingest([root])
    (two,) = (m.segment_id for m in library.catalog.find_words(["sleeps"], Kind.TEXT, ANY, 9))
    resolved = library.catalog.resolve([9_999, two, 1], ANY)
    assert list(resolved) == [two, 1]
    assert [item.name for item in resolved[two][1]] == ["two.txt", "copy1.txt", "copy2.txt"]
    below = library.catalog.resolve([two], Filters(folder=root / "copies"))
    assert [item.name for item in below[two][1]] == ["copy1.txt", "copy2.txt"]
    only = library.catalog.matching_segments(Kind.TEXT, Filters(folder=root / "copies"))
    assert only.tolist() == [two]
