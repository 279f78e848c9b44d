"""Search forms, search sessions, and the page's HTML, without any HTTP."""

import contextlib
import graphlib
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from sample_library import HOSTILE, segment_of

import app
from app import services, sessions
from app.config import AppConfig
from app.dates import Period
from app.files import FileQuery
from app.jobs import JobState
from app.page import events, files, labels, library_tab, results
from app.query_files import QueryFiles
from app.search import SearchForm, validated
from embedder.media import Kind
from embedder.media.documents import DOCUMENT_FORMATS
from indexer import Filters, IngestReport, Library, NotFound, QueryError


@pytest.fixture(scope="module")
def library(sample_folder):
    with Library.open(sample_folder / "library") as opened:
        yield opened


@pytest.fixture
def page(library, tmp_path):
    return services.build(AppConfig(), library, tmp_path / "scratch")


def answer(page, **values):
    return events.LibraryView(page).results(values)


# ---- forms


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"text": 3}, "invalid text: Input should be a valid string"),
        ({"text": "x" * 20_001}, "at most 20000 characters"),
        ({"similar": ["7; drop"]}, "valid integer"),
        ({"similar": [True]}, "valid integer"),
        ({"similar": ["9" * 5000]}, "maximum size"),
        ({"similar": [2**63]}, "less than or equal to"),
        ({"similar": list(range(17))}, "at most 16 items"),
        ({"files": ["x"] * 9}, "at most 8 items"),
        ({"balance": 2}, "less than or equal to 1"),
        ({"balance": True}, "valid number"),
        ({"balance": float("nan")}, "finite number"),
        ({"kinds": "image"}, "invalid kinds"),
        ({"kinds": ["music"]}, "'image', 'video', 'audio', 'pdf' or 'text'"),
    ],
)
def test_form_validation(values, expected):
    with pytest.raises(QueryError, match=expected):
        validated(SearchForm, values)


def test_empty_search(page):
    assert "Type what you are looking for" in answer(page, text="  ")


def test_balance_weighs_words_and_file(page, library):
    segment = segment_of(library, "red.jpg")
    form = validated(SearchForm, {"text": "blue", "similar": [segment], "balance": 0.25})
    query = form.query(library, page.files, page.living.keep_filled)
    assert [part.weight for part in query.parts] == [1.5, 0.5]


def test_several_examples_count_the_same(page, library):
    red, blue = segment_of(library, "red.jpg"), segment_of(library, "blue.jpg")
    key = page.files.add_data_url("data:text/plain;base64,cmFpbg==")
    values = {"text": "x", "similar": [red, blue, red], "files": [key], "balance": 0.75}
    query = validated(SearchForm, values).query(library, page.files, page.living.keep_filled)
    assert [part.weight for part in query.parts] == [0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(("balance", "left"), [(0, "blue"), (1, None)])
def test_balance_of_zero_leaves_a_side_out(page, library, balance, left):
    segment = segment_of(library, "red.jpg")
    form = validated(SearchForm, {"text": "blue", "similar": [segment], "balance": balance})
    (part,) = form.query(library, page.files, page.living.keep_filled).parts
    assert (part.content.text if part.content else None) == left


def test_not_like_is_negative(page, library):
    query = SearchForm(text="red", not_like="blue").query(
        library, page.files, page.living.keep_filled
    )
    assert [part.weight for part in query.parts] == [1.0, -1.0]


def test_a_word_with_a_minus_is_left_out(page, library):
    query = SearchForm(text="red -blue").query(library, page.files, page.living.keep_filled)
    assert [part.content.text for part in query.parts] == ["red"]
    assert query.without == ("blue",)
    segment = segment_of(library, "red.jpg")
    query = SearchForm(text="-blue", similar=(segment,)).query(
        library, page.files, page.living.keep_filled
    )
    assert (len(query.parts), query.without) == (1, ("blue",))
    assert "Type what you are looking for" in answer(page, text="-blue")


def test_a_correction_is_told(page):
    shown = answer(page, text="marmelade")
    assert "Nothing has the word “marmelade”: looked for “marmalade” instead." in shown
    assert "<mark>marmalade</mark>" in shown
    assert "instead" not in answer(page, text="marmalade")


def test_before_includes_the_day(page, library):
    filters = (
        SearchForm(text="x", after="2024-05-01", before="2024-05-01")
        .query(library, page.files, page.living.keep_filled)
        .filters
    )
    assert filters.before - filters.after == timedelta(days=1)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_first_and_last_day(page, library, day):
    for field in ("after", "before"):
        with contextlib.suppress(QueryError):  # East of Greenwich, the first is none.
            library.search(
                SearchForm(text="x", **{field: day}).query(
                    library, page.files, page.living.keep_filled
                )
            )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"after": "yesterday"}, "not a date"),
        ({"after": "2024-05-02", "before": "2024-05-01"}, "swap the dates"),
        ({"folder": "nope"}, "no such folder"),
        ({"folder": "/etc"}, "no such folder"),
        ({"files": ["/etc/passwd"]}, "expired file"),
        ({"files": [{"path": "/etc/passwd"}]}, "expired file"),
        ({"files": [{"path": "../../etc/passwd"}]}, "expired file"),
        ({"files": [["x"]]}, "expired file"),
        ({"files": [{"path": "a\0b"}]}, "expired file"),
        ({"similar": [999_999]}, "999999"),
    ],
)
def test_unusable_search_shows_error(page, fields, expected):
    shown = answer(page, text="red", **fields)
    assert 'data-tone="error"' in shown
    assert expected in shown


