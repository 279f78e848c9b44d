import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import only_hub, send, serve
from safetensors.numpy import load_file, save_file

from embedder import EmbedderUnavailable, Modality, open_embedder
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.settings import Settings

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_rzen: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_rzen, tmp_path / "copy"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def fingerprint(folder: Path, **options: object) -> str:
    with open_embedder(f"rzen:{folder}", **options) as embedder:  # type: ignore[arg-type]
        return embedder.info.fingerprint


def refused(folder: Path) -> str:
    with pytest.raises(EmbedderUnavailable) as caught:
        open_embedder(f"rzen:{folder}")
    return str(caught.value)


def shard(folder: Path) -> list[str]:
    """Spreads the weights over two files, as large checkpoints are; their names."""
    tensors = load_file(folder / WEIGHTS)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    places = {name: names[i % 2] for i, name in enumerate(sorted(tensors))}
    for file in names:
        save_file({n: t for n, t in tensors.items() if places[n] == file}, folder / file)
    (folder / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return names


def test_moved_checkpoint_has_the_same_fingerprint(tiny_rzen: Path, folder: Path):
    assert fingerprint(folder) == fingerprint(tiny_rzen)


def test_sharded_weights_have_the_same_fingerprint(tiny_rzen: Path, folder: Path):
    shard(folder)
    assert fingerprint(folder) == fingerprint(tiny_rzen)


def test_precision_is_not_in_the_fingerprint(tiny_rzen: Path):
    assert fingerprint(tiny_rzen, dtype="bfloat16") == fingerprint(tiny_rzen)


@pytest.mark.parametrize(
    "change", ["weights", "tokenizer", "pictures", "config", "settings", "instructions"]
)
def test_fingerprint_follows_what_changes_vectors(tiny_rzen: Path, folder: Path, change: str):
    options: dict[str, object] = {}
    if change == "weights":
        tensors = load_file(folder / WEIGHTS)
        name = next(name for name in tensors if "layers.1.mlp.up" in name)
        tensors[name] = tensors[name] * 1.001
        save_file(tensors, folder / WEIGHTS)
    elif change == "tokenizer":
        path = folder / "tokenizer.json"
        path.write_text(path.read_text() + "\n")
    elif change == "pictures":
        edit(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    elif change == "config":
        edit(folder / "config.json", rope_theta=10_000.0)
    elif change == "settings":
        Settings(positions="mrope").save(folder)
    else:
        options["instructions"] = {Modality.IMAGE: "Look at this."}
    assert fingerprint(folder, **options) != fingerprint(tiny_rzen)


def test_fingerprint_ignores_the_rest(tiny_rzen: Path, folder: Path):
    edit(folder / "config.json", transformers_version="5.99.0", dtype="bfloat16")
    Settings().save(folder)
    assert fingerprint(folder) == fingerprint(tiny_rzen)


def test_a_checkpoint_knows_its_size(tiny_rzen: Path):
    checkpoint = Checkpoint.find(str(tiny_rzen))
    assert checkpoint.dim == 64
    # The words' embedding is shared with the head and stored once.
    assert checkpoint.parameters == sum(
        tensor.size for tensor in load_file(tiny_rzen / WEIGHTS).values()
    )


def test_relative_path_becomes_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    with open_embedder("rzen:./copy") as embedder:
        assert embedder.info.name == f"rzen:{folder}"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    assert str(tmp_path / "nowhere") in refused(tmp_path / "nowhere")


def test_folder_without_model_is_refused(tmp_path: Path):
    assert "config.json" in refused(tmp_path)


def test_missing_weights_are_told(folder: Path):
    (folder / WEIGHTS).unlink()
    assert "incomplete" in refused(folder)


def test_a_missing_part_of_the_weights_is_named(folder: Path):
    gone = shard(folder)[1]
    (folder / gone).unlink()
    assert gone in refused(folder)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_weights_that_break_off_are_refused(folder: Path, kept: int):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:kept])
    assert "truncated" in refused(folder)


