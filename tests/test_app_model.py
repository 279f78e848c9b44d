"""The library's model on the page: its description, changing it, and its instructions."""

import base64
import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from following import follow, state_once
from PIL import Image
from sample_library import copy_library, filled_library, segment_of

from app import services
from app.api import Api
from app.config import parse
from app.jobs import Busy, JobState
from app.models import ActiveModel, Models, offer_id
from app.page import events, library_tab
from app.search import SearchForm, validated
from embedder import EmbedderUnavailable, Modality
from embedder.interface import ModelSpec
from embedder.toy import ToyEmbedder
from indexer import (
    Failure,
    IngestReport,
    Library,
    NotFound,
    Progress,
    QueryError,
    ReembedReport,
)

SOMEWHERE = "rzen:/srv/models/finetuned/v1"
INSTRUCTION = "Find me a picture of <this>."


class Obedient(ToyEmbedder):
    """The toy as if it lay in a folder and took instructions; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        instructions = {(Modality.TEXT, Modality.IMAGE): INSTRUCTION}
        self.info = replace(self.info, name=SOMEWHERE, instructions=instructions)
        self.given = []

    def _embed_batch(self, contents, role):
        if role == "query":
            self.given += [(content.text, content.instruction) for content in contents]
        return super()._embed_batch(contents, role)


@pytest.fixture
def library(sample_folder, tmp_path):
    with Library.open(copy_library(sample_folder, tmp_path)) as opened:
        yield opened


@pytest.fixture
def obedient(tmp_path):
    embedder = Obedient()
    with Library.open(tmp_path / "obedient", embedder=embedder) as library:
        Image.new("RGB", (60, 40), (210, 40, 40)).save(tmp_path / "red.png")
        library.ingest([tmp_path / "red.png"])
        yield library, embedder


# ---- what is on offer


def test_offers_from_flags_or_environment():
    environment = {"RZEN_OFFER": "toy, rzen:/a b", "RZEN_DEVICE": "cuda", "RZEN_DTYPE": "bfloat16"}
    config = parse([], environment)
    assert (config.offer, config.device, config.dtype) == (("toy", "rzen:/a b"), "cuda", "bfloat16")
    config = parse(["--offer", "rzen:a,b", "--offer", "toy", "--device", "cpu"], environment)
    assert (config.offer, config.device) == (("rzen:a,b", "toy"), "cpu")
    assert parse([], {}).offer == ()


@pytest.mark.parametrize(
    ("spec", "short"),
    [
        ("mini", "mini"),
        ("rzen:/srv/models/v1", "rzen:v1"),
        ("rzen:/srv/models/v1/", "rzen:v1"),
        ("rzen:C:\\models\\v1", "rzen:v1"),
        ("rzen:team/RzenEmbed", "rzen:RzenEmbed"),
        ("rzen:/", "rzen:/"),
    ],
)
def test_short_spec(spec, short):
    assert ModelSpec.parse(spec).short == short


def test_offers_exclude_the_active_model(library):
    offered = Models(library, ["toy", SOMEWHERE, "mini"])
    assert [offer.spec for offer in offered.offers(offered.active())] == [
        *("mini", "siglip2", "clip", "rzen", "qwen3-vl"),
        SOMEWHERE,
    ]


def test_offer_without_its_extra(library, page_over, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else found(name)
    )
    page = page_over(library, offer=(SOMEWHERE,))
    section = events.LibraryView(page).model().model
    assert len(re.findall(r" disabled><span><b>rzen\S*</b><i>not available</i>", section)) == 2
    assert section.count("pip install &#39;rzen-search[rzen]&#39;") == 2
    for spec in ("rzen", SOMEWHERE):
        with pytest.raises(QueryError, match="pip install"):
            services.reembed(page, offer_id(spec))


@pytest.mark.parametrize(
    "wanted", ["", "mini", "rzen:/etc", SOMEWHERE, "0", offer_id("rzen:/etc"), offer_id("toy ")]
)
def test_unknown_offers_are_refused(library, page_over, wanted):
    page = page_over(library, offer=("toy",))
    with pytest.raises(QueryError, match="not on offer"):
        services.reembed(page, wanted)
    assert not page.jobs.state.title


def test_broken_model_is_offered_again(library, page_over):
    active = ActiveModel("toy", problem="it was made with another version")
    assert "toy" in [offer.spec for offer in Models(library, ["toy"]).offers(active)]


def test_broken_model_is_retried_after_a_while():
    class Broken:
        model = "nope"
        tries = 0

        @property
        def embedder(self):
            self.tries += 1
            raise QueryError("there is no such model")

    broken = Broken()
    opened = Models(broken, [])  # type: ignore[arg-type]
    assert [opened.active().problem for _ in range(3)] == ["there is no such model"] * 3
    assert broken.tries == 1


# ---- what users see


def test_header_names_the_model(library, page_over):
    header = events.LibraryView(page_over(library)).model().header
    assert "<b>toy</b></span>" in header
    assert "Its vectors have 120 dimensions" in header
    assert "data-instruction" not in header


def test_model_path_is_for_trusted_users(obedient, page_over):
    library, _ = obedient
    trusted = events.LibraryView(page_over(library)).model()
    assert f'title="The library&#39;s model: {SOMEWHERE}.' in trusted.header
    assert f"<b>{SOMEWHERE}</b>" in trusted.model
    page = page_over(library, host="0.0.0.0", offer=(SOMEWHERE,))
    stranger = events.LibraryView(page).model()
    assert stranger.model is None
    assert "rzen:v1" in stranger.header
    assert "/srv" not in stranger.header
    assert "/srv" not in str(Api(page).stats())
    with pytest.raises(QueryError) as refused:
        SearchForm(text="red", instruction="x").query(Unwilling(), page.files, int)  # type: ignore[arg-type]
    assert "/srv" not in str(refused.value)


class Unopened:
    """A library whose model cannot be opened; the reason tells where both lie."""

    model = SOMEWHERE
    directory = Path("/home/me/library")
    uploads = directory / "uploads"
    catalog = SimpleNamespace(corrections=lambda _terms: {})

    @property
    def embedder(self):
        raise EmbedderUnavailable(f"{SOMEWHERE} in /home/me/library has no weights")

    limits = embedder

    def ingest(self, paths, options, *, on_progress, cancel):
        return self.embedder


def test_error_paths_are_for_trusted_users(page_over, caplog):
    for host, trusted in (("127.0.0.1", True), ("0.0.0.0", False)):
        page = page_over(Unopened(), host=host)
        shown = events.LibraryView(page).results({"text": "red"})
        services.retry_failed(page)
        state_once(page, lambda state: not state.running)
        for sentence in (shown, library_tab.job(page.jobs.state)):
            assert ("/home/me" in sentence) is trusted
            assert ("log" in sentence) is not trusted
    assert "/home/me" in caplog.text


def test_model_names_are_escaped(page_over):
    hostile = 'rzen:/x/<b onload="1">'
    page = page_over(Unopened(), offer=(hostile, "rzen:/y/<b onload="))
    active = ActiveModel(hostile, problem="<b onload=")
    for html in (
        library_tab.header(active, trusted=True),
        library_tab.model_section(active, page.models.offers(active), 1, running=False),
        library_tab.job(JobState(title=hostile, running=True)),
        library_tab.job(JobState(report=ReembedReport(hostile, switched=True))),
    ):
        assert "&lt;b onload=" in html
        assert "<b onload" not in html
        assert '="1"' not in html


class Unwilling:
    """A library whose model lies in a folder and takes no instructions."""

    class embedder:  # noqa: N801 – an attribute
        info = replace(ToyEmbedder().info, name=SOMEWHERE)


def test_reembed_requires_trust(library, page_over):
    page = page_over(library, host="0.0.0.0")
    with pytest.raises(services.NotAllowed, match="--auth"):
        services.reembed(page, offer_id("mini"))
    assert library.model == "toy"


# ---- one job at a time


class SlowLibrary:
    """Stands still in whatever it does until it is cancelled."""

    model = "toy"

    def __init__(self, folder: Path) -> None:
        self.directory, self.uploads = folder, folder / "uploads"
        self.asked = []

    def check_unchanged(self):
        """It may always be written to."""

    def ingest(self, paths, options, *, on_progress, cancel):
        cancel.wait(10)
        return IngestReport(cancelled=True)

    def reembed(self, model, *, leave_out, on_progress, cancel):
        self.asked.append((model, leave_out))
        on_progress(Progress("reembed", 1200, 3000, Path("/x/a<b>.jpg"), 2, 600.0, 900.0))
        cancel.wait(10)
        on_progress(Progress("switch", 3000, 3000, None, 2, 600.0, None))
        return ReembedReport(model, 1200, 200, (), False, True, 600.0)


def test_ingest_and_reembed_exclude_each_other(page_over, tmp_path):
    page = page_over(SlowLibrary(tmp_path))
    services.reembed(page, offer_id("mini"), leave_out=True)
    with pytest.raises(Busy, match="Re-embedding with mini"):
        services.retry_failed(page)
    page.jobs.close()
    assert page.library.asked == [("mini", True)]
    services.add_uploads(page)
    with pytest.raises(Busy, match="Adding your files"):
        services.reembed(page, offer_id("mini"))


def test_reembed_progress(page_over, tmp_path):
    page = page_over(SlowLibrary(tmp_path))
    services.reembed(page, offer_id("mini"))
    state = state_once(page, lambda state: state.progress)
    shown = library_tab.job(state)
    assert "1,200 of 3,000 segments · 2.0 per second · about 15 min left · 2 failed" in shown
    assert "a&lt;b&gt;.jpg" in shown
    assert 'data-cancel="ingest"' in shown
    refused = library_tab.job(state, "the library is at work already")
    assert refused.index("The library is at work already.") < refused.index("1,200 of 3,000")
    status = Api(page).ingest_status()
    assert (status["running"], status["done"], status["total"]) == (True, 1200, 3000)
    page.jobs.close()
    assert "1,200 vectors computed, 200 of them before so far." in library_tab.job(page.jobs.state)
    ended = Api(page).ingest_status()
    assert (ended["model"], ended["switched"], ended["cancelled"]) == ("mini", False, True)


def test_reembed_reports():
    missing = (Failure(Path("/home/me/<b>.jpg"), "the file is no longer there"),)
    shown = library_tab.job(JobState(report=ReembedReport("mini", 9, 0, missing, False, False, 3)))
    assert "1 file could not be read" in shown
    assert "&lt;b&gt;.jpg" in shown
    assert f'data-reembed="{offer_id("mini")}" data-leave-out="yes"' in shown
    assert "/home" not in shown
    done = library_tab.job(JobState(report=ReembedReport("mini", 9, 0, missing, True, False, 3)))
    assert "The library now uses the model mini" in done
    assert "see the failed files" in done
    assert "data-retry" in done
    assert "data-reembed" not in done
    already = library_tab.job(JobState(report=ReembedReport("mini")))
    assert "The library already uses the model mini." in already


# ---- changing it, for real


def test_reembed_while_searching(library, page_over):
    page = page_over(library)
    old = page.searches.open(SearchForm(text="red"))
    services.reembed(page, offer_id("mini"))
    running, *_, last = follow(page)
    assert 'data-ingest="running"' in running.progress
    assert "The library now uses the model mini" in last.progress
    assert library.model == "mini"
    update = events.LibraryView(page).model()
    assert "<b>mini</b></span>" in update.header
    assert "uses <b>mini</b>" in update.model
    assert page.searches.open(SearchForm(text="something red")).page(weak=True).cards
    with pytest.raises(NotFound, match="search again"):
        old.page()


def test_model_changed_by_another_program(library, page_over):
    view = events.LibraryView(page_over(library))
    assert "<b>toy</b>" in view.model().header
    shown = ToyEmbedder().info.fingerprint
    assert f'data-model="{shown}"' in view.model().header
    assert view.model(shown) == events.Update()
    with Library.open(library.directory) as other:
        other.reembed("mini")
    assert "<b>mini</b>" in view.model(shown).header


@pytest.fixture
def vanishing(tmp_path):
    """A library whose media can be deleted."""
    with filled_library(tmp_path / "vanishing") as opened:
        yield opened


def test_reembed_with_missing_files(vanishing, page_over, tmp_path):
    library = vanishing
    (tmp_path / "vanishing" / "media" / "photos" / "grey.jpg").unlink()
    page = page_over(library)
    services.reembed(page, offer_id("mini"))
    *_, last = follow(page)
    assert "grey.jpg" in last.progress
    assert "Switch without them" in last.progress
    assert library.model == "toy"
    services.reembed(page, offer_id("mini"), leave_out=True)
    *_, last = follow(page)
    assert "The library now uses the model mini" in last.progress
    assert library.model == "mini"
    assert library.catalog.stats().failed == 2


# ---- instructions


def test_header_has_default_instruction(obedient, page_over):
    header = events.LibraryView(page_over(obedient[0])).model().header
    assert 'data-instruction="Find me a picture of &lt;this&gt;."' in header


def test_instruction_applies_to_words_and_file(obedient, page_over, tmp_path):
    library, embedder = obedient
    page = page_over(library)
    picture = base64.b64encode((tmp_path / "red.png").read_bytes()).decode()
    file = f"data:image/png;base64,{picture}"
    values = {"text": "red", "files": [file], "not_like": "blue", "instruction": " Be exact. "}
    assert "red.png" in events.LibraryView(page).results(values)
    asked = {one for one in embedder.given if one[0] != "blue"}
    assert asked == {("red", "Be exact."), (None, "Be exact.")}
    assert {instruction for text, instruction in embedder.given if text == "blue"} <= {
        None,
        INSTRUCTION,
    }


def test_default_instruction(obedient, page_over):
    library, embedder = obedient
    page = page_over(library)
    Api(page).search(text="red")
    assert {instruction for _, instruction in embedder.given} <= {None, INSTRUCTION}
    embedder.given.clear()
    Api(page).search(text="red", instruction="Be exact.")
    assert set(embedder.given) == {("red", "Be exact.")}
    similar = SearchForm(similar=(segment_of(library, "red.png"),), instruction="Be exact.")
    assert page.searches.open(similar).page().cards


def test_instruction_refused_by_model(library, page_over):
    page = page_over(library)
    shown = events.LibraryView(page).results({"text": "red", "instruction": "Be exact."})
    assert "The library&#39;s model, toy, takes no instructions: leave" in shown
    with pytest.raises(QueryError, match="takes no instructions"):
        Api(page).search(text="red", instruction="Be exact.")
    assert Api(page).search(text="red", instruction="  ")


@pytest.mark.parametrize(
    ("instruction", "expected"), [(3, "valid string"), ("x" * 2001, "2000 characters")]
)
def test_instruction_is_validated(instruction, expected):
    with pytest.raises(QueryError, match=expected):
        validated(SearchForm, {"text": "red", "instruction": instruction})
