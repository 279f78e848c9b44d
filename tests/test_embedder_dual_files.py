"""Files of SigLIP 2 and CLIP: where they are found, what is read of them, and bad ones.

The checkpoints in tests/dual have random weights, so nothing here says how well a model finds.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from embedder import Content, EmbedderUnavailable, open_embedder
from embedder.dual.checkpoint import Checkpoint, Resizing
from embedder.dual.families import SIGLIP2

DATA = Path(__file__).with_name("dual")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a SigLIP 2, to damage."""
    return Path(shutil.copytree(DATA / "siglip2", tmp_path / "copy"))


def fingerprint(folder: Path) -> str:
    with open_embedder(f"siglip2:{folder}") as embedder:
        return embedder.info.fingerprint


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_fingerprint_follows_what_changes_vectors(folder: Path) -> None:
    shipped = fingerprint(DATA / "siglip2")
    assert fingerprint(folder) == shipped
    found = {shipped}
    for name, old, new in (
        ("preprocessor_config.json", '"resample": 2', '"resample": 3'),
        ("config.json", '"max_position_embeddings": 64', '"max_position_embeddings": 32'),
        ("tokenizer.json", '["c","a"],["ca","t"]', '["a","t"],["c","at"]'),
    ):
        changed(folder / name, old, new)
        found.add(fingerprint(folder))
    for tower in ("vision", "text"):
        model = folder / f"onnx/{tower}_model.onnx"
        content = bytearray(model.read_bytes())
        content[-9] ^= 1
        model.write_bytes(content)
        found.add(fingerprint(folder))
    assert len(found) == 6


def test_full_precision_is_preferred_and_any_is_read(folder: Path) -> None:
    vision = folder / "onnx/vision_model.onnx"
    shutil.copy(vision, vision.with_name("vision_model_int8.onnx"))
    assert Checkpoint.find(SIGLIP2, str(folder)).vision == vision
    vision.unlink()
    assert Checkpoint.find(SIGLIP2, str(folder)).vision.name == "vision_model_int8.onnx"


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "preprocessor_config.json", "tokenizer.json"),
        *("onnx/vision_model.onnx", "onnx/text_model.onnx"),
    ],
)
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(EmbedderUnavailable, match=rf"{folder}.* no .*{Path(name).name}"):
        open_embedder(f"siglip2:{folder}")


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("config.json", '"siglip"', '"siglip2"', "holds a model of the type 'siglip2'"),
        ("config.json", '"hidden_size": 32', '"hidden_size": "x"', "hidden_size that is not a"),
        ("config.json", "{", "", r"config\.json is damaged"),
        ("preprocessor_config.json", '"height": 32', '"height": 48', "squares of one size"),
        ("preprocessor_config.json", '"resample": 2', '"resample": 9', "how to resize"),
        ("preprocessor_config.json", "image_mean", "mean", "image_mean that is not three numbers"),
    ],
)
def test_other_or_damaged_settings_are_refused(
    folder: Path, name: str, old: str, new: str, problem: str
) -> None:
    path = folder / name
    text = path.read_text("utf-8")
    # The last one: of config.json, that of the vision model.
    path.write_text(new.join(text.rsplit(old, 1)), "utf-8")
    with pytest.raises(EmbedderUnavailable, match=problem):
        open_embedder(f"siglip2:{folder}")


def test_model_of_another_family_is_refused() -> None:
    with pytest.raises(EmbedderUnavailable, match="'siglip', but CLIP is a 'clip'"):
        open_embedder(f"clip:{DATA / 'siglip2'}")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda whole: whole[: len(whole) // 2], "is damaged or of another format"),
        (lambda _whole: (DATA / "clip/onnx/text_model.onnx").read_bytes(), "no output pooler_"),
    ],
)
def test_damaged_model_is_refused(
    folder: Path, damage: Callable[[bytes], bytes], problem: str
) -> None:
    path = folder / "onnx/text_model.onnx"
    path.write_bytes(damage(path.read_bytes()))
    with (
        open_embedder(f"siglip2:{folder}") as embedder,
        pytest.raises(EmbedderUnavailable) as error,
    ):
        embedder.embed([Content(text="words")], role="query")
    assert problem in str(error.value)
    assert str(path) in str(error.value)


