"""Downloading a model from the page: what is asked, shown and kept, and who may."""

import asyncio
import json
import shutil
import threading
import time
from dataclasses import replace

import httpx
import pytest
from following import follow, state_once
from hub_server import REPOSITORY, TINY, TINY_FILES, TINY_MODEL, send, serve, tiny_hub
from PIL import Image
from sample_library import served_here

from app import services
from app.api import Api
from app.jobs import Busy
from app.models import ActiveModel, offer_id, suggested
from app.page import events, library_tab
from app.page.labels import size
from embedder.download import own_folder
from embedder.interface import ModelSpec
from embedder.media import Kind
from embedder.toy import ToyEmbedder
from indexer import Library, LibraryStats, QueryError

LAST = list(TINY_FILES)[-1]
HALF = len(TINY_FILES[LAST]) // 2
ID = offer_id("siglip2")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with tiny_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def slow(hub):
    """The hub sends half of the last file, and then a byte now and then; the rest when resumed."""

    def crawl(request, content):
        if content != TINY_FILES[LAST] or request.headers["Range"]:
            return serve(request, content)
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[:HALF])
        for place in range(HALF, len(content)):
            time.sleep(0.05)
            request.wfile.write(content[place : place + 1])
        return None

    hub.answer = crawl
    return hub


@pytest.fixture
def library(tmp_path):
    """A library of the toy model with two pictures."""
    with Library.open(tmp_path / "library", model="toy") as opened:
        for colour in ("red", "blue"):
            Image.new("RGB", (60, 40), colour).save(tmp_path / f"{colour}.png")
        opened.ingest([tmp_path / "red.png", tmp_path / "blue.png"])
        yield opened


class Untouched:
    """A library that must not be re-embedded."""

    model = "toy"

    def __init__(self, folder):
        self.directory, self.uploads = folder, folder / "uploads"


def listed(models, spec="siglip2"):
    """The list of models, and the offer of that specification in it."""
    active = ActiveModel("toy", ToyEmbedder().info)
    offers = models.offers(active)
    shown = library_tab.model_section(active, offers, 9, running=False)
    return shown, next(one for one in offers if one.spec == spec)


# ---- what is shown and asked


def test_list_says_what_each_model_is(hub, page_over, tmp_path):
    shown, _ = listed(page_over(Untouched(tmp_path)).models)
    assert "People &amp; scenes." in shown
    assert "<i>1.0 MB to download</i>" in shown
    assert "all languages · 50 a second · MIT" in shown
    host = hub.address.removeprefix("http://")
    question = f"Downloads 1.0 MB once from {host}; your files stay here."
    assert question in shown
    assert "<b>mini</b><i>on this machine</i>" in shown
    assert "Tiny, for tests." in shown, "which is the library's model"
    assert not hub.requests


def test_nothing_is_downloaded_without_consent(hub, page_over, library):
    page = page_over(library)
    with pytest.raises(QueryError, match="siglip2 is not on this machine yet: allow its download"):
        services.reembed(page, ID)
    first, *_ = answers(page, {"model": ID})
    assert "allow its download" in first.progress
    assert not hub.requests


def answers(page, values):
    """All that the page is sent after the event."""

    async def updates():
        return [update async for update in events.LibraryView(page).reembed(values)]

    return asyncio.run(updates())


def test_strangers_download_nothing(hub, page_over, tmp_path):
    page = page_over(Untouched(tmp_path), host="0.0.0.0")
    with pytest.raises(services.NotAllowed, match="requires a login"):
        services.reembed(page, ID, download=True)
    assert not hub.requests


def test_only_named_models_are_downloaded(hub, page_over, tmp_path):
    spec = f"siglip2:{REPOSITORY}"
    page = page_over(Untouched(tmp_path), offer=(spec,))
    shown, _ = listed(page.models, spec)
    assert f"rzen-models fetch {spec}" in shown
    with pytest.raises(QueryError, match="rzen-models fetch"):
        services.reembed(page, offer_id(spec), download=True)
    for other in (REPOSITORY, "clip:team/other", f"{hub.address}/{REPOSITORY}"):
        with pytest.raises(QueryError, match="not on offer"):
            services.reembed(page, offer_id(other), download=True)
    assert not hub.requests