# ---- sessions


def test_session_pages_do_not_overlap(page):
    session = page.searches.open(SearchForm(text="red", kinds=(Kind.IMAGE,)))
    first, second = session.page(0), session.page(24)
    assert len(first.cards) == 24
    assert first.next_offset == 24
    assert not {one.hit.item.id for one in first.cards} & {one.hit.item.id for one in second.cards}
    assert not any(one.hit.weak for one in (*first.cards, *second.cards))
    assert second.next_offset is None
    assert (first.left, second.left) == (len(second.cards), 0)


def test_weak_hits_follow(page):
    session = page.searches.open(SearchForm(text="red"))
    assert session.page(weak=True).cards
    assert all(card.hit.weak for card in session.page(weak=True).cards)
    shown = answer(page, text="red")
    assert shown.index("rz-grid") < shown.index("Weaker matches")


@pytest.mark.parametrize("suffix", sorted(DOCUMENT_FORMATS))
def test_every_format_says_where_its_matches_are(library, suffix):
    (item,) = library.catalog.items(name="harbour.pdf")
    noun = DOCUMENT_FORMATS[suffix].page or "page"
    file = replace(item, path=Path(f"file{suffix}"))
    pages = library.catalog.segments(item.id)
    assert labels.place(pages[2], file.path) == f"{noun} 3"
    assert labels.further_places(file, pages[:2]) == f"+1 {noun}"


def test_no_clear_match(page):
    shown = answer(page, text="zeppelin")
    assert "No clear match" in shown
    assert "<details" not in shown
    assert 'data-counts="null"' in shown, "there are files, though none matches"


def test_nothing_likely_is_no_match(page, monkeypatch):
    monkeypatch.setattr(sessions, "FLOOR", 0.2)  # What has nothing in common is at 0.06 by `toy`.
    session = page.searches.open(SearchForm(text="zeppelin"))
    assert not session.page().cards
    assert not session.page(weak=True).cards
    assert 0 < len(session.nearest().cards) < 10
    shown = answer(page, text="zeppelin")
    assert shown.index("No match") < shown.index("<details") < shown.index("rz-card")