def test_invalid_weights_are_refused(folder: Path):
    (folder / WEIGHTS).write_bytes((20).to_bytes(8, "little") + b"<html>not found</html>")
    assert "damaged" in refused(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_weights_that_could_run_code_are_not_read(folder: Path, name: str):
    (folder / WEIGHTS).rename(folder / name)
    assert "are not read, since such files can run code" in refused(folder)


@pytest.mark.parametrize(
    "places", [["a"], {"a": 3}, {"a": "pytorch_model.bin"}, {"a": "../model.safetensors"}, None]
)
def test_index_of_other_files_is_refused(folder: Path, places: object):
    shutil.copy(folder / WEIGHTS, folder / "pytorch_model.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    assert "other files than *.safetensors" in refused(folder)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"vision_config": [1]}, "does not describe a qwen2_vl"),
        ("config.json", {"text_config": {"hidden_size": "x"}}, "does not describe a qwen2_vl"),
        ("preprocessor_config.json", {"image_mean": 0.5}, "three numbers"),
        ("preprocessor_config.json", {"image_std": ["a", "b", "c"]}, "three numbers"),
    ],
)
def test_invalid_config_is_refused(
    folder: Path, file: str, values: dict[str, object], message: str
):
    if not (folder / file).exists():
        (folder / file).write_text("{}")
    edit(folder / file, **values)
    assert message in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "rzen.json"])
def test_deeply_nested_config_is_refused(folder: Path, name: str):
    (folder / name).write_text("[" * 100_000)
    assert "recursion depth" in refused(folder)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": None, "data_offsets": [0, 8]},
        {"dtype": 32, "shape": [2], "data_offsets": [0, 8]},
        {"shape": [2], "data_offsets": [0, 8]},
    ],
)
def test_a_tensor_that_cannot_be_is_refused(folder: Path, tensor: dict[str, object]):
    header = json.dumps({"a": tensor}).encode()
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "damaged" in refused(folder)


def test_a_missing_tokenizer_is_told(folder: Path):
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused(folder)


def test_other_model_type_is_refused(folder: Path):
    edit(folder / "config.json", model_type="bert")
    assert "'bert'" in refused(folder)


def test_another_size_of_patches_is_refused(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", vision_config=config["vision_config"] | {"patch_size": 16})
    assert "patch_size 16" in refused(folder)


def test_mismatched_weights_are_refused_on_load(folder: Path):
    tensors = load_file(folder / WEIGHTS)
    dropped = next(name for name in tensors if "layers.0.mlp.down" in name)
    del tensors[dropped]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with open_embedder(f"rzen:{folder}") as embedder:
        from embedder import Content

        with pytest.raises(EmbedderUnavailable, match="missing or of another shape"):
            embedder.embed([Content(text="x")], role="query")


@pytest.mark.parametrize("name", ["a" * 300, "~no-such-user/x", "a\0b"])
def test_impossible_folder_is_refused(name: str):
    assert name in refused(Path(name))


@pytest.mark.parametrize("spec", ["rzen", "rzen:somebody/some-model"])
def test_failed_download_names_a_remedy(spec: str):
    with pytest.raises(EmbedderUnavailable, match=r"not on this machine.*rzen:FOLDER"):
        open_embedder(spec)


def test_missing_weights_are_downloaded_once(
    tiny_rzen: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    files = {path.name: path.read_bytes() for path in tiny_rzen.iterdir()}
    with only_hub(files, monkeypatch, tmp_path) as hub:
        hub.answer = lambda request, _whole: send(request, 404, b"")
        with pytest.raises(EmbedderUnavailable, match="`rzen-models fetch rzen:team/model`"):
            open_embedder("rzen:team/model")
        hub.answer = serve
        with open_embedder("rzen:team/model") as embedder:
            assert embedder.info.name == "rzen:team/model"
            assert embedder.info.fingerprint == fingerprint(tiny_rzen)
        asked = len(hub.requests)
        open_embedder("rzen:team/model").close()
        assert len(hub.requests) == asked


def test_damaged_download_says_how_to_check_it(
    tiny_rzen: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    files = {path.name: path.read_bytes() for path in tiny_rzen.iterdir()}
    files[WEIGHTS] = files[WEIGHTS][:1000]
    with (
        only_hub(files, monkeypatch, tmp_path),
        pytest.raises(
            EmbedderUnavailable, match=r"truncated.*`rzen-models verify rzen:team/model`"
        ),
    ):
        open_embedder("rzen:team/model")


def test_without_pytorch_the_extra_is_named(tiny_rzen: Path, monkeypatch: pytest.MonkeyPatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "torch" else found(name)
    )
    for spec in ("rzen", f"rzen:{tiny_rzen}"):  # before anything is downloaded
        with pytest.raises(EmbedderUnavailable, match=r"torch.*rzen-search\[rzen\]"):
            open_embedder(spec)


def test_opening_loads_no_pytorch(tiny_rzen: Path):
    code = (
        "import sys; from embedder import open_embedder\n"
        f"open_embedder('rzen:{tiny_rzen}').close()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