def test_offline_nothing_is_offered_for_download(hub, page_over, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    page = page_over(Untouched(tmp_path))
    shown, offer = listed(page.models)
    assert "HF_HUB_OFFLINE forbids downloads" in shown
    assert "data-question" not in shown
    assert suggestion([offer]) is None
    with pytest.raises(QueryError, match="HF_HUB_OFFLINE"):
        services.reembed(page, ID, download=True)
    assert not hub.requests


# ---- the download


def test_download_and_reembed(hub, page_over, library):
    page = page_over(library)
    *_, last = answers(page, {"model": ID, "download": True})
    assert "The library now uses the model siglip2" in last.progress
    assert library.model == "siglip2"
    requests = len(hub.requests)
    shown, offer = listed(page.models)
    assert "<b>siglip2</b><i>on this machine</i>" in shown
    assert not offer.needs_download
    services.reembed(page, offer_id("toy"))
    follow(page)
    assert library.model == "toy"
    assert len(hub.requests) == requests


def test_cancelled_download_is_continued(slow, page_over, library):
    page, whole = page_over(library), sum(map(len, TINY_FILES.values()))
    services.reembed(page, ID, download=True)
    reached = whole - len(TINY_FILES[LAST]) + HALF
    state = state_once(page, lambda state: state.progress and state.progress.done >= reached)
    shown = library_tab.job(state)
    assert "Downloading siglip2, then re-embedding" in shown
    assert f"Step 1 of 2, downloading: {size(state.progress.done)} of {size(whole)}" in shown
    assert Api(page).ingest_status()["stage"] == "download"
    with pytest.raises(Busy, match="Downloading siglip2"):
        services.reembed(page, ID, download=True)
    page.jobs.close()
    stopped = library_tab.job(page.jobs.state)
    assert "The download of siglip2 was stopped" in stopped
    assert "choose siglip2 again to continue. The library still uses its old model" in stopped
    assert library.model == "toy"
    shown, offer = listed(page.models)
    assert reached <= offer.fetched < whole
    assert f"<i>{size(offer.fetched)} of 1.0 MB are on this machine</i>" in shown
    seen = []
    assert page.models.download(offer, seen.append, threading.Event())
    assert (seen[0].done, seen[0].reused) == (offer.fetched, offer.fetched), "for the rate"
    resumed = f"bytes={offer.fetched - reached + HALF}-"
    assert [start for path, start, _ in slow.requests if path.endswith(LAST)] == [None, resumed]


def test_lost_model_of_the_library_is_downloaded_again(hub, page_over, library):
    answers(page_over(library), {"model": ID, "download": True})
    shutil.rmtree(own_folder(TINY_MODEL))
    with Library.open(library.directory) as opened:
        page = page_over(opened)
        assert "siglip2 is not on this machine" in page.models.active().problem
        *_, last = answers(page, {"model": ID, "download": True})
        assert "Downloaded" in last.progress
        assert "The library already uses the model siglip2." in last.progress
        assert page.models.active().problem is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda request, content: serve(request, content[:-1] + b"!"), "has another hash"),
        (lambda request, _content: send(request, 404, b""), "there is no such model"),
    ],
)
def test_failed_download_changes_nothing(hub, page_over, tmp_path, answer, reason):
    page = page_over(Untouched(tmp_path))
    hub.answer = answer
    services.reembed(page, ID, download=True)
    state_once(page, lambda state: not state.running)
    shown = library_tab.job(page.jobs.state)
    assert reason in shown
    assert "The library still uses its old model." in shown
    _, offer = listed(page.models)
    assert offer.needs_download


# ---- the suggestion


def suggestion(offers, model="mini", pictures=20):
    counts = LibraryStats({Kind.IMAGE: pictures}, {}, 0, 0, 0)
    return suggested(ActiveModel(model), offers, counts)


def test_suggestion_is_for_pictures_on_the_default_model(hub, page_over, tmp_path):
    _, offer = listed(page_over(Untouched(tmp_path)).models)
    assert suggestion([offer]) == offer
    assert suggestion([offer], pictures=19) is None
    assert suggestion([offer], model="toy") is None
    assert suggestion([replace(offer, missing="it cannot run here")]) is None
    active = ActiveModel("mini", ToyEmbedder().info)
    shown = library_tab.model_section(active, [offer], 9, suggested=offer, running=False)
    assert (
        "Try the model siglip2: people &amp; scenes (all languages, 1.0 MB to download)." in shown
    )
    assert f'data-suggested="{ID}"' in shown
    running = library_tab.model_section(active, [offer], 9, suggested=offer, running=True)
    assert "data-suggested" not in running


# ---- over HTTP


def test_reembed_to_a_folder_and_back_over_http(library, tmp_path):
    spec = f"siglip2:{TINY}"
    with (
        served_here(library, tmp_path / "scratch", offer=(spec,)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        for model in (spec, "mini"):
            shown = fired(client, "reembed", {"model": offer_id(model)})
            assert f"The library now uses the model {ModelSpec.parse(model).short}" in str(shown)
            assert library.model == model


def fired(client, event, values):
    """Fire an event of the page as its script does; return the last that the page is sent."""
    functions = client.get("/config").json()["dependencies"]
    number = next(one["id"] for one in functions if one["api_name"] == f"page_{event}")
    session = {"session_hash": "one"}
    call = {"data": [], "event_data": values, "fn_index": number, **session}
    client.post("/gradio_api/queue/join", json=call).raise_for_status()
    with client.stream("GET", "/gradio_api/queue/data", params=session) as answer:
        for line in answer.iter_lines():
            message = json.loads(line.removeprefix("data:")) if line else {}
            if message.get("msg") == "process_completed":
                return message["output"]["data"][0]
    raise AssertionError("the stream ended early")
