"""Questions to the catalog: filters, words, names, and text that would like to be SQL."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedder.media.kinds import Kind
from indexer import Filters, Library, NotFound
from indexer.catalog import fulltext
from indexer.catalog import names as catalog_names
from indexer.catalog.names import folder_words, name_words
from indexer.search.query import terms, text_part
from indexer.types import Query, Reason, Sort

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
    return [library.catalog.item_of(int(one)).path.stem for one in ids]  # type: ignore[attr-defined]


def matching(library: Library, filters: Filters) -> np.ndarray | None:
    """The segments that the index lets pass; None if it has nothing to know of the filters."""
    where, ids = library.catalog.filter_of(filters), np.arange(1, 100)
    if where is None:
        return None
    vectors = library.vectors
    return ids[np.any([vectors.matching(ids, kind, where) for kind in Kind], axis=0)]


def words(library: Library, *terms: str, filters: Filters = ANY) -> list[str]:
    """The files whose texts have some terms, those with every term first, the best first."""
    matches = library.catalog.find_words(terms)
    order = np.lexsort((-matches.scores, ~matches.every))
    only = matching(library, filters)
    return names(library, [i for i in matches.ids[order] if only is None or i in only])


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
def test_filters_choose_the_same_files_everywhere(library, root, filters, expected, monkeypatch):
    if "folder" in filters:
        filters["folder"] = root / filters["folder"]
    chosen = Filters(**filters)
    only = matching(library, chosen)
    if filters.keys() == {"kinds"}:  # The vectors distinguish them.
        assert only is None
    else:
        assert set(names(library, only)) - {"fox"} == expected
        assert set(words(library, "fox", "roof", "sand", filters=chosen)) == expected
    every = list(range(1, 20))
    resolved = library.catalog.resolve(every, chosen)
    texts = {i for i, (segment, _) in resolved.items() if segment.kind is Kind.TEXT}
    assert set(names(library, texts)) == expected
    for most in (2_000, 0):  # The files of a small folder are listed, those of a large one are not.
        monkeypatch.setattr("indexer.catalog.names._MAX_INSIDE", most)
        named = library.catalog.find_names(["txt"], chosen, 50).get(Kind.TEXT, [])
        assert set(names(library, [match.segment_id for match in named])) == expected


def test_kinds_alone_do_not_restrict_segments(library):
    assert library.catalog.filter_of(ANY) is None
    assert library.catalog.filter_of(Filters(frozenset({Kind.TEXT}))) is None


def test_a_naive_date_is_local(library):
    local = DAY.astimezone().replace(tzinfo=None)
    only = matching(library, Filters(after=local))
    assert set(names(library, only)) - {"fox"} == {"one", "two", "three"}


def test_words_are_found_in_any_form_those_with_every_term_first(library):
    assert set(words(library, "fox")) == set(words(library, "FOXES")) == {"one", "two"}
    assert words(library, "cafe") == words(library, "CAFÉ") == ["one"]
    assert words(library, "roof", "fox")[0] == "one"
    matches = library.catalog.find_words(["roof", "fox"])
    assert sorted(matches.every) == [False, False, True]
    assert (matches.scores > 0).all()
    assert (matches.ids[1:] > matches.ids[:-1]).all()
    assert matches.complete


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
    for asked in ([term], [term, "roof"], [term] * 100):
        library.catalog.find_words(asked)
        library.catalog.find_names(asked, ANY, 50)
        library.catalog.with_every_word(asked, np.arange(1, 20))
    library.catalog.items(name=term)
    assert library.catalog.stats().items[Kind.TEXT] == 4


def test_a_quote_does_not_end_a_term(library):
    assert words(library, 'nothing" OR "fox') == []
    assert set(words(library, 'fox"')) == {"one", "two"}
    assert library.catalog.find_names(['nothing" OR "fox'], ANY, 9) == {}


def test_operators_are_looked_up_as_words(own):
    library, root = own
    write(root / "op.txt", "press NOT and NEAR the door")
    library.ingest([root])
    assert words(library, "NOT", "NEAR") == ["op"]
    assert words(library, "text", "fox")[0] in ("one", "two")


def test_many_terms_are_looked_up(library):
    assert words(library, *(f"word{number}" for number in range(5_000)), "fox") == []
    assert set(words(library, "fox", *(f"word{number}" for number in range(50)))) == {"one", "two"}


@pytest.mark.parametrize("number", [2**63, -(2**64)])
def test_a_number_that_sqlite_does_not_know_is_no_id(library, number):
    for ask in (
        library.catalog.segment,
        library.catalog.item,
        library.catalog.item_of,
        library.catalog.segments,
    ):
        with pytest.raises(NotFound):
            ask(number)
    assert library.catalog.words(number) == ()
    assert library.catalog.items(offset=2**70) == []
    assert library.remove([number]) == 0


def test_half_a_surrogate_pair_does_not_join_words(own):
    library, root = own
    write(root / "half.txt", "rooffox")
    library.ingest([root])
    assert words(library, "roof\udcf3fox") == []


@pytest.mark.parametrize(
    "name", ["caf\u00e9s", "cafe\u0301s", "j\u0303j", "सड़कें", "\u0345\u01d1T", "שָׁלוֹם"]
)
def test_a_name_with_signs_is_found_as_a_whole_however_they_are_written(own, name):
    library, root = own
    write(root / f"{name}.txt", "nothing else")
    library.ingest([root])
    found = library.catalog.find_names(terms(name), ANY, 9)[Kind.TEXT]
    best = found[0]
    assert names(library, [best.segment_id]) == [name]
    assert (best.in_name, best.share) == (True, 1.0)


@pytest.mark.parametrize(
    "term", ["2041", "img2041", "IMG", "beach", "party", "beachparty", "img 2041", "Beach-Party"]
)
def test_a_name_is_found_by_its_parts_and_as_a_whole(library, term):
    (match,) = library.catalog.find_names([term], ANY, 9)[Kind.TEXT]
    assert names(library, [match.segment_id]) == ["IMG2041_beachParty"]
    assert (match.in_name, match.share) == (True, 1.0)


def test_folders_and_some_of_the_terms_count_less(library):
    matches = library.catalog.find_names(["deep", "two", "sea"], ANY, 9)[Kind.TEXT]
    assert [match.in_name for match in matches] == [False]
    assert matches[0].share == pytest.approx(2 / 3)
    assert names(library, [matches[0].segment_id]) == ["two"]


def test_folders_that_few_files_are_in_say_what_these_are(own):
    library, root = own
    for name in ("Holiday/1", "Holiday/2", "rain", "snow", "hail"):
        (root / name).parent.mkdir(exist_ok=True)
        write(root / f"{name}.txt", f"a text about {name[::-1]}")
    library.ingest([root])
    found = {
        term: library.catalog.find_names([term], ANY, 9)[Kind.TEXT]
        for term in ("holiday", root.name)
    }
    assert [match.in_folders for match in found["holiday"]] == [True, True]
    assert not any(match.in_folders for match in found[root.name]), "all files are in there"
    hits = library.search(Query((text_part("holiday"),)))
    assert {hit.item.path.parent.name for hit in hits if not hit.weak} == {"Holiday"}


def test_names_come_by_kind_and_no_more_of_each_than_asked_for(library):
    found = library.catalog.find_names(["fox"], ANY, 9)
    assert {kind: len(matches) for kind, matches in found.items()} == {Kind.IMAGE: 1}
    found = library.catalog.find_names(["txt", "fox"], ANY, 2)
    assert {kind: len(matches) for kind, matches in found.items()} == {Kind.IMAGE: 1, Kind.TEXT: 2}


@pytest.fixture
def crowded(own, monkeypatch) -> tuple[Library, Path]:
    """A library in which more than two files with a word or name are very many."""
    library, root = own
    for number in range(6):
        write(root / "crowd" / f"sheep {number}.txt", f"a sheep on a roof {'far away' * number}")
    write(root / "black sheep.txt", "a fox in sheep's clothing")
    library.ingest([root])
    for module, limits in (
        (fulltext, ("MAX_LISTED", "MAX_WEIGHED")),
        (catalog_names, ("MAX_LISTED", "MAX_NAMED")),
    ):
        for limit in limits:
            monkeypatch.setattr(module, limit, 2)
    return library, root


def test_words_that_very_many_texts_have_are_told_of_given_texts_only(crowded):
    library, _ = crowded
    matches = library.catalog.find_words(["sheep"])
    assert not matches.complete
    assert matches.every.all()
    assert not matches.scores.any()
    every = np.arange(1, 30)
    having = library.catalog.with_every_word(["sheep", "roofs"], every)
    assert sorted(names(library, having)) == [f"sheep {number}" for number in range(6)]
    assert names(library, library.catalog.with_every_word(["sheep clothing"], every)) == []
    assert names(library, library.catalog.with_every_word(["sheep's clothing"], every)) == [
        "black sheep"
    ]


def test_a_common_word_counts_where_a_rare_one_is_too(crowded):
    library, _ = crowded
    matches = library.catalog.find_words(["sheep", "clothing"])
    assert matches.complete
    assert (names(library, matches.ids), matches.every.tolist()) == (["black sheep"], [True])
    assert matches.scores[0] > 0


def test_a_common_name_is_looked_for_among_the_files_of_a_rare_one(crowded):
    library, root = crowded
    (match,) = library.catalog.find_names(["sheep", "black"], ANY, 9)[Kind.TEXT]
    assert names(library, [match.segment_id]) == ["black sheep"]
    assert (match.in_name, match.share) == (True, 1.0)
    (match,) = library.catalog.find_names(["sheep", "deep"], ANY, 9)[Kind.TEXT]
    assert (match.in_name, match.share) == (False, 0.5)
    assert len(library.catalog.find_names(["sheep"], ANY, 9)[Kind.TEXT]) == 2
    late = Filters(folder=root / "crowd")
    assert len(library.catalog.find_names(["sheep"], late, 9)[Kind.TEXT]) == 6


@pytest.mark.parametrize("within", [False, True])
def test_common_words_speak_for_the_nearest(crowded, within):
    library, root = crowded
    filters = Filters(frozenset({Kind.TEXT}), folder=root / "crowd" if within else None)
    hits = library.search(Query((text_part("sheep"),), filters, limit=20))
    worded = {hit.item.path.stem for hit in hits if Reason.WORDS in hit.why}
    herd = {f"sheep {number}" for number in range(6)}
    assert worded == (herd if within else herd | {"black sheep"})
    assert {hit.item.path.stem for hit in hits[: len(worded)]} == worded


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("IMG2041.jpg", "img2041.jpg img 2041.jpg"),
        ("holiday.png", "holiday.png"),
        ("myHTMLPage2.pdf", "myhtmlpage2.pdf my html page 2.pdf"),
        ("été2024_plage.jpg", "ete2024 plage.jpg ete 2024 plage.jpg"),
        ("写真12.jpg", "写 真 12.jpg 写 真 12.jpg"),
    ],
)
def test_names_are_taken_apart_where_words_meet(name, searched):
    assert name_words(name) == searched


def test_every_folder_of_a_path_is_searched():
    assert folder_words(Path("/home/me/Summer2023")) == "home me summer2023 summer 2023"


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
    (two,) = library.catalog.find_words(["sleeps"]).ids.tolist()
    resolved = library.catalog.resolve([9_999, two, 1], ANY)
    assert list(resolved) == [two, 1]
    assert [item.name for item in resolved[two][1]] == ["two.txt", "copy1.txt", "copy2.txt"]
    below = library.catalog.resolve([two], Filters(folder=root / "copies"))
    assert [item.name for item in below[two][1]] == ["copy1.txt", "copy2.txt"]
    only = matching(library, Filters(folder=root / "copies"))
    assert only.tolist() == [two]


@pytest.mark.parametrize("sort", [Sort.NEWEST, Sort.OLDEST])
def test_strong_hits_are_sorted_by_date_and_weak_ones_follow(library, sort):
    parts = (text_part("fox roof house"),)
    best, hits = (library.search(Query(parts, sort=one)) for one in (Sort.RELEVANCE, sort))
    dates = [hit.item.date for hit in hits if not hit.weak]
    assert len(dates) > 1
    assert dates == sorted(dates, reverse=sort is Sort.NEWEST)
    assert {hit.segment.id for hit in hits} == {hit.segment.id for hit in best}
    weak = [[hit.segment.id for hit in found if hit.weak] for found in (best, hits)]
    assert weak[0] == weak[1]
    assert [hit.rank for hit in hits] == [*range(1, len(hits) + 1)]
    assert library.search(Query(parts, sort=sort, limit=2, offset=1)) == hits[1:3]
