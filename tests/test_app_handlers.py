"""Forms, search sessions, uploads, ingests and wording: the page without any HTTP."""

import asyncio
import contextlib
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from anyio import to_thread
from following import follow, state_once
from test_app_world import HOSTILE, filled_library, segment_of

from app import search, services
from app.api import Api
from app.config import AppConfig, parse
from app.jobs import Busy, JobState
from app.page import events, labels, library_tab, results
from app.query_files import QueryFiles
from app.search import SearchForm, validated
from app.uploads import UploadError, clean_name, clean_path
from embedder.media import Kind
from indexer import IndexerError, IngestReport, Library, NotFound, QueryError, Status


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    with filled_library(tmp_path_factory.mktemp("world"), reds=40) as opened:
        yield opened


@pytest.fixture
def page(library, tmp_path):
    return services.build(AppConfig(), library, tmp_path / "scratch")


def answer(page, **values):
    return events.LibraryView(page).results(values)


# ---- forms


@pytest.mark.parametrize(
    ("values", "told"),
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
def test_a_form_refuses_what_makes_no_sense_with_a_sentence(values, told):
    with pytest.raises(QueryError, match=told):
        validated(SearchForm, values)


def test_an_empty_search_says_what_to_do(page):
    assert "Type what you are looking for" in answer(page, text="  ")


def test_words_and_file_share_the_weight_that_the_slider_gives_them(page, library):
    segment = segment_of(library, "red.jpg")
    form = validated(SearchForm, {"text": "blue", "similar": segment, "balance": 0.25})
    query = form.query(library, page.files)
    assert [part.weight for part in query.parts] == [1.5, 0.5]


@pytest.mark.parametrize(("balance", "left"), [(0, "blue"), (1, None)])
def test_a_side_without_weight_is_left_out(page, library, balance, left):
    segment = segment_of(library, "red.jpg")
    form = validated(SearchForm, {"text": "blue", "similar": segment, "balance": balance})
    (part,) = form.query(library, page.files).parts
    assert (part.content.text if part.content else None) == left


def test_not_like_counts_against(page, library):
    query = SearchForm(text="red", not_like="blue").query(library, page.files)
    assert [part.weight for part in query.parts] == [1.0, -1.0]


def test_the_last_day_is_searched_to_its_end(page, library):
    filters = (
        SearchForm(text="x", after="2024-05-01", before="2024-05-01")
        .query(library, page.files)
        .filters
    )
    assert filters.before - filters.after == timedelta(days=1)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_day_of_all_are_days(page, library, day):
    for field in ("after", "before"):
        with contextlib.suppress(QueryError):  # East of Greenwich, the first is none.
            library.search(SearchForm(text="x", **{field: day}).query(library, page.files))


@pytest.mark.parametrize(
    ("fields", "told"),
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
def test_a_search_that_cannot_be_made_becomes_a_sentence_on_the_page(page, fields, told):
    shown = answer(page, text="red", **fields)
    assert 'data-tone="error"' in shown
    assert told in shown


# ---- sessions


def test_a_session_gives_page_after_page_without_overlap(page):
    session = page.searches.open(SearchForm(text="red", kinds=(Kind.IMAGE,)))
    first, second = session.page(0), session.page(24)
    assert len(first.hits) == 24
    assert first.next_offset == 24
    assert not {hit.item.id for hit in first.hits} & {hit.item.id for hit in second.hits}
    assert not any(hit.weak for hit in (*first.hits, *second.hits))
    assert second.next_offset is None


def test_weak_hits_stand_apart_after_the_others(page):
    session = page.searches.open(SearchForm(text="red"))
    assert session.page(weak=True).hits
    assert all(hit.weak for hit in session.page(weak=True).hits)
    shown = answer(page, text="red")
    assert shown.index("rz-grid") < shown.index("Weaker matches")


def test_without_a_clear_match_the_nearest_things_are_shown_at_once(page):
    shown = answer(page, text="zeppelin")
    assert "No clear match" in shown
    assert "<details" not in shown


def test_only_the_newest_searches_are_kept(library, tmp_path):
    searches = search.Searches(library, QueryFiles(tmp_path), max_searches=2)
    tokens = [searches.open(SearchForm(text=word)).token for word in ("red", "blue", "green")]
    assert searches.get(tokens[2]).token == tokens[2]
    with pytest.raises(NotFound, match="search again"):
        searches.get(tokens[0])


def test_the_start_shows_files_from_all_over_the_library(library):
    kinds = {segment.kind for _, segment in search.sample_files(library)}
    assert len(search.sample_files(library)) <= search.PAGE_SIZE
    assert {Kind.IMAGE, Kind.TEXT} <= kinds


def test_folders_are_named_below_what_they_share(library):
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


def test_hostile_names_and_texts_are_escaped_everywhere(page, library):
    segment = segment_of(library, "onerror")
    found = answer(page, text="marmalade")
    listed = events.LibraryView(page).files({"name": "onerror"})
    assert "&lt;script&gt;" in found
    assert "&lt;img src=x" in listed
    for html in (found, listed, results.home(search.sample_files(library))):
        assert "<script" not in html
        assert "<img src=x" not in html
    assert HOSTILE not in results.cards(page.searches.open(SearchForm(similar=segment)).page(), ())


def test_terms_are_marked_where_words_begin(library):
    assert results.marked("A harbour, Harbours & harm", ("harbour",)) == (
        "A <mark>harbour</mark>, <mark>Harbours</mark> &amp; harm"
    )


def test_a_snippet_shows_the_first_match(library):
    text = "filler " * 100 + "the windmill stood " + "filler " * 100
    shown = results.snippet(text, ("windmill",))
    assert shown.startswith("… ")
    assert "<mark>windmill</mark>" in shown
    assert len(shown) < 320


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.2, "1 s"), (40, "40 s"), (180, "3 min"), (7500, "2 h 5 min")]
)
def test_durations_read_like_speech(seconds, told):
    assert labels.duration(seconds) == told


