"""Search forms, search sessions, and the page's HTML, without any HTTP."""

import contextlib
import graphlib
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sample_library import HOSTILE, segment_of

import app
from app import search, services
from app.config import AppConfig
from app.jobs import JobState
from app.page import events, labels, library_tab, results
from app.query_files import QueryFiles
from app.search import SearchForm, validated
from embedder.media import Kind
from indexer import IngestReport, Library, NotFound, QueryError


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
        ({"similar": "7; drop"}, "valid integer"),
        ({"similar": True}, "valid integer"),
        ({"similar": "9" * 5000}, "maximum size"),
        ({"similar": 2**63}, "less than or equal to"),
        ({"balance": 2}, "less than or equal to 1"),
        ({"balance": True}, "valid number"),
        ({"balance": float("nan")}, "finite number"),
        ({"kinds": "image"}, "invalid kinds"),
        ({"kinds": ["music"]}, "'image', 'video', 'pdf' or 'text'"),
    ],
)
def test_form_validation(values, expected):
    with pytest.raises(QueryError, match=expected):
        validated(SearchForm, values)


def test_empty_search(page):
    assert "Type what you are looking for" in answer(page, text="  ")


def test_balance_weighs_words_and_file(page, library):
    segment = segment_of(library, "red.jpg")
    form = validated(SearchForm, {"text": "blue", "similar": segment, "balance": 0.25})
    query = form.query(library, page.files)
    assert [part.weight for part in query.parts] == [1.5, 0.5]


@pytest.mark.parametrize(("balance", "left"), [(0, "blue"), (1, None)])
def test_balance_of_zero_leaves_a_side_out(page, library, balance, left):
    segment = segment_of(library, "red.jpg")
    form = validated(SearchForm, {"text": "blue", "similar": segment, "balance": balance})
    (part,) = form.query(library, page.files).parts
    assert (part.content.text if part.content else None) == left


def test_not_like_is_negative(page, library):
    query = SearchForm(text="red", not_like="blue").query(library, page.files)
    assert [part.weight for part in query.parts] == [1.0, -1.0]


def test_before_includes_the_day(page, library):
    filters = (
        SearchForm(text="x", after="2024-05-01", before="2024-05-01")
        .query(library, page.files)
        .filters
    )
    assert filters.before - filters.after == timedelta(days=1)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_first_and_last_day(page, library, day):
    for field in ("after", "before"):
        with contextlib.suppress(QueryError):  # East of Greenwich, the first is none.
            library.search(SearchForm(text="x", **{field: day}).query(library, page.files))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"after": "yesterday"}, "not a date"),
        ({"after": "2024-05-02", "before": "2024-05-01"}, "swap the dates"),
        ({"folder": "nope"}, "no such folder"),
        ({"folder": "/etc"}, "no such folder"),
        ({"file": "/etc/passwd"}, "expired file"),
        ({"file": {"path": "/etc/passwd"}}, "expired file"),
        ({"file": {"path": "../../etc/passwd"}}, "expired file"),
        ({"file": ["x"]}, "expired file"),
        ({"file": {"path": "a\0b"}}, "expired file"),
        ({"similar": 999_999}, "999999"),
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
    assert len(first.hits) == 24
    assert first.next_offset == 24
    assert not {hit.item.id for hit in first.hits} & {hit.item.id for hit in second.hits}
    assert not any(hit.weak for hit in (*first.hits, *second.hits))
    assert second.next_offset is None


def test_weak_hits_follow(page):
    session = page.searches.open(SearchForm(text="red"))
    assert session.page(weak=True).hits
    assert all(hit.weak for hit in session.page(weak=True).hits)
    shown = answer(page, text="red")
    assert shown.index("rz-grid") < shown.index("Weaker matches")


def test_no_clear_match(page):
    shown = answer(page, text="zeppelin")
    assert "No clear match" in shown
    assert "<details" not in shown


def test_searches_are_bounded(library, tmp_path):
    searches = search.Searches(library, QueryFiles(tmp_path), max_searches=2)
    tokens = [searches.open(SearchForm(text=word)).token for word in ("red", "blue", "green")]
    assert searches.get(tokens[2]).token == tokens[2]
    with pytest.raises(NotFound, match="search again"):
        searches.get(tokens[0])


def test_sample_files(library):
    kinds = {segment.kind for _, segment in search.sample_files(library)}
    assert len(search.sample_files(library)) <= search.PAGE_SIZE
    assert {Kind.IMAGE, Kind.TEXT} <= kinds


def test_folder_names_are_relative(library):
    choices = labels.folder_choices(library)
    assert [(one.name, one.files) for one in choices] == [
        ("media", 50),
        ("films", 1),
        ("papers", 4),
        ("photos", 45),
    ]
    assert labels.folder_of(library, choices[1].id).name == "films"
    assert not any("/" in one.id for one in choices)


# ---- HTML


def test_hostile_names_are_escaped(page, library):
    segment = segment_of(library, "onerror")
    found = answer(page, text="marmalade")
    listed = events.LibraryView(page).files({"name": "onerror"})
    assert "&lt;script&gt;" in found
    assert "&lt;img src=x" in listed
    for html in (found, listed, results.home(search.sample_files(library))):
        assert "<script" not in html
        assert "<img src=x" not in html
    assert HOSTILE not in results.cards(page.searches.open(SearchForm(similar=segment)).page(), ())


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