@pytest.mark.parametrize("border", [0.0, 0.05, 0.3, 0.9, 1.0])
def test_border_parts_matches_from_weaker_ones(page, border):
    by_default = page.searches.open(SearchForm(text="red harbour papers"))
    session = page.searches.open(SearchForm(text="red harbour papers", border=border))
    cards, weaker = session.page(size=200).cards, session.page(size=200, weak=True).cards
    assert all(card.hit.relevance >= border for card in cards)
    assert all(sessions.FLOOR <= card.hit.relevance < max(border, 0.05) for card in weaker)
    every = (*by_default.page(size=200).cards, *by_default.page(size=200, weak=True).cards)
    assert {card.hit.item.id for card in (*cards, *weaker)} == {one.hit.item.id for one in every}


def test_pages_of_a_file_share_a_card(page, library):
    session = page.searches.open(SearchForm(text="harbour", kinds=(Kind.PDF,)))
    (card,) = session.page().cards
    assert [place.page for place in card.places] == [1, 3]
    assert [hit.segment.page for hit in card.hits] == [1, 3]
    for hit in card.hits:
        assert session.hit(hit.segment.id) == hit
        assert session.places(hit.segment.id) == card.places
    assert "+1 page<" in answer(page, text="harbour", kinds=["pdf"])


def test_counts_are_of_all_kinds_whatever_is_filtered(page):
    every = page.searches.open(SearchForm(text="red harbour")).counts()
    assert every[Kind.IMAGE] > 24
    session = page.searches.open(SearchForm(text="red harbour", kinds=(Kind.PDF,)))
    assert session.counts(fetch=False) is None
    assert session.counts() == every
    assert session.matches() == (every[Kind.PDF], True)


def test_later_blocks_leave_in_place_what_was_shown(page, monkeypatch):
    whole = page.searches.open(SearchForm(text="red")).page(size=200).cards
    monkeypatch.setattr(sessions, "_FIRST_HITS", 8)
    session = page.searches.open(SearchForm(text="red"))
    first = session.page(size=3).cards
    assert session.matches() == (8, False)
    assert session.weaker() is None
    assert re.search(r"More than \d\d matches", answer(page, text="red"))
    cards = session.page(size=200).cards
    assert cards[:3] == first
    assert {card.hit.item.id for card in cards} == {card.hit.item.id for card in whole}
    assert session.matches() == (len(whole), True)


def test_searches_are_bounded(library, tmp_path):
    searches = sessions.Searches(library, QueryFiles(tmp_path), int, max_searches=2)
    tokens = [searches.open(SearchForm(text=word)).token for word in ("red", "blue", "green")]
    assert searches.get(tokens[2]).token == tokens[2]
    with pytest.raises(NotFound, match="search again"):
        searches.get(tokens[0])


@pytest.mark.parametrize("sort", ["newest", "oldest"])
def test_sort_orders_strong_hits_by_date(page, sort):
    session = page.searches.open(validated(SearchForm, {"text": "red", "sort": sort}))
    by_relevance = page.searches.open(validated(SearchForm, {"text": "red"}))
    strong, expected = session.page(size=200), by_relevance.page(size=200)
    dates = [card.hit.item.date for card in strong.cards]
    assert dates == sorted(dates, reverse=sort == "newest")
    shown, weaker, expected_weaker = (
        [card.hit.segment.id for card in page.cards]
        for page in (strong, session.page(weak=True), by_relevance.page(weak=True))
    )
    assert sorted(shown) == sorted(card.hit.segment.id for card in expected.cards)
    assert weaker == expected_weaker


# ---- HTML


def test_hostile_names_are_escaped(page, library):
    segment = segment_of(library, "onerror")
    found = answer(page, text="marmalade")
    items = library.catalog.items(name="onerror")
    counts = library.catalog.count_items(name="onerror")
    listed = files.table(items, {items[0].id: segment}, counts, FileQuery(name="onerror"))
    assert "&lt;script&gt;" in found
    assert "&lt;img src=x" in listed
    for html in (found, listed, results.file_cards(library.catalog.timeline.files(Filters()), {})):
        assert "<script" not in html
        assert "<img src=x" not in html
    assert HOSTILE not in results.cards(
        page.searches.open(SearchForm(similar=(segment,))).page(), ()
    )


