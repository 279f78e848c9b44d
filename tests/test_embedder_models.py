"""The command rzen-models: what it prints, and how it ends."""

import json
import re
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import main_thread

import programs
import pytest
from hub_server import TINY_FILES, Hub, only_hub

from embedder import EmbedderUnavailable, open_embedder
from embedder.download import own_folder
from embedder.models import main
from embedder.registry import hub_model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that has a tiny SigLIP 2."""
    with only_hub(TINY_FILES, monkeypatch, tmp_path) as hub:
        yield hub


def test_downloads_a_model_that_opens(hub: Hub, tmp_path: Path):
    missing = programs.run("embedder.models", "verify", "siglip2:team/model")
    assert missing.returncode == 2
    assert "rzen-models fetch siglip2:team/model" in missing.stderr
    done = programs.run("embedder.models", "fetch", "siglip2:team/model")
    assert done.returncode == 0, done.stderr
    assert f"Downloading siglip2:team/model from {hub.address}/team/model" in done.stderr
    assert "use it by --model siglip2:team/model" in done.stdout
    with open_embedder("siglip2:team/model") as embedder:
        here = embedder.info.fingerprint
    assert programs.run("embedder.models", "verify", "siglip2:team/model").returncode == 0
    again = programs.run("embedder.models", "fetch", "siglip2:team/model")
    assert "complete already" in again.stdout

    folder = tmp_path / "usb"
    done = programs.run("embedder.models", "fetch", "siglip2:team/model", "--to", folder)
    assert f"use it by --model siglip2:{folder}" in done.stdout
    with open_embedder(f"siglip2:{folder}") as embedder:
        assert embedder.info.fingerprint == here
    (folder / "config.json").write_text("{}")
    damaged = programs.run("embedder.models", "verify", f"siglip2:{folder}", "--json")
    assert damaged.returncode == 1
    assert json.loads(damaged.stdout)["files"]["config.json"] == "damaged"
    damaged = programs.run("embedder.models", "verify", f"siglip2:{folder}")
    assert damaged.returncode == 1
    assert "config.json: damaged" in damaged.stdout

    removed = programs.run("embedder.models", "remove", "siglip2:team/model")
    assert removed.returncode == 0
    with pytest.raises(EmbedderUnavailable, match="fetch siglip2:team/model"):
        open_embedder("siglip2:team/model")


def test_list_shows_a_damaged_download_and_the_other_models(hub: Hub, capsys):
    model = hub_model("siglip2")
    assert model is not None
    folder = own_folder(model)
    folder.mkdir(parents=True)
    (folder / ".rzen-models.json").write_text("{")
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert f"delete {folder}, and download the model again" in listed
    assert "clip " in listed
    assert main(["list", "--json"]) == 0
    rows = {row["spec"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["siglip2"]["folder"] is None
    assert "is damaged" in rows["siglip2"]["problem"]
    assert rows["clip"]["problem"] is None


def test_that_is_interrupted_says_that_it_goes_on(hub: Hub):
    def interrupt(request: BaseHTTPRequestHandler, _whole: bytes) -> None:
        signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
        request.wfile.flush()

    hub.answer = interrupt
    done = programs.run("embedder.models", "fetch", "siglip2:team/model")
    assert done.returncode == 130
    assert "goes on from there" in done.stderr


def test_lists_models_and_addresses(hub: Hub):
    listed = programs.run("embedder.models", "list")
    assert re.search(r"^siglip2 +415 MB +Apache-2\.0 +not here$", listed.stdout, re.M)
    assert "over 100 languages" in listed.stdout
    rows = json.loads(programs.run("embedder.models", "list", "--json").stdout)
    assert {row["spec"] for row in rows} >= {"siglip2", "siglip2:base16", "clip", "rzen"}
    urls = programs.run("embedder.models", "list", "--urls").stdout
    model = hub_model("siglip2")
    assert model is not None
    tokenizer = next(file for file in model.files if file.name == "tokenizer.json")
    address = f"{hub.address}/{model.repository}/resolve/{model.revision}/tokenizer.json"
    assert f"{address}  {tokenizer.sha256}" in urls
    assert hub.requests == []


@pytest.mark.parametrize("command", ["fetch", "remove", "verify"])
def test_has_nothing_to_do_for_mini(hub: Hub, command: str):
    done = programs.run("embedder.models", command, "mini")
    assert done.returncode == 2
    assert "nothing to download" in done.stderr
    unknown = programs.run("embedder.models", command, "minni")
    assert "unknown model 'minni'" in unknown.stderr