def test_pointer_in_place_of_a_model_is_refused_before_anything_is_embedded(folder: Path) -> None:
    path = folder / "onnx/text_model.onnx"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(EmbedderUnavailable, match=rf"{path} is damaged, it has only 43 bytes"):
        open_embedder(f"siglip2:{folder}")


def test_model_of_another_size_is_refused(folder: Path) -> None:
    changed(folder / "preprocessor_config.json", '"height": 32', '"height": 64')
    changed(folder / "preprocessor_config.json", '"width": 32', '"width": 64')
    with (
        open_embedder(f"siglip2:{folder}") as embedder,
        pytest.raises(EmbedderUnavailable, match="it has 32 where they have 64"),
    ):
        embedder.embed([Content(frames=[Image.new("RGB", (40, 30), "red")])], role="document")


@pytest.mark.parametrize(
    ("old", "new", "problem"), [("<pad>", "<fill>", "has no <pad>"), ("{", "", "is damaged")]
)
def test_other_or_damaged_tokenizer_is_refused(
    folder: Path, old: str, new: str, problem: str
) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    with (
        open_embedder(f"siglip2:{folder}") as embedder,
        pytest.raises(EmbedderUnavailable, match=rf"tokenizer\.json {problem}"),
    ):
        embedder.embed([Content(text="words")], role="query")


def test_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderUnavailable, match=r"no folder .* or siglip2:so400m$"):
        open_embedder(f"siglip2:{tmp_path / 'nothing'}")
    with pytest.raises(EmbedderUnavailable, match=r"a name on the Hugging Face hub, or clip$"):
        open_embedder(f"clip:{tmp_path / 'nothing'}")


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        ("siglip2", "`rzen-models fetch siglip2` (415 MB)"),
        ("siglip2:so400m", "`rzen-models fetch siglip2:so400m` (2300 MB)"),
        ("clip:team/model", "`rzen-models fetch clip:team/model`,"),
    ],
)
def test_model_that_is_not_here_says_how_to_get_it(spec: str, command: str) -> None:
    with pytest.raises(EmbedderUnavailable) as error:
        open_embedder(spec)
    assert f"the model {spec} is not on this machine" in str(error.value)
    assert command in str(error.value)
    assert f"--model {spec.partition(':')[0]}:FOLDER" in str(error.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def downloaded(cache: Path, repository: str, revision: str, suffix: str = "") -> Path:
    """Put a checkpoint where the hub's client would."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = Path(shutil.copytree(DATA / "siglip2", place / "snapshots" / revision))
    (place / "refs").mkdir()
    (place / "refs/main").write_text(revision)
    for model in (snapshot / "onnx").iterdir():
        model.rename(model.with_stem(model.stem + suffix))
    return snapshot


def test_named_model_is_found_in_the_hub_cache(cache: Path) -> None:
    named = SIGLIP2.models[""]
    assert named.revision
    snapshot = downloaded(cache, named.repository, named.revision, "_int8")
    with open_embedder("siglip2") as embedder:
        assert embedder.info.name == "siglip2"
        assert embedder.embed([Content(text="words")], role="query").shape == (1, 416)
    (snapshot / "onnx/text_model_int8.onnx").rename(snapshot / "onnx/text_model.onnx")
    with pytest.raises(EmbedderUnavailable, match=r"it has no onnx/text_model_int8\.onnx"):
        open_embedder("siglip2")


def test_repository_is_found_in_the_hub_cache(cache: Path) -> None:
    downloaded(cache, "team/model", "0" * 40, "_quantized")
    with open_embedder("siglip2:team/model") as embedder:
        assert embedder.info.name == "siglip2:team/model"


def test_resizing_of_older_files_is_read(tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    stated = {"size": 224, "crop_size": 224, "do_center_crop": True, "resample": 3}
    path.write_text(json.dumps(stated | {"do_normalize": False}))
    plain = ((0.0,) * 3, (1.0,) * 3)
    assert Resizing.read(path) == Resizing(224, True, Image.Resampling(3), 1 / 255, *plain)