def test_terms_are_marked(library):
    assert results.marked("A harbour, Harbours & harm", ("harbour",)) == (
        "A <mark>harbour</mark>, <mark>Harbours</mark> &amp; harm"
    )


def test_snippet_shows_first_match(library):
    text = "filler " * 100 + "the windmill stood " + "filler " * 100
    (item,) = library.catalog.items(name="diary.md")
    segment = replace(library.catalog.segments(item.id)[0], text=text)
    shown = results.snippet(segment, ("windmill",))
    assert shown.startswith("… ")
    assert "<mark>windmill</mark>" in shown
    assert len(shown) < 320


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.2, "1 s"), (40, "40 s"), (180, "3 min"), (7500, "2 h 5 min")]
)
def test_durations(seconds, expected):
    assert labels.duration(seconds) == expected


def test_ingest_report():
    assert "idle" in library_tab.job(JobState())
    report = IngestReport(added=1, unchanged=2000, seconds=3)
    shown = library_tab.job(JobState(title="Adding x", report=report))
    assert "1 added, 2,000 unchanged in 3 s." in shown


def test_scripts_import_each_other_in_a_tree():
    imports = {
        script.name: re.findall(r'from "\./(\w+\.js)"', script.read_text())
        for script in Path(app.__file__).parent.glob("assets/*.js")
    }
    assert imports["app.js"]
    assert [*graphlib.TopologicalSorter(imports).static_order()][-1] == "app.js"


# ---- the sample library


def test_sample_library_has_every_kind(library):
    stats = library.catalog.stats()
    assert {str(kind): count for kind, count in stats.items.items()} == {
        "image": 45,
        "video": 1,
        "pdf": 1,
        "text": 3,
    }
    assert stats.failed == 1


# ---- dates in words


def test_date_in_words_is_a_filter(library):
    form, period = SearchForm(text="red at Christmas 2020").dated(library)
    assert (form.text, form.after, form.before) == ("red", "2020-12-24", "2020-12-26")
    assert period.phrase == "at Christmas 2020"
    taken_off = SearchForm(text="red at Christmas 2020", literal="at Christmas 2020")
    assert taken_off.dated(library) == (taken_off, None)
    filtered = SearchForm(text="red July 2023", after="2020")
    assert filtered.dated(library) == (filtered, None)


def test_year_alone_is_a_date_where_nothing_else_can_be_meant(library):
    year = datetime.now().astimezone().year  # Of all files of the sample.
    assert SearchForm(text=f"harbour {year}").dated(library)[1] is not None
    assert SearchForm(text="harbour 1950").dated(library)[1] is None, "no file is of that year"
    assert SearchForm(text="harbour in 1950").dated(library)[1] is not None


def test_year_in_a_name_is_a_word(tmp_path):
    year = datetime.now().astimezone().year
    (tmp_path / f"Beach {year}").mkdir()
    (tmp_path / f"Beach {year}" / "a.txt").write_text("rain")
    with Library.open(tmp_path / "library", model="toy") as library:
        library.ingest([tmp_path / f"Beach {year}"])
        assert SearchForm(text=f"beach {year}").dated(library)[1] is None
        assert SearchForm(text=f"lake {year}").dated(library)[1] is not None
        assert SearchForm(text=str(year)).dated(library)[1] is not None


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ("2019-01-01", "2019-12-31", "2019"),
        ("2019-01-01", "2021-12-31", "2019 – 2021"),
        ("2024-02-01", "2024-02-29", "February 2024"),
        ("2020-12-01", "2021-02-28", "December 2020 – February 2021"),
        ("2021-05-12", "2021-05-12", "12 May 2021"),
        ("2020-12-24", "2020-12-26", "24 Dec 2020 – 26 Dec 2020"),
        ("2019-01-01", None, "from 1 Jan 2019"),
        (None, "2019-12-31", "until 31 Dec 2019"),
    ],
)
def test_period_in_words(first, last, expected):
    days = [date.fromisoformat(day) if day else None for day in (first, last)]
    assert labels.period(Period(*days)) == expected