def test_a_report_counts_in_a_sentence():
    assert "idle" in library_tab.job(JobState())
    report = IngestReport(added=1, unchanged=2000, seconds=3)
    shown = library_tab.job(JobState(title="Adding x", report=report))
    assert "1 added, 2,000 unchanged in 3 s." in shown


# ---- uploads


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Grüße 1.jpg", "Grüße 1.jpg"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\0b\nc.txt", "a_b_c.txt"),
        ("con.txt", "_con.txt"),
        (".hidden", "hidden"),
        ("x" * 300 + ".jpeg", "x" * 195 + ".jpeg"),
        ("東" * 300 + ".jpeg", "東" * 65 + ".jpeg"),
        ("x" * 199 + " . " * 9 + "y" * 20, "x" * 199),
        ("con" + " " * 300 + "x", "_con"),
        ("COM¹.txt", "_COM¹.txt"),
        ("conin$", "_conin$"),
        ("aux .txt", "_aux .txt"),
    ],
)
def test_names_become_ones_that_every_file_system_takes(name, kept):
    assert clean_name(name) == kept
    assert clean_name(kept) == kept


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("Holiday/Day 1/cat.jpg", "Holiday/Day 1/cat.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../../x.txt", "x.txt"),
        ("a/../b.txt", "a/b.txt"),
        ("C:\\Users\\me\\x.txt", "C_/Users/me/x.txt"),
        ("....//....//x.txt", "x.txt"),
    ],
)
def test_relative_paths_cannot_leave_the_upload_folder(path, kept):
    assert clean_path(path) == Path(kept)


@pytest.mark.parametrize("path", ["", "..", "/", "a/" * 30 + "x"])
def test_paths_that_name_no_file_are_refused(path):
    with pytest.raises(UploadError):
        clean_path(path)


# ---- ingests


class SlowLibrary:
    """Stands still in the middle of an ingest until it is told to go on or to stop."""

    model = "toy"

    def __init__(self, uploads: Path) -> None:
        self.directory, self.uploads = uploads.parent, uploads
        self.go_on = threading.Event()

    def ingest(self, paths, options, *, on_progress, cancel):
        while not (self.go_on.wait(0.01) or cancel.is_set()):
            pass
        if self.go_on.is_set():
            raise IndexerError("the disk is full")
        return IngestReport(cancelled=cancel.is_set())


@pytest.fixture
def slow(tmp_path):
    library = SlowLibrary(tmp_path / "uploads")
    built = services.build(AppConfig(), library, tmp_path)  # type: ignore[arg-type]
    yield library, built
    built.jobs.close()


def test_only_one_ingest_runs_at_a_time(slow):
    _, page = slow
    services.add_uploads(page)
    with pytest.raises(Busy, match="Adding your files"):
        services.retry_failed(page)


def test_a_cancelled_ingest_stops_and_says_so(slow):
    _, page = slow
    services.add_uploads(page)
    assert page.jobs.cancel()
    assert "Stopping" in library_tab.job(page.jobs.state) or not page.jobs.state.running
    page.jobs.close()
    assert page.jobs.state.report.cancelled
    assert "Stopped" in library_tab.job(page.jobs.state)
    assert not page.jobs.cancel()


