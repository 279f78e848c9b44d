"""Models are downloaded from the hub, whatever the network and the server do."""

import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event

import pytest
from filelock import FileLock
from hub_server import COMMIT, REPOSITORY, Hub, only_hub, send, serve, serving

from embedder import EmbedderUnavailable
from embedder.download import (
    FetchProgress,
    FetchStopped,
    FileState,
    fetch,
    local_folder,
    own_folder,
    remove,
    verify,
)
from embedder.hub import HubFile, HubModel

DUAL = Path(__file__).parent / "dual/siglip2"
WEIGHTS = hashlib.shake_256(b"weights").digest(300_000)
FILES = {
    "config.json": b'{"model_type": "siglip"}',
    "onnx/vision_model.onnx": WEIGHTS,
    "README.md": b"not needed",
}
MODEL = HubModel(REPOSITORY, (HubFile("config.json"), HubFile("onnx/vision_model.onnx")))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with only_hub(FILES, monkeypatch, tmp_path) as hub:
        yield hub


def content(folder: Path) -> dict[str, bytes]:
    """All files in a folder but ours, by name."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes() for name, path in files.items() if path.is_file() and name[0] != "."
    }


def needed() -> dict[str, bytes]:
    return {name: FILES[name] for name in ("config.json", "onnx/vision_model.onnx")}


def test_what_is_needed_is_downloaded_once(hub: Hub):
    seen: list[FetchProgress] = []
    assert local_folder(MODEL) is None
    folder = fetch(MODEL, progress=seen.append)
    assert folder == own_folder(MODEL) == local_folder(MODEL)
    assert content(folder) == needed()
    size = sum(map(len, needed().values()))
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert (seen[0].done, seen[-1].done) == (0, size)
    assert {one.total for one in seen} == {size}
    before = len(hub.requests)
    assert fetch(MODEL) == folder
    assert len(hub.requests) == before


def test_stopped_download_goes_on_from_there(hub: Hub):
    def stopping(seen: FetchProgress) -> None:
        stop.set() if seen.done > 100_000 else None

    stop = Event()
    with pytest.raises(FetchStopped, match="goes on from there"):
        fetch(MODEL, progress=stopping, stopped=stop.is_set)
    assert local_folder(MODEL) is None
    seen: list[FetchProgress] = []
    folder = fetch(MODEL, progress=seen.append)
    assert seen[0].done > 100_000
    assert content(folder) == needed()
    assert hub.ranges[0] is None
    assert int(re.findall(r"\d+", hub.ranges[1])[0]) > 90_000


def test_download_that_is_stopped_at_once_asks_nothing(hub: Hub):
    with pytest.raises(FetchStopped):
        fetch(MODEL, stopped=lambda: True)
    assert hub.requests == []


@pytest.mark.parametrize("length_is_stated", [True, False])
def test_dropped_connections_are_taken_up_again(hub: Hub, length_is_stated: bool):
    def drop(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        request.send_response(206 if start else 200)
        if length_is_stated:
            request.send_header("Content-Length", str(len(whole) - start))
        request.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        request.end_headers()
        request.wfile.write(whole[start : start + 40_000])

    hub.answer = drop
    assert content(fetch(MODEL)) == needed()
    starts = [int((asked or "bytes=0-")[6:-1]) for asked in hub.ranges]
    assert starts == [position * 40_000 for position in range(8)]


def test_shorter_file_than_stated_is_begun_anew(hub: Hub):
    shorter = WEIGHTS[:200_000]

    def serve_shorter(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        if request.headers["Range"] == f"bytes={len(shorter)}-":
            send(request, 416, b"no such range")
        else:
            serve(request, whole if len(hub.ranges) > 2 else whole[: len(shorter)])

    hub.answer = serve_shorter
    assert content(fetch(MODEL)) == needed()
    assert hub.ranges == [None, "bytes=200000-", None]


def test_server_without_ranges_sends_all_of_it_again(hub: Hub):
    with pytest.raises(FetchStopped):
        fetch(MODEL, stopped=lambda: len(hub.ranges) > 0)
    hub.answer = lambda request, whole: send(request, 200, whole)
    assert content(fetch(MODEL)) == needed()


def test_file_that_changed_between_two_runs_is_begun_anew(hub: Hub):
    seen: list[FetchProgress] = []
    with pytest.raises(FetchStopped):
        fetch(MODEL, progress=seen.append, stopped=lambda: bool(seen) and seen[-1].done > 100_000)
    hub.files["onnx/vision_model.onnx"] = WEIGHTS[::-1]
    assert content(fetch(MODEL))["onnx/vision_model.onnx"] == WEIGHTS[::-1]
    assert hub.ranges == [None, None]


def test_wrong_content_is_refused_and_deleted(hub: Hub):
    hub.answer = lambda request, whole: serve(request, whole[:-1] + b"!")
    with pytest.raises(EmbedderUnavailable, match=r"config\.json has another hash"):
        fetch(MODEL)
    assert local_folder(MODEL) is None
    assert content(own_folder(MODEL)) == {}
    assert list((own_folder(MODEL) / ".partial").iterdir()) == []
    hub.answer = serve
    assert content(fetch(MODEL)) == needed()


@pytest.mark.parametrize("length", [0, 10, 10**15])
def test_false_length_gives_no_wrong_file(hub: Hub, length: int):
    hub.answer = lambda request, whole: send(request, 200, whole, Content_Length=str(length))
    with pytest.raises(EmbedderUnavailable, match=r"the download from .* failed|another hash"):
        fetch(MODEL)
    assert content(own_folder(MODEL)) == {}


def test_endless_file_is_cut_off(hub: Hub):
    def endless(request: BaseHTTPRequestHandler, _whole: bytes) -> None:
        request.send_response(200)
        request.end_headers()
        for _block in range(1000):  # should it be read to the end after all
            request.wfile.write(b"x" * 100_000)

    hub.answer = endless
    with pytest.raises(EmbedderUnavailable, match="longer than the 24 bytes"):
        fetch(MODEL)


def test_token_is_sent_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serving(FILES) as other:
        hub.answer = lambda request, _whole: send(
            request, 302, b"", Location=other.address + request.path
        )
        assert content(fetch(MODEL)) == needed()
        assert {authorization for *_, authorization in hub.requests} == {"Bearer hf_secret"}
        assert [authorization for *_, authorization in other.requests] == [None, None]


def test_token_is_kept_on_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    def moved(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        if request.path.endswith("?moved"):
            serve(request, whole)
        else:
            send(request, 307, b"", Location=f"{request.path}?moved")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.answer = moved
    assert content(fetch(MODEL)) == needed()
    assert {authorization for *_, authorization in hub.requests} == {"Bearer hf_secret"}


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "check the name"), (401, "set HF_TOKEN"), (503, "status 503")]
)
def test_refusal_says_what_to_do(hub: Hub, status: int, advice: str):
    hub.answer = lambda request, _whole: send(request, status, b"")
    with pytest.raises(EmbedderUnavailable, match=advice):
        fetch(MODEL)
    assert local_folder(MODEL) is None


def test_busy_server_is_asked_again(hub: Hub):
    def busy(request: BaseHTTPRequestHandler, whole: bytes) -> None:
        serve(request, whole) if len(hub.requests) > 3 else send(request, 503, b"")

    hub.answer = busy
    assert content(fetch(MODEL)) == needed()


def test_unknown_repository_leaves_nothing_behind(hub: Hub):
    with pytest.raises(EmbedderUnavailable, match="no such model"):
        fetch(HubModel("team/other", MODEL.files))
    assert not (own_folder(MODEL).parent).exists()


def test_no_network_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EmbedderUnavailable, match=r"127\.0\.0\.1:9 failed .*check the connection"):
        fetch(MODEL)


def test_offline_mode_causes_no_traffic(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EmbedderUnavailable, match="HF_HUB_OFFLINE"):
        fetch(MODEL)
    assert hub.requests == []


@pytest.mark.parametrize(
    "change",
    [
        {"siblings": None},
        {"siblings": [{"rfilename": "config.json"}]},
        {"siblings": [{"rfilename": "config.json", "size": -1, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "config.json", "size": True, "blobId": "0" * 40}]},
        {"siblings": [{"rfilename": "config.json", "size": 9, "blobId": "../../" + "0" * 40}]},
        {"siblings": [{"rfilename": ["config.json"], "size": 9, "blobId": "0" * 40}]},
        {"sha": "main/../../.."},
        {"sha": None},
    ],
)
def test_hostile_listing_is_refused(hub: Hub, change: dict):
    hub.listing = lambda listing: listing | change
    with pytest.raises(EmbedderUnavailable, match="does not list"):
        fetch(MODEL)
    assert not own_folder(MODEL).exists()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"<html>", "does not list files"),
        (b"[" * 100_000, "does not list files"),
        (b" " * 20_000_000, "too long"),
    ],
)
def test_listing_that_is_none_is_refused(hub: Hub, body: bytes, problem: str):
    hub.listing = lambda _listing: body
    with pytest.raises(EmbedderUnavailable, match=problem):
        fetch(MODEL)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "/evil.json",
        "a/../../evil.json",
        "..\\evil.json",
        "C:evil.json",
        ".evil.json",
        "evil" * 99 + ".json",
    ],
)
def test_no_file_is_written_outside_the_folder(hub: Hub, tmp_path: Path, name: str):
    hub.files[name] = b"evil"
    model = HubModel(REPOSITORY, (HubFile("*.json"), HubFile("*/*.json", optional=True)))
    before = set(tmp_path.rglob("*evil*"))
    assert content(fetch(model)) == {"config.json": FILES["config.json"]}
    assert set(tmp_path.rglob("*evil*")) == before
    with pytest.raises(EmbedderUnavailable, match="has no"):
        fetch(HubModel(REPOSITORY, (HubFile(name),)), to=tmp_path / "other")


def test_absurd_size_does_not_fit_the_disk(hub: Hub):
    def listing(listed: dict) -> dict:
        listed["siblings"][1]["size"] = 10**18
        return listed

    hub.listing = listing
    with pytest.raises(EmbedderUnavailable, match=r"needs 1,000,000,000,000 MB, but .* are free"):
        fetch(MODEL)
    assert not own_folder(MODEL).exists()


def test_disk_that_fills_up_is_said(hub: Hub, tmp_path: Path):
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    folder = own_folder(MODEL)
    with pytest.raises(FetchStopped):
        fetch(MODEL, stopped=lambda: len(hub.requests) > 1)
    (folder / ".partial" / digest).symlink_to("/dev/full")
    with pytest.raises(EmbedderUnavailable, match=r"No space left on device.*free some space"):
        fetch(MODEL)
    (folder / ".partial" / digest).unlink()
    assert content(fetch(MODEL)) == needed()


@pytest.mark.parametrize("known", [{"sha256": "0" * 64}, {"size": 299_999}])
def test_other_content_than_this_program_knows_is_not_downloaded(hub: Hub, known: dict):
    model = HubModel(REPOSITORY, (HubFile("onnx/vision_model.onnx", **known),))
    with pytest.raises(EmbedderUnavailable, match="not the file that this program knows"):
        fetch(model)
    assert hub.ranges == []


def test_known_hash_counts_where_the_hub_states_none(hub: Hub):
    known = HubFile("config.json", sha256=hashlib.sha256(b"another").hexdigest())
    with pytest.raises(EmbedderUnavailable, match="another hash"):
        fetch(HubModel(REPOSITORY, (known,)))


def test_revision_is_asked_for(hub: Hub):
    model = HubModel("team/model", MODEL.files, revision=COMMIT)
    assert content(fetch(model)) == needed()
    assert hub.requests[0][0].startswith(f"/api/models/team/model/revision/{COMMIT}?")
    hub.listing = lambda listing: listing | {"sha": "0" * 40}
    remove(model)
    with pytest.raises(EmbedderUnavailable, match="does not list"):
        fetch(model)


def test_download_that_was_begun_keeps_its_revision(hub: Hub):
    with pytest.raises(FetchStopped):
        fetch(MODEL, stopped=lambda: len(hub.requests) > 1)
    fetch(MODEL)
    _, second = [path for path, *_ in hub.requests if path.startswith("/api/")]
    assert second.partition("?")[0].endswith(f"/revision/{COMMIT}")


def test_wildcards_stand_for_all_files_that_match(hub: Hub):
    hub.files = {"config.json": b"{}", "a.json": b"[]", "model-1.safetensors": b"1"}
    hub.files |= {"model-2.safetensors": b"2", "sub/b.json": b"{}", "model.bin": b"x"}
    wanted = (HubFile("*.json"), HubFile("*.safetensors"), HubFile("merges.txt", optional=True))
    model = HubModel("team/model", wanted)
    folder = fetch(model)
    names = {"config.json", "a.json", "model-1.safetensors", "model-2.safetensors"}
    assert set(content(folder)) == names
    (folder / "model-2.safetensors").unlink()
    assert local_folder(model) is None


def test_folder_for_another_machine_is_made_and_continued(hub: Hub, tmp_path: Path):
    folder = tmp_path / "usb/model"
    with pytest.raises(FetchStopped):
        fetch(MODEL, to=folder, stopped=lambda: len(hub.ranges) > 0)
    assert fetch(MODEL, to=folder) == folder
    assert content(folder) == needed()
    assert local_folder(MODEL) is None


def test_folder_with_something_else_is_left_alone(hub: Hub, tmp_path: Path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(EmbedderUnavailable, match="holds something else"):
        fetch(MODEL, to=tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"
    made = fetch(MODEL, to=tmp_path / "made")
    with pytest.raises(EmbedderUnavailable, match="holds something else"):
        fetch(HubModel("team/other", MODEL.files), to=made)
    assert content(made) == needed()


def test_two_downloads_to_one_folder_do_not_mix(hub: Hub):
    folder = own_folder(MODEL)
    folder.mkdir(parents=True)
    with (
        FileLock(folder / ".rzen-models.lock"),
        pytest.raises(EmbedderUnavailable, match=r"another program is downloading"),
    ):
        fetch(MODEL)


def test_hub_cache_is_used_where_it_is_complete(hub: Hub, tmp_path: Path):
    snapshot = tmp_path / "hub/models--team--model/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    model = HubModel("team/model", (HubFile("*.json"), HubFile("*.safetensors")), COMMIT)
    (snapshot / "config.json").write_text("{}")
    assert local_folder(model) is None
    (snapshot / "model-1.safetensors").write_text("1")
    places = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert local_folder(model) is None
    (snapshot / "model-2.safetensors").write_text("2")
    assert local_folder(model) == fetch(model) == snapshot
    with pytest.raises(EmbedderUnavailable, match="holds no download"):
        remove(model)
    assert hub.requests == []


def test_removal_deletes_what_was_downloaded_and_nothing_else(hub: Hub):
    folder = fetch(MODEL)
    (folder / "onnx/notes.txt").write_text("mine")
    remove(MODEL)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["notes.txt"]
    assert local_folder(MODEL) is None
    with pytest.raises(EmbedderUnavailable, match="holds no download"):
        remove(MODEL)
    (folder / "onnx/notes.txt").unlink()


def test_removal_of_half_a_download_leaves_nothing(hub: Hub):
    with pytest.raises(FetchStopped):
        fetch(MODEL, stopped=lambda: len(hub.ranges) > 0)
    remove(MODEL)
    assert not own_folder(MODEL).exists()


def test_hostile_record_deletes_nothing_outside(hub: Hub, tmp_path: Path):
    record = fetch(MODEL) / ".rzen-models.json"
    (tmp_path / "victim").write_text("mine")
    record.write_text(record.read_text().replace("config.json", "../../../../victim"))
    with pytest.raises(EmbedderUnavailable, match="is damaged or of another version"):
        remove(MODEL)
    assert (tmp_path / "victim").exists()


def test_verification_finds_damage(hub: Hub):
    folder = fetch(MODEL)
    assert set(verify(MODEL, folder).values()) == {FileState.INTACT}
    known = HubModel(REPOSITORY, (HubFile("config.json", sha256="0" * 64),))
    assert verify(known, folder)["config.json"] is FileState.DAMAGED
    (folder / "config.json").write_bytes(FILES["config.json"].replace(b"siglip", b"sigLip"))
    (folder / "onnx/vision_model.onnx").unlink()
    expected = [FileState.DAMAGED, FileState.MISSING]
    assert list(verify(MODEL, folder).values()) == expected
    assert list(verify(None, folder).values()) == expected


def test_verification_without_a_record_knows_what_this_program_knows(hub: Hub, tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "weights").write_text("wrong")
    model = HubModel("a/b", (HubFile("config.json"), HubFile("weights", sha256="0" * 64)))
    assert list(verify(model, tmp_path).values()) == [FileState.UNKNOWN, FileState.DAMAGED]
    with pytest.raises(EmbedderUnavailable, match="not known what should be in"):
        verify(None, tmp_path)