def test_however_many_follow_an_ingest_no_thread_waits_for_it(slow, monkeypatch):
    library, page = slow
    for name in ("_everything", "model"):  # They ask the library, in threads.
        monkeypatch.setattr(events.LibraryView, name, lambda _: events.Update())
    services.add_uploads(page)

    async def crowd() -> None:
        seen = [0] * 60

        async def watch(number: int) -> None:
            async for _ in events.LibraryView(page).follow():
                seen[number] += 1

        followers = [asyncio.create_task(watch(number)) for number in range(len(seen))]
        while min(seen) < 3:
            assert not any(one.done() for one in followers)
            await asyncio.sleep(0.05)
        assert to_thread.current_default_thread_limiter().borrowed_tokens == 0
        assert page.jobs.state.running
        library.go_on.set()
        await asyncio.gather(*followers)

    asyncio.run(crowd())


def test_an_ingest_that_breaks_off_ends_in_its_sentence(slow):
    library, page = slow
    services.add_uploads(page)
    library.go_on.set()
    state = state_once(page, lambda state: not state.running)
    assert state.error == "the disk is full"
    assert "The disk is full." in library_tab.job(state)


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("", "name a folder"),
        ("/no/such/place", "no folder /no/such/place"),
        ("a\0b", "no folder"),
        ("~nobody/x", "no folder"),
    ],
)
def test_a_folder_that_is_not_there_is_told_in_a_sentence(slow, folder, told):
    _, page = slow
    with pytest.raises(IndexerError, match=told):
        services.add_folder(page, folder)


def test_naming_a_folder_is_for_the_owner_only(library, tmp_path):
    page = services.build(AppConfig(host="0.0.0.0"), library, tmp_path)
    with pytest.raises(services.NotAllowed, match="upload the files"):
        Api(page).ingest_folder(str(tmp_path))
    assert AppConfig(host="0.0.0.0", auth=("a", "b")).trusted


def test_files_can_be_listed_and_removed(tmp_path):
    with Library.open(tmp_path / "library", model="toy") as library:
        library.uploads.mkdir()
        (library.uploads / "note.txt").write_text("A note about rain.")
        (library.uploads / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
        page = services.build(AppConfig(), library, tmp_path / "scratch")
        services.add_uploads(page)
        *_, last = follow(page)
        assert "1 added" in last[0]
        assert "bad.jpg" in last[0]
        (item,) = library.catalog.items(status=Status.INDEXED)
        update = events.LibraryView(page).remove({"item_ids": [item.id]})
        assert "1 file removed" in update[0]
        assert not (library.uploads / "note.txt").exists()
        assert "Search by what things look like" in update[2]
        page.jobs.close()


# ---- configuration


def test_flags_come_before_environment_before_defaults():
    environment = {"RZEN_PORT": "9000", "RZEN_MODEL": "toy", "RZEN_AUTH": "me:se:cret"}
    config = parse(["--port", "9001"], environment)
    assert (config.port, config.model, config.host) == (9001, "toy", "127.0.0.1")
    assert config.auth == ("me", "se:cret")


@pytest.mark.parametrize(
    ("flags", "most"),
    [
        ([], None),
        (["--host", "0.0.0.0"], 10_240),
        (["--host", "0.0.0.0", "--auth", "me:x"], None),
        (["--host", "0.0.0.0", "--max-uploads-mb", "5"], 5),
        (["--max-uploads-mb", "5"], 5),
    ],
)
def test_uploads_of_strangers_have_a_quota_unless_the_owner_sets_one(flags, most):
    assert parse(flags, {}).max_uploads_bytes == (None if most is None else most << 20)
    given = parse(flags, {"RZEN_MAX_UPLOADS_MB": "7"}).max_uploads_bytes
    assert given == (5 if most == 5 else 7) << 20


@pytest.mark.parametrize(
    "flags",
    [
        ["--port", "x"],
        ["--port", "70000"],
        ["--auth", "me"],
        ["--max-upload-mb", "0"],
        ["--max-uploads-mb", "some"],
    ],
)
def test_flags_that_make_no_sense_are_refused_with_status_2(flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(flags, {})
    assert stopped.value.code == 2
    assert flags[1] in capsys.readouterr().err or "--auth" in flags


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("box", False)],
)
def test_it_knows_whether_only_this_machine_is_served(host, alone):
    assert AppConfig(host=host).loopback is alone
